//! Property values: what the router accepts and how it spells it back.

use std::fmt::Write as _;

/// Largest value of a 64-bit property such as `max-limit` in bits per second.
pub(crate) const U64_MAX: i128 = u64::MAX as i128;
/// Largest value of a 32-bit property.
pub(crate) const U32_MAX: i128 = u32::MAX as i128;

/// Names the set of records a reference property may point at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reference {
    /// A record of `queue/type`.
    QueueType,
    /// `global`, an interface or another record of `queue/tree`.
    TreeParent,
    /// `none` or another record of `queue/simple`.
    SimpleParent,
    /// An interface, with an optional leading `!`.
    Interface,
}

/// Describes the values one property accepts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// `yes`, `no`, `true` or `false`.
    Flag,
    /// A whole number in `min..=max`.
    Integer { min: i128, max: i128 },
    /// A whole number in `0..=max` with an optional decimal suffix k, M or G.
    Rate { max: i128 },
    /// A decimal number in `0..=max`.
    Decimal { max: u32 },
    /// A time in console spelling, such as `100ms` or `1d2h`.
    Time,
    /// One word of a list.
    Word(&'static [&'static str]),
    /// Any number of words of a list, separated by commas.
    Words(&'static [&'static str]),
    /// Like [`Kind::Words`], with an optional leading `!`.
    Matcher(&'static [&'static str]),
    /// The name (or id) of a record elsewhere.
    Reference(Reference),
    /// Two values separated by `/`; a single value stands for both.
    Pair(&'static Kind),
}

/// Resolves the text of a reference to the name of the record, if there is one.
pub(crate) type Resolver<'a> = &'a dyn Fn(Reference, &str) -> Option<String>;

/// Checks `text` for the property `name` and returns it in the router's own spelling.
///
/// The error is the text the router puts into `detail`.
pub(crate) fn normalise(
    name: &str,
    kind: &Kind,
    text: &str,
    resolve: Resolver<'_>,
) -> Result<String, String> {
    match kind {
        Kind::Text => Ok(text.to_owned()),
        Kind::Flag => match text {
            "yes" | "true" => Ok("true".to_owned()),
            "no" | "false" => Ok("false".to_owned()),
            _ => Err(mismatch(name)),
        },
        Kind::Integer { min, max } => whole_number(name, text, *min, *max, false),
        Kind::Rate { max } => whole_number(name, text, 0, *max, true),
        Kind::Decimal { max } => decimal(name, text, *max),
        Kind::Time => parse_time_us(text).map(time_text).ok_or_else(|| invalid(name)),
        Kind::Word(words) => words_of(name, words, text, false, false),
        Kind::Words(words) => words_of(name, words, text, true, false),
        Kind::Matcher(words) => words_of(name, words, text, true, true),
        Kind::Reference(reference) => resolve(*reference, text).ok_or_else(|| mismatch(name)),
        Kind::Pair(kind) => {
            let (first, second) = text.split_once('/').unwrap_or((text, text));
            let first = normalise(name, kind, first, resolve)?;
            let second = normalise(name, kind, second, resolve)?;
            Ok(format!("{first}/{second}"))
        }
    }
}

fn mismatch(name: &str) -> String {
    format!("input does not match any value of {name}")
}

fn invalid(name: &str) -> String {
    format!("invalid value for argument {name}")
}

fn words_of(
    name: &str,
    words: &[&str],
    text: &str,
    many: bool,
    negation: bool,
) -> Result<String, String> {
    let list = if negation { text.strip_prefix('!').unwrap_or(text) } else { text };
    let empty_list = many && !negation && list.is_empty();
    let known = if many {
        list.split(',').all(|word| words.contains(&word))
    } else {
        words.contains(&list)
    };
    if known || empty_list { Ok(text.to_owned()) } else { Err(mismatch(name)) }
}

fn whole_number(
    name: &str,
    text: &str,
    min: i128,
    max: i128,
    suffix: bool,
) -> Result<String, String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (digits, radix) = match digits.strip_prefix("0x") {
        Some(rest) => (rest, 16),
        None => (digits, 10),
    };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let (number, rest) = digits.split_at(end);
    if number.is_empty() {
        return Err(invalid(name));
    }
    let scale = match rest {
        "" => 1,
        "k" if suffix => 1_000,
        "M" if suffix => 1_000_000,
        "G" if suffix => 1_000_000_000,
        _ => return Err(format!("value of {name} contains invalid trailing characters")),
    };
    // More digits than an i128 holds are out of every range.
    let value = i128::from_str_radix(number, radix)
        .ok()
        .and_then(|value| value.checked_mul(scale))
        .map(|value| if negative { -value } else { value });
    match value {
        Some(value) if (min..=max).contains(&value) => Ok(value.to_string()),
        _ => Err(format!("value of {name} out of range ({min}..{max})")),
    }
}

