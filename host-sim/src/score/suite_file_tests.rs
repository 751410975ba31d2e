use super::*;

const GOOD: &str = "[[scenario]]\nname = 'a'\nseconds = 60\nwarm-up = 5\n\
    [scenario.download]\nceiling-mbps = 50\nfloor-mbps = 5\nflows = 4\n\
    capacity = { kind = 'steps', points = [[0, 50], [30.5, 20]] }\n\
    [scenario.upload]\nceiling-mbps = 10\nfloor-mbps = 1\n\
    [scenario.path]\nbase-ms = 12.5\n";

fn read_text(text: &str) -> Result<Vec<Scenario>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.toml");
    std::fs::write(&path, text).unwrap();
    read(&path).map_err(|error| {
        assert!(error.downcast_ref::<InputError>().is_some(), "{error:#}");
        format!("{error:#}").replace(&format!("{}/", folder.path().display()), "")
    })
}

#[test]
fn a_suite_is_read() {
    for text in [GOOD.to_owned(), format!("\u{feff}{}", GOOD.replace('\n', "\r\n"))] {
        is_as_written(&read_text(&text).unwrap()[0]);
    }
}

fn is_as_written(scenario: &Scenario) {
    assert_eq!((scenario.seconds, scenario.path.base_rtt_us), (60, 12_500));
    let capacity = run::capacities(scenario, 1);
    assert_eq!(capacity.download.at_ms(30_490).rate, 50_000_000);
    assert_eq!(capacity.download.at_ms(30_500).rate, 20_000_000);
    assert_eq!(capacity.upload.at_ms(0).rate, 10_000_000);
}

#[test]
fn what_makes_no_sense_is_refused_with_its_line() {
    for (from, to, expected) in [
        ("seconds = 60", "secnds = 60", "s.toml:3: unknown field"),
        ("seconds = 60", "seconds = 0", "s.toml:1: expected 1 to 21600 seconds"),
        ("floor-mbps = 5", "floor-mbps = 55", "s.toml:5: expected a floor above zero"),
        ("floor-mbps = 5", "floor-mbps = 0", "s.toml:5: expected a floor above zero"),
        ("[[0, 50], [30.5, 20]]", "[[9, 50], [3, 20]]", "s.toml:5: expected points"),
        ("[[0, 50], [30.5, 20]]", "[[0, 0]]", "s.toml:5: download: the capacity is zero"),
        ("[[0, 50], [30.5, 20]]", "[[0, 4]]", "s.toml:5: download: the floor is above"),
        ("kind = 'steps'", "kind = 'step'", "s.toml:9: unknown variant"),
        ("base-ms = 12.5", "base-ms = 0", "s.toml:13: expected base-ms from 1 to 5000, not 0"),
        ("[scenario.upload]", "[scenario.upload", "s.toml:10: "),
    ] {
        let error = read_text(&GOOD.replace(from, to)).unwrap_err();
        assert!(error.starts_with(expected), "{error} does not start with {expected}");
    }
    for shape in [
        "kind = 'constant', mbps = inf",
        "kind = 'constant', mbps = -4",
        "kind = 'steps', points = [[0, 10], [0.0001, 20]]",
        "kind = 'markov', high-mbps = nan, low-mbps = 5, high-ms = 100, low-ms = 100",
        "kind = 'markov', high-mbps = 50, low-mbps = 5, high-ms = 0, low-ms = 100",
        "kind = 'diurnal', night-mbps = 50, evening-mbps = 5, day-s = 9223372036854775807",
        "kind = 'diurnal', night-mbps = 5, evening-mbps = 50, day-s = 20",
        "kind = 'wander', mean-mbps = inf, min-mbps = 5, max-mbps = 60, sigma-permille = 9, tau-ms = 9",
        "kind = 'wander', mean-mbps = 9, min-mbps = 5, max-mbps = 60, sigma-permille = 9, tau-ms = 9223372036854775807",
    ] {
        let text = GOOD.replace("kind = 'steps', points = [[0, 50], [30.5, 20]]", shape);
        let error = read_text(&text).unwrap_err();
        assert!(error.starts_with("s.toml:5: expected"), "{shape}: {error}");
    }
    for (from, to, line) in [
        ("flows = 4", "flows = 4294967295", 5),
        ("flows = 4", "off-ms = 5", 5),
        ("flows = 4", "from-ms = 9223372036854775807", 5),
        ("flows = 4", "constant-mbps = nan", 5),
        ("base-ms = 12.5", "timestamps = 200", 13),
        ("base-ms = 12.5", "loss-ppm = 1000001", 13),
        ("base-ms = 12.5", "jitter-ms = nan", 13),
        ("base-ms = 12.5", "spike-ms = inf", 13),
        ("base-ms = 12.5", "extra-ms = [0, -1, 0]", 13),
        ("base-ms = 12.5", "route-changes = [[5, inf]]", 13),
        ("warm-up = 5", "step = { at-s = 9, window-s = inf, down = true }", 1),
        ("warm-up = 5", "step = { at-s = 9, window-s = 52, down = true }", 1),
        ("warm-up = 5", "idle = true\nstep = { at-s = 9, window-s = 9, down = true }", 1),
    ] {
        let error = read_text(&GOOD.replace(from, to)).unwrap_err();
        assert!(error.starts_with(&format!("s.toml:{line}: expected")), "{to}: {error}");
    }
    let error = read_text(&format!("{GOOD}{GOOD}")).unwrap_err();
    assert!(error.starts_with("s.toml:15: expected a name of its own"), "{error}");
}
