//! A password that cannot be printed by accident.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// What stands where a secret was.
const HIDDEN: &str = "***";
/// A shorter password is not looked for in the router's words: it would be found everywhere.
const LOOKED_FOR_MIN: usize = 4;

/// A password or other text that must not appear in logs, errors or debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret over.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// Returns the secret itself, for the one place that sends it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Takes a login out of what a router says: a router, or whatever answers in its place, may send a
/// request back.
#[derive(Clone)]
pub(crate) struct Redactor(Vec<String>);

impl Redactor {
    pub(crate) fn new(user: &str, password: &Secret) -> Self {
        let password = password.expose();
        let quoted = serde_json::Value::from(password).to_string();
        let escaped = quoted.trim_start_matches('"').trim_end_matches('"').to_owned();
        // The login as basic authentication spells it, and the password alone so spelled.
        let mut secrets = vec![BASE64_STANDARD.encode(format!("{user}:{password}"))];
        if password.len() >= LOOKED_FOR_MIN {
            secrets.extend([BASE64_STANDARD.encode(password), password.to_owned(), escaped]);
        }
        // The longest first: one may be a part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    /// Returns the text without secrets.
    pub(crate) fn redact(&self, text: String) -> String {
        let hide = |text: String, secret: &String| {
            if text.contains(secret.as_str()) {
                text.replace(secret.as_str(), HIDDEN)
            } else {
                text
            }
        };
        self.0.iter().fold(text, hide)
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_taken_out_and_the_rest_stays() {
        let secret = Secret::new("pa\"ss wörd".to_owned());
        assert_eq!(format!("{secret:?}"), "Secret(***)");
        let redactor = Redactor::new("wanctl", &secret);
        let login = BASE64_STANDARD.encode("wanctl:pa\"ss wörd");
        let json = serde_json::Value::from(format!("a pa\"ss wörd, Basic {login}")).to_string();
        assert_eq!(redactor.redact(json), "\"a ***, Basic ***\"");
        assert_eq!(redactor.redact("pa\"ss wörd and pass".to_owned()), "*** and pass");
    }

    #[test]
    fn a_very_short_password_does_not_make_errors_unreadable() {
        let redactor = Redactor::new("wanctl", &Secret::new("a".to_owned()));
        assert_eq!(redactor.redact("cannot be read".to_owned()), "cannot be read");
    }
}
