//! What can go wrong between this program and the router, told so that the reader can act.

use std::{fmt, io};

use super::secret::Redactor;
use super::transport::TransportKind;

/// The most existing queue names an error lists.
const NAMES_SHOWN_MAX: usize = 20;

/// Why a request to the router did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouterError {
    /// The target itself cannot work: a malformed URL, user name or CA file.
    BadTarget(String),
    /// No connection: refused, no route, name not found, or closed without an answer.
    Unreachable {
        /// The router's base URL.
        url: String,
        /// What the system said.
        detail: String,
    },
    /// A time limit of [`super::client`] passed.
    Timeout {
        /// The router's base URL.
        url: String,
        /// What was being waited for.
        detail: String,
    },
    /// The router's certificate is not trusted.
    Certificate {
        /// The router's base URL.
        url: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The certificate will be valid later: most likely this machine's clock is not set yet.
    ClockBehindCertificate {
        /// The router's base URL.
        url: String,
    },
    /// TLS failed for another reason than trust.
    Tls {
        /// The router's base URL.
        url: String,
        /// What failed.
        detail: String,
    },
    /// The router does not know the user, or the password is wrong.
    Unauthorized {
        /// The user that was refused.
        user: String,
        /// The HTTP status, or the router's words.
        detail: String,
        /// How it was asked.
        transport: TransportKind,
    },
    /// The user lacks a permission.
    NotPermitted {
        /// The request.
        request: String,
        /// The router's words.
        detail: String,
        /// How it was asked.
        transport: TransportKind,
    },
    /// No queue of the tree has this name.
    NoSuchQueue {
        /// The name.
        name: String,
        /// The names that exist.
        existing: Vec<String>,
    },
    /// Several queues of the tree have this name.
    AmbiguousQueue {
        /// The name.
        name: String,
        /// The ids of the queues.
        ids: Vec<String>,
    },
    /// No mangle rule has this comment.
    NoSuchRule {
        /// The comment.
        comment: String,
        /// The comments that exist.
        existing: Vec<String>,
    },
    /// Several mangle rules have this comment.
    AmbiguousRule {
        /// The comment.
        comment: String,
        /// What tells the rules apart: id, chain and action of each.
        rules: Vec<String>,
    },
    /// The id now belongs to another rule.
    OtherRule {
        /// The comment that was meant.
        expected: String,
        /// The comment that answered.
        found: String,
    },
    /// A rule was switched and does not show it.
    RuleUnchanged {
        /// Its comment.
        comment: String,
    },
    /// The router knows no object of this id (404, or `no such item`).
    NoSuchId {
        /// The request.
        request: String,
    },
    /// The id now belongs to another queue.
    OtherQueue {
        /// The name that was meant.
        expected: String,
        /// The name that answered.
        found: String,
    },
    /// The router refused the request for another reason.
    Refused {
        /// The request.
        request: String,
        /// What came with the words.
        code: RefusalCode,
        /// The router's words.
        detail: String,
    },
    /// The answer was not what RouterOS documents: no JSON, no sentences, cut short, or without a
    /// needed key.
    BadReply {
        /// The request.
        request: String,
        /// What was wrong.
        detail: String,
        /// How it was asked.
        transport: TransportKind,
    },
}

/// What comes with the words of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCode {
    /// The status of HTTP.
    Http(u16),
    /// The category of a `!trap`, if it has one.
    Trap(Option<u8>),
    /// Success, although the router did not do what it was told.
    Accepted,
}

impl RouterError {
    /// Takes the login out of the router's words.
    pub(crate) fn redacted(mut self, redactor: &Redactor) -> Self {
        match &mut self {
            Self::Unreachable { detail, .. }
            | Self::Timeout { detail, .. }
            | Self::Certificate { detail, .. }
            | Self::Tls { detail, .. }
            | Self::Unauthorized { detail, .. }
            | Self::NotPermitted { detail, .. }
            | Self::Refused { detail, .. }
            | Self::BadReply { detail, .. } => {
                *detail = redactor.redact(std::mem::take(detail));
            }
            Self::BadTarget(_)
            | Self::ClockBehindCertificate { .. }
            | Self::NoSuchQueue { .. }
            | Self::AmbiguousQueue { .. }
            | Self::NoSuchRule { .. }
            | Self::AmbiguousRule { .. }
            | Self::OtherRule { .. }
            | Self::RuleUnchanged { .. }
            | Self::NoSuchId { .. }
            | Self::OtherQueue { .. } => {}
        }
        self
    }

