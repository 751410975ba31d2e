//! `--set key=value`: any field of the core's configuration by its path.
//!
//! The configuration is taken apart as JSON and put together again, so that this knows no field by
//! name and every law's parameters can be swept.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use wanctl_core::config::Config;

/// One field and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// The path below the WAN, with dots: `classic.target_delay`.
    pub key: String,
    /// What it is set to. Durations are in µs, rates in bit/s, ratios in ppm.
    pub value: Value,
}

impl Override {
    /// Reads `key=value`; the value is JSON, or else a word.
    ///
    /// # Errors
    ///
    /// When there is no `=`.
    pub fn parse(text: &str) -> Result<Self> {
        let (key, value) =
            text.split_once('=').with_context(|| format!("`{text}`: write it as key=value"))?;
        let value = value.trim();
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        Ok(Self { key: key.trim().to_owned(), value })
    }
}

/// Sets fields of every WAN.
///
/// # Errors
///
/// When a key names no field, with the fields there are, or a value does not fit.
pub fn apply(config: &Config, overrides: &[Override]) -> Result<Config> {
    if overrides.is_empty() {
        return Ok(config.clone());
    }
    let mut json = serde_json::to_value(config)?;
    let wans = json.get_mut("wans").and_then(Value::as_array_mut).context("no WAN")?;
    for wan in wans {
        for Override { key, value } in overrides {
            let mut at = &mut *wan;
            for part in key.split('.') {
                at = field(at, part).with_context(|| format!("`{key}`"))?;
            }
            *at = value.clone();
        }
    }
    let keys = || overrides.iter().map(|o| o.key.as_str()).collect::<Vec<_>>().join(", ");
    serde_json::from_value(json)
        .with_context(|| format!("one of the values of {} does not fit", keys()))
}

fn field<'j>(json: &'j mut Value, name: &str) -> Result<&'j mut Value> {
    let known: Vec<String> = match json {
        Value::Object(fields) => fields.keys().cloned().collect(),
        _ => Vec::new(),
    };
    // A dash is as good as an underscore.
    let found = known.iter().find(|known| known.replace('_', "-") == name.replace('_', "-"));
    match (found, json) {
        (Some(found), Value::Object(fields)) => fields.get_mut(found).context("the field has gone"),
        _ if known.is_empty() => bail!("nothing is below this, so there is no `{name}`"),
        _ => bail!("there is no `{name}`; known here are: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wanctl_core::example;

    #[test]
    fn a_field_is_set_by_its_path() {
        let set = |text: &str| {
            apply(&example::config(), &[Override::parse(text).unwrap()])
                .map_err(|e| format!("{e:#}"))
        };
        let config = set("classic.target-delay=12000").unwrap();
        assert_eq!(config.wans[0].classic.target_delay.as_micros(), 12_000);
        let config = set("classic.blind.mode=Freeze").unwrap();
        assert_eq!(config.wans[0].classic.blind.mode, wanctl_core::config::BlindMode::Freeze);
        let error = set("classic.targets=1").unwrap_err();
        assert!(error.contains("known here are:") && error.contains("target_delay"), "{error}");
        assert!(set("classic.target_delay=soon").unwrap_err().contains("does not fit"));
        assert_eq!(apply(&example::config(), &[]).unwrap(), example::config());
    }
}
