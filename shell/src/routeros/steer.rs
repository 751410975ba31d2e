//! The mangle rules that steer: at most one of them is switched on.

use std::time::{Duration, Instant};

use wanctl_core::units::WanId;

use super::accord::Finding;
use super::client::Client;
use super::error::RouterError;
use super::model::MangleRule;
use super::serve::Server;
use crate::shaping::{Accord, CORRECTIONS_MAX, Complaint, TRUCE, Verdict, WaitingSteering};

/// Time between two looks at the rules.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// After a correction the next look comes so many times sooner: whoever switches a rule again and
/// again shall be noticed.
const LOOKS_AGAIN: u32 = 6;

/// The rule that sends traffic to one alternate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SteeringRule {
    /// The alternate.
    pub wan: WanId,
    /// The comment of its mangle rule.
    pub comment: String,
}

/// All rules that steer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SteeringRules {
    /// One rule for each alternate.
    pub rules: Vec<SteeringRule>,
    /// Whether they are only looked up.
    pub dry_run: bool,
    /// Time between two looks at whether somebody else has switched them.
    pub look_interval: Duration,
}

impl Default for SteeringRules {
    fn default() -> Self {
        Self { rules: Vec::new(), dry_run: false, look_interval: LOOK_INTERVAL }
    }
}

/// A rule to be switched.
#[derive(Debug)]
struct Target {
    rule: SteeringRule,
    /// The router's id of it, until it proves wrong.
    id: Option<String>,
    /// Whether it was switched on, as the router confirmed.
    accord: Accord<bool>,
    /// What was wrong at the last look.
    finding: Option<Finding>,
}

/// What the worker knows about the rules.
#[derive(Debug)]
pub(crate) struct Steerer {
    targets: Vec<Target>,
    dry_run: bool,
    look_interval: Duration,
    /// When to look at the rules next; never before they have been switched.
    due: Option<Instant>,
    /// Whether the last look was refused.
    is_refused: bool,
    /// Why the last order could not be carried out.
    failure: Option<String>,
}

impl Steerer {
    pub(crate) fn new(rules: SteeringRules) -> Self {
        let target = |rule| Target { rule, id: None, accord: Accord::default(), finding: None };
        let SteeringRules { rules, dry_run, look_interval } = rules;
        let targets = rules.into_iter().map(target).collect();
        Self { targets, dry_run, look_interval, due: None, is_refused: false, failure: None }
    }

    /// Returns when to look at the rules next.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    /// Makes the next look due at once, if there is to be one.
    pub(crate) fn look_now(&mut self) {
        self.due = self.due.map(|_| Instant::now());
    }

    /// Returns the rules that somebody else keeps switching and which are left alone.
    pub(crate) fn disputed(&self) -> impl Iterator<Item = String> {
        let disputed = self.targets.iter().filter(|target| target.accord.is_truce());
        disputed.map(|target| format!("mangle rule {:?}", target.rule.comment))
    }

    /// Returns what is wrong with rules. No line is out of control for that.
    pub(crate) fn complaints(&self) -> impl Iterator<Item = Complaint> {
        let complaint = |target: &Target| {
            let rule = format!("mangle rule {:?}", target.rule.comment);
            Some(target.finding?.complaint(&rule, false))
        };
        self.targets.iter().filter_map(complaint)
    }

    /// Returns whether rules have to be switched off at the end.
    pub(crate) fn leaves_something(&self) -> bool {
        !self.dry_run && !self.targets.is_empty()
    }
}

impl Server {
    /// Finds all rules that steer.
    pub(crate) fn look_up_rules(&mut self) -> Result<(), RouterError> {
        (0..self.steerer.targets.len()).try_for_each(|index| self.look_up_rule(index).map(drop))
    }

    fn look_up_rule(&mut self, index: usize) -> Result<String, RouterError> {
        let comment = self.rule(index)?.rule.comment.clone();
        let found = self.call(|client| client.find_rule(&comment));
        let finding = match &found {
            Err(RouterError::NoSuchRule { .. }) => Some(Some(Finding::Missing)),
            Err(RouterError::AmbiguousRule { .. }) => Some(Some(Finding::Several)),
            Err(_) => None,
            Ok(rule) => Some(rule.invalid.then_some(Finding::Invalid)),
        };
        if let Some(finding) = finding {
            tell_finding(self.rule(index)?, finding);
            self.show_findings();
        }
        let MangleRule { id, chain, action, disabled, .. } = found?;
        tracing::info!(comment, id, chain, action, disabled, "steering rule found");
        self.rule(index)?.id = Some(id.clone());
        Ok(id)
    }

    fn rule(&mut self, index: usize) -> Result<&mut Target, RouterError> {
        let target = self.steerer.targets.get_mut(index);
        target.ok_or_else(|| RouterError::BadTarget("an unknown steering rule".to_owned()))
    }

    /// Switches all rules off but that of `to`, then that one on, each read back.
    pub(crate) fn steer(&mut self, to: Option<WanId>) -> Result<(), RouterError> {
        let begin = Instant::now();
        let is_wanted = |target: &Target| Some(target.rule.wan) == to;
        let targets = self.steerer.targets.iter().enumerate();
        // Off first: two rules at a time would leave it to their order which one wins.
        let mut order: Vec<(bool, usize)> =
            targets.map(|(index, target)| (is_wanted(target), index)).collect();
        order.sort_unstable();
        // What the router holds is not known again before it has confirmed the switch.
        self.steerer.targets.iter_mut().for_each(|target| target.accord.held = None);
        self.steerer.due = Some(Instant::now() + self.steerer.look_interval);
        for (on, index) in order {
            self.switch(index, on)?;
            self.rule(index)?.accord.held = Some(on);
        }
        tracing::debug!(to = to.map(|wan| wan.0), took = ?begin.elapsed(), "steered");
        Ok(())
    }

