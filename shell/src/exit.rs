//! Why the program ends, and the exit code that says so.

use std::process::ExitCode;

use crate::routeros::RouterError;

/// A reason to end. The order is from the most basic to the most remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitReason {
    /// The configuration file cannot be read.
    ConfigUnreadable,
    /// Not TOML, an unknown or missing key, or a value of the wrong kind.
    ConfigText,
    /// A value is out of range, or several contradict each other.
    ConfigValue,
    /// The router's password is missing.
    PasswordMissing,
    /// The file with the router's CA certificate cannot be used.
    CaUnreadable,
    /// ICMP sockets are not permitted, or cannot be opened on the configured interface.
    Probing,
    /// The recording or the folder of the state cannot be used.
    Storage,
    /// Another daemon of the same folder is running.
    AlreadyRunning,
    /// `status` was asked for and no daemon answers.
    NotRunning,
    /// The router cannot be reached. Only one-shot commands end with this; `run` keeps trying.
    RouterUnreachable,
    /// The router refuses user or password.
    RouterLogin,
    /// The router's certificate is not trusted.
    RouterCertificate,
    /// The router's user may not do what is needed.
    RouterPermission,
    /// A configured queue does not exist on the router.
    QueueMissing,
    /// A configured queue name fits several queues on the router.
    QueueAmbiguous,
    /// A configured steering rule does not exist on the router.
    RuleMissing,
    /// A configured steering rule's comment fits several rules on the router.
    RuleAmbiguous,
    /// `check --router` found something on the router with which wanctl cannot work.
    RouterUnfit,
    /// `check --router` found something on the router that weakens what wanctl does, and nothing worse.
    RouterWeak,
    /// A configured interface does not exist on this machine.
    InterfaceMissing,
    /// A configured interface has no CAKE qdisc that can be set.
    CakeMissing,
    /// This program may not change qdiscs.
    NetAdmin,
    /// Something else; the message says what.
    Other,
}

impl ExitReason {
    /// All reasons with their exit codes and a short description for the help text.
    pub const TABLE: [(Self, u8, &'static str); 23] = [
        (Self::Other, 1, "any other failure"),
        (Self::ConfigUnreadable, 10, "the configuration file cannot be read"),
        (Self::ConfigText, 11, "configuration: syntax, unknown, missing or mistyped key"),
        (Self::ConfigValue, 12, "configuration: value out of range or contradiction"),
        (Self::PasswordMissing, 13, "the router's password is missing"),
        (Self::CaUnreadable, 14, "the router's CA certificate cannot be read"),
        (Self::Probing, 20, "ICMP sockets are not permitted or cannot be opened"),
        (Self::Storage, 21, "the recording or the state folder cannot be used"),
        (Self::AlreadyRunning, 22, "another wanctl of the same run-dir is running"),
        (Self::NotRunning, 23, "no daemon answers (status only)"),
        (Self::RouterUnreachable, 30, "router unreachable (check and fail-safe; run keeps trying)"),
        (Self::RouterLogin, 31, "the router refuses user or password"),
        (Self::QueueMissing, 32, "a queue does not exist on the router"),
        (Self::QueueAmbiguous, 33, "a queue name fits several queues on the router"),
        (Self::RouterCertificate, 34, "the router's certificate is not trusted"),
        (Self::RouterPermission, 35, "the router's user lacks a permission"),
        (Self::RuleMissing, 36, "a steering rule does not exist on the router"),
        (Self::RuleAmbiguous, 37, "a steering rule's comment fits several rules on the router"),
        (Self::RouterUnfit, 38, "check --router: another error was found on the router"),
        (Self::RouterWeak, 39, "check --router: no errors, but warnings"),
        (Self::InterfaceMissing, 40, "linux-cake: an interface does not exist"),
        (Self::CakeMissing, 41, "linux-cake: an interface has no CAKE qdisc that can be set"),
        (Self::NetAdmin, 42, "linux-cake: CAP_NET_ADMIN is missing"),
    ];

    /// Returns the exit code. 0 is success and 2 a wrong command line.
    #[must_use]
    pub fn code(self) -> u8 {
        Self::TABLE.iter().find(|(reason, ..)| *reason == self).map_or(1, |(_, code, _)| *code)
    }
}

impl From<ExitReason> for ExitCode {
    fn from(reason: ExitReason) -> Self {
        Self::from(reason.code())
    }
}

impl From<&RouterError> for ExitReason {
    fn from(error: &RouterError) -> Self {
        match error {
            RouterError::BadTarget(_) => Self::ConfigValue,
            RouterError::Unauthorized { .. } => Self::RouterLogin,
            RouterError::NotPermitted { .. } => Self::RouterPermission,
            RouterError::NoSuchQueue { .. } => Self::QueueMissing,
            RouterError::AmbiguousQueue { .. } => Self::QueueAmbiguous,
            RouterError::NoSuchRule { .. } => Self::RuleMissing,
            RouterError::AmbiguousRule { .. } => Self::RuleAmbiguous,
            RouterError::Certificate { .. }
            | RouterError::ClockBehindCertificate { .. }
            | RouterError::Tls { .. } => Self::RouterCertificate,
            RouterError::Unreachable { .. } | RouterError::Timeout { .. } => {
                Self::RouterUnreachable
            }
            RouterError::NoSuchId { .. }
            | RouterError::OtherQueue { .. }
            | RouterError::OtherRule { .. }
            | RouterError::RuleUnchanged { .. }
            | RouterError::Refused { .. }
            | RouterError::BadReply { .. } => Self::Other,
        }
    }
}

/// A reason to end, and what to tell the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Decides the exit code.
    pub reason: ExitReason,
    /// One or more lines for the user.
    pub message: String,
}

impl Failure {
    /// Makes a failure from a reason and a message.
    pub fn new(reason: ExitReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl From<RouterError> for Failure {
    fn from(error: RouterError) -> Self {
        Self::new(ExitReason::from(&error), error.to_string())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_its_own_code() {
        let codes: BTreeSet<u8> = ExitReason::TABLE.iter().map(|(_, code, _)| *code).collect();
        assert_eq!(codes.len(), ExitReason::TABLE.len());
        assert!(!codes.contains(&0) && !codes.contains(&2));
    }
}
