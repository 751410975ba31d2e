//! The rules of the binary API: which sentence is which request, and how its answer is told.
//! No I/O, no clock.
//!
//! REST is a wrapper around this API on a router; here it is the other way round. Both work on the
//! same [`Router`], with the same users and the same refusals.

use serde_json::{Map, Value, json};
use wanctl::routeros::sentence::Words;

use super::faults::{BadBody, Delivery};
use super::message::{Body, Origin, Request, Response, basic_credentials};
use super::rest;
use super::store::Router;

/// The path of a login.
pub(crate) const LOGIN: &str = "/rest/login";
const WRONG_LOGIN: &str = "invalid user name or password (6)";

/// One session; before its login it has no user.
#[derive(Debug)]
pub struct Session {
    id: u64,
    user: Option<String>,
}

/// A sentence of a client, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The first word, as `/queue/tree/print`.
    path: String,
    /// The word `.tag=...` as it came; it goes into every sentence of the answer.
    tag: Option<Vec<u8>>,
    attributes: Map<String, Value>,
    queries: Vec<String>,
}

/// What a session does with a command.
#[derive(Debug)]
pub enum Step {
    /// The router has to work on this.
    Ask(Box<Request>),
    /// These are the last sentences.
    End(Vec<Words>),
}

impl Command {
    /// Reads a sentence.
    #[must_use]
    pub fn read(words: &[Vec<u8>]) -> Self {
        let mut texts = words.iter().map(|word| String::from_utf8_lossy(word).into_owned());
        let path = texts.next().unwrap_or_default();
        let mut command = Self { path, tag: None, attributes: Map::new(), queries: Vec::new() };
        for (word, text) in words.iter().skip(1).zip(texts) {
            if text.starts_with(".tag=") {
                command.tag = Some(word.clone());
            } else if let Some(query) = text.strip_prefix('?') {
                command.queries.push(query.to_owned());
            } else if let Some((key, value)) =
                text.strip_prefix('=').map(|text| text.split_once('=').unwrap_or((text, "")))
            {
                command.attributes.insert(key.to_owned(), json!(value));
            }
        }
        command
    }

    fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns a sentence of the answer.
    fn say(&self, kind: &str, attributes: &[(&str, &str)]) -> Words {
        let mut words = vec![kind.as_bytes().to_vec()];
        words.extend(attributes.iter().map(|(key, value)| format!("={key}={value}").into_bytes()));
        words.extend(self.tag.clone());
        words
    }

    /// Returns the sentences of an answer.
    #[must_use]
    pub fn answer(&self, response: &Response) -> Vec<Words> {
        if response.status >= 300 {
            return self.refuse(&detail(response));
        }
        let rows = match &response.body {
            Body::Json(Value::Array(rows)) => rows.as_slice(),
            Body::Json(Value::Object(result)) if result.contains_key("ret") => {
                let ret = result["ret"].as_str().unwrap_or_default();
                return vec![self.say("!done", &[("ret", ret)])];
            }
            Body::Json(row @ Value::Object(_)) => std::slice::from_ref(row),
            _ => &[],
        };
        let mut sentences: Vec<Words> = rows.iter().map(|row| self.record(row)).collect();
        if sentences.is_empty() && self.path.ends_with("/print") {
            // Since 7.18.
            sentences.push(self.say("!empty", &[]));
        }
        sentences.push(self.say("!done", &[]));
        sentences
    }

    fn record(&self, row: &Value) -> Words {
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let members = row.as_object().into_iter().flatten();
        let members: Vec<_> = members.map(|(key, value)| (key.as_str(), text(value))).collect();
        let members: Vec<_> = members.iter().map(|(key, value)| (*key, value.as_str())).collect();
        self.say("!re", &members)
    }

    fn refuse(&self, message: &str) -> Vec<Words> {
        let category = category(message).map(|category| category.to_string());
        let mut attributes = Vec::new();
        attributes.extend(category.as_deref().map(|category| ("category", category)));
        attributes.push(("message", message));
        vec![self.say("!trap", &attributes), self.say("!done", &[])]
    }
}

