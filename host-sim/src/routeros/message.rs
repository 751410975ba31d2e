//! Requests and replies as values, and the bodies and errors they carry.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::edit::Refusal;
use super::seed::User;
use super::store::Properties;

/// How a request came to the router.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origin {
    /// Over HTTP.
    #[default]
    Http,
    /// As the login of a session of the binary API.
    ApiLogin,
    /// In a session of the binary API.
    Api {
        /// Tells sessions apart.
        session: u64,
        /// Who has logged in.
        user: String,
    },
}

/// One HTTP request, reduced to what the router looks at. A sentence of the binary API is the POST of
/// its command.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Method in capitals, for example `GET`.
    pub method: String,
    /// Path and query as sent, not decoded.
    pub target: String,
    /// Value of the `Authorization` header.
    pub authorization: Option<String>,
    /// Value of the `Content-Type` header.
    pub content_type: Option<String>,
    /// Value of the `Host` header; appears in `Location`.
    pub host: Option<String>,
    /// Came over HTTPS; appears in `Location`.
    pub secure: bool,
    /// Body bytes, empty without a body.
    pub body: Vec<u8>,
    /// How it came.
    pub origin: Origin,
}

impl Request {
    /// Makes a request with an optional JSON body for `user`, as the tests need it.
    pub fn new(user: &User, method: &str, target: &str, body: Option<&str>) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            authorization: Some(basic_credentials(&user.name, &user.password)),
            content_type: body.map(|_| "application/json".to_owned()),
            host: None,
            secure: true,
            body: body.unwrap_or_default().as_bytes().to_vec(),
            origin: Origin::Http,
        }
    }

    /// Returns the path without the query, not decoded.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Returns the HTTP method that does the same: a command is a POST.
    pub(crate) fn verb(&self) -> &str {
        let command = self.path().rsplit('/').next().unwrap_or_default();
        match (self.method.as_str(), command) {
            ("POST", "print") => "GET",
            ("POST", "set" | "enable" | "disable") => "PATCH",
            ("POST", "add") => "PUT",
            ("POST", "remove") => "DELETE",
            (method, _) => method,
        }
    }

    /// Returns the path without the name of a command.
    pub(crate) fn menu_path(&self) -> &str {
        let path = self.path();
        match self.method.as_str() {
            "POST" => path.rsplit_once('/').map_or(path, |(menu, _)| menu),
            _ => path,
        }
    }

    pub(crate) fn is_write(&self) -> bool {
        self.verb() != "GET" && self.origin != Origin::ApiLogin
    }

    pub(crate) fn is_http(&self) -> bool {
        self.origin == Origin::Http
    }

    /// Returns who sends it, as far as that can be told before it is looked at.
    pub(crate) fn sender(&self) -> Option<String> {
        match &self.origin {
            Origin::Http | Origin::ApiLogin => self.authorization.clone(),
            Origin::Api { user, .. } => Some(user.clone()),
        }
    }

    /// Returns whose turn it waits for: all REST requests of a user share one session.
    pub(crate) fn queue(&self, user: &str) -> String {
        match &self.origin {
            Origin::Api { session, .. } => format!("{user} in session {session}"),
            Origin::Http | Origin::ApiLogin => user.to_owned(),
        }
    }
}

/// What a reply carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// No body at all.
    Empty,
    /// `application/json`.
    Json(Value),
    /// `text/html`.
    Html(&'static str),
    /// `application/json` that need not be JSON.
    Raw(Vec<u8>),
}

/// One reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// `Location` header of a 201.
    pub location: Option<String>,
    /// What follows the headers.
    pub body: Body,
}

impl Response {
    /// Makes a reply with a JSON body.
    pub fn json(status: u16, body: Value) -> Self {
        Self { status, location: None, body: Body::Json(body) }
    }

    /// Makes a 204.
    pub fn no_content() -> Self {
        Self { status: 204, location: None, body: Body::Empty }
    }

    /// Makes an error reply; `detail` is absent where the router gives none.
    pub fn error(status: u16, detail: Option<&str>) -> Self {
        let mut body = Map::new();
        if let Some(detail) = detail {
            body.insert("detail".to_owned(), json!(detail));
        }
        body.insert("error".to_owned(), json!(status));
        body.insert("message".to_owned(), json!(reason(status)));
        Self::json(status, Value::Object(body))
    }

    pub(crate) fn refused(refusal: &Refusal, missing_item_status: u16) -> Self {
        match refusal {
            Refusal::NoSuchItem if missing_item_status == 404 => Self::error(404, None),
            Refusal::NoSuchItem => Self::error(missing_item_status, Some(&refusal.detail())),
            _ => Self::error(400, Some(&refusal.detail())),
        }
    }
}

