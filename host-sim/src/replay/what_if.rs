//! The same inputs under another configuration, side by side with what was recorded.

use std::io::Write;

use anyhow::Result;
use wanctl::config::show_rate;
use wanctl_core::config::Config;
use wanctl_core::controller::Controller;
use wanctl_core::outputs::{Action, Event, Outputs};
use wanctl_core::snapshot::Snapshot;
use wanctl_core::steering::SteeringSnapshot;
use wanctl_core::tick::{Outcome, Reply, SteeringReply, Tick};
use wanctl_core::units::{BitsPerSecond, Direction, PerDirection};
use wanctl_core::zone::Zone;

use super::session::Session;

const ZONES: [Zone; 4] = [Zone::Green, Zone::Yellow, Zone::SoftRed, Zone::Red];

/// What one direction did.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    ticks_in_zone: [u64; 4],
    /// In bit/s; a sum over a year of ticks fits.
    wanted_sum: u128,
    wanted_min: Option<BitsPerSecond>,
    wanted_max: Option<BitsPerSecond>,
    writes: u64,
    cuts: u64,
    raises: u64,
}

/// What the steering did.
#[derive(Debug, Clone, Copy, Default)]
struct Steering {
    ticks: u64,
    ticks_away: u64,
    ticks_refused: u64,
    changes: u64,
    failures: u64,
    /// Changes that a dry run would have made.
    would: u64,
}

impl Steering {
    fn add(&mut self, snapshot: &SteeringSnapshot, outputs: &Outputs) {
        self.ticks += 1;
        self.ticks_away += u64::from(snapshot.steered_to.is_some());
        self.ticks_refused += u64::from(snapshot.refused.is_some());
        // Events and not the snapshot's counters, which begin again after a restart.
        for event in &outputs.events {
            match event {
                Event::SteeringConfirmed { .. } => self.changes += 1,
                Event::SteeringFailed { .. } | Event::SteeringTimedOut { .. } => self.failures += 1,
                Event::SteeringWouldChange { .. } => self.would += 1,
                _ => {}
            }
        }
    }
}

/// All directions of all WANs, and the steering between them.
#[derive(Debug, Default)]
struct Accounts(Vec<PerDirection<Account>>, Steering);

impl Accounts {
    fn add(&mut self, snapshot: &Snapshot, outputs: &Outputs) {
        if let Some(steering) = &snapshot.steering {
            self.1.add(steering, outputs);
        }
        self.0.resize(snapshot.wans().len(), PerDirection::default());
        for (accounts, wan) in self.0.iter_mut().zip(snapshot.wans()) {
            for direction in Direction::BOTH {
                let (account, is) = (accounts.get_mut(direction), wan.directions.get(direction));
                let zone = ZONES.iter().position(|zone| *zone == is.zone).unwrap_or_default();
                account.ticks_in_zone[zone] += 1;
                account.wanted_sum += u128::from(is.wanted.get());
                let lowest = account.wanted_min.map_or(is.wanted, |least| least.min(is.wanted));
                (account.wanted_min, account.wanted_max) =
                    (Some(lowest), account.wanted_max.max(Some(is.wanted)));
            }
        }
        for event in &outputs.events {
            if let Event::RateChanged { wan, direction, from, to, .. } = *event
                && let Some(accounts) = self.0.get_mut(usize::from(wan.0))
            {
                let account = accounts.get_mut(direction);
                account.writes += 1;
                account.cuts += u64::from(from.is_some_and(|from| to < from));
                account.raises += u64::from(from.is_some_and(|from| to > from));
            }
        }
    }
}

/// A core with another configuration that is fed the recorded inputs.
#[derive(Debug)]
pub struct WhatIf {
    config: Config,
    controller: Box<Controller>,
    tick: Tick,
    outputs: Outputs,
    recorded: Accounts,
    other: Accounts,
}

impl WhatIf {
    /// Makes a core with this configuration.
    ///
    /// # Errors
    ///
    /// When the core refuses it.
    pub fn new(config: Config) -> Result<Self> {
        let controller = Box::new(Controller::new(&config)?);
        let tick = Tick::new(embassy_time::Instant::MIN);
        let (recorded, other) = (Accounts::default(), Accounts::default());
        Ok(Self { config, controller, tick, outputs: Outputs::new(), recorded, other })
    }

    /// Tells both shapes if inputs of that configuration make no sense under this one.
    pub(super) fn mismatch(&self, recorded: Option<&Config>) -> Option<String> {
        let shape = |config: &Config| {
            let reflectors: Vec<String> =
                config.wans.iter().map(|wan| wan.reflectors.to_string()).collect();
            let (count, each) = (config.wans.len(), reflectors.join(" and "));
            format!("{count} WANs with {each} reflectors, every {} ms", config.tick.as_millis())
        };
        let (theirs, ours) = (shape(recorded?), shape(&self.config));
        (theirs != ours).then(|| format!("it has {theirs}; the configuration has {ours}"))
    }

