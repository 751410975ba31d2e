//! The built `wanctl` over RouterOS's binary API with TLS: what it does over REST, in one session.

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use common::{Bench, Daemon, Ended, PASSWORD, PATIENCE, pings_or_skip};
use wanctl::exit::ExitReason;
use wanctl_sim::demo::USER;
use wanctl_sim::routeros::{EmulatorView, MenuName, Policy, RouterOptions, User};

const QUEUE: &str = "WAN-Download";
/// What the daemon wants on an idle line, in bit/s: the ceiling.
const OURS: u64 = 38_000_000;
const THEIRS: &str = "3000000";

fn bench() -> Bench {
    let bench = Bench::new();
    bench.over_api();
    bench
}

fn count(view: &EmulatorView<'_>, path: &str) -> usize {
    view.requests.iter().filter(|request| request.path == path).count()
}

fn logins(bench: &Bench) -> usize {
    bench.emulator.requests().iter().filter(|request| request.path == "/login").count()
}

fn wait_for_ours(bench: &Bench, daemon: &Daemon) {
    let ours =
        bench.emulator.wait_until(PATIENCE, |view| view.router.max_limit_bps(QUEUE) == Some(OURS));
    assert!(ours, "the router does not hold our rate: {:#?}", daemon.process.lines());
}

fn set(bench: &Bench, property: &str, value: &str) {
    let set = bench.emulator.with_router(|router| {
        router.set_unchecked(MenuName::QueueTree, QUEUE, property, Some(value))
    });
    assert!(set);
}

#[test]
fn rates_are_written_and_counters_read_in_one_session() {
    if !pings_or_skip("rates_are_written_and_counters_read_in_one_session") {
        return;
    }
    let bench = bench();
    bench.fail_safe(20, 8);
    bench.emulator.with_router(|router| router.set_flow(QUEUE, 24_000_000));
    let daemon = bench.start_controlling();
    assert_eq!(bench.emulator.max_limit_bps(QUEUE), Some(OURS));
    daemon.wait_for("the delivered rate", 0, |line| line.contains("carrying 24"));
    let ended = daemon.terminate();
    ended.expect(0, &["the router holds download 20 Mbit/s, upload 8 Mbit/s"]);
    assert_eq!(bench.emulator.max_limit_bps(QUEUE), Some(20_000_000));
    ended.expect_not("the router fails").expect_not("NO ENCRYPTION");
    let requests = bench.emulator.requests();
    assert!(requests.iter().all(|request| request.method == "API"), "{requests:?}");
    assert_eq!(logins(&bench), 1, "one session");
    bench.emulator.wait_until(PATIENCE, |view| {
        assert_eq!(view.in_flight_max, 1, "one command at a time");
        assert_eq!(count(view, "/queue/tree/set"), 4, "both rates, at the start and at the end");
        true
    });
}

#[test]
fn a_rate_that_somebody_changed_is_put_right() {
    if !pings_or_skip("a_rate_that_somebody_changed_is_put_right") {
        return;
    }
    let bench = bench();
    let daemon = bench.start_controlling();
    set(&bench, "max-limit", THEIRS);
    wait_for_ours(&bench, &daemon);
    set(&bench, "disabled", "true");
    daemon.wait_for("the finding", 0, |line| line.contains("the queue is disabled"));
    daemon.terminate().expect(0, &["found=\"3 Mbit/s\" ours=\"38 Mbit/s\""]);
}

#[test]
fn after_a_power_cycle_it_logs_in_again_and_puts_the_rates_right() {
    if !pings_or_skip("after_a_power_cycle_it_logs_in_again_and_puts_the_rates_right") {
        return;
    }
    let bench = bench();
    let daemon = bench.start_controlling();
    bench.emulator.power_off();
    daemon.wait_for("a failure", 0, |line| {
        line.contains("WARN the router fails") && line.contains("router api-ssl://127.0.0.1:")
    });
    set(&bench, "max-limit", THEIRS);
    bench.emulator.with_router(wanctl_sim::routeros::Router::reboot);
    bench.emulator.power_on().expect("the ports are still free");
    wait_for_ours(&bench, &daemon);
    daemon.terminate().expect(0, &["the router works again"]);
    assert_eq!(logins(&bench), 2);
}

#[test]
fn a_session_killed_during_a_command_costs_a_login_and_nothing_else() {
    if !pings_or_skip("a_session_killed_during_a_command_costs_a_login_and_nothing_else") {
        return;
    }
    let bench = bench();
    let daemon = bench.start_controlling();
    let held = bench.emulator.hold_replies();
    let asked = bench.emulator.arrived_count();
    // Something has arrived and is not answered.
    let arrived = bench.emulator.wait_until(PATIENCE, |view| {
        view.arrived_count > view.request_count && view.arrived_count >= asked
    });
    assert!(arrived, "{:#?}", daemon.process.lines());
    bench.emulator.drop_connections();
    drop(held);
    let back = bench.emulator.wait_until(PATIENCE, |view| count(view, "/login") == 2);
    assert!(back, "{:#?}", daemon.process.lines());
    set(&bench, "max-limit", THEIRS);
    wait_for_ours(&bench, &daemon);
    daemon.terminate().expect(0, &[]).expect_not("the router fails");
    assert_eq!(logins(&bench), 2);
}