    /// Returns whether waiting cannot help: somebody must change a configuration first.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        match self {
            Self::BadTarget(_)
            | Self::Certificate { .. }
            | Self::Unauthorized { .. }
            | Self::NotPermitted { .. }
            | Self::NoSuchQueue { .. }
            | Self::AmbiguousQueue { .. }
            | Self::NoSuchRule { .. }
            | Self::AmbiguousRule { .. } => true,
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::ClockBehindCertificate { .. }
            | Self::Tls { .. }
            | Self::NoSuchId { .. }
            | Self::OtherQueue { .. }
            | Self::OtherRule { .. }
            | Self::RuleUnchanged { .. }
            | Self::Refused { .. }
            | Self::BadReply { .. } => false,
        }
    }

    /// Returns whether the error was found here, without the router's word.
    pub(crate) const fn is_local(&self) -> bool {
        matches!(self, Self::BadTarget(_) | Self::Certificate { .. })
    }

    /// Returns whether the router answered and meant just this request: others may succeed.
    pub(crate) const fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::NotPermitted { .. }
                | Self::NoSuchId { .. }
                | Self::OtherQueue { .. }
                | Self::NoSuchRule { .. }
                | Self::AmbiguousRule { .. }
                | Self::OtherRule { .. }
                | Self::RuleUnchanged { .. }
                | Self::Refused { .. }
                | Self::BadReply { .. }
        )
    }

    /// Returns whether the error concerns the queue that was written to and no other.
    pub(crate) const fn is_about_queue(&self) -> bool {
        matches!(
            self,
            Self::NoSuchQueue { .. }
                | Self::AmbiguousQueue { .. }
                | Self::NoSuchId { .. }
                | Self::OtherQueue { .. }
                | Self::Refused {
                    code: RefusalCode::Http(400) | RefusalCode::Trap(_) | RefusalCode::Accepted,
                    ..
                }
        )
    }

    /// Returns whether a remembered id has become wrong.
    pub(crate) const fn is_stale_id(&self) -> bool {
        matches!(self, Self::NoSuchId { .. } | Self::OtherQueue { .. } | Self::OtherRule { .. })
    }

    /// Sorts a failure of the transport.
    pub(crate) fn from_transport(url: &str, error: &ureq::Error) -> Self {
        let url = url.to_owned();
        match error {
            ureq::Error::Timeout(phase) => Self::Timeout { url, detail: phase.to_string() },
            ureq::Error::Rustls(error) => Self::from_tls(url, error),
            ureq::Error::Tls(detail) => Self::Tls { url, detail: (*detail).to_owned() },
            ureq::Error::Io(error) => Self::from_io(url, error),
            ureq::Error::Protocol(error) => {
                let (detail, transport) = (format!("not HTTP: {error}"), TransportKind::Rest);
                Self::BadReply { request: url, detail, transport }
            }
            other => Self::Unreachable { url, detail: other.to_string() },
        }
    }

    pub(crate) fn from_io(url: String, error: &io::Error) -> Self {
        // A failed handshake arrives as an I/O error around the error of rustls.
        let inner = error.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static));
        let mut source = inner;
        while let Some(cause) = source {
            if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
                return Self::from_tls(url, tls);
            }
            source = cause.source();
        }
        match (error.kind(), is_closed(error)) {
            (io::ErrorKind::TimedOut, _) => Self::Timeout { url, detail: error.to_string() },
            (_, true) => {
                let detail = format!("the connection was closed without an answer ({error})");
                Self::Unreachable { url, detail }
            }
            (_, false) => Self::Unreachable { url, detail: error.to_string() },
        }
    }

    pub(crate) fn from_tls(url: String, error: &rustls::Error) -> Self {
        use rustls::CertificateError::{NotValidYet, NotValidYetContext};
        match error {
            rustls::Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => {
                Self::ClockBehindCertificate { url }
            }
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
                Self::Certificate { url, detail: error.to_string() }
            }
            other => Self::Tls { url, detail: other.to_string() },
        }
    }
}

impl fmt::Display for RouterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadTarget(reason) => write!(f, "the router is configured wrongly: {reason}"),
            Self::Unreachable { url, detail } => write!(
                f,
                "router {url} cannot be reached: {detail}; hint: is it up, is its service {} \
                 or {} enabled on this port, and does that service's address list allow this \
                 machine?",
                transport_of(url).service(false),
                transport_of(url).service(true)
            ),
            Self::Timeout { url, detail } => write!(
                f,
                "router {url} did not answer in time ({detail}); hint: is it overloaded, or does \
                 a firewall drop the packets?"
            ),
            Self::Certificate { url, detail } => write!(
                f,
                "the certificate of router {url} is not trusted: {detail}; hint: give this \
                 program the CA certificate that signed it; the router's own certificate must not \
                 be a CA and must carry the name or address of the URL as subject-alt-name"
            ),
            Self::ClockBehindCertificate { url } => write!(
                f,
                "the certificate of router {url} is not valid yet; hint: the clock of this \
                 machine or of the one that made the certificate is wrong"
            ),
            Self::Tls { url, detail } => write!(
                f,
                "TLS with router {url} failed: {detail}; hint: does its service {service} have a \
                 certificate, and is the URL's port that of {service}?",
                service = transport_of(url).service(true)
            ),
            Self::Unauthorized { user, detail, transport } => write!(
                f,
                "the router refused user {user} ({detail}); hint: check name and password, and \
                 that the user's group has the policies {} and its address list allows this machine",
                policies(*transport)
            ),
            other => other.fmt_reply(f),
        }
    }
}