    /// Switches one rule. An id that has become wrong is looked up again, once.
    fn switch(&mut self, index: usize, on: bool) -> Result<(), RouterError> {
        let known = self.rule(index)?.id.clone();
        let (id, is_fresh) = match known {
            Some(id) => (id, false),
            None => (self.look_up_rule(index)?, true),
        };
        let comment = self.rule(index)?.rule.comment.clone();
        let switch = |id: &str| {
            let comment = comment.clone();
            let id = id.to_owned();
            move |client: &Client| client.switch_rule(&id, &comment, on)
        };
        match self.call(switch(&id)) {
            Err(error) if error.is_stale_id() => {
                self.rule(index)?.id = None;
                if is_fresh {
                    return Err(error);
                }
                tracing::warn!(%error, "looking the steering rule up again");
                let id = self.look_up_rule(index)?;
                self.call(switch(&id))
            }
            other => other,
        }
    }

    /// Carries out an order.
    pub(crate) fn carry_out_steering(
        &mut self,
        waiting: &WaitingSteering,
    ) -> Result<(), RouterError> {
        let result = self.steer(waiting.order.to);
        self.desk.reply_steering(waiting.reply(result.is_ok()));
        match result {
            Ok(()) => {
                self.steerer.failure = None;
                self.note_success(false);
            }
            Err(error) if self.is_final(&error) => return Err(error),
            Err(error) if error.is_answer() => {
                // The shapers must not wait for a rule that somebody removed. The order comes again every
                // few seconds.
                let text = Some(error.to_string());
                if std::mem::replace(&mut self.steerer.failure, text.clone()) != text {
                    tracing::warn!(%error, "the steering rule cannot be switched");
                }
            }
            Err(error) => {
                self.note_failure(&error, false);
                self.pause();
            }
        }
        Ok(())
    }

    /// Reads all mangle rules and puts right what others switched.
    pub(crate) fn look_at_rules(&mut self) {
        self.steerer.due = Some(Instant::now() + self.steerer.look_interval);
        match self.call(Client::rules) {
            Ok(rules) => {
                self.steerer.is_refused = false;
                self.note_success(false);
                self.compare_rules(&rules);
                self.show_findings();
            }
            Err(error) if error.is_answer() => {
                if !std::mem::replace(&mut self.steerer.is_refused, true) {
                    tracing::warn!(%error, "the steering rules cannot be read");
                }
            }
            Err(error) => {
                self.note_failure(&error, false);
                self.pause();
            }
        }
    }

    fn compare_rules(&mut self, rules: &[MangleRule]) {
        let mut corrections = Vec::new();
        for (index, target) in self.steerer.targets.iter_mut().enumerate() {
            let comment = &target.rule.comment;
            let (rule, finding) =
                Finding::of_rules(rules.iter().filter(|rule| rule.comment == *comment));
            tell_finding(target, finding);
            let Some(rule) = rule else { continue };
            if self.desk.is_steering_waiting() {
                return; // whatever it is now, a newer order decides
            }
            target.id = Some(rule.id.clone());
            let found = if rule.disabled { "off" } else { "on" };
            let comment = &target.rule.comment;
            match target.accord.judge(!rule.disabled, Instant::now()) {
                Verdict::Agreed => {}
                Verdict::Truce => tracing::debug!(comment, found, "still not as it was switched"),
                Verdict::GiveUp => tracing::warn!(
                    comment,
                    found,
                    "somebody keeps switching the steering rule: after {CORRECTIONS_MAX} corrections \
                     in a minute it is left alone for {} minutes, but for new decisions; hint: look \
                     for a script or a second controller on the router",
                    TRUCE.as_secs() / 60
                ),
                Verdict::Correct(on) => {
                    let text = "somebody else switched the steering rule, switching it back";
                    tracing::warn!(comment, found, "{text}");
                    corrections.push((on, index));
                }
            }
        }
        // Off first, as in `steer`.
        corrections.sort_unstable();
        for (on, index) in corrections {
            self.steerer.due = Some(Instant::now() + self.steerer.look_interval / LOOKS_AGAIN);
            match self.switch(index, on) {
                Ok(()) => {}
                Err(error) if error.is_answer() => {
                    tracing::warn!(%error, "the steering rule cannot be switched back");
                }
                Err(error) => {
                    self.note_failure(&error, false);
                    self.pause();
                    return;
                }
            }
        }
    }
}

/// Reports what is wrong with a rule when that changes.
fn tell_finding(target: &mut Target, finding: Option<Finding>) {
    let before = std::mem::replace(&mut target.finding, finding);
    let comment = &target.rule.comment;
    match finding {
        Some(finding) if before != Some(finding) => {
            tracing::warn!(comment, "the steering rule {finding}");
        }
        None if before.is_some() => tracing::info!(comment, "the steering rule is well again"),
        Some(_) | None => {}
    }
}
