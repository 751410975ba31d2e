//! What happens while no reflector answers.
//!
//! A loss is a loss, never a delay of zero. Whether the line works all the same is asked step by
//! step: first the gateway, which answers for itself only, then TCP targets on the internet one
//! after the other, of which one is enough.

use embassy_time::{Duration, Instant};
use serde::{Deserialize, Serialize};

use crate::config::{BlindConfig, BlindMode, Checks};
use crate::fixed::ticks_covering;
use crate::places::Empty;
use crate::tick::{CheckKind, ConnectivityReport};

/// A check without a report for this long counts as failed.
pub(crate) const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// What a blind tick does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlindVerdict {
    /// Go on with the load filter's value as the sample.
    ReuseLoad,
    /// Keep everything as it is.
    Freeze,
    /// Keep everything as it is, and the tick counts as failed.
    Fail,
}

/// A check to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ask {
    Gateway,
    Tcp(u8),
}

impl Ask {
    const fn kind(self) -> CheckKind {
        match self {
            Self::Gateway => CheckKind::Gateway,
            Self::Tcp(_) => CheckKind::Tcp,
        }
    }
}

/// A check that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    ask: Ask,
    #[serde(with = "crate::micros")]
    at: Instant,
}

/// What the checks have found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) kind: CheckKind,
    pub(crate) connected: bool,
    #[serde(with = "crate::micros")]
    at: Instant,
}

/// Counts blind ticks, decides on each, and finds out whether the line works.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Fallback {
    mode: BlindMode,
    checks: Checks,
    limit_ticks: u32,
    ticks: u32,
    asked: Option<Asked>,
    next: Option<Ask>,
    finding: Option<Finding>,
}

impl Empty for Fallback {
    const EMPTY: Self = Self {
        mode: BlindMode::Graceful,
        checks: Checks::Given,
        limit_ticks: 0,
        ticks: 0,
        asked: Some(Asked { ask: Ask::Gateway, at: Instant::MIN }),
        next: Some(Ask::Gateway),
        finding: Some(Finding { kind: CheckKind::Gateway, connected: false, at: Instant::MIN }),
    };
}

impl Fallback {
    pub(crate) const fn new(config: &BlindConfig, tick: Duration) -> Self {
        Self {
            mode: config.mode,
            checks: config.checks,
            limit_ticks: ticks_covering(config.limit, tick),
            ticks: 0,
            asked: None,
            next: None,
            finding: None,
        }
    }

    /// Returns for how many ticks in a row the line has been blind but connected.
    pub(crate) const fn ticks(&self) -> u32 {
        self.ticks
    }

    /// Takes a report; returns the finding if it completes one.
    pub(crate) fn take(&mut self, report: &ConnectivityReport, now: Instant) -> Option<Finding> {
        let (kind, connected) = (report.kind, report.connected);
        if self.checks == Checks::Given {
            return Some(self.find(kind, connected, now));
        }
        let Asked { ask, .. } = self.asked.take_if(|asked| asked.ask.kind() == kind)?;
        self.conclude(ask, connected, now)
    }

    /// Returns the next check to make, if one is due. Call it in blind ticks only.
    pub(crate) fn ask(&mut self, now: Instant) -> Option<Ask> {
        let Checks::Asked { gateway, tcp_targets, every } = self.checks else { return None };
        let age = |at: Instant| now.checked_duration_since(at).unwrap_or(Duration::MIN);
        let late = |asked: &mut Asked| age(asked.at) >= CHECK_TIMEOUT;
        if let Some(Asked { ask, .. }) = self.asked.take_if(late) {
            self.conclude(ask, false, now);
        }
        let is_fresh = self.finding.is_some_and(|finding| age(finding.at) < every);
        if self.asked.is_some() || (self.next.is_none() && is_fresh) {
            return None;
        }
        let first = match (gateway, tcp_targets) {
            (true, _) => Some(Ask::Gateway),
            (false, 0) => None,
            (false, _) => Some(Ask::Tcp(0)),
        };
        let ask = self.next.take().or(first)?;
        self.asked = Some(Asked { ask, at: now });
        Some(ask)
    }

    /// Notes the outcome of one check: either it settles the question, or the next one will.
    fn conclude(&mut self, ask: Ask, connected: bool, now: Instant) -> Option<Finding> {
        let targets = match self.checks {
            Checks::Given => 0,
            Checks::Asked { tcp_targets, .. } => tcp_targets,
        };
        let next = match ask {
            Ask::Gateway => 0,
            Ask::Tcp(_) if connected => targets,
            Ask::Tcp(target) => target.saturating_add(1),
        };
        if next < targets {
            self.next = Some(Ask::Tcp(next));
            return None;
        }
        Some(self.find(ask.kind(), connected, now))
    }