impl RouterError {
    /// The errors that came as an answer of the router.
    fn fmt_reply(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPermitted { request, detail, transport } => write!(
                f,
                "the router's user lacks a permission for {request}: {detail}; hint: its group \
                 needs the policies {}",
                policies(*transport)
            ),
            Self::NoSuchQueue { name, existing } => write_no_such_queue(f, name, existing),
            Self::AmbiguousQueue { name, ids } => write!(
                f,
                "the router has {} queues named {name:?} ({}); hint: rename all but one",
                ids.len(),
                ids.join(", ")
            ),
            Self::NoSuchRule { comment, existing } => write_no_such_rule(f, comment, existing),
            Self::AmbiguousRule { comment, rules } => write!(
                f,
                "the router has {} mangle rules with the comment {comment:?} ({}); hint: give all \
                 but one another comment",
                rules.len(),
                rules.join(", ")
            ),
            Self::OtherRule { expected, found } => {
                write!(f, "the mangle rule that was {expected:?} is now {found:?}")
            }
            Self::RuleUnchanged { comment } => {
                write!(f, "the mangle rule {comment:?} was switched and does not show it")
            }
            Self::NoSuchId { request } => {
                write!(f, "the router knows no such object any more: {request}")
            }
            Self::OtherQueue { expected, found } => {
                write!(f, "the queue that was {expected:?} is now {found:?}")
            }
            Self::Refused { request, code, detail } => write_refused(f, request, *code, detail),
            Self::BadReply { request, detail, transport } => {
                let service = match transport {
                    TransportKind::Rest => "a RouterOS 7 REST service",
                    TransportKind::Api => "the port of a RouterOS 7 service api or api-ssl",
                };
                write!(
                    f,
                    "the answer to {request} makes no sense: {detail}; hint: is this {service}, \
                     and is the router just starting?"
                )
            }
            // All others are written by `Display::fmt`.
            _ => Ok(()),
        }
    }
}

/// Returns the transport of an error's URL: that of the binary API has a scheme of its own.
fn transport_of(url: &str) -> TransportKind {
    if url.starts_with("api") { TransportKind::Api } else { TransportKind::Rest }
}

/// Returns the policies that the user needs, as a list for people.
fn policies(transport: TransportKind) -> &'static str {
    match transport {
        TransportKind::Rest => "rest-api, api, read and write",
        TransportKind::Api => "api, read and write",
    }
}

fn write_refused(
    f: &mut fmt::Formatter<'_>,
    request: &str,
    code: RefusalCode,
    detail: &str,
) -> fmt::Result {
    write!(f, "the router refused {request}: ")?;
    match code {
        RefusalCode::Http(400) => write!(
            f,
            "400 {detail}; hint: the value is not acceptable, or the user's group lacks the \
             policy write"
        ),
        RefusalCode::Http(403) => write!(
            f,
            "403 {detail}; hint: REST is switched off for this protocol in /ip/service/webserver"
        ),
        RefusalCode::Http(status) => write!(f, "{status} {detail}"),
        RefusalCode::Trap(Some(category)) => write!(f, "{detail} (trap of category {category})"),
        RefusalCode::Trap(None) => write!(f, "{detail} (trap)"),
        RefusalCode::Accepted => f.write_str(detail),
    }
}

/// Returns whether the other side closed the connection instead of answering.
pub(crate) fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

fn write_no_such_queue(f: &mut fmt::Formatter<'_>, name: &str, existing: &[String]) -> fmt::Result {
    write!(f, "the router has no queue named {name:?} in /queue/tree")?;
    if existing.is_empty() {
        return f.write_str("; hint: the tree is empty; create the queue first");
    }
    write!(f, "; hint: it has {}", list(existing))
}

fn write_no_such_rule(
    f: &mut fmt::Formatter<'_>,
    comment: &str,
    existing: &[String],
) -> fmt::Result {
    write!(f, "the router has no rule with the comment {comment:?} in /ip/firewall/mangle")?;
    if existing.is_empty() {
        return f
            .write_str("; hint: no rule there has a comment; add the rule, or a comment to it");
    }
    write!(f, "; hint: the comments there are {}", list(existing))
}

/// Returns the first few names.
fn list(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(NAMES_SHOWN_MAX).map(String::as_str).collect();
    let more = if names.len() > NAMES_SHOWN_MAX { ", ..." } else { "" };
    format!("{}{more}", shown.join(", "))
}

impl std::error::Error for RouterError {}