    /// Feeds one recorded tick, with answers to this core's own commands instead of the recorded
    /// ones.
    pub(super) fn step(&mut self, session: &Session) {
        self.tick.clone_from(session.tick());
        self.tick.replies.clear();
        self.tick.steering_replies.clear();
        let took_us = 0;
        for action in &self.outputs.actions {
            match *action {
                Action::SetRate { id, wan, direction, rate, .. } => {
                    let outcome = Outcome::Applied(rate);
                    self.tick.push_reply(Reply { wan, direction, id, outcome, took_us });
                }
                Action::SetSteering { id, .. } => {
                    self.tick.push_steering_reply(SteeringReply { id, succeeded: true, took_us });
                }
                Action::SendProbe { .. }
                | Action::CheckGateway { .. }
                | Action::CheckTcp { .. } => {}
            }
        }
        self.controller.step(&self.tick, &mut self.outputs);
        self.other.add(&self.controller.snapshot(), &self.outputs);
        if let Some(controller) = session.controller() {
            self.recorded.add(&controller.snapshot(), session.outputs());
        }
    }

    /// Prints both side by side.
    ///
    /// # Errors
    ///
    /// When `out` cannot be written.
    pub fn print(&self, out: &mut impl Write) -> Result<()> {
        for (index, (recorded, other)) in self.recorded.0.iter().zip(&self.other.0).enumerate() {
            for direction in Direction::BOTH {
                let both = [*recorded.get(direction), *other.get(direction)];
                self.print_direction(&format!("WAN {index} {}", direction.name()), &both, out)?;
            }
        }
        if self.recorded.1.ticks > 0 || self.other.1.ticks > 0 {
            self.print_steering(out)?;
        }
        writeln!(
            out,
            "\nThe limit of this comparison: the line's round-trip times are the recorded ones.\n\
             They do not answer to the other rates, so rates that would have kept the queue away\n\
             still see it. Writes of the other configuration are confirmed within one tick."
        )?;
        Ok(())
    }

    fn print_steering(&self, out: &mut impl Write) -> Result<()> {
        let both = [self.recorded.1, self.other.1];
        writeln!(out, "\n{:<24}{:>18}{:>18}", "Steering", "recorded", "what if")?;
        let mut row = |name: &str, show: &dyn Fn(&Steering) -> String| {
            // A side without steering has nothing to say.
            let cell = |side: &Steering| if side.ticks == 0 { "-".to_owned() } else { show(side) };
            writeln!(out, "  {name:<22}{:>18}{:>18}", cell(&both[0]), cell(&both[1]))
        };
        let seconds = |ticks: u64| {
            let millis = ticks * self.config.tick.as_millis();
            format!("{}.{} s", millis / 1000, millis % 1000 / 100)
        };
        row("time on the alternate", &|side| seconds(side.ticks_away))?;
        row("changes", &|side| side.changes.to_string())?;
        row("a guard held it back", &|side| seconds(side.ticks_refused))?;
        row("failed commands", &|side| side.failures.to_string())?;
        row("dry run: changes", &|side| side.would.to_string())?;
        Ok(())
    }

    fn print_direction(
        &self,
        title: &str,
        both: &[Account; 2],
        out: &mut impl Write,
    ) -> Result<()> {
        writeln!(out, "\n{title:<24}{:>18}{:>18}", "recorded", "what if")?;
        let mut row = |name: &str, show: &dyn Fn(&Account) -> String| {
            writeln!(out, "  {name:<22}{:>18}{:>18}", show(&both[0]), show(&both[1]))
        };
        for (index, zone) in ZONES.iter().enumerate() {
            row(&format!("time in {}", zone.name()), &|account| {
                let millis = account.ticks_in_zone[index] * self.config.tick.as_millis();
                format!("{}.{} s", millis / 1000, millis % 1000 / 100)
            })?;
        }
        row("wanted rate, mean", &|account| {
            let ticks: u64 = account.ticks_in_zone.iter().sum();
            let mean = account.wanted_sum.checked_div(u128::from(ticks)).unwrap_or_default();
            show_rate(BitsPerSecond::new(u64::try_from(mean).unwrap_or(u64::MAX)))
        })?;
        row("wanted rate, lowest", &|account| account.wanted_min.map_or("-".into(), show_rate))?;
        row("wanted rate, highest", &|account| account.wanted_max.map_or("-".into(), show_rate))?;
        row("writes", &|account| account.writes.to_string())?;
        row("cuts", &|account| account.cuts.to_string())?;
        row("raises", &|account| account.raises.to_string())?;
        Ok(())
    }
}
