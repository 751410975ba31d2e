//! Steering as a part of the controller: from probes to the command.

#![allow(clippy::unwrap_used, reason = "a failed expectation ends a test")]

use embassy_time::{Duration, Instant};
use wanctl_core::config::{Config, ConfigError};
use wanctl_core::controller::Controller;
use wanctl_core::example;
use wanctl_core::outputs::{Action, Outputs};
use wanctl_core::steering::{SteeringConfig, SteeringError, SteeringReason, SteeringSnapshot};
use wanctl_core::tick::{Outcome, ProbeLoss, Reply, RttSample, SteeringReply, Tick};
use wanctl_core::units::{BitsPerSecond, Direction, ReflectorId, RttNanos, WanId};

const TICK: Duration = Duration::from_millis(50);

/// A controller of two lines with a router that obeys.
struct TwoLines {
    controller: Controller<2>,
    tick: Tick,
    out: Outputs,
}

impl TwoLines {
    fn new(config: &Config) -> Self {
        let controller = Controller::new(config).unwrap();
        Self { controller, tick: Tick::new(Instant::from_secs(1)), out: Outputs::new() }
    }

    /// Runs one tick; a line without a round-trip time lost its probe.
    fn step(&mut self, rtts_ms: [Option<u64>; 2]) {
        self.tick.reset(self.tick.now + TICK);
        for (wan, rtt) in (0..).map(WanId).zip(rtts_ms) {
            let reflector = ReflectorId(0);
            match rtt.map(|millis| RttNanos::from_micros(millis * 1000)) {
                Some(rtt) => self.tick.push_sample(RttSample {
                    wan,
                    reflector,
                    rtt,
                    age_us: 0,
                    upload_owd: None,
                }),
                None => self.tick.push_loss(ProbeLoss { wan, reflector }),
            }
        }
        for action in &self.out.actions {
            match *action {
                Action::SetRate { id, wan, direction, rate, .. } => {
                    let outcome = Outcome::Applied(rate);
                    self.tick.push_reply(Reply { wan, direction, id, outcome, took_us: 1 });
                }
                Action::SetSteering { id, .. } => {
                    let reply = SteeringReply { id, succeeded: true, took_us: 1 };
                    self.tick.push_steering_reply(reply);
                }
                Action::SendProbe { .. }
                | Action::CheckGateway { .. }
                | Action::CheckTcp { .. } => {}
            }
        }
        self.controller.step(&self.tick, &mut self.out);
    }

    fn steering(&self) -> SteeringSnapshot {
        self.controller.snapshot().steering.unwrap()
    }

    fn rates(&self) -> Vec<(WanId, Direction, BitsPerSecond)> {
        let rate = |action: &Action| match *action {
            Action::SetRate { wan, direction, rate, .. } => Some((wan, direction, rate)),
            _ => None,
        };
        self.out.actions.iter().filter_map(rate).collect()
    }
}

#[test]
fn a_line_that_stays_slow_is_left_and_its_rates_go_their_own_way() {
    let config = example::two_wans();
    let mut lines = TwoLines::new(&config);
    let mut alone = TwoLines::new(&Config { steering: None, ..config });
    for (seconds, rtt, expected) in [(3, 25, None), (18, 90, Some(WanId(1))), (40, 25, None)] {
        for _ in 0..seconds * 20 {
            lines.step([Some(rtt), Some(25)]);
            alone.step([Some(rtt), Some(25)]);
            assert_eq!(lines.rates(), alone.rates());
        }
        assert_eq!(lines.steering().steered_to, expected, "after {rtt} ms");
    }
    assert_eq!(lines.steering().changes, 2);
}

#[test]
fn a_line_that_drops_out_is_left_as_soon_as_it_counts_as_out() {
    let config = example::two_wans();
    let mut lines = TwoLines::new(&config);
    (0..60).for_each(|_| lines.step([Some(25), Some(25)]));
    let outage_after = config.wans[0].link.unwrap().outage_after;
    for _ in 0..outage_after.as_millis() / TICK.as_millis() - 1 {
        lines.step([None, Some(25)]);
        assert_eq!(lines.steering().steered_to, None);
    }
    (0..3).for_each(|_| lines.step([None, Some(25)]));
    assert_eq!(lines.steering().steered_to, Some(WanId(1)));
    let decision = lines.steering().decision.unwrap();
    assert_eq!(decision.reason, SteeringReason::Outage);
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let refused = |change: fn(&mut SteeringConfig)| {
        let mut config = example::two_wans();
        change(config.steering.as_mut().unwrap());
        match config.check() {
            Err(ConfigError::Steering(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(|config| config.wans.truncate(1)), SteeringError::Wans);
    assert_eq!(refused(|config| config.wans[1] = WanId(0)), SteeringError::Wans);
    assert_eq!(refused(|config| config.wans[1] = WanId(2)), SteeringError::Wans);
    assert_eq!(refused(|config| config.tick = TICK * 2), SteeringError::Tick);
    let error = refused(|config| config.thresholds.red_delay = Duration::from_millis(14));
    assert_eq!(error, SteeringError::Thresholds);
    let error = refused(|config| config.flap_guard.as_mut().unwrap().max_toggles = 20);
    assert_eq!(error, SteeringError::FlapGuard);
    let error = refused(|config| config.confidence.as_mut().unwrap().recovery_score = 55);
    assert_eq!(error, SteeringError::Scores);
}
