//! What the tests of the core share: a line to drive it with and a source of random numbers.

#![allow(dead_code, reason = "each test binary uses its own part of this module")]

pub(crate) mod dialogue;
pub(crate) mod hostile;
pub(crate) mod random;
pub(crate) mod steering_watch;

use embassy_time::{Duration, Instant};
use wanctl_core::config::{Checks, ClassicConfig, Config, ShaperConfig, WanConfig};
use wanctl_core::controller::Controller;
use wanctl_core::example;
use wanctl_core::link::LinkConfig;
use wanctl_core::outputs::{Action, Event, Outputs, RateReason};
use wanctl_core::recent::Recent;
use wanctl_core::snapshot::{DirectionSnapshot, WanSnapshot};
use wanctl_core::tick::{
    CheckKind, ConnectivityReport, Outcome, ProbeLoss, Reply, RttSample, Tick,
};
use wanctl_core::units::{
    BitsPerSecond, CommandId, Direction, PerDirection, ReflectorId, RttNanos, TimeConstant, WanId,
};

/// The only WAN of a [`Rig`].
pub(crate) const WAN: WanId = WanId(0);

/// The example's law with an unfiltered load, so that a sample's delay is the delay of its tick, and
/// with blindness from the first lost probe on.
pub(crate) fn unfiltered() -> ClassicConfig {
    let mut classic = example::classic();
    classic.load_time_constant = TimeConstant::from_millis(50);
    classic.blind.after = Duration::MIN;
    classic.blind.limit = Duration::from_millis(150);
    classic.blind.checks = Checks::Given;
    classic
}

/// The parameters of a [`Rig`]'s only WAN.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Profile {
    pub(crate) shapers: PerDirection<ShaperConfig>,
    pub(crate) classic: ClassicConfig,
}

impl From<ClassicConfig> for Profile {
    fn from(classic: ClassicConfig) -> Self {
        Self { shapers: example::shapers(), classic }
    }
}

/// A rate in Mbit/s.
pub(crate) const fn mbps(megabits_per_second: u64) -> BitsPerSecond {
    BitsPerSecond::from_mbps(megabits_per_second)
}

/// A command as it left the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SetRate {
    pub(crate) id: CommandId,
    pub(crate) wan: WanId,
    pub(crate) direction: Direction,
    pub(crate) rate: BitsPerSecond,
    pub(crate) is_cut: bool,
}

/// Returns the rate commands among some outputs.
pub(crate) fn set_rates(out: &Outputs) -> Vec<SetRate> {
    let of_action = |action: &Action| match *action {
        Action::SetRate { id, wan, direction, rate, is_cut } => {
            Some(SetRate { id, wan, direction, rate, is_cut })
        }
        Action::SendProbe { .. }
        | Action::CheckGateway { .. }
        | Action::CheckTcp { .. }
        | Action::SetSteering { .. } => None,
    };
    out.actions.iter().filter_map(of_action).collect()
}

/// A controller of one WAN with a line and a router.
#[derive(Debug)]
pub(crate) struct Rig {
    controller: Controller<1>,
    /// Filled for the next step.
    pub(crate) tick: Tick,
    /// Of the last step.
    pub(crate) out: Outputs,
    interval: Duration,
    /// Whether every command is confirmed in the tick after it.
    pub(crate) confirms: bool,
}

impl Rig {
    /// Starts with a router that confirms everything in the next tick.
    pub(crate) fn new(profile: impl Into<Profile>) -> Self {
        Self::with_reflectors(profile, 3)
    }

    /// Starts with another number of reflectors.
    pub(crate) fn with_reflectors(profile: impl Into<Profile>, reflectors: u8) -> Self {
        Self::start(profile.into(), reflectors, None)
    }

    fn start(profile: Profile, reflectors: u8, link: Option<LinkConfig>) -> Self {
        let Profile { shapers, classic } = profile;
        let interval = Duration::from_millis(50);
        let mut config = Config { tick: interval, wans: heapless::Vec::new(), steering: None };
        let law = wanctl_core::config::LawConfig::Classic;
        let wan = WanConfig { reflectors, shapers, link, classic, law };
        config.wans.push(wan).expect("one WAN fits");
        let controller = Controller::new(&config).expect("the configuration is valid");
        let tick = Tick::new(Instant::from_ticks(0) + interval);
        Self { controller, tick, out: Outputs::new(), interval, confirms: true }
    }

