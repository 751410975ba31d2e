//! The mangle rules that steer: at most one of them is switched on.

use std::time::Instant;

use wanctl_core::tick::SteeringReply;
use wanctl_core::units::{CommandId, WanId};

use super::client::Client;
use super::error::RouterError;
use super::model::MangleRule;
use super::serve::Server;
use crate::clock;

/// The rule that sends traffic to one alternate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SteeringRule {
    /// The alternate.
    pub wan: WanId,
    /// The comment of its mangle rule.
    pub comment: String,
}

/// All rules that steer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SteeringRules {
    /// One rule for each alternate.
    pub rules: Vec<SteeringRule>,
    /// Whether they are only looked up.
    pub dry_run: bool,
}

/// One [`wanctl_core::outputs::Action::SetSteering`] for this router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SteeringOrder {
    /// Names the order in its reply.
    pub id: CommandId,
    /// The alternate whose rule is to be the only one switched on; `None` switches all off.
    pub to: Option<WanId>,
}

/// An order that has not been carried out yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitingSteering {
    pub(crate) order: SteeringOrder,
    /// When it was given, in ns of [`clock::now_nanos`].
    given_ns: u64,
}

impl WaitingSteering {
    pub(crate) fn new(order: SteeringOrder) -> Self {
        Self { order, given_ns: clock::now_nanos() }
    }

    pub(crate) fn reply(&self, succeeded: bool) -> SteeringReply {
        let took_us = clock::now_nanos().saturating_sub(self.given_ns) / 1000;
        let took_us = u32::try_from(took_us).unwrap_or(u32::MAX);
        SteeringReply { id: self.order.id, succeeded, took_us }
    }
}

/// A rule to be switched.
#[derive(Debug)]
struct Target {
    rule: SteeringRule,
    /// The router's id of it, until it proves wrong.
    id: Option<String>,
}

/// What the worker knows about the rules.
#[derive(Debug)]
pub(crate) struct Steerer {
    targets: Vec<Target>,
    dry_run: bool,
}

impl Steerer {
    pub(crate) fn new(rules: SteeringRules) -> Self {
        let target = |rule| Target { rule, id: None };
        Self { targets: rules.rules.into_iter().map(target).collect(), dry_run: rules.dry_run }
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
        let MangleRule { id, chain, action, disabled, invalid, .. } =
            self.call(|client| client.find_rule(&comment))?;
        tracing::info!(comment, id, chain, action, disabled, "steering rule found");
        if invalid {
            tracing::warn!(comment, "the steering rule is invalid and steers nothing");
        }
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
        for (on, index) in order {
            self.switch(index, on)?;
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
            Ok(()) => self.note_success(false),
            Err(error) if self.is_final(&error) => return Err(error),
            Err(error) if error.is_answer() => {
                // The shapers must not wait for a rule that somebody removed.
                tracing::warn!(%error, "the steering rule cannot be switched");
            }
            Err(error) => {
                self.note_failure(&error, false);
                self.pause();
            }
        }
        Ok(())
    }
}
