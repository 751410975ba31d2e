//! Runs one step of the table.

use std::time::Duration;

use wanctl::exit::ExitReason;
use wanctl::routeros::TransportKind;
use wanctl_sim::demo::{LineProfile, QUEUES, USER};
use wanctl_sim::routeros::{EmulatorOptions, FaultSpec, MenuName, RouterOptions, User};

use super::common::{Bench, Daemon, PASSWORD, PATIENCE, SECOND_WAN, status};

/// When a fault begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Before the daemon starts. Its first decisions, both rates, meet the fault.
    Start,
    /// While it controls.
    Running,
    /// Before it starts, and waiting cannot help: it ends with this reason's exit code.
    Ends(ExitReason),
}

/// What else there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scene {
    /// One idle line.
    Idle,
    /// One line whose queues carry [`FLOW_BPS`].
    Busy,
    /// Two lines and a steering rule.
    Steering,
}

/// One fault, at one time.
pub(crate) struct Step {
    /// As the option `--fault` takes it.
    pub(crate) fault: &'static str,
    pub(crate) when: When,
    pub(crate) scene: Scene,
    /// What the log says while it lasts. Nothing means that no warning appears at all.
    pub(crate) says: &'static [&'static str],
    /// What the log says after it has ended.
    pub(crate) then: &'static [&'static str],
    /// Whether the router holds our rates afterwards without another decision.
    pub(crate) settles: bool,
    /// What the log says when the daemon ends afterwards.
    pub(crate) ends: &'static [&'static str],
    /// What else must hold while it lasts.
    pub(crate) check: fn(&Bench, &Daemon),
}

/// What the queues carry in [`Scene::Busy`], download and upload.
pub(crate) const FLOW_BPS: (u64, u64) = (24_000_000, 6_000_000);
/// The comment of the steering rule.
pub(crate) const COMMENT: &str = "wanctl: to dsl";
/// The rates the daemon leaves behind, download and upload, in Mbit/s.
const FAIL_SAFE_MBPS: (u32, u32) = (20, 8);
/// Requests after which a fault that nobody should notice has had its chance.
const REQUESTS: u64 = 10;
/// What the status lines say of two directions, without their confirmation, at the end.
const NOT_USABLE: [&str; 3] = ["panicked", "watchdog", "the router cannot be controlled"];

const STEERING: &str = r#"
[steering]
rules = { dsl = "wanctl: to dsl" }
"#;

fn bench(scene: Scene) -> Bench {
    let mut router = RouterOptions::default().with_users(vec![User::full(USER, PASSWORD)]);
    if scene == Scene::Steering {
        // The first rule with a comment is the one a fault changes.
        router.rows.retain(|(menu, _)| *menu != MenuName::Mangle);
        router = router
            .with_queue("DSL-Download", "ether3", "cake-down", 50_000_000)
            .with_queue("DSL-Upload", "ether2", "cake-up", 10_000_000)
            .with_row(
                MenuName::Mangle,
                &[
                    ("action", "mark-connection"),
                    ("chain", "prerouting"),
                    ("comment", COMMENT),
                    ("disabled", "yes"),
                    ("new-connection-mark", "via-dsl"),
                ],
            );
    }
    let bench = Bench::with_options(&EmulatorOptions { router, ..Default::default() });
    bench.fail_safe(FAIL_SAFE_MBPS.0, FAIL_SAFE_MBPS.1);
    bench.be_patient();
    if scene == Scene::Steering {
        let second = (SECOND_WAN.to_owned() + STEERING)
            .replace("floor = \"5M\"", "floor = \"5M\"\nfail-safe = \"20M\"")
            .replace("floor = \"1M\"", "floor = \"1M\"\nfail-safe = \"8M\"");
        bench.write_file("wanctl.toml", &(bench.config_text() + &second));
    }
    if scene == Scene::Busy {
        bench.emulator.with_router(|router| {
            router.set_flow(QUEUES.0, FLOW_BPS.0);
            router.set_flow(QUEUES.1, FLOW_BPS.1);
        });
    }
    bench
}

/// Runs a step; panics when something does not hold.
pub(crate) fn run(step: &Step, transport: TransportKind) {
    let spec: FaultSpec = step.fault.parse().unwrap_or_else(|error| panic!("{error}"));
    let fault = spec.fault;
    let bench = bench(step.scene);
    if transport == TransportKind::Api {
        bench.over_api();
    }
    if step.when != When::Running {
        bench.emulator.inject(spec.clone());
    }
    if let When::Ends(reason) = step.when {
        bench.run().expect(reason.code(), step.says);
        assert_eq!(bench.emulator.writes(), []);
        return expect_calm(&bench);
    }
    let daemon = bench.start();
    if step.when == When::Running || step.says.is_empty() {
        wait_for_control(&bench, &daemon);
    }
    let mut from = 0;
    if step.when == When::Running {
        from = daemon.process.lines().len();
        bench.emulator.inject(spec);
    }
    if step.says.is_empty() {
        wait_for_requests(&bench, &daemon, REQUESTS);
    }
    (step.check)(&bench, &daemon);
    for piece in step.says {
        daemon.wait_for(piece, from, |line| line.contains(piece));
    }
    let mended = daemon.process.lines().len();
    bench.emulator.mend(fault).expect("the ports are still free");
    let after = if step.then.is_empty() { from } else { mended };
    for piece in step.then {
        daemon.wait_for(piece, after, |line| line.contains(piece));
    }
    if step.settles {
        wait_for_control(&bench, &daemon);
    }
    end(step, &bench, daemon);
}