    /// Starts with a link that lives and dies.
    pub(crate) fn with_link(profile: impl Into<Profile>, link: LinkConfig) -> Self {
        Self::start(profile.into(), 3, Some(link))
    }

    /// Runs a tick in which a probe was lost, and nobody has checked anything.
    pub(crate) fn lose_unchecked(&mut self) {
        self.tick.push_loss(ProbeLoss { wan: WAN, reflector: ReflectorId(0) });
        self.step();
    }

    /// Runs a tick with whatever has been pushed into it.
    pub(crate) fn step(&mut self) {
        self.controller.step(&self.tick, &mut self.out);
        self.tick.reset(self.tick.now + self.interval);
        if self.confirms {
            for set in self.commands() {
                self.reply(set, Outcome::Applied(set.rate));
            }
        }
    }

    /// Runs a tick with one answered probe.
    pub(crate) fn answer_nanos(&mut self, nanos: u64) {
        self.push(0, RttNanos::new(nanos), 0);
        self.step();
    }

    /// Runs a tick with one answered probe.
    pub(crate) fn answer(&mut self, rtt_ms: u64) {
        self.answer_nanos(rtt_ms * 1_000_000);
    }

    /// Runs several ticks with one answered probe each.
    pub(crate) fn answer_times(&mut self, times: usize, rtt_ms: u64) {
        (0..times).for_each(|_| self.answer(rtt_ms));
    }

    /// Runs a tick in which a probe was lost; `connected` is what another check says.
    pub(crate) fn lose(&mut self, connected: bool) {
        self.tick.push_loss(ProbeLoss { wan: WAN, reflector: ReflectorId(0) });
        self.tick.push_connectivity(ConnectivityReport {
            wan: WAN,
            kind: CheckKind::Tcp,
            connected,
        });
        self.step();
    }

    /// Adds an answered probe to the next tick.
    pub(crate) fn push(&mut self, reflector: u8, rtt: RttNanos, age_us: u32) {
        let reflector = ReflectorId(reflector);
        self.tick.push_sample(RttSample { wan: WAN, reflector, rtt, age_us, upload_owd: None });
    }

    /// Adds the answer to a command to the next tick.
    pub(crate) fn reply(&mut self, set: SetRate, outcome: Outcome) {
        let SetRate { id, wan, direction, .. } = set;
        self.tick.push_reply(Reply { wan, direction, id, outcome, took_us: 1000 });
    }

    /// Returns the rate commands of the last step.
    pub(crate) fn commands(&self) -> Vec<SetRate> {
        set_rates(&self.out)
    }

    /// Returns the download command of the last step.
    pub(crate) fn download_command(&self) -> Option<SetRate> {
        self.commands().into_iter().find(|set| set.direction == Direction::Download)
    }

    /// Returns why the download was commanded in the last step.
    pub(crate) fn download_reason(&self) -> Option<RateReason> {
        self.out.events.iter().find_map(|event| match event {
            Event::RateChanged { direction: Direction::Download, reason, .. } => Some(*reason),
            _ => None,
        })
    }

    /// Returns the state after the last step.
    pub(crate) fn wan(&self) -> WanSnapshot {
        self.controller.snapshot().wans()[0]
    }

    /// Returns the controller.
    pub(crate) const fn controller(&self) -> &Controller<1> {
        &self.controller
    }

    /// Returns the latest past.
    pub(crate) fn recent(&self) -> Recent<'_> {
        self.controller.recent(WAN).expect("the WAN is there")
    }

    /// Returns the download's state after the last step.
    pub(crate) fn download(&self) -> DirectionSnapshot {
        self.wan().directions.download
    }

    /// Returns the upload's state after the last step.
    pub(crate) fn upload(&self) -> DirectionSnapshot {
        self.wan().directions.upload
    }

    /// Returns whether the last step told an event like this.
    pub(crate) fn told(&self, is_it: impl Fn(&Event) -> bool) -> bool {
        self.out.events.iter().any(is_it)
    }
}
