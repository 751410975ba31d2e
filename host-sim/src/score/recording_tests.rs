//! A known line is recorded, and the recording must give the line back.

use wanctl_core::outputs::Outputs;

use super::*;
use crate::score::contender::Contender;
use crate::score::contender::core_law::{self, CoreLaw};
use crate::score::model::World;
use crate::score::model::router::Backend;
use crate::score::run::{self, Setup, Watch};
use crate::score::suites;

struct Record {
    bytes: Vec<u8>,
    has_counters: bool,
}

impl Watch for Record {
    fn look(&mut self, _: &World<'_>, tick: &Tick, _: &dyn Contender) -> Result<()> {
        let mut tick = tick.clone();
        if !self.has_counters {
            tick.counters.clear();
        }
        let mut buffer = vec![0; trace::MAX_STEP_BYTES];
        self.bytes.extend_from_slice(trace::encode_step(0, &tick, &Outputs::new(), &mut buffer)?);
        Ok(())
    }
}

/// Records a step from 95 to 47 Mbit/s at 30 s and reads it.
fn read_back(has_counters: bool) -> Scenario {
    let scenario = suites::find("default", &["step-down".to_owned()]).unwrap().remove(0);
    let config = core_law::tuned_classic(&scenario, Backend::Linux, None);
    let mut buffer = vec![0; trace::MAX_HEADER_BYTES];
    let header = trace::encode_header(&config, &mut buffer).unwrap().to_vec();
    let mut record = Record { bytes: header, has_counters };
    let capacity = run::capacities(&scenario, 1);
    let mut law = CoreLaw::new(&config).unwrap();
    let setup = Setup::of(Backend::Linux);
    run::drive(&scenario, &capacity, &mut law, &setup, 1, Some(&mut record)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evening.rec");
    std::fs::write(&path, record.bytes).unwrap();
    read(&path).unwrap().remove(0)
}

#[test]
fn the_capacity_of_a_recorded_line_is_found_again() {
    for has_counters in [true, false] {
        let scenario = read_back(has_counters);
        assert_eq!(scenario.name, "evening-wan0");
        assert!(scenario.path.base_rtt_us.abs_diff(20_000) < 2_000, "{:?}", scenario.path);
        assert!((59..=60).contains(&scenario.seconds), "{}", scenario.seconds);
        let capacity = run::capacities(&scenario, 1).download;
        let mean = |from: u64| capacity.mean_from_ms(from, 8_000) / 1_000_000;
        assert!((85..=100).contains(&mean(20_000)), "{} with {has_counters}", mean(20_000));
        assert!((40..=56).contains(&mean(45_000)), "{} with {has_counters}", mean(45_000));
    }
}

#[test]
fn a_file_that_is_no_recording_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.rec");
    for bytes in [&b""[..], b"hello", &[0; 4000]] {
        std::fs::write(&path, bytes).unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.downcast_ref::<InputError>().is_some(), "{error:#}");
        assert!(error.to_string().contains("expected a recording"), "{error}");
    }
}
