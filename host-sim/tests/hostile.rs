//! The hostile line: it must reach what it is made to reach, and be the same every time.

use std::collections::BTreeSet;
use std::process::Command;

use wanctl_core::controller::Controller;
use wanctl_core::outputs::Outputs;
use wanctl_sim::hostile::{self, HostileLine, SESSION_STEPS};
use wanctl_sim::synthetic::{self, Line};

/// Every kind of event but those of a restart with a kept state, which is no input of a step.
const EVENTS: [&str; 26] = [
    "ZoneChanged",
    "RateChanged",
    "RateConfirmed",
    "WriteFailed",
    "WriteTimedOut",
    "WriteHeld",
    "BaselineFrozen",
    "BaselineReleased",
    "BaselineOutOfBounds",
    "BaselineReanchored",
    "BlindBegan",
    "BlindLimitReached",
    "BlindEnded",
    "SampleRejected",
    "TickGap",
    "InputsDropped",
    "LinkChanged",
    "ConnectivityChecked",
    "SteeringCommanded",
    "SteeringConfirmed",
    "SteeringFailed",
    "SteeringTimedOut",
    "SteeringRefused",
    "SteeringFlapping",
    "SteeringDropsUseless",
    "SteeringWouldChange",
];

#[test]
fn six_sessions_reach_every_kind_of_event() {
    let mut seen = BTreeSet::new();
    for session in 0..6 {
        let config = hostile::config(&synthetic::config(), session);
        let mut controller = Box::new(Controller::<2>::new(&config).unwrap());
        let mut line = HostileLine::new(&config, session);
        let mut outputs = Outputs::new();
        for _ in 0..SESSION_STEPS {
            controller.step(line.next(&outputs), &mut outputs);
            for event in &outputs.events {
                let shown = format!("{event:?}");
                seen.insert(shown.split(' ').next().unwrap_or_default().to_owned());
            }
        }
    }
    let missing: Vec<_> = EVENTS.iter().filter(|kind| !seen.contains(**kind)).collect();
    assert!(missing.is_empty(), "{missing:?} of {seen:?}");
}

#[test]
fn a_hostile_recording_is_the_same_every_time_and_replays() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wanctl-sim"));
        let output = command.current_dir(folder.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for name in ["one", "other"] {
        run(&["synthesize", name, "--hostile", "--wans", "3", "--seconds", "600"]);
    }
    let read = |name| std::fs::read(folder.path().join(name)).unwrap();
    assert!(read("one") == read("other"));
    let said = run(&["replay", "one"]);
    assert!(said.contains("starts: 2 fresh, 0 from a state; WANs: 3"), "{said}");
    assert!(said.contains("identical: 12000 steps"), "{said}");
}
