//! Quantities with their units: `"940M"`, `"15ms"`, `0.85`.

use std::time::Duration;

use wanctl_core::units::BitsPerSecond;

/// Parses a rate such as `940M`, `2.5Mbit`, `800k` or `1Gbit/s`. Factors are decimal.
///
/// # Errors
///
/// What was expected, in words.
pub(super) fn rate(text: &str) -> Result<BitsPerSecond, String> {
    let expected = || "expected a rate such as \"940M\", \"2.5M\" or \"800k\"".to_owned();
    let text = text.trim();
    let number_ends = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(expected)?;
    let (number, unit) = text.split_at(number_ends);
    let factor = unit.trim_start().trim_end_matches("/s").trim_end_matches("bit");
    let decimals = match factor {
        "k" | "K" => 3,
        "M" | "m" => 6,
        "G" | "g" => 9,
        _ => return Err(expected()),
    };
    decimal(number, decimals).map(BitsPerSecond::new).ok_or_else(expected)
}

/// Parses a size on disk such as `256MB` or `1.5 GB`. Factors are decimal.
///
/// # Errors
///
/// What was expected, in words.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let expected = || "expected a size such as \"256MB\" or \"1GB\"".to_owned();
    let text = text.trim();
    let number_ends = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(expected)?;
    let (number, unit) = text.split_at(number_ends);
    let decimals = match unit.trim_start() {
        "MB" => 6,
        "GB" => 9,
        _ => return Err(expected()),
    };
    decimal(number, decimals).ok_or_else(expected)
}

/// Parses a duration such as `15ms` or `2m`.
///
/// # Errors
///
/// What was expected, in words.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "expected a duration such as \"15ms\", \"10s\" or \"2m\"".to_owned())
}

/// Parses a decimal number exactly: `decimal("0.85", 6)` is 850 000.
///
/// Returns `None` when it is not a number, has more than `decimals` digits after the point, or
/// does not fit.
pub(super) fn decimal(text: &str, decimals: u32) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let length = u32::try_from(fraction.len()).ok()?;
    if whole.is_empty() || !digits(whole) || !digits(fraction) || length > decimals {
        return None;
    }
    let scale = 10_u64.checked_pow(decimals)?;
    let fraction_value = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().ok()? };
    let fraction_scaled = fraction_value.checked_mul(10_u64.checked_pow(decimals - length)?)?;
    whole.parse::<u64>().ok()?.checked_mul(scale)?.checked_add(fraction_scaled)
}

/// Returns a rate in the unit a person would choose: `940 Mbit/s`, `34.2 Mbit/s`, `800 kbit/s`.
#[must_use]
pub fn show_rate(rate: BitsPerSecond) -> String {
    let (value, decimals, unit) = match rate.get() {
        bits if bits >= 1_000_000 => (bits, 6, "Mbit/s"),
        bits if bits >= 1_000 => (bits, 3, "kbit/s"),
        bits => return format!("{bits} bit/s"),
    };
    let scale = 10_u64.pow(decimals);
    // One decimal, rounded half up; none when it is zero.
    let tenths = (value + scale / 20) / (scale / 10);
    match tenths % 10 {
        0 => format!("{} {unit}", tenths / 10),
        tenth => format!("{}.{tenth} {unit}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_exact_and_need_a_unit() {
        for (text, bits) in [
            ("940M", 940_000_000),
            ("2.5Mbit", 2_500_000),
            ("800k", 800_000),
            ("1 Gbit/s", 1_000_000_000),
            ("0.000001M", 1),
        ] {
            assert_eq!(rate(text).map(BitsPerSecond::get), Ok(bits), "{text}");
        }
        for text in ["940", "", "M", "-5M", "1.2.3M", "9T", "0.0000001M", "99999999999999G"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_exact_and_need_a_unit() {
        assert_eq!(size("256MB"), Ok(256_000_000));
        assert_eq!(size("1.5 GB"), Ok(1_500_000_000));
        for text in ["256", "256M", "MB", "1 TB", "-1MB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("15ms"), Ok(Duration::from_millis(15)));
        assert!(duration("15").is_err());
        assert_eq!(duration("0.25s"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn rates_are_shown_with_at_most_one_decimal() {
        let show = |bits| show_rate(BitsPerSecond::new(bits));
        assert_eq!(show(940_000_000), "940 Mbit/s");
        assert_eq!(show(34_160_000), "34.2 Mbit/s");
        assert_eq!(show(800_000), "800 kbit/s");
        assert_eq!(show(999), "999 bit/s");
    }
}