    fn find(&mut self, kind: CheckKind, connected: bool, now: Instant) -> Finding {
        let finding = Finding { kind, connected, at: now };
        self.finding = Some(finding);
        finding
    }

    /// Returns whether the line is known to work otherwise.
    pub(crate) fn is_connected(&self, now: Instant) -> bool {
        self.finding.is_some_and(|finding| {
            // A given report speaks for its own tick only.
            finding.connected && (self.checks != Checks::Given || finding.at == now)
        })
    }

    /// Decides on a tick in which every probe that ended was lost. Ticks without connectivity
    /// fail and are not counted: they are an outage, not blindness.
    pub(crate) const fn judge(&mut self, connected: bool) -> BlindVerdict {
        if !connected {
            return BlindVerdict::Fail;
        }
        self.ticks = self.ticks.saturating_add(1);
        match self.mode {
            BlindMode::Freeze => BlindVerdict::Freeze,
            BlindMode::UseLastRtt => BlindVerdict::ReuseLoad,
            BlindMode::Graceful if self.ticks == 1 => BlindVerdict::ReuseLoad,
            BlindMode::Graceful if self.ticks <= self.limit_ticks => BlindVerdict::Freeze,
            BlindMode::Graceful => BlindVerdict::Fail,
        }
    }

    /// Returns whether this tick is the first beyond the limit.
    pub(crate) fn just_passed_limit(&self) -> bool {
        self.mode == BlindMode::Graceful && self.ticks == self.limit_ticks.saturating_add(1)
    }

    /// Ends blindness; returns how many ticks it lasted.
    pub(crate) const fn end(&mut self) -> u32 {
        self.asked = None;
        self.next = None;
        self.finding = None;
        core::mem::replace(&mut self.ticks, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fallback(gateway: bool, tcp_targets: u8) -> Fallback {
        let every = Duration::from_secs(5);
        let checks = Checks::Asked { gateway, tcp_targets, every };
        let after = Duration::from_millis(500);
        let limit = Duration::from_secs(1);
        let config = BlindConfig { mode: BlindMode::Graceful, after, limit, checks };
        Fallback::new(&config, Duration::from_millis(50))
    }

    fn report(kind: CheckKind, connected: bool) -> ConnectivityReport {
        ConnectivityReport { wan: crate::units::WanId(0), kind, connected }
    }

    const NOW: Instant = Instant::from_secs(100);

    #[test]
    fn a_gateway_that_answers_does_not_speak_for_the_internet() {
        let mut fallback = fallback(true, 2);
        assert_eq!(fallback.ask(NOW), Some(Ask::Gateway));
        assert_eq!(fallback.ask(NOW), None);
        assert_eq!(fallback.take(&report(CheckKind::Gateway, true), NOW), None);
        assert!(!fallback.is_connected(NOW));
        assert_eq!(fallback.ask(NOW), Some(Ask::Tcp(0)));
        assert_eq!(fallback.take(&report(CheckKind::Tcp, false), NOW), None);
        assert_eq!(fallback.ask(NOW), Some(Ask::Tcp(1)));
        let found = fallback.take(&report(CheckKind::Tcp, true), NOW);
        assert_eq!(found.map(|finding| finding.connected), Some(true));
        assert!(fallback.is_connected(NOW));
    }

    #[test]
    fn the_first_tcp_target_that_answers_is_enough() {
        let mut fallback = fallback(false, 3);
        assert_eq!(fallback.ask(NOW), Some(Ask::Tcp(0)));
        assert!(fallback.take(&report(CheckKind::Tcp, true), NOW).is_some());
        assert_eq!(fallback.ask(NOW), None);
        // It is asked again after five seconds.
        let later = NOW + Duration::from_secs(5);
        assert!(fallback.is_connected(later));
        assert_eq!(fallback.ask(later), Some(Ask::Tcp(0)));
    }

    #[test]
    fn a_check_without_a_report_counts_as_failed() {
        let mut fallback = fallback(true, 0);
        assert_eq!(fallback.ask(NOW), Some(Ask::Gateway));
        let late = NOW + CHECK_TIMEOUT;
        assert_eq!(fallback.ask(late), None);
        assert!(!fallback.is_connected(late));
        // A report that comes even later answers nothing.
        assert_eq!(fallback.take(&report(CheckKind::Gateway, true), late), None);
    }

    #[test]
    fn without_any_check_nothing_is_asked_or_known() {
        let mut fallback = fallback(false, 0);
        assert_eq!(fallback.ask(NOW), None);
        assert!(!fallback.is_connected(NOW));
    }
}