/// Runs the daemon against a router whose user has these policies, until it ends.
fn ends_with(policies: &[Policy], password: &str) -> (Bench, Ended) {
    let user = User { policies: policies.to_vec(), ..User::full(USER, PASSWORD) };
    let router = RouterOptions::default().with_users(vec![user]);
    let bench = Bench::with_options(&wanctl_sim::routeros::EmulatorOptions {
        router,
        ..Default::default()
    });
    bench.over_api().write_file("password", password);
    let ended = bench.run();
    assert_eq!(bench.emulator.writes(), []);
    (bench, ended)
}

#[test]
fn a_wrong_password_ends_it_with_its_exit_code() {
    if !pings_or_skip("a_wrong_password_ends_it_with_its_exit_code") {
        return;
    }
    let all = [Policy::Read, Policy::Write, Policy::Api];
    let (bench, ended) = ends_with(&all, "wrong");
    let login = ["the router refused user wanctl (invalid user name or password (6))", "hint"];
    ended.expect(ExitReason::RouterLogin.code(), &login);
    let check = bench.check(&["--router"]);
    check.expect(ExitReason::RouterLogin.code(), &["refused user wanctl"]);
}

#[test]
fn a_missing_policy_ends_it_with_its_exit_code() {
    if !pings_or_skip("a_missing_policy_ends_it_with_its_exit_code") {
        return;
    }
    let cases: [(&[Policy], &[&str]); 3] = [
        (
            &[Policy::Read, Policy::Write, Policy::RestApi],
            &["lacks a permission for /login: std failure: not allowed (9)"],
        ),
        (
            &[Policy::Write, Policy::Api],
            &["not enough permissions (9)", "the policies api, read and write"],
        ),
        // Over the API the router says so; over REST it does not.
        (
            &[Policy::Read, Policy::Api],
            &["lacks a permission for /queue/tree/set: not enough permissions (9)"],
        ),
    ];
    std::thread::scope(|scope| {
        for (policies, pieces) in cases {
            scope.spawn(move || {
                let (_, ended) = ends_with(policies, PASSWORD);
                ended.expect(ExitReason::RouterPermission.code(), pieces);
            });
        }
    });
}

#[test]
fn a_certificate_of_another_ca_is_not_trusted_unless_that_is_wanted() {
    if !pings_or_skip("a_certificate_of_another_ca_is_not_trusted_unless_that_is_wanted") {
        return;
    }
    let bench = bench();
    let other = Bench::new();
    bench.write_file("router-ca.pem", other.emulator.ca_pem());
    bench.run().expect(ExitReason::RouterCertificate.code(), &["is not trusted"]);
    assert_eq!(bench.emulator.arrived_count(), 0, "no password was sent");
    bench.edit("ca-file = \"router-ca.pem\"", "insecure = true");
    let daemon = bench.start_controlling();
    daemon.terminate().expect(0, &["WARN TLS VERIFICATION IS OFF"]);
}

#[test]
fn clear_text_works_and_is_warned_about() {
    if !pings_or_skip("clear_text_works_and_is_warned_about") {
        return;
    }
    let bench = bench();
    bench.edit(&bench.emulator.api_ssl_url(), &bench.emulator.api_url());
    bench.edit("ca-file = \"router-ca.pem\"\n", "");
    let daemon = bench.start_controlling();
    daemon.terminate().expect(0, &["WARN NO ENCRYPTION: http:// sends the router's password"]);
    let check = bench.check(&["--router"]);
    check.expect(ExitReason::RouterWeak.code(), &["in clear text at every login"]);
}

#[test]
fn the_audit_knows_what_the_api_needs() {
    let bench = bench();
    let set = |menu, key: &str, property: &str, value: &str| {
        let set = bench.emulator.with_router(|r| r.set_unchecked(menu, key, property, Some(value)));
        assert!(set);
    };
    // The emulator's user has the policy of REST as well.
    let told = bench.check(&["--router"]);
    let weak = ExitReason::RouterWeak.code();
    told.expect(
        weak,
        &["may do more than wanctl needs: rest-api", "policy=read,write,api,!rest-api"],
    );
    set(MenuName::UserGroup, USER, "policy", "read,write,api,!rest-api");
    bench.check(&["--router"]).expect(0, &["0 errors, 0 warnings,"]).expect_not("www");
    set(MenuName::Service, "api", "disabled", "false");
    set(MenuName::Service, "api-ssl", "address", "");
    set(MenuName::UserGroup, USER, "policy", "read,api");
    let told = bench.check(&["--router"]);
    told.expect(
        ExitReason::RouterPermission.code(),
        &[
            "the service api is on: it takes passwords in clear text",
            "/ip/service/disable api",
            "the service api-ssl answers every address",
            "lacks the policies write",
        ],
    );
    bench.emulator.wait_until(PATIENCE, |view| {
        let reads = |path: &str| path == "/login" || path.ends_with("/print");
        assert!(view.requests.iter().all(|request| reads(&request.path)), "{:?}", view.requests);
        true
    });
}

#[test]
fn the_emulator_speaks_the_bytes_of_the_manual() {
    let bench = bench();
    let address = bench.emulator.api_url().replace("http://", "");
    let mut stream = TcpStream::connect(address).expect("the emulator listens");
    // Before a login; the router says why and hangs up.
    stream.write_all(b"\x16/system/identity/print\0").expect("sent");
    let mut said = Vec::new();
    stream.read_to_end(&mut said).expect("an answer");
    assert_eq!(said, b"\x06!fatal\x0dnot logged in\0");
}
