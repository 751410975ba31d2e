//! Selection of rows and properties: URL filters, `.proplist` and `.query` words.

use super::store::Properties;

/// Keeps the properties of a `.proplist`; all of them without one.
pub(crate) fn project(row: &Properties, proplist: Option<&[String]>, add_id: bool) -> Properties {
    let Some(wanted) = proplist else { return row.clone() };
    let keep = |name: &str| (add_id && name == ".id") || wanted.iter().any(|want| want == name);
    row.iter()
        .filter(|(name, _)| keep(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Tells whether a row has all the values of a URL filter; a missing property never matches.
pub(crate) fn matches_filter(row: &Properties, filter: &[(String, String)]) -> bool {
    filter.iter().all(|(name, value)| row.get(name).is_some_and(|have| equal(have, value)))
}

/// Evaluates `.query` words (reverse Polish, words left over are ANDed).
pub(crate) fn matches_query(row: &Properties, words: &[String]) -> bool {
    let mut stack: Vec<bool> = Vec::with_capacity(words.len());
    for word in words {
        match word.strip_prefix('#') {
            Some(operators) => operators.chars().for_each(|op| operate(&mut stack, op)),
            None => stack.push(matches_word(row, word)),
        }
    }
    stack.into_iter().all(|matched| matched)
}

fn operate(stack: &mut Vec<bool>, operator: char) {
    let mut pop = || stack.pop().unwrap_or(false);
    let result = match operator {
        '!' => !pop(),
        '&' => {
            let (a, b) = (pop(), pop());
            a && b
        }
        '|' => {
            let (a, b) = (pop(), pop());
            a || b
        }
        _ => return,
    };
    stack.push(result);
}

fn matches_word(row: &Properties, word: &str) -> bool {
    if let Some(name) = word.strip_prefix('-') {
        return !row.contains_key(name);
    }
    let (order, word) = match word.chars().next() {
        Some(order @ ('<' | '>' | '=')) => (order, &word[1..]),
        _ => ('=', word),
    };
    let Some((name, value)) = word.split_once('=') else { return row.contains_key(word) };
    let Some(have) = row.get(name) else { return false };
    match order {
        '<' => less(have, value),
        '>' => less(value, have),
        _ => equal(have, value),
    }
}

fn equal(have: &str, value: &str) -> bool {
    have == value || matches!((have, value), ("true", "yes") | ("false", "no"))
}

fn less(a: &str, b: &str) -> bool {
    match (a.parse::<i128>(), b.parse::<i128>()) {
        (Ok(a), Ok(b)) => a < b,
        _ => a < b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routeros::seed::properties_of;

    #[test]
    fn query_words_combine_as_documented() {
        let row = properties_of(&[("name", "a"), ("mtu", "1500"), ("running", "true")]);
        let cases: [(&[&str], bool); 14] = [
            (&[], true),
            (&["name=a"], true),
            (&["=name=a"], true),
            (&["name=b"], false),
            (&["name=a", "mtu=1"], false),
            (&["name=a", "mtu=1", "#|"], true),
            (&["name=a", "mtu=1", "#|!"], false),
            (&["name=b", "#!"], true),
            (&["name=a", "mtu=1500", "#&"], true),
            (&[">mtu=999"], true),
            (&["<mtu=999"], false),
            (&["running=yes"], true),
            (&["comment"], false),
            (&["-comment"], true),
        ];
        for (words, expected) in cases {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(matches_query(&row, &words), expected, "{words:?}");
        }
    }
}
