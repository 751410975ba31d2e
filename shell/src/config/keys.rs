//! What a file says, key by key, and how it differs from another one.

use std::collections::BTreeMap;
use std::fmt;

use toml::de::{DeTable, DeValue};

/// Every key of a file with its value, as it could stand in a file. No secret is among them: a
/// configuration names the file that holds the password.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(BTreeMap<String, String>);

/// A key that differs between two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// The key with its tables; WANs have their names, as `wan.cable.download.ceiling`.
    pub key: String,
    /// Its value before, if it was there.
    pub from: Option<String>,
    /// Its value now, if it is there.
    pub to: Option<String>,
}

impl fmt::Display for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "(not set)".to_owned());
        write!(f, "{}: {} -> {}", self.key, show(&self.from), show(&self.to))
    }
}

impl Keys {
    pub(super) fn of(document: &DeTable<'_>) -> Self {
        let mut keys = Self::default();
        keys.add_table("", document);
        keys
    }

    fn add_table(&mut self, path: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let name: &str = name.get_ref();
            let key = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            self.add(key, value.get_ref());
        }
    }

    fn add(&mut self, key: String, value: &DeValue<'_>) {
        match value {
            DeValue::Table(table) => self.add_table(&key, table),
            DeValue::Array(array)
                if !array.is_empty() && array.iter().all(|item| item.get_ref().is_table()) =>
            {
                for (index, item) in array.iter().enumerate() {
                    let Some(table) = item.get_ref().as_table() else { continue };
                    let name = table.get("name").and_then(|name| name.get_ref().as_str());
                    let name = name.map_or_else(|| index.to_string(), str::to_owned);
                    self.add_table(&format!("{key}.{name}"), table);
                }
            }
            other => {
                self.0.insert(key, show(other));
            }
        }
    }

    /// Returns what differs in another file, in the order of the keys.
    #[must_use]
    pub fn changes(&self, other: &Self) -> Vec<KeyChange> {
        let all: std::collections::BTreeSet<&String> =
            self.0.keys().chain(other.0.keys()).collect();
        let change = |key: &String| {
            let (from, to) = (self.0.get(key).cloned(), other.0.get(key).cloned());
            (from != to).then(|| KeyChange { key: key.clone(), from, to })
        };
        all.into_iter().filter_map(change).collect()
    }
}

fn show(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.to_string(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(datetime) => datetime.to_string(),
        DeValue::Array(array) => {
            let items: Vec<String> = array.iter().map(|item| show(item.get_ref())).collect();
            format!("[{}]", items.join(", "))
        }
        DeValue::Table(_) => "{}".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Keys {
        Keys::of(DeTable::parse(text).unwrap().get_ref())
    }

    #[test]
    fn changes_name_tables_and_wans_and_no_spaces_count() {
        let old = keys("a = 1\nlist = [\"x\",\"y\"]\n[[wan]]\nname = \"dsl\"\nrate = \"5M\"\n");
        let new = keys("b=true\nlist=[ \"x\", \"y\" ]\n[[wan]]\nname=\"dsl\"\nrate=\"6M\"\n");
        let changes: Vec<String> = old.changes(&new).iter().map(KeyChange::to_string).collect();
        let expected =
            ["a: 1 -> (not set)", "b: (not set) -> true", "wan.dsl.rate: \"5M\" -> \"6M\""];
        assert_eq!(changes, expected);
        assert_eq!(old.changes(&old), []);
    }
}
