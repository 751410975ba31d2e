//! RouterOS's binary API: one session that stays, one command at a time.

pub mod sentence;
mod session;
mod stream;

use std::fmt;
use std::sync::{Mutex, PoisonError};

use rustls::pki_types::ServerName;
use ureq::http::Uri;

use self::session::{Answer, Failure, Session};
use self::stream::Endpoint;
use super::client::RouterTarget;
use super::error::{RefusalCode, RouterError, is_closed};
use super::model::Record;
use super::secret::{Redactor, Secret};
use super::target::client_config;
use super::transport::{Request, Transport, TransportKind};

/// How much of a senseless answer an error shows, in characters.
const EXCERPT_CHARS: usize = 120;

/// The command of a login since RouterOS 6.43.
const LOGIN: &str = "/login";

/// The binary API of one router.
pub(super) struct Api {
    /// What errors call the router, as `api-ssl://192.168.88.1:8729`.
    url: String,
    endpoint: Endpoint,
    user: String,
    password: Secret,
    /// Takes the login out of the router's words.
    redactor: Redactor,
    /// The session that the latest command left behind.
    session: Mutex<Option<Session>>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, user, .. } = self;
        f.debug_struct("Api").field("url", url).field("user", user).finish_non_exhaustive()
    }
}

impl Transport for Api {
    fn call(&self, request: Request<'_>) -> Result<Vec<Record>, RouterError> {
        // A panic elsewhere leaves a session or none.
        let mut slot = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let was_kept = slot.is_some();
        let mut result = self.carry_out(&mut slot, request);
        if let Err((command, failure)) = &result
            && was_kept
            && failure.is_end()
        {
            // A session that the router ended while nobody looked.
            let failure = self.redactor.redact(format!("{failure:?}"));
            tracing::debug!(command, failure, "the session is gone, logging in again");
            result = self.carry_out(&mut slot, request);
        }
        result.map_err(|(command, failure)| self.error(command, failure))
    }

    fn describe(&self, request: Request<'_>) -> String {
        match request {
            Request::List { menu, .. } | Request::Single { menu } => format!("{menu}/print"),
            Request::Get { menu, id, .. } => format!("{menu}/print ?.id={id}"),
            Request::Set { menu, id, .. } => format!("{menu}/set =.id={id}"),
        }
    }

    fn kind(&self) -> TransportKind {
        TransportKind::Api
    }
}

impl Failure {
    /// Returns whether the router just ended the session.
    fn is_end(&self) -> bool {
        match self {
            Self::Io(error) => is_closed(error),
            Self::Fatal(_) => true,
            Self::Trap { .. } | Self::Nonsense(_) => false,
        }
    }
}

/// A failure and the command it came from.
type Failed = (String, Failure);

impl Api {
    /// Prepares everything; connects nowhere yet. `base` and the user have been checked.
    pub(super) fn new(base: &str, target: RouterTarget) -> Result<Self, RouterError> {
        let bad = || RouterError::BadTarget("the URL has no usable host".to_owned());
        let uri: Uri = base.parse().map_err(|_| bad())?;
        let has_tls = uri.scheme_str() == Some("https");
        let authority = uri.host().ok_or_else(bad)?;
        let host = authority.trim_matches(['[', ']']).to_owned();
        let kind = TransportKind::Api;
        let port = uri.port_u16().unwrap_or(kind.default_port(has_tls));
        let tls = if has_tls {
            let name = ServerName::try_from(host.clone()).map_err(|_| bad())?;
            Some((client_config(&target.trust)?, name))
        } else {
            None
        };
        let url = format!("{}://{authority}:{port}", kind.service(has_tls));
        let RouterTarget { user, password, .. } = target;
        let redactor = Redactor::new(&user, &password);
        let endpoint = Endpoint { host, port, tls };
        Ok(Self { url, endpoint, user, password, redactor, session: Mutex::new(None) })
    }