impl Session {
    /// Begins a session; `id` tells it from all others.
    #[must_use]
    pub fn new(id: u64) -> Self {
        Self { id, user: None }
    }

    /// Says what is to be done with a command.
    #[must_use]
    pub fn step(&self, command: &Command, secure: bool) -> Step {
        let request = match (command.path.as_str(), &self.user) {
            ("/quit", _) => {
                return Step::End(vec![fatal("session terminated on request")]);
            }
            ("/login", _) => {
                let (name, password) = (command.attribute("name"), command.attribute("password"));
                Request {
                    method: "POST".to_owned(),
                    target: LOGIN.to_owned(),
                    authorization: Some(basic_credentials(name, password)),
                    origin: Origin::ApiLogin,
                    secure,
                    ..Request::default()
                }
            }
            (_, None) => return Step::End(vec![fatal("not logged in")]),
            (path, Some(user)) => {
                let path = path.strip_suffix("/getall").map(|menu| format!("{menu}/print"));
                let mut arguments = command.attributes.clone();
                if !command.queries.is_empty() {
                    arguments.insert(".query".to_owned(), json!(command.queries));
                }
                Request {
                    method: "POST".to_owned(),
                    target: format!("/rest{}", path.as_deref().unwrap_or(&command.path)),
                    content_type: Some("application/json".to_owned()),
                    body: Value::Object(arguments).to_string().into_bytes(),
                    origin: Origin::Api { session: self.id, user: user.clone() },
                    secure,
                    ..Request::default()
                }
            }
        };
        Step::Ask(Box::new(request))
    }

    /// Takes note of the answer to a command.
    pub fn answered(&mut self, command: &Command, response: &Response) {
        if command.path == "/login" {
            let is_in = response.status < 300;
            self.user = is_in.then(|| command.attribute("name").to_owned());
        }
    }
}

/// Carries out a request of either kind and returns the reply.
pub(crate) fn handle(router: &mut Router, request: &Request) -> Response {
    if request.origin != Origin::ApiLogin {
        return rest::handle(router, request);
    }
    match rest::authenticate(router, request) {
        None => wrong_login(),
        Some(user) if !user.may_use_api() => {
            Response::error(500, Some("std failure: not allowed (9)"))
        }
        Some(_) => Response::json(200, json!([])),
    }
}

/// Returns the answer to a login that fails.
pub(crate) fn wrong_login() -> Response {
    Response::error(400, Some(WRONG_LOGIN))
}

/// Damages the sentences of an answer, as far as that can be told here.
pub(crate) fn spoil(sentences: &mut [Words], delivery: Delivery) {
    let Delivery::Spoilt(bad) = delivery else { return };
    let byte = match bad {
        BadBody::Control => 0x07,
        BadBody::NotUtf8 => 0xE4,
        _ => return,
    };
    for words in sentences.iter_mut().filter(|words| words[0] == b"!re") {
        words.insert(1, [b"=note=a", &[byte][..], b"b"].concat());
    }
}

fn fatal(reason: &str) -> Words {
    vec![b"!fatal".to_vec(), reason.as_bytes().to_vec()]
}

/// Returns the words of a refusal, which are those of REST.
fn detail(response: &Response) -> String {
    let body = match &response.body {
        Body::Json(body) => body,
        _ => &Value::Null,
    };
    match (body["detail"].as_str(), response.status) {
        (Some(detail), _) => detail.to_owned(),
        (None, 404) => "no such item".to_owned(),
        (None, _) => body["message"].as_str().unwrap_or("failure").to_owned(),
    }
}

/// Returns the category of a refusal: 0 for what is missing, 1 for a value that is refused. Others
/// have none here.
fn category(message: &str) -> Option<u8> {
    let begins = |words: &[&str]| words.iter().any(|word| message.starts_with(word));
    if begins(&["no such item", "no such command"]) {
        Some(0)
    } else if begins(&[
        "unknown parameter",
        "input does not",
        "invalid value",
        "value of",
        "missing =",
    ]) {
        Some(1)
    } else {
        None
    }
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
