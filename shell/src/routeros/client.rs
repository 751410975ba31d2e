//! The RouterOS REST client: one request at a time over one kept-alive connection.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use ureq::http::{HeaderValue, Response, StatusCode, header};
use ureq::{Agent, Body};
use wanctl_core::units::BitsPerSecond;

use super::error::{RouterError, is_closed};
use super::model::{self, MangleRule, Queue, QueueCounters, Record, RouterIdentity, Written};
use super::secret::{Redactor, Secret};
use super::target::{TlsTrust, check_url, check_user, tls_config};
use crate::config::show_rate;

/// The time limit for connecting, TLS handshake included. Small routers with a 4096-bit key have
/// been seen to take 8 s for that, and giving up sooner would never succeed there.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit for a whole request. Generous on purpose: after a client gives up a request, the
/// router's web server resets connections and mixes up answers for some seconds. RouterOS ends
/// every request after 60 s itself.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an unused connection is kept. The raises of a quiet line are seconds apart; a router
/// that closes sooner costs a new connection, nothing else.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// The longest answer that is read, in bytes: a tree of some ten thousand queues.
const REPLY_BYTES_MAX: u64 = 4 << 20;
/// What is read of mangle rules.
const RULES: &str = "/ip/firewall/mangle?.proplist=.id,comment,chain,action,disabled,invalid";
/// A rate that differs by no more than this part of it counts as rounded.
const ROUNDING_PART: u64 = 16;
/// How much of a senseless answer an error shows, in characters.
const EXCERPT_CHARS: usize = 80;

/// Where the router is and how to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterTarget {
    /// `http://` or `https://`, host and optional port, as `https://192.168.88.1`.
    pub url: String,
    /// The RouterOS user; it should serve this program alone, as requests of one user queue up.
    pub user: String,
    /// That user's password.
    pub password: Secret,
    /// Whom to trust, for `https://`.
    pub trust: TlsTrust,
}

/// A client of one router. Its methods block, up to [`REQUEST_TIMEOUT`].
pub struct Client {
    agent: Agent,
    base: String,
    user: String,
    authorization: HeaderValue,
    /// Takes the login out of the router's words.
    redactor: Redactor,
    /// Whether the latest request was answered, so that its connection may be used again.
    is_kept: AtomicBool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { base, user, .. } = self;
        f.debug_struct("Client").field("base", base).field("user", user).finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a client; connects nowhere yet.
    ///
    /// # Errors
    ///
    /// [`RouterError::BadTarget`] if the URL, the user name or the CA text cannot work.
    pub fn new(target: RouterTarget) -> Result<Self, RouterError> {
        let base = check_url(&target.url).map_err(RouterError::BadTarget)?;
        let user = target.user;
        check_user(&user).map_err(RouterError::BadTarget)?;
        if base.starts_with("http:") {
            tracing::warn!(
                url = base,
                "NO ENCRYPTION: http:// sends the router's password in clear text; use https://"
            );
        }
        if target.trust == TlsTrust::Insecure && base.starts_with("https") {
            tracing::warn!(
                url = base,
                "TLS VERIFICATION IS OFF: anybody between here and the router can read the \
                 password and change the queues"
            );
        }
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
        let credentials = format!("{user}:{}", target.password.expose());
        let basic = format!("Basic {}", BASE64_STANDARD.encode(credentials));
        let mut authorization = HeaderValue::try_from(basic)
            .map_err(|_| RouterError::BadTarget("the login is not a header value".to_owned()))?;
        authorization.set_sensitive(true);
        let redactor = Redactor::new(&user, &target.password);
        let is_kept = AtomicBool::new(false);
        Ok(Self { agent: config.new_agent(), base, user, authorization, redactor, is_kept })
    }

    /// Asks the router who it is.
    ///
    /// # Errors
    ///
    /// Any [`RouterError`] but those about queues.
    pub fn identify(&self) -> Result<RouterIdentity, RouterError> {
        let identity = self.get_one("/system/identity")?;
        let resource = self.get_one("/system/resource")?;
        let name = model::text(&identity, "name").ok_or_else(|| RouterError::BadReply {
            request: "GET /system/identity".to_owned(),
            detail: "no name".to_owned(),
        })?;
        Ok(RouterIdentity {
            name,
            version: model::text(&resource, "version").unwrap_or_default(),
            board: model::text(&resource, "board-name").unwrap_or_default(),
        })
    }