/// Returns the standard text of an HTTP status the router uses.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        415 => "Unsupported Media Type",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

/// Turns a row into a JSON object of strings.
pub(crate) fn row_json(row: Properties) -> Value {
    Value::Object(row.into_iter().map(|(name, value)| (name, Value::String(value))).collect())
}

/// One argument of a request body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Argument {
    One(String),
    Many(Vec<String>),
}

impl Argument {
    /// Returns the argument as one text; lists are joined by commas.
    pub(crate) fn text(&self) -> String {
        match self {
            Argument::One(text) => text.clone(),
            Argument::Many(texts) => texts.join(","),
        }
    }

    /// Returns the argument as a list; one text is split at commas.
    pub(crate) fn list(&self) -> Vec<String> {
        match self {
            Argument::One(text) => split_list(text),
            Argument::Many(texts) => texts.clone(),
        }
    }
}

/// Splits a comma-separated list; the empty text is the empty list.
pub(crate) fn split_list(text: &str) -> Vec<String> {
    text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The arguments of a request body by name.
pub(crate) type Arguments = BTreeMap<String, Argument>;

/// Reads a JSON object of strings, numbers, booleans and lists of strings.
///
/// `None` stands for the router's "Failed to parse json".
pub(crate) fn parse_arguments(body: &[u8]) -> Option<Arguments> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Some(Arguments::new());
    }
    let raw: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).ok()?;
    raw.into_iter().map(|(name, value)| Some((name, parse_argument(value.get())?))).collect()
}

fn parse_argument(raw: &str) -> Option<Argument> {
    let first = raw.chars().next()?;
    if first == '-' || first.is_ascii_digit() {
        // The digits are kept as sent: a 64-bit rate must not pass through a float.
        let exponent = raw.contains(['e', 'E']);
        return (!exponent).then(|| Argument::One(raw.to_owned()));
    }
    match serde_json::from_str(raw).ok()? {
        Value::String(text) => Some(Argument::One(text)),
        Value::Bool(flag) => Some(Argument::One(flag.to_string())),
        Value::Array(items) => {
            let texts = items.into_iter().map(|item| match item {
                Value::String(text) => Some(text),
                _ => None,
            });
            texts.collect::<Option<Vec<_>>>().map(Argument::Many)
        }
        Value::Null | Value::Number(_) | Value::Object(_) => None,
    }
}

/// Decodes `%20` and the like; malformed escapes stay as they are.
pub(crate) fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(&byte) = bytes.get(index) {
        let escape = text.get(index + 1..index + 3).filter(|_| byte == b'%');
        match escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) => {
                decoded.push(value);
                index += 3;
            }
            None => {
                decoded.push(byte);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Returns the `Authorization` header value of HTTP basic authentication.
pub fn basic_credentials(name: &str, password: &str) -> String {
    format!("Basic {}", base64(format!("{name}:{password}").as_bytes()))
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| (group << 8) | u32::from(*byte));
        let group = group << (8 * (3 - chunk.len()));
        for position in 0..4_usize {
            let digit = (group >> (18 - 6 * position)) & 0x3f;
            let letter = if position <= chunk.len() { ALPHABET[digit as usize] } else { b'=' };
            // Writing to a String cannot fail.
            let _ = write!(text, "{}", char::from(letter));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_to_groups_of_four() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("a:b?>", "YTpiPz4=")];
        for (text, expected) in cases {
            assert_eq!(base64(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn percent_escapes_are_decoded_once() {
        let cases =
            [("a%20b", "a b"), ("%2F", "/"), ("%2520", "%20"), ("%zz%", "%zz%"), ("ä%4", "ä%4")];
        for (text, expected) in cases {
            assert_eq!(percent_decode(text), expected, "{text}");
        }
    }

    #[test]
    fn bodies_keep_numbers_as_sent() {
        let parsed =
            parse_arguments(br#"{"a":18446744073709551615,"b":0.1,"c":true,"d":["x","y"]}"#)
                .expect("valid body");
        assert_eq!(parsed["a"].text(), "18446744073709551615");
        assert_eq!(parsed["b"].text(), "0.1");
        assert_eq!(parsed["c"].text(), "true");
        assert_eq!(parsed["d"].list(), ["x", "y"]);
        let refused: [&[u8]; 6] =
            [b"{", br#"{"a":1e6}"#, br#"{"a":null}"#, br#"{"a":{}}"#, b"[]", br#"{"a":[1]}"#];
        for body in refused {
            assert_eq!(parse_arguments(body), None, "{}", String::from_utf8_lossy(body));
        }
    }
}
