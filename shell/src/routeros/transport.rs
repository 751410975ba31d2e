//! What a client needs of a way to talk to the router, and the two ways there are.

use std::fmt;
use std::time::Duration;

use super::error::RouterError;
use super::model::Record;

/// The time limit for connecting, TLS handshake included. Small routers with a 4096-bit key have
/// been seen to take 8 s for that, and giving up sooner would never succeed there.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit for a whole request. Generous on purpose: after a client gives up a request, the
/// router's web server resets connections and mixes up answers for some seconds. RouterOS ends
/// every REST request after 60 s itself.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes: a tree of some ten thousand queues.
pub(crate) const REPLY_BYTES_MAX: usize = 4 << 20;

/// How the router is talked to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TransportKind {
    /// REST: HTTP requests with JSON.
    #[default]
    Rest,
    /// The binary API: one session, sentences of words.
    Api,
}

impl TransportKind {
    /// Returns its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Api => "api",
        }
    }

    /// Returns the policies the router's user needs.
    #[must_use]
    pub const fn policies(self) -> &'static [&'static str] {
        match self {
            Self::Rest => &["read", "write", "api", "rest-api"],
            Self::Api => &["read", "write", "api"],
        }
    }

    /// Returns the router's service of `/ip/service`.
    #[must_use]
    pub const fn service(self, has_tls: bool) -> &'static str {
        match (self, has_tls) {
            (Self::Rest, false) => "www",
            (Self::Rest, true) => "www-ssl",
            (Self::Api, false) => "api",
            (Self::Api, true) => "api-ssl",
        }
    }

    /// Returns the TCP port of [`Self::service`] unless somebody moved it.
    #[must_use]
    pub const fn default_port(self, has_tls: bool) -> u16 {
        match (self, has_tls) {
            (Self::Rest, false) => 80,
            (Self::Rest, true) => 443,
            (Self::Api, false) => 8728,
            (Self::Api, true) => 8729,
        }
    }
}

/// One request. Every one of them may be repeated: it reads, or sets an absolute value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Request<'a> {
    /// All records of a menu; these properties, separated by commas, or all of them.
    List { menu: &'a str, properties: Option<&'a str> },
    /// The record of a menu that has just one.
    Single { menu: &'a str },
    /// The record of this id, with at least these properties.
    Get { menu: &'a str, id: &'a str, properties: &'a str },
    /// Sets a property of the record of this id. The answer is the record as it is then, with at
    /// least the properties `properties`.
    Set { menu: &'a str, id: &'a str, property: &'a str, value: &'a str, properties: &'a str },
}

/// A way to talk to one router, with one request at a time.
pub(crate) trait Transport: fmt::Debug + Send + Sync {
    /// Makes a request and returns the records of the answer. Blocks, up to a few times
    /// [`REQUEST_TIMEOUT`].
    fn call(&self, request: Request<'_>) -> Result<Vec<Record>, RouterError>;

    /// Names a request as the router's own documentation would.
    fn describe(&self, request: Request<'_>) -> String;

    fn kind(&self) -> TransportKind;
}