/// Waits until the router holds the decisions and the daemon knows.
fn wait_for_control(bench: &Bench, daemon: &Daemon) {
    let ceiling = LineProfile::SLOW.ceiling_bps;
    let held = bench.emulator.wait_until(PATIENCE, |view| {
        view.router.max_limit_bps(QUEUES.0) == Some(ceiling.download)
            && view.router.max_limit_bps(QUEUES.1) == Some(ceiling.upload)
    });
    assert!(held, "the router does not hold the rates: {:#?}", daemon.process.lines());
    let from = daemon.process.lines().len();
    let confirmed = |line: &str| status(line).is_some_and(|status| status.writes_open == 0);
    daemon.wait_for("a status with all rates confirmed", from, confirmed);
}

/// Waits until so many more requests have been answered.
pub(crate) fn wait_for_requests(bench: &Bench, daemon: &Daemon, more: u64) {
    let before = bench.emulator.request_count();
    let asked = bench.emulator.wait_until(PATIENCE, |view| view.request_count >= before + more);
    assert!(asked, "the router is not asked any more: {:#?}", daemon.process.lines());
}

/// Ends the daemon and looks at everything it has done.
fn end(step: &Step, bench: &Bench, daemon: Daemon) {
    expect_calm(bench);
    let ended = daemon.terminate();
    let (download, upload) = FAIL_SAFE_MBPS;
    let left = format!("the router holds download {download} Mbit/s, upload {upload} Mbit/s");
    ended.expect(0, &[&left]);
    assert_eq!(bench.emulator.max_limit_bps(QUEUES.0), Some(u64::from(download) * 1_000_000));
    assert_eq!(bench.emulator.max_limit_bps(QUEUES.1), Some(u64::from(upload) * 1_000_000));
    for piece in NOT_USABLE {
        ended.expect_not(piece);
    }
    ended.expect(0, step.ends);
    if step.says.is_empty() && step.then.is_empty() && step.ends.is_empty() {
        // Other warnings are about the line or this machine.
        let words = ["router", "queue", "shaper rate", "rule"];
        let is_warning =
            |line: &&str| line.contains(" WARN ") && words.iter().any(|word| line.contains(word));
        let warnings: Vec<_> = ended.text.lines().filter(is_warning).collect();
        assert!(warnings.is_empty(), "{warnings:#?}");
    }
    expect_usable(bench);
    expect_ticks(&ended.text);
}

/// No rate that was written is outside what is configured, whatever the router said.
fn expect_usable(bench: &Bench) {
    let (floor, ceiling) = (LineProfile::SLOW.floor_bps, LineProfile::SLOW.ceiling_bps);
    for write in bench.emulator.writes() {
        let range = match &*write.queue {
            name if name.starts_with(QUEUES.0) => floor.download..=ceiling.download,
            name if name.starts_with(QUEUES.1) => floor.upload..=ceiling.upload,
            _ => continue,
        };
        assert!(range.contains(&write.max_limit_bps), "{write:?} is not in {range:?}");
    }
}

/// Asserts that status lines came a second of ticks apart and few deadlines were missed.
fn expect_ticks(text: &str) {
    let mut lines: Vec<_> = text.lines().filter_map(status).collect();
    // The last one is told at the end, whenever that is.
    lines.pop();
    assert!(!lines.is_empty(), "no status line:\n{text}");
    for pair in lines.windows(2) {
        let passed = pair[1].deadlines - pair[0].deadlines;
        assert!((15..=60).contains(&passed), "{pair:?} in\n{text}");
    }
}

/// There is no storm: one request at a time, and not many of them.
fn expect_calm(bench: &Bench) {
    /// Requests of a start, writes included.
    const BURST: u64 = 24;
    /// Five looks a second, and the retries of a while with pauses.
    const PER_SECOND: u64 = 8;
    let elapsed = bench.emulator.with_router(|router| router.now());
    let seen = bench.emulator.wait_until(Duration::ZERO, |view| {
        // A session that the router ended is begun again with the next request.
        let begun = view.requests.iter().filter(|r| r.path == "/login" && r.status < 300).count();
        let attempts = view.arrived_count + view.turned_away_count - begun as u64;
        assert!(view.in_flight_max <= 1, "{} requests at once", view.in_flight_max);
        let most = BURST + PER_SECOND * elapsed.as_secs();
        assert!(attempts <= most, "{attempts} requests in {elapsed:?}: a storm");
        true
    });
    assert!(seen);
}

/// Makes another client give up a request, with a login that is refused.
pub(crate) fn abandon_a_request(bench: &Bench) {
    use std::io::Write as _;
    use std::net::TcpStream;
    let address = bench.emulator.http_url().replace("http://", "");
    let before = bench.emulator.arrived_count();
    let mut client = TcpStream::connect(address).expect("the emulator listens");
    let held = bench.emulator.hold_replies();
    client.write_all(b"GET /rest/system/identity HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let arrived = |count| bench.emulator.wait_until(PATIENCE, |view| view.arrived_count >= count);
    assert!(arrived(before + 1));
    drop(client);
    drop(held);
}
