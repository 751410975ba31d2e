//! Bad input: a clear message, an exit code of its own, and a router that was left alone.

mod common;

use common::{Bench, Ended, PASSWORD, PATIENCE, pings_or_skip};
use wanctl::exit::ExitReason;
use wanctl_sim::demo::USER;
use wanctl_sim::netns::{Namespace, usable_or_skip};
use wanctl_sim::routeros::{
    Emulator, EmulatorOptions, MenuName, Policy, RouterOptions, User, properties_of,
};

/// Runs and checks a configuration that is wrong: both say the same, and the router hears nothing.
#[track_caller]
fn expect_config_refused(bench: &Bench, reason: ExitReason, pieces: &[&str]) {
    for ended in [bench.run(), bench.check(&[]), bench.check(&["--router"])] {
        ended.expect(reason.code(), pieces);
    }
    assert_eq!(bench.emulator.arrived_count(), 0, "the router was asked something");
}

/// Runs and checks against a router that cannot be used as configured.
#[track_caller]
fn expect_router_refused(bench: &Bench, reason: ExitReason, pieces: &[&str]) {
    bench.check(&[]).expect(0, &["good"]);
    assert_eq!(bench.emulator.arrived_count(), 0, "a check without --router asked the router");
    bench.run().expect(reason.code(), pieces);
    bench.check(&["--router"]).expect(reason.code(), pieces);
    assert_eq!(bench.emulator.writes(), []);
}

