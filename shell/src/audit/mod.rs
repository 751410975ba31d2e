//! `wanctl check --router`: a look at a live router, with what should be changed there and how.
//!
//! It only reads. What the router's user may not read is not looked at, and the report says so.

mod report;
mod shaping;
mod steering;
mod system;

use std::collections::BTreeMap;

use crate::config::{DaemonConfig, RouterConfig};
use crate::exit::ExitReason;
use crate::routeros::{Client, Record, RouterError, RouterIdentity, flag, text};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// wanctl works, but worse or less safely than it could.
    Warning,
    /// wanctl cannot work, or traffic goes wrong.
    Error,
}

/// Something about the router that somebody should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Decides the exit code when it is an error.
    pub reason: ExitReason,
    /// What is there, and what follows from it.
    pub what: String,
    /// What to do about it; a RouterOS command where there is one.
    pub remedy: String,
}

/// What was found on a router.
#[derive(Debug, Clone)]
pub struct Audit {
    /// Who the router is.
    pub identity: RouterIdentity,
    /// One line for each queue and rule that exists.
    pub state: Vec<String>,
    /// Most severe first.
    pub findings: Vec<Finding>,
}

/// The menus that are read besides those of queues and rules that wanctl itself uses.
const MENUS: [&str; 11] = [
    "/system/resource",
    "/user",
    "/user/group",
    "/ip/service",
    "/certificate",
    "/system/logging",
    "/queue/tree",
    "/queue/type",
    "/ip/firewall/filter",
    "/ip/firewall/mangle",
    "/routing/table",
];

/// Looks at a router; changes nothing there.
///
/// # Errors
///
/// When the router cannot be asked at all.
pub fn audit(
    client: &Client,
    router: &RouterConfig,
    config: &DaemonConfig,
) -> Result<Audit, RouterError> {
    let mut look =
        Look { router, config, menus: BTreeMap::new(), state: Vec::new(), findings: Vec::new() };
    let identity = client.identify()?;
    look.read(client)?;
    look.find_queues(client)?;
    look.find_rules(client)?;
    look.examine_version(&identity.version);
    look.examine_system();
    look.examine_shaping();
    look.examine_steering();
    let Look { state, mut findings, .. } = look;
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(Audit { identity, state, findings })
}

/// An audit under way.
struct Look<'a> {
    router: &'a RouterConfig,
    config: &'a DaemonConfig,
    menus: BTreeMap<&'static str, Vec<Record>>,
    state: Vec<String>,
    findings: Vec<Finding>,
}

impl Look<'_> {
    fn read(&mut self, client: &Client) -> Result<(), RouterError> {
        for menu in MENUS {
            match client.list(menu) {
                Ok(records) => {
                    self.menus.insert(menu, records);
                }
                Err(error) if error.is_answer() => {
                    let (what, _) = split_hint(&error);
                    self.note(
                        format!("{menu} was not looked at: {what}"),
                        "look at it as another user",
                    );
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns the records of a menu; none if it could not be read.
    fn rows(&self, menu: &str) -> &[Record] {
        self.menus.get(menu).map_or(&[], Vec::as_slice)
    }

    /// Returns the first record of a menu that has this value.
    fn row(&self, menu: &str, key: &str, value: &str) -> Option<&Record> {
        self.rows(menu).iter().find(|record| is(record, key, value))
    }

    /// Takes an error that is about one queue or rule as a finding, and hands on every other.
    fn found<T>(&mut self, result: Result<T, RouterError>) -> Result<Option<T>, RouterError> {
        let error = match result {
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        let about_one = matches!(
            error,
            RouterError::NoSuchQueue { .. }
                | RouterError::AmbiguousQueue { .. }
                | RouterError::NoSuchRule { .. }
                | RouterError::AmbiguousRule { .. }
                | RouterError::NotPermitted { .. }
        );
        if !about_one {
            return Err(error);
        }
        let (what, remedy) = split_hint(&error);
        let reason = ExitReason::from(&error);
        self.push(Finding { severity: Severity::Error, reason, what, remedy });
        Ok(None)
    }

    fn add(&mut self, severity: Severity, what: String, remedy: impl Into<String>) {
        let reason = match severity {
            Severity::Error => ExitReason::RouterUnfit,
            Severity::Warning | Severity::Note => ExitReason::RouterWeak,
        };
        self.push(Finding { severity, reason, what, remedy: remedy.into() });
    }

    /// Adds a finding once: two queues may share a type.
    fn push(&mut self, finding: Finding) {
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    fn error(&mut self, what: String, remedy: impl Into<String>) {
        self.add(Severity::Error, what, remedy);
    }

    fn warning(&mut self, what: String, remedy: impl Into<String>) {
        self.add(Severity::Warning, what, remedy);
    }

    fn note(&mut self, what: String, remedy: impl Into<String>) {
        self.add(Severity::Note, what, remedy);
    }
}

/// Splits what an error says from its advice.
fn split_hint(error: &RouterError) -> (String, String) {
    let told = error.to_string();
    let (what, hint) = told.split_once("; hint: ").unwrap_or((&told, "see docs/configuration.md"));
    (what.to_owned(), hint.to_owned())
}

fn is(record: &Record, key: &str, value: &str) -> bool {
    text(record, key).is_some_and(|found| found == value)
}

/// Returns a value, or an empty text.
fn value(record: &Record, key: &str) -> String {
    text(record, key).unwrap_or_default()
}

/// Returns whether a rule does anything and was written by somebody.
fn is_active(rule: &Record) -> bool {
    !flag(rule, "disabled") && !flag(rule, "dynamic")
}
