//! What always holds about steering, whatever the ticks say.

use embassy_time::{Duration, Instant};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use wanctl_core::command::COMMAND_TIMEOUT;
use wanctl_core::outputs::{Action, Event, Outputs};
use wanctl_core::snapshot::Snapshot;
use wanctl_core::steering::{SteeringConfig, SteeringQuirks, SteeringReason};
use wanctl_core::tick::Tick;
use wanctl_core::units::{CommandId, WanId};

/// Watches steering and checks each step.
#[derive(Debug)]
pub(crate) struct SteeringWatch {
    config: Option<SteeringConfig>,
    steered_to: Option<WanId>,
    /// Since when traffic is with an alternate, or its last answer.
    steered_at: Option<Instant>,
    in_flight: Option<(CommandId, Option<WanId>, Instant)>,
    /// How many commands changed the way of traffic.
    pub(crate) changes: usize,
}

/// A steering command of one step.
pub(crate) fn commands(out: &Outputs) -> Vec<(CommandId, Option<WanId>)> {
    let command = |action: &Action| match *action {
        Action::SetSteering { id, to, .. } => Some((id, to)),
        _ => None,
    };
    out.actions.iter().filter_map(command).collect()
}

/// Returns whether an event tells of steering.
pub(crate) fn is_of_steering(event: &Event) -> bool {
    matches!(
        event,
        Event::SteeringCommanded { .. }
            | Event::SteeringConfirmed { .. }
            | Event::SteeringFailed { .. }
            | Event::SteeringTimedOut { .. }
            | Event::SteeringRefused { .. }
            | Event::SteeringFlapping { .. }
            | Event::SteeringDropsUseless { .. }
            | Event::SteeringWouldChange { .. }
    )
}

impl SteeringWatch {
    pub(crate) fn new(config: Option<&SteeringConfig>) -> Self {
        let config = config.cloned();
        Self { config, steered_to: None, steered_at: None, in_flight: None, changes: 0 }
    }

    pub(crate) fn check(&mut self, tick: &Tick, out: &Outputs, after: &Snapshot) -> TestCaseResult {
        let now = after.now.expect("a tick has passed");
        let commands = commands(out);
        let Some(config) = self.config.clone() else {
            prop_assert!(commands.is_empty() && after.steering.is_none());
            return Ok(());
        };
        let snapshot = after.steering.expect("steering is configured");
        if config.dry_run {
            prop_assert!(commands.is_empty(), "a dry run commanded something");
            return Ok(());
        }
        self.take_answers(tick, now);
        prop_assert!(commands.len() <= 1, "two commands in one tick");
        for (id, to) in commands {
            prop_assert!(self.in_flight.is_none(), "two commands at a time");
            prop_assert!(to.is_none_or(|to| config.wans[1..].contains(&to)), "no alternate");
            self.check_change(&config, now, to, out)?;
            self.in_flight = Some((id, to, now));
        }
        prop_assert_eq!(snapshot.is_in_flight, self.in_flight.is_some());
        prop_assert_eq!(snapshot.steered_to, self.steered_to, "steered without an answer");
        Ok(())
    }

    fn take_answers(&mut self, tick: &Tick, now: Instant) {
        for reply in &tick.steering_replies {
            let Some((_, to, _)) = self.in_flight.take_if(|(id, ..)| *id == reply.id) else {
                continue;
            };
            if reply.succeeded {
                if to != self.steered_to {
                    self.steered_at = to.map(|_| now);
                    self.changes += 1;
                }
                self.steered_to = to;
            }
        }
        self.in_flight.take_if(|(_, _, since)| now - *since >= COMMAND_TIMEOUT);
    }

    fn check_change(
        &self,
        config: &SteeringConfig,
        now: Instant,
        to: Option<WanId>,
        out: &Outputs,
    ) -> TestCaseResult {
        let told = out.events.iter().find_map(|event| match event {
            Event::SteeringCommanded { decision } => Some(*decision),
            _ => None,
        });
        let decision = told.expect("every command says why");
        prop_assert_eq!((decision.from, decision.to), (self.steered_to, to));
        let again = matches!(decision.reason, SteeringReason::Start | SteeringReason::Again);
        prop_assert_eq!(again, self.steered_to == to, "{:?}", decision);
        let is_held = config.quirks == SteeringQuirks::NONE
            && decision.reason != SteeringReason::AlternateOutage;
        if let Some(since) = self.steered_at.filter(|_| is_held && !again) {
            let held = now.checked_duration_since(since).unwrap_or(Duration::MIN);
            prop_assert!(held >= config.hold_down, "left after {} us", held.as_micros());
        }
        Ok(())
    }
}