    /// Makes a request, in the session that is there or in a new one. A session in which it cannot
    /// go on is given up.
    fn carry_out(
        &self,
        slot: &mut Option<Session>,
        request: Request<'_>,
    ) -> Result<Vec<Record>, Failed> {
        let mut session = match slot.take() {
            Some(session) => session,
            None => self.log_in().map_err(|failure| (LOGIN.to_owned(), failure))?,
        };
        let result = self.converse(&mut session, request);
        if let Ok(_) | Err((_, Failure::Trap { .. })) = result {
            *slot = Some(session);
        }
        result
    }

    fn converse(&self, session: &mut Session, request: Request<'_>) -> Result<Vec<Record>, Failed> {
        let mut run = |command: String, words: &[String]| match session.run(&command, words) {
            Ok(answer) => Ok(answer.records),
            Err(failure) => Err((command, failure)),
        };
        let proplist = |properties: &str| format!("=.proplist={properties}");
        match request {
            Request::List { menu, properties } => {
                let words: Vec<String> = properties.map(proplist).into_iter().collect();
                run(format!("{menu}/print"), &words)
            }
            Request::Single { menu } => run(format!("{menu}/print"), &[]),
            Request::Get { menu, id, properties } => {
                run(format!("{menu}/print"), &[proplist(properties), format!("?.id={id}")])
                    .and_then(|records| existing(self.describe(request), records))
            }
            Request::Set { menu, id, property, value, properties } => {
                run(
                    format!("{menu}/set"),
                    &[format!("=.id={id}"), format!("={property}={value}")],
                )?;
                // The answer to `set` is empty: what the router holds now has to be asked for.
                self.converse(session, Request::Get { menu, id, properties })
            }
        }
    }

    fn log_in(&self) -> Result<Session, Failure> {
        let mut session = Session::open(&self.endpoint)?;
        let words =
            [format!("=name={}", self.user), format!("=password={}", self.password.expose())];
        let Answer { done, .. } = session.run(LOGIN, &words)?;
        if done.contains_key("ret") {
            let what = "it wants the login of RouterOS before 6.43".to_owned();
            return Err(Failure::Nonsense(what));
        }
        tracing::debug!(url = self.url, "logged in");
        Ok(session)
    }

    fn error(&self, request: String, failure: Failure) -> RouterError {
        let (url, transport) = (self.url.clone(), TransportKind::Api);
        match failure {
            Failure::Trap { category, message } => self.refusal(request, category, message),
            Failure::Fatal(reason) => {
                let detail = format!("it ended the session ({reason})");
                RouterError::Unreachable { url, detail }
            }
            Failure::Io(error) => RouterError::from_io(url, &error),
            Failure::Nonsense(detail) => {
                // Cut only afterwards: half a login would not be found.
                let detail = self.redactor.redact(detail);
                let detail = detail.chars().take(EXCERPT_CHARS).collect();
                RouterError::BadReply { request, detail, transport }
            }
        }
    }

    fn refusal(&self, request: String, category: Option<u8>, detail: String) -> RouterError {
        let transport = TransportKind::Api;
        let is_login = request == LOGIN;
        let says = |words: &str| detail.contains(words);
        if is_login && (says("invalid user name or password") || says("cannot log in")) {
            return RouterError::Unauthorized { user: self.user.clone(), detail, transport };
        }
        if says("not enough permissions") || says("not allowed") {
            return RouterError::NotPermitted { request, detail, transport };
        }
        if says("no such item") {
            return RouterError::NoSuchId { request };
        }
        RouterError::Refused { request, code: RefusalCode::Trap(category), detail }
    }
}

/// A record that was asked for by its id is there, or the id means nothing any more.
fn existing(command: String, records: Vec<Record>) -> Result<Vec<Record>, Failed> {
    if records.is_empty() {
        // In the words of a command that names a missing record itself.
        let failure = Failure::Trap { category: Some(0), message: "no such item".to_owned() };
        return Err((command, failure));
    }
    Ok(records)
}