    /// Finds the one queue of the tree with exactly this name.
    ///
    /// The names are compared here: the router's own filters have been seen to fail on spaces and
    /// punctuation.
    ///
    /// # Errors
    ///
    /// [`RouterError::NoSuchQueue`], [`RouterError::AmbiguousQueue`], or a failed request.
    pub fn find_queue(&self, name: &str) -> Result<Queue, RouterError> {
        let path = "/queue/tree?.proplist=.id,name,max-limit,queue,parent,disabled,invalid";
        let request = "GET /queue/tree";
        let queues = self.listed(path, request)?;
        let named = |record: &&Record| model::text(record, "name").as_deref() == Some(name);
        let matching: Vec<&Record> = queues.iter().filter(named).collect();
        match matching.as_slice() {
            [] => Err(RouterError::NoSuchQueue {
                name: name.to_owned(),
                existing: queues.iter().filter_map(|queue| model::text(queue, "name")).collect(),
            }),
            [only] => Queue::from_record(only).map_err(|detail| self.bad_reply(request, detail)),
            several => Err(RouterError::AmbiguousQueue {
                name: name.to_owned(),
                ids: several.iter().filter_map(|queue| model::text(queue, ".id")).collect(),
            }),
        }
    }

    /// Reads all queues of the tree, with their counters, in one request.
    ///
    /// Records that make no sense are left out.
    ///
    /// # Errors
    ///
    /// A failed request.
    pub fn queues(&self) -> Result<Vec<Queue>, RouterError> {
        let path = "/queue/tree?.proplist=.id,name,max-limit,queue,parent,disabled,invalid,\
                    bytes,dropped,queued-bytes,queued-packets";
        let records = self.listed(path, "GET /queue/tree")?;
        Ok(records.iter().filter_map(|record| Queue::from_record(record).ok()).collect())
    }

    /// Writes the shaper rate of a queue and returns what the router then holds.
    ///
    /// # Errors
    ///
    /// [`RouterError::NoSuchId`] and [`RouterError::OtherQueue`] if `id` is not `name`'s any more
    /// (in the second case the rate was written to that other queue), or a failed request, after
    /// which the router may or may not hold the rate.
    pub fn set_max_limit(
        &self,
        id: &str,
        name: &str,
        rate: BitsPerSecond,
    ) -> Result<Written, RouterError> {
        let path = format!("/queue/tree/{id}");
        let request = format!("PATCH {path}");
        let body = serde_json::json!({ "max-limit": rate.get().to_string() }).to_string();
        let record = self.one("PATCH", &path, Some(&body))?;
        let found = model::text(&record, "name")
            .ok_or_else(|| self.bad_reply(&request, "a queue without name".to_owned()))?;
        if found != name {
            return Err(RouterError::OtherQueue { expected: name.to_owned(), found });
        }
        match model::max_limit(&record) {
            Ok(Some(held)) if is_far(held, rate) => Err(RouterError::Refused {
                request,
                status: StatusCode::OK.as_u16(),
                detail: format!("it holds {} instead of {}", show_rate(held), show_rate(rate)),
            }),
            Ok(Some(held)) => Ok(Written { held, counters: QueueCounters::from_record(&record) }),
            Ok(None) => Err(self.bad_reply(&request, "a queue without max-limit".to_owned())),
            Err(detail) => Err(self.bad_reply(&request, detail)),
        }
    }