fn decimal(name: &str, text: &str, max: u32) -> Result<String, String> {
    let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    match text.parse::<f64>() {
        Ok(value) if plain && value <= f64::from(max) => Ok(value.to_string()),
        Ok(_) if plain => Err(format!("value of {name} out of range (0..{max})")),
        _ => Err(invalid(name)),
    }
}

const TIME_UNITS_US: [(&str, u64); 7] = [
    ("w", 604_800_000_000),
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// Reads a console time (`1d2h`, `100ms`, `00:01:30`, bare seconds) as microseconds.
pub(crate) fn parse_time_us(text: &str) -> Option<u64> {
    if text.contains(':') {
        return parse_clock_us(text);
    }
    if let Ok(seconds) = text.parse::<u64>() {
        return seconds.checked_mul(1_000_000);
    }
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let (digits, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        let (_, scale) = TIME_UNITS_US.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(digits.parse::<u64>().ok()?.checked_mul(*scale)?)?;
        rest = next;
    }
    (!text.is_empty()).then_some(total)
}

fn parse_clock_us(text: &str) -> Option<u64> {
    let parts = text.split(':').map(str::parse::<u64>).collect::<Result<Vec<_>, _>>().ok()?;
    let &[hours, minutes, seconds] = parts.as_slice() else { return None };
    let total = hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?;
    total.checked_add(seconds)?.checked_mul(1_000_000)
}

/// Spells a time in microseconds the way the console does; zero is `0s`.
pub(crate) fn time_text(time_us: u64) -> String {
    if time_us == 0 {
        return "0s".to_owned();
    }
    let mut rest = time_us;
    let mut text = String::new();
    for (unit, scale) in TIME_UNITS_US {
        if rest >= scale {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}{unit}", rest / scale);
            rest %= scale;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &Kind, text: &str) -> Result<String, String> {
        normalise("x", kind, text, &|_, name| (name == "known").then(|| name.to_owned()))
    }

    #[test]
    fn accepted_values_are_echoed_in_one_spelling() {
        let rate = Kind::Rate { max: U64_MAX };
        let cases: [(&Kind, &str, &str); 22] = [
            (&rate, "250M", "250000000"),
            (&rate, "250000000", "250000000"),
            (&rate, "64k", "64000"),
            (&rate, "1G", "1000000000"),
            (&rate, "0", "0"),
            (&rate, "18446744073709551615", "18446744073709551615"),
            (&Kind::Integer { min: 1, max: 8 }, "0x4", "4"),
            (&Kind::Integer { min: -64, max: 256 }, "-64", "-64"),
            (&Kind::Flag, "yes", "true"),
            (&Kind::Flag, "no", "false"),
            (&Kind::Flag, "true", "true"),
            (&Kind::Decimal { max: 10 }, "0.100", "0.1"),
            (&Kind::Time, "100ms", "100ms"),
            (&Kind::Time, "00:01:30", "1m30s"),
            (&Kind::Time, "5", "5s"),
            (&Kind::Time, "36h", "1d12h"),
            (&Kind::Time, "0s", "0s"),
            (&Kind::Words(&["a", "b"]), "a,b", "a,b"),
            (&Kind::Words(&["a", "b"]), "", ""),
            (&Kind::Matcher(&["local"]), "!local", "!local"),
            (&Kind::Reference(Reference::QueueType), "known", "known"),
            (&Kind::Pair(&Kind::Rate { max: U64_MAX }), "300M/150M", "300000000/150000000"),
        ];
        for (kind, text, expected) in cases {
            assert_eq!(check(kind, text).as_deref(), Ok(expected), "{kind:?} {text}");
        }
    }

    #[test]
    fn refused_values_name_the_property() {
        let rate = Kind::Rate { max: U64_MAX };
        let mismatch = "input does not match any value of x";
        let trailing = "value of x contains invalid trailing characters";
        let bad = "invalid value for argument x";
        let cases: [(&Kind, &str, &str); 14] = [
            (&rate, "fast", bad),
            (&rate, "", bad),
            (&rate, "10Mbps", trailing),
            (&rate, "1.5M", trailing),
            (&rate, "18446744073709551616", "value of x out of range (0..18446744073709551615)"),
            (&rate, "-1", "value of x out of range (0..18446744073709551615)"),
            (&Kind::Integer { min: 1, max: 8 }, "9", "value of x out of range (1..8)"),
            (&Kind::Integer { min: 1, max: 8 }, "1k", trailing),
            (&Kind::Flag, "maybe", mismatch),
            (&Kind::Decimal { max: 10 }, "10.5", "value of x out of range (0..10)"),
            (&Kind::Decimal { max: 10 }, "inf", bad),
            (&Kind::Time, "soon", bad),
            (&Kind::Word(&["a", "b"]), "a,b", mismatch),
            (&Kind::Reference(Reference::QueueType), "other", mismatch),
        ];
        for (kind, text, expected) in cases {
            assert_eq!(check(kind, text), Err(expected.to_owned()), "{kind:?} {text}");
        }
    }
}