/// `FILE:LINE:COLUMN: ` of the configuration.
fn place(bench: &Bench, line: u32, column: u32) -> String {
    format!("{}:{line}:{column}: ", bench.files.config().display())
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_known_keys() {
    let bench = Bench::new();
    bench.edit("name = \"cable\"", "name = \"cable\"\ncolour = \"green\"");
    let place = place(&bench, 14, 1) + "wan.colour";
    let known = "known here: adaptive, checks, classic, download, download-interface, fwmark, interface, law, link, name, reflectors, source-address, upload, upload-interface";
    expect_config_refused(&bench, ExitReason::ConfigText, &[&place, "unknown key", known]);
}

#[test]
fn a_misspelt_key_is_recognised() {
    let bench = Bench::new();
    bench.edit("ceiling = \"38000k\"", "cieling = \"38000k\"");
    let misspelt = place(&bench, 18, 1) + "wan.download.cieling";
    let missing = place(&bench, 16, 1) + "wan.download.ceiling";
    let pieces = [&*misspelt, "did you mean `ceiling`?", &*missing, "required and missing"];
    expect_config_refused(&bench, ExitReason::ConfigText, &pieces);
}

#[test]
fn a_floor_above_its_ceiling_is_refused_with_both_rates() {
    let bench = Bench::new();
    bench.edit("floor = \"8000k\"", "floor = \"39M\"");
    let place = place(&bench, 19, 9) + "wan.download.floor = \"39 Mbit/s\"";
    let rule = "must not be above wan.download.ceiling (38 Mbit/s)";
    expect_config_refused(&bench, ExitReason::ConfigValue, &[&place, rule]);
}

#[test]
fn a_value_out_of_range_is_refused_with_the_range() {
    let bench = Bench::new();
    bench.edit("\"50ms\"", "\"2s\"");
    let place = place(&bench, 1, 12) + "interval = \"2s\"";
    expect_config_refused(&bench, ExitReason::ConfigValue, &[&place, "must be 10ms to 1s"]);
}

#[test]
fn all_problems_of_a_file_are_reported_and_the_most_basic_decides_the_exit_code() {
    let bench = Bench::new();
    bench
        .edit("\"50ms\"", "\"2s\"")
        .edit("user = \"wanctl\"\n", "")
        .edit("floor = \"2500k\"", "floor = \"2500 apples\"");
    bench.remove_file("router-ca.pem");
    let places = [place(&bench, 1, 12), place(&bench, 6, 1), place(&bench, 9, 11)];
    let last = place(&bench, 23, 9) + "wan.upload.floor = \"2500 apples\"";
    let [first, second, third] = &places;
    let pieces = [&**first, &**second, "router.user", &**third, &*last, "expected a rate such as"];
    expect_config_refused(&bench, ExitReason::ConfigText, &pieces);
}

#[test]
fn a_file_that_is_not_toml_is_refused_at_the_place() {
    let bench = Bench::new();
    bench.edit("[router]", "[router");
    let place = place(&bench, 6, 8) + "not valid TOML";
    expect_config_refused(&bench, ExitReason::ConfigText, &[&place]);
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let bench = Bench::new();
    bench.remove_file("wanctl.toml");
    let file = format!("{}: cannot be read", bench.files.config().display());
    expect_config_refused(&bench, ExitReason::ConfigUnreadable, &[&file]);
}

#[test]
fn a_missing_or_empty_password_is_refused_with_advice() {
    let bench = Bench::new();
    let place = place(&bench, 9, 17) + "router.password-file = \"password\"";
    let pieces = [&*place, "the router's password is missing", "chmod it 600"];
    bench.write_file("password", "\n");
    expect_config_refused(&bench, ExitReason::PasswordMissing, &pieces);
    bench.remove_file("password");
    expect_config_refused(&bench, ExitReason::PasswordMissing, &pieces);
    bench.check(&["--text-only"]).expect(0, &["good"]);
}

#[test]
fn a_ca_file_that_is_missing_or_no_certificate_is_refused() {
    let bench = Bench::new();
    let place = place(&bench, 10, 11) + "router.ca-file = \"router-ca.pem\"";
    let pieces = [&*place, "the CA certificate cannot be used", "export-certificate"];
    bench.write_file("router-ca.pem", "this is no certificate\n");
    expect_config_refused(&bench, ExitReason::CaUnreadable, &pieces);
    bench.remove_file("router-ca.pem");
    expect_config_refused(&bench, ExitReason::CaUnreadable, &pieces);
}

#[test]
fn a_router_whose_certificate_another_ca_signed_is_not_trusted() {
    if !pings_or_skip("a_router_whose_certificate_another_ca_signed_is_not_trusted") {
        return;
    }
    let bench = Bench::new();
    let other = Emulator::start(&EmulatorOptions::default()).expect("another emulator");
    bench.write_file("router-ca.pem", other.ca_pem());
    let pieces = ["is not trusted", "CA certificate that signed it"];
    expect_router_refused(&bench, ExitReason::RouterCertificate, &pieces);
}

#[test]
fn an_insecure_connection_works_but_is_warned_about() {
    if !pings_or_skip("an_insecure_connection_works_but_is_warned_about") {
        return;
    }
    let bench = Bench::new();
    bench.edit("ca-file = \"router-ca.pem\"", "insecure = true");
    let daemon = bench.start_controlling();
    let ended = daemon.terminate();
    ended.expect(0, &["WARN TLS VERIFICATION IS OFF"]);
}

#[test]
fn a_wrong_password_ends_the_program() {
    if !pings_or_skip("a_wrong_password_ends_the_program") {
        return;
    }
    let bench = Bench::new();
    bench.write_file("password", &format!("{PASSWORD}-or-not"));
    let pieces = ["the router refused user wanctl (401)", "check name and password"];
    expect_router_refused(&bench, ExitReason::RouterLogin, &pieces);
}

/// A bench whose router gives the configured user these rights only.
fn bench_with_policies(policies: &[Policy]) -> Bench {
    let user = User { policies: policies.to_vec(), ..User::full(USER, PASSWORD) };
    let router = RouterOptions::default().with_users(vec![user]);
    Bench::with_options(&EmulatorOptions { router, ..Default::default() })
}

#[test]
fn a_user_that_lacks_a_permission_ends_the_program() {
    if !pings_or_skip("a_user_that_lacks_a_permission_ends_the_program") {
        return;
    }
    let bench = bench_with_policies(&[Policy::Read, Policy::Write, Policy::RestApi]);
    let pieces = ["lacks a permission", "needs the policies rest-api, api, read and write"];
    expect_router_refused(&bench, ExitReason::RouterPermission, &pieces);
}

/// A router refuses such a user's writes in the words it has for a queue that is gone, so there is
/// no telling whether waiting would help.
#[test]
fn a_user_that_may_only_read_is_warned_about_with_the_policy_it_needs() {
    if !pings_or_skip("a_user_that_may_only_read_is_warned_about_with_the_policy_it_needs") {
        return;
    }
    let bench = bench_with_policies(&[Policy::Read, Policy::Api, Policy::RestApi]);
    let daemon = bench.start();
    let (warned, _) = daemon.wait_for("refusal", 0, |line| line.contains("refused PATCH"));
    daemon.wait_for("hint", warned, |line| line.contains("lacks the policy write"));
    daemon.terminate().expect(0, &["the router keeps its rates"]);
    assert_eq!(bench.emulator.writes(), []);
}

#[test]
fn a_queue_that_does_not_exist_is_named_with_those_that_do() {
    if !pings_or_skip("a_queue_that_does_not_exist_is_named_with_those_that_do") {
        return;
    }
    let bench = Bench::new();
    bench.edit("queue = \"WAN-Upload\"", "queue = \"WAN-Uplaod\"");
    let pieces = ["no queue named \"WAN-Uplaod\"", "it has WAN-Download, WAN-Upload"];
    expect_router_refused(&bench, ExitReason::QueueMissing, &pieces);
}

#[test]
fn two_queues_of_one_name_are_refused_with_their_ids() {
    if !pings_or_skip("two_queues_of_one_name_are_refused_with_their_ids") {
        return;
    }
    let bench = Bench::new();
    let twin = properties_of(&[("name", "WAN-Upload"), ("parent", "ether2")]);
    let id =
        bench.emulator.with_router(|router| router.insert_unchecked(MenuName::QueueTree, twin));
    let pieces = ["2 queues named \"WAN-Upload\"", &*id, "rename all but one"];
    expect_router_refused(&bench, ExitReason::QueueAmbiguous, &pieces);
}

#[test]
fn a_router_that_is_down_is_waited_for_by_run_and_reported_by_check() {
    if !pings_or_skip("a_router_that_is_down_is_waited_for_by_run_and_reported_by_check") {
        return;
    }
    let bench = Bench::new();
    bench.emulator.power_off();
    let unreachable = format!("router {} cannot be reached", bench.emulator.https_url());
    let checked = bench.check(&["--router"]);
    checked.expect(ExitReason::RouterUnreachable.code(), &[&unreachable, "is it up"]);

    let daemon = bench.start();
    let (warned, line) = daemon.wait_for("warning", 0, |line| line.contains("WARN the router"));
    assert!(line.contains(&unreachable), "{line}");
    // Status lines go on while it is down.
    let (first, before) = daemon.wait_for_status(warned);
    let (_, after) = daemon.wait_for_status(first + 1);
    assert!(after.deadlines > before.deadlines, "{after:?} after {before:?}");
    assert_eq!(after.writes_open, 2);

    bench.emulator.power_on().expect("the port is still free");
    let written = bench.emulator.wait_until(PATIENCE, |view| view.writes.len() >= 2);
    assert!(written, "no writes: {:#?}", daemon.process.lines());
    daemon.wait_for("recovery", 0, |line| line.ends_with("; router MikroTik ready"));
    let ended = daemon.terminate();
    ended.expect(0, &["the router works again"]);
    assert_eq!(ended.text.matches("WARN the router").count(), 1, "{}", ended.text);
}

#[test]
fn a_program_that_may_not_ping_says_how_to_permit_it() {
    if !usable_or_skip("a_program_that_may_not_ping_says_how_to_permit_it") {
        return;
    }
    let bench = Bench::new();
    let namespace = Namespace::create("wctl-noping").expect("a namespace");
    // Nobody's group may open ping sockets in a new namespace.
    let ended = run_as_nobody(&bench, &namespace);
    let pieces = ["may not send pings", "setcap cap_net_raw+ep", "net.ipv4.ping_group_range"];
    ended.expect(ExitReason::Probing.code(), &pieces);
    assert_eq!(bench.emulator.arrived_count(), 0);
}

/// Runs `wanctl run` as a user without privileges, from a place that user can read.
fn run_as_nobody(bench: &Bench, namespace: &Namespace) -> Ended {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;

    const NOBODY: u32 = 65_534;
    let folder = bench.files.path();
    let readable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder, readable).expect("the folder is ours");
    let run = folder.join("run");
    std::fs::create_dir(&run).expect("the folder is ours");
    std::os::unix::fs::chown(&run, Some(NOBODY), Some(NOBODY)).expect("root may do that");
    let program = folder.join("wanctl");
    // Copied by a process of its own: a descriptor open for writing here could be inherited by what
    // another test starts meanwhile, and a program open for writing cannot be run.
    let copied = std::process::Command::new("cp")
        .arg(common::wanctl_binary())
        .arg(&program)
        .status()
        .expect("cp can be run");
    assert!(copied.success(), "the program can be copied");
    let start = || {
        let mut command = std::process::Command::new(&program);
        command.uid(NOBODY).gid(NOBODY).arg("run").arg("--config").arg(bench.files.config());
        common::Daemon::start(&mut command).end()
    };
    namespace.run(start).expect("the namespace can be entered")
}