    /// Finds the one mangle rule with exactly this comment.
    ///
    /// The comments are compared here: given a filter, some versions of the router answer with all
    /// rules when the comment holds punctuation.
    ///
    /// # Errors
    ///
    /// [`RouterError::NoSuchRule`], [`RouterError::AmbiguousRule`], or a failed request.
    pub fn find_rule(&self, comment: &str) -> Result<MangleRule, RouterError> {
        let request = "GET /ip/firewall/mangle";
        let records = self.listed(RULES, request)?;
        let has_comment =
            |record: &&Record| model::text(record, "comment").as_deref() == Some(comment);
        let matching = records
            .iter()
            .filter(has_comment)
            .map(MangleRule::from_record)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|detail| self.bad_reply(request, detail))?;
        let comment = comment.to_owned();
        match <[MangleRule; 1]>::try_from(matching) {
            Ok([only]) => Ok(only),
            Err(none) if none.is_empty() => {
                let comments = records.iter().filter_map(|rule| model::text(rule, "comment"));
                let mut existing: Vec<String> = comments.filter(|text| !text.is_empty()).collect();
                existing.dedup();
                Err(RouterError::NoSuchRule { comment, existing })
            }
            Err(several) => {
                let show =
                    |rule: &MangleRule| format!("{} {} {}", rule.id, rule.chain, rule.action);
                let rules = several.iter().map(show).collect();
                Err(RouterError::AmbiguousRule { comment, rules })
            }
        }
    }

    /// Reads all mangle rules in one request. Records that make no sense are left out.
    ///
    /// # Errors
    ///
    /// A failed request.
    pub fn rules(&self) -> Result<Vec<MangleRule>, RouterError> {
        let records = self.records("GET", RULES, None, "GET /ip/firewall/mangle")?;
        Ok(records.iter().filter_map(|record| MangleRule::from_record(record).ok()).collect())
    }

    /// Makes sure that a mangle rule is switched on, or off: looks, switches it if it must, and looks
    /// again. A rule that is as it should be is not written.
    ///
    /// # Errors
    ///
    /// [`RouterError::NoSuchId`] and [`RouterError::OtherRule`] if `id` is not the rule with this
    /// comment any more (nothing was switched then), or a failed request, after which the rule may be
    /// on or off.
    pub fn switch_rule(&self, id: &str, comment: &str, on: bool) -> Result<(), RouterError> {
        if self.is_rule_on(id, comment)? == on {
            return Ok(());
        }
        let path = format!("/ip/firewall/mangle/{id}");
        let body = serde_json::json!({ "disabled": if on { "false" } else { "true" } });
        self.one("PATCH", &path, Some(&body.to_string()))?;
        if self.is_rule_on(id, comment)? == on {
            Ok(())
        } else {
            Err(RouterError::RuleUnchanged { comment: comment.to_owned() })
        }
    }

    fn is_rule_on(&self, id: &str, comment: &str) -> Result<bool, RouterError> {
        let path = format!("/ip/firewall/mangle/{id}");
        let record = self.get_one(&path)?;
        let rule = MangleRule::from_record(&record)
            .map_err(|detail| self.bad_reply(&format!("GET {path}"), detail))?;
        if rule.comment != comment {
            let expected = comment.to_owned();
            return Err(RouterError::OtherRule { expected, found: rule.comment });
        }
        Ok(!rule.disabled)
    }

    /// Reads all records of a menu, such as `/queue/type`.
    ///
    /// # Errors
    ///
    /// A failed request.
    pub(crate) fn list(&self, menu: &str) -> Result<Vec<Record>, RouterError> {
        self.records("GET", menu, None, &format!("GET {menu}"))
    }

    fn get_one(&self, path: &str) -> Result<Record, RouterError> {
        self.one("GET", path, None)
    }

    fn one(&self, method: &str, path: &str, body: Option<&str>) -> Result<Record, RouterError> {
        let request = format!("{method} {path}");
        let mut records = self.records(method, path, body, &request)?;
        match (records.pop(), records.is_empty()) {
            (Some(record), true) => Ok(record),
            _ => Err(self.bad_reply(&request, "not exactly one record".to_owned())),
        }
    }

    /// Reads a whole menu. Just after a boot the router has been seen to answer with a record of
    /// another one: that must not be taken for a menu without the wanted rows.
    fn listed(&self, path: &str, request: &str) -> Result<Vec<Record>, RouterError> {
        let records = self.records("GET", path, None, request)?;
        if records.is_empty() || records.iter().any(|record| record.contains_key(".id")) {
            Ok(records)
        } else {
            Err(self.bad_reply(request, "not the rows of this menu".to_owned()))
        }
    }

    fn records(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
        request: &str,
    ) -> Result<Vec<Record>, RouterError> {
        let (status, text) = self.exchange(method, path, body, request)?;
        let json = serde_json::from_str::<Value>(&text);
        if !status.is_success() {
            return Err(self.refusal(request, status, json.ok().as_ref()));
        }
        let json = json.map_err(|error| {
            // First taken out, then cut: half a password would not be found.
            let text = self.redactor.redact(text);
            let excerpt: String = text.chars().take(EXCERPT_CHARS).collect();
            self.bad_reply(request, format!("not JSON ({error}): {excerpt:?}"))
        })?;
        model::records(json)
            .ok_or_else(|| self.bad_reply(request, "not made of records".to_owned()))
    }

    /// Sends one request and reads the whole answer.
    fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
        request: &str,
    ) -> Result<(StatusCode, String), RouterError> {
        let was_kept = self.is_kept.swap(false, Ordering::Relaxed);
        let sent = match self.send(method, path, body) {
            // A kept connection that the router closed while nobody looked. Every request here
            // may be repeated: it reads, or sets an absolute value.
            Err(ureq::Error::Io(error)) if was_kept && is_closed(&error) => {
                tracing::debug!(request, %error, "the kept connection is gone, sending again");
                self.send(method, path, body)
            }
            other => other,
        };
        let mut response = sent.map_err(|error| self.transport_error(&error))?;
        let mut bytes = response
            .body_mut()
            .with_config()
            .limit(REPLY_BYTES_MAX)
            .read_to_vec()
            .map_err(|error| self.broken_body(request, &error))?;
        self.is_kept.store(true, Ordering::Relaxed);
        // Comments may hold raw control characters, which JSON forbids.
        bytes.iter_mut().filter(|byte| **byte < b' ').for_each(|byte| *byte = b' ');
        Ok((response.status(), String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> Result<Response<Body>, ureq::Error> {
        let message = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}/rest{path}", self.base))
            .header(header::AUTHORIZATION, self.authorization.clone())
            .header(header::CONTENT_TYPE, "application/json");
        match body {
            Some(body) => self.agent.run(message.body(body)?),
            None => self.agent.run(message.body(())?),
        }
    }

    fn transport_error(&self, error: &ureq::Error) -> RouterError {
        match RouterError::from_transport(&self.base, error) {
            RouterError::BadReply { request, detail } => {
                RouterError::BadReply { request, detail: self.redactor.redact(detail) }
            }
            RouterError::Unreachable { url, detail } => {
                RouterError::Unreachable { url, detail: self.redactor.redact(detail) }
            }
            other => other,
        }
    }

    fn broken_body(&self, request: &str, error: &ureq::Error) -> RouterError {
        match error {
            ureq::Error::Timeout(_) => self.transport_error(error),
            other => self.bad_reply(request, format!("cut short: {other}")),
        }
    }

    fn bad_reply(&self, request: &str, detail: String) -> RouterError {
        RouterError::BadReply { request: request.to_owned(), detail: self.redactor.redact(detail) }
    }

    fn refusal(&self, request: &str, status: StatusCode, body: Option<&Value>) -> RouterError {
        let word = |key| body.and_then(|body| body.get(key)).and_then(Value::as_str);
        let detail = word("detail").or_else(|| word("message")).unwrap_or("(no reason given)");
        let (request, detail) = (request.to_owned(), self.redactor.redact(detail.to_owned()));
        let lacks_permission =
            detail.contains("not enough permissions") || detail.contains("not allowed");
        match status.as_u16() {
            401 => RouterError::Unauthorized { user: self.user.clone() },
            404 => RouterError::NoSuchId { request },
            500 if lacks_permission => RouterError::NotPermitted { request, detail },
            status => RouterError::Refused { request, status, detail },
        }
    }
}

/// Returns whether the router holds another rate than it was told, rounding aside.
fn is_far(held: BitsPerSecond, told: BitsPerSecond) -> bool {
    held.get().abs_diff(told.get()) > told.get() / ROUNDING_PART
}
