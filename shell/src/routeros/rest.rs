//! RouterOS REST: one request at a time over one kept-alive connection.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use ureq::http::{HeaderValue, Response, StatusCode, header};
use ureq::{Agent, Body};

use super::client::RouterTarget;
use super::error::{RefusalCode, RouterError, is_closed};
use super::model::{self, Record};
use super::secret::Redactor;
use super::target::tls_config;
use super::transport::{
    CONNECT_TIMEOUT, REPLY_BYTES_MAX, REQUEST_TIMEOUT, Request, Transport, TransportKind,
};

/// How long an unused connection is kept. The raises of a quiet line are seconds apart; a router
/// that closes sooner costs a new connection, nothing else.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// How much of a senseless answer an error shows, in characters.
const EXCERPT_CHARS: usize = 80;

/// The REST interface of one router.
pub(super) struct Rest {
    agent: Agent,
    base: String,
    user: String,
    authorization: HeaderValue,
    /// Takes the login out of an answer before it is cut: half a password would not be found.
    redactor: Redactor,
    /// Whether the latest request was answered, so that its connection may be used again.
    is_kept: AtomicBool,
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { base, user, .. } = self;
        f.debug_struct("Rest").field("base", base).field("user", user).finish_non_exhaustive()
    }
}

/// A request in the words of HTTP.
struct Message {
    method: &'static str,
    path: String,
    body: Option<String>,
}

impl Message {
    fn new(request: Request<'_>) -> Self {
        let (method, path, body) = match request {
            Request::List { menu, properties: Some(properties) } => {
                ("GET", format!("{menu}?.proplist={properties}"), None)
            }
            Request::List { menu, properties: None } | Request::Single { menu } => {
                ("GET", menu.to_owned(), None)
            }
            Request::Get { menu, id, .. } => ("GET", format!("{menu}/{id}"), None),
            Request::Set { menu, id, property, value, .. } => {
                let body = serde_json::json!({ property: value }).to_string();
                ("PATCH", format!("{menu}/{id}"), Some(body))
            }
        };
        Self { method, path, body }
    }
}

impl Transport for Rest {
    fn call(&self, request: Request<'_>) -> Result<Vec<Record>, RouterError> {
        let message = Message::new(request);
        let request = self.describe(request);
        let (status, text) = self.exchange(&message, &request)?;
        let json = serde_json::from_str::<Value>(&text);
        if !status.is_success() {
            return Err(self.refusal(&request, status, json.ok().as_ref()));
        }
        let json = json.map_err(|error| {
            let text = self.redactor.redact(text);
            let excerpt: String = text.chars().take(EXCERPT_CHARS).collect();
            bad_reply(&request, format!("not JSON ({error}): {excerpt:?}"))
        })?;
        model::records(json).ok_or_else(|| bad_reply(&request, "not made of records".to_owned()))
    }

    fn describe(&self, request: Request<'_>) -> String {
        let Message { method, path, .. } = Message::new(request);
        let path = path.split('?').next().unwrap_or_default();
        format!("{method} {path}")
    }

    fn kind(&self) -> TransportKind {
        TransportKind::Rest
    }
}

impl Rest {
    /// Prepares everything; connects nowhere yet. `base` and the user have been checked.
    pub(super) fn new(base: String, target: &RouterTarget) -> Result<Self, RouterError> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .no_delay(true)
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            .max_idle_age(IDLE_MAX)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(REQUEST_TIMEOUT))
            .user_agent("wanctl")
            .tls_config(tls_config(&target.trust)?)
            .build();
        let user = target.user.clone();
        let credentials = format!("{user}:{}", target.password.expose());
        let basic = format!("Basic {}", BASE64_STANDARD.encode(credentials));
        let mut authorization = HeaderValue::try_from(basic)
            .map_err(|_| RouterError::BadTarget("the login is not a header value".to_owned()))?;
        authorization.set_sensitive(true);
        let is_kept = AtomicBool::new(false);
        let redactor = Redactor::new(&user, &target.password);
        Ok(Self { agent: config.new_agent(), base, user, authorization, redactor, is_kept })
    }

    /// Sends one request and reads the whole answer.
    fn exchange(
        &self,
        message: &Message,
        request: &str,
    ) -> Result<(StatusCode, String), RouterError> {
        let was_kept = self.is_kept.swap(false, Ordering::Relaxed);
        let sent = match self.send(message) {
            // A kept connection that the router closed while nobody looked.
            Err(ureq::Error::Io(error)) if was_kept && is_closed(&error) => {
                tracing::debug!(request, %error, "the kept connection is gone, sending again");
                self.send(message)
            }
            other => other,
        };
        let mut response = sent.map_err(|error| RouterError::from_transport(&self.base, &error))?;
        let mut bytes = response
            .body_mut()
            .with_config()
            .limit(REPLY_BYTES_MAX as u64)
            .read_to_vec()
            .map_err(|error| self.broken_body(request, &error))?;
        self.is_kept.store(true, Ordering::Relaxed);
        // Comments may hold raw control characters, which JSON forbids.
        bytes.iter_mut().filter(|byte| **byte < b' ').for_each(|byte| *byte = b' ');
        Ok((response.status(), String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn send(&self, message: &Message) -> Result<Response<Body>, ureq::Error> {
        let Message { method, path, body } = message;
        let message = ureq::http::Request::builder()
            .method(*method)
            .uri(format!("{}/rest{path}", self.base))
            .header(header::AUTHORIZATION, self.authorization.clone())
            .header(header::CONTENT_TYPE, "application/json");
        match body {
            Some(body) => self.agent.run(message.body(body.as_str())?),
            None => self.agent.run(message.body(())?),
        }
    }

    fn broken_body(&self, request: &str, error: &ureq::Error) -> RouterError {
        match error {
            ureq::Error::Timeout(_) => RouterError::from_transport(&self.base, error),
            other => bad_reply(request, format!("cut short: {other}")),
        }
    }

    fn refusal(&self, request: &str, status: StatusCode, body: Option<&Value>) -> RouterError {
        let word = |key| body.and_then(|body| body.get(key)).and_then(Value::as_str);
        let detail = word("detail").or_else(|| word("message")).unwrap_or("(no reason given)");
        let (request, detail) = (request.to_owned(), detail.to_owned());
        let transport = TransportKind::Rest;
        let lacks_permission =
            detail.contains("not enough permissions") || detail.contains("not allowed");
        match status.as_u16() {
            401 => {
                let (user, detail) = (self.user.clone(), "401".to_owned());
                RouterError::Unauthorized { user, detail, transport }
            }
            404 => RouterError::NoSuchId { request },
            500 if lacks_permission => RouterError::NotPermitted { request, detail, transport },
            status => RouterError::Refused { request, code: RefusalCode::Http(status), detail },
        }
    }
}

fn bad_reply(request: &str, detail: String) -> RouterError {
    RouterError::BadReply { request: request.to_owned(), detail, transport: TransportKind::Rest }
}
