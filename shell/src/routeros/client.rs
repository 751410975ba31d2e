//! The client of one router: what the daemon asks of it, over whichever transport.

use wanctl_core::units::BitsPerSecond;

use super::api::Api;
use super::error::{RefusalCode, RouterError};
use super::model::{self, MangleRule, Queue, QueueCounters, Record, RouterIdentity, Written};
use super::rest::Rest;
use super::secret::{Redactor, Secret};
use super::target::{TlsTrust, check_url, check_user};
use super::transport::{Request, Transport, TransportKind};
use crate::config::show_rate;

/// The menu of queues.
const TREE: &str = "/queue/tree";
/// What is read of a queue that is looked up.
const QUEUE: &str = ".id,name,max-limit,queue,parent,disabled,invalid";
/// What is read of all queues at once.
const QUEUES: &str = ".id,name,max-limit,queue,parent,disabled,invalid,\
                      bytes,dropped,queued-bytes,queued-packets";
/// What is read of a queue after its rate was written.
const WRITTEN: &str = ".id,name,max-limit,bytes,dropped,queued-bytes,queued-packets";
/// The menu of mangle rules.
const MANGLE: &str = "/ip/firewall/mangle";
/// What is read of mangle rules.
const RULE: &str = ".id,comment,chain,action,disabled,invalid";
/// A rate that differs by no more than this part of it counts as rounded.
const ROUNDING_PART: u64 = 16;

/// Where the router is and how to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterTarget {
    /// `http://` or `https://`, host and optional port, as `https://192.168.88.1`. For the binary
    /// API, too: the scheme says whether there is TLS.
    pub url: String,
    /// How it is talked to.
    pub transport: TransportKind,
    /// The RouterOS user; it should serve this program alone, as requests of one user queue up.
    pub user: String,
    /// That user's password.
    pub password: Secret,
    /// Whom to trust, for `https://`.
    pub trust: TlsTrust,
}

/// A client of one router. Its methods block, up to a few times
/// [`REQUEST_TIMEOUT`](super::transport::REQUEST_TIMEOUT).
#[derive(Debug)]
pub struct Client {
    transport: Box<dyn Transport>,
    /// Takes the login out of the router's words.
    redactor: Redactor,
}

impl Client {
    /// Makes a client; connects nowhere yet.
    ///
    /// # Errors
    ///
    /// [`RouterError::BadTarget`] if the URL, the user name or the CA text cannot work.
    pub fn new(target: RouterTarget) -> Result<Self, RouterError> {
        let base = check_url(&target.url).map_err(RouterError::BadTarget)?;
        check_user(&target.user).map_err(RouterError::BadTarget)?;
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
        let redactor = Redactor::new(&target.user, &target.password);
        let transport: Box<dyn Transport> = match target.transport {
            TransportKind::Rest => Box::new(Rest::new(base, &target)?),
            TransportKind::Api => Box::new(Api::new(&base, target)?),
        };
        Ok(Self { transport, redactor })
    }

    /// Asks the router who it is.
    ///
    /// # Errors
    ///
    /// Any [`RouterError`] but those about queues.
    pub fn identify(&self) -> Result<RouterIdentity, RouterError> {
        let request = Request::Single { menu: "/system/identity" };
        let identity = self.one(request)?;
        let resource = self.one(Request::Single { menu: "/system/resource" })?;
        let name = model::text(&identity, "name")
            .ok_or_else(|| self.bad_reply(request, "no name".to_owned()))?;
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
        let request = Request::List { menu: TREE, properties: Some(QUEUE) };
        let queues = self.listed(request)?;
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
        let records = self.listed(Request::List { menu: TREE, properties: Some(QUEUES) })?;
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
        let value = rate.get().to_string();
        let request = Request::Set {
            menu: TREE,
            id,
            property: "max-limit",
            value: &value,
            properties: WRITTEN,
        };
        let record = self.one(request)?;
        let found = model::text(&record, "name")
            .ok_or_else(|| self.bad_reply(request, "a queue without name".to_owned()))?;
        if found != name {
            return Err(RouterError::OtherQueue { expected: name.to_owned(), found });
        }
        match model::max_limit(&record) {
            Ok(Some(held)) if is_far(held, rate) => Err(RouterError::Refused {
                request: self.transport.describe(request),
                code: RefusalCode::Accepted,
                detail: format!("it holds {} instead of {}", show_rate(held), show_rate(rate)),
            }),
            Ok(Some(held)) => Ok(Written { held, counters: QueueCounters::from_record(&record) }),
            Ok(None) => Err(self.bad_reply(request, "a queue without max-limit".to_owned())),
            Err(detail) => Err(self.bad_reply(request, detail)),
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
        let request = Request::List { menu: MANGLE, properties: Some(RULE) };
        let records = self.listed(request)?;
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
        let request = Request::List { menu: MANGLE, properties: Some(RULE) };
        let records = self.call(request)?;
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
        let value = if on { "false" } else { "true" };
        self.one(Request::Set { menu: MANGLE, id, property: "disabled", value, properties: RULE })?;
        if self.is_rule_on(id, comment)? == on {
            Ok(())
        } else {
            Err(RouterError::RuleUnchanged { comment: comment.to_owned() })
        }
    }

    fn is_rule_on(&self, id: &str, comment: &str) -> Result<bool, RouterError> {
        let request = Request::Get { menu: MANGLE, id, properties: RULE };
        let record = self.one(request)?;
        let rule =
            MangleRule::from_record(&record).map_err(|detail| self.bad_reply(request, detail))?;
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
        self.call(Request::List { menu, properties: None })
    }

    fn call(&self, request: Request<'_>) -> Result<Vec<Record>, RouterError> {
        self.transport.call(request).map_err(|error| error.redacted(&self.redactor))
    }

    fn one(&self, request: Request<'_>) -> Result<Record, RouterError> {
        let mut records = self.call(request)?;
        match (records.pop(), records.is_empty()) {
            (Some(record), true) => Ok(record),
            _ => Err(self.bad_reply(request, "not exactly one record".to_owned())),
        }
    }

    /// Reads a whole menu. Just after a boot the router has been seen to answer with a record of
    /// another one: that must not be taken for a menu without the wanted rows.
    fn listed(&self, request: Request<'_>) -> Result<Vec<Record>, RouterError> {
        let records = self.call(request)?;
        if records.is_empty() || records.iter().any(|record| record.contains_key(".id")) {
            Ok(records)
        } else {
            Err(self.bad_reply(request, "not the rows of this menu".to_owned()))
        }
    }

    fn bad_reply(&self, request: Request<'_>, detail: String) -> RouterError {
        let transport = self.transport.kind();
        let request = self.transport.describe(request);
        RouterError::BadReply { request, detail: self.redactor.redact(detail), transport }
    }
}

/// Returns whether the router holds another rate than it was told, rounding aside.
fn is_far(held: BitsPerSecond, told: BitsPerSecond) -> bool {
    held.get().abs_diff(told.get()) > told.get() / ROUNDING_PART
}
