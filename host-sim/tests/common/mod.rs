//! What the end-to-end tests share: the built `wanctl`, an emulated router, the daemon's files.

#![allow(dead_code, reason = "every test program uses a part")]

pub(crate) mod echo;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::Signal;
use socket2::{Domain, Protocol, Socket, Type};
use wanctl_sim::daemon_process::DaemonProcess;
use wanctl_sim::demo::{
    DaemonFiles, Episode, LineProfile, NetRecording, USER, config_text, play_root_net,
};
use wanctl_sim::routeros::{Emulator, EmulatorOptions, Latency, RouterOptions, User};

/// The emulated router's password: a text that occurs nowhere else, so that a leak is found.
pub(crate) const PASSWORD: &str = "Zx-Leaked-9Q";
/// How HTTP basic authentication spells user and password.
const PASSWORD_IN_BASE64: &str = "WngtTGVha2VkLTlR";
const CREDENTIALS_IN_BASE64: &str = "d2FuY3RsOlp4LUxlYWtlZC05UQ==";
/// Addresses of the loopback interface that answer pings.
pub(crate) const REFLECTORS: [&str; 3] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
/// A second line for the end of a configuration, pinged on the loopback interface as well.
pub(crate) const SECOND_WAN: &str = r#"
[[wan]]
name = "dsl"
reflectors = ["127.0.0.4"]

[wan.download]
queue = "DSL-Download"
ceiling = "50M"
floor = "5M"

[wan.upload]
queue = "DSL-Upload"
ceiling = "10M"
floor = "1M"
"#;
/// Far more than anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Builds `wanctl` like this test, once per process, and returns its path.
pub(crate) fn wanctl_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(build_wanctl)
}

fn build_wanctl() -> PathBuf {
    // TARGET[/TRIPLE]/PROFILE/wanctl-sim
    let sim = Path::new(env!("CARGO_BIN_EXE_wanctl-sim"));
    let folder = sim.parent().expect("programs are in a folder");
    let mut target = folder.parent().expect("the folder of a profile is in the target folder");
    let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--offline", "--package", "wanctl", "--bin", "wanctl"]);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    // What cargo tells this test about its package would make build scripts run again.
    for (key, _) in std::env::vars_os() {
        let text = key.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&key);
        }
    }
    if folder.ends_with("debug") {
        command.args(["--profile", "dev"]);
    } else {
        command.arg("--profile").arg(name(folder));
    }
    let outer = target.parent().filter(|outer| outer.join(".rustc_info.json").exists());
    if let Some(outer) = outer {
        command.arg("--target").arg(name(target));
        target = outer;
    }
    let status = command.arg("--target-dir").arg(target).status().expect("cargo can be run");
    assert!(status.success(), "wanctl does not build: {status}");
    folder.join("wanctl")
}

/// Returns whether `test` can run a daemon that pings; says on standard error why it cannot.
///
/// Panics when it cannot although it has to, because the environment variable `CI` is set.
pub(crate) fn pings_or_skip(test: &str) -> bool {
    let open = |kind| Socket::new(Domain::IPV4, kind, Some(Protocol::ICMPV4));
    let Err(error) = open(Type::DGRAM).or_else(|_| open(Type::RAW)) else { return true };
    assert!(std::env::var_os("CI").is_none(), "{test} cannot run: no ICMP sockets: {error}");
    // Written past the capture of the test harness: a skipped test should be seen.
    let _closed = writeln!(std::io::stderr(), "{test} is skipped: no ICMP sockets: {error}");
    false
}

/// An emulated router and the files of a daemon for it.
pub(crate) struct Bench {
    pub(crate) emulator: Emulator,
    pub(crate) files: DaemonFiles,
}

impl Bench {
    /// A router with both queues and a configuration that fits it.
    pub(crate) fn new() -> Self {
        Self::with_router(RouterOptions::default())
    }

    /// Another router, which gets the user of the configuration.
    pub(crate) fn with_router(router: RouterOptions) -> Self {
        let router = router.with_users(vec![User::full(USER, PASSWORD)]);
        Self::with_options(&EmulatorOptions { router, ..Default::default() })
    }

    /// A router that reads at once and never gets a write done.
    pub(crate) fn with_endless_writes() -> Self {
        let router = RouterOptions::default().with_users(vec![User::full(USER, PASSWORD)]);
        let latency = Latency { read: Duration::ZERO, write: Duration::from_secs(3600) };
        Self::with_options(&EmulatorOptions { router, latency, ..Default::default() })
    }

    pub(crate) fn with_options(options: &EmulatorOptions) -> Self {
        Self::around(Emulator::start(options).expect("the emulator starts"))
    }

    /// Files that fit a running emulator.
    pub(crate) fn around(emulator: Emulator) -> Self {
        let config = config_text(&emulator, &LineProfile::SLOW, &REFLECTORS);
        let files = DaemonFiles::write(&config, emulator.ca_pem()).expect("a temporary folder");
        let bench = Self { emulator, files };
        bench.write_file("password", PASSWORD);
        bench
    }

    /// Replaces a piece of the configuration, which must be there once.
    pub(crate) fn edit(&self, from: &str, to: &str) -> &Self {
        let text = self.config_text();
        assert_eq!(text.matches(from).count(), 1, "{from:?} in\n{text}");
        self.write_file("wanctl.toml", &text.replace(from, to));
        self
    }

    /// Makes the daemon use the binary API with TLS.
    pub(crate) fn over_api(&self) -> &Self {
        let (rest, api) = (self.emulator.https_url(), self.emulator.api_ssl_url());
        self.edit(&rest, &api).edit("[router]", "[router]\ntransport = \"api\"")
    }

    /// Makes the daemon leave these rates behind, in Mbit/s.
    pub(crate) fn fail_safe(&self, download: u32, upload: u32) -> &Self {
        let rate = |rate| format!("fail-safe = \"{rate}M\"");
        self.edit("\"keep\"", "\"fail-safe\"")
            .edit("floor = \"8000k\"", &format!("floor = \"8000k\"\n{}", rate(download)))
            .edit("floor = \"2500k\"", &format!("floor = \"2500k\"\n{}", rate(upload)))
    }

    pub(crate) fn config_text(&self) -> String {
        std::fs::read_to_string(self.files.config()).expect("the configuration is there")
    }

    pub(crate) fn write_file(&self, name: &str, text: &str) {
        std::fs::write(self.files.path().join(name), text).expect("the folder can be written");
    }

    /// However late the pings are on a busy machine, the wanted rate is the ceiling. For a configuration that
    /// ends with its WAN.
    pub(crate) fn be_patient(&self) {
        let law = "\n[wan.classic]\ntarget-delay = \"700ms\"\nwarn-delay = \"800ms\"\nhard-red-delay = \"900ms\"\n";
        self.write_file("wanctl.toml", &(self.config_text() + law));
    }

    pub(crate) fn remove_file(&self, name: &str) {
        std::fs::remove_file(self.files.path().join(name)).expect("the file is there");
    }

    /// Starts `wanctl run` with everything logged.
    pub(crate) fn start(&self) -> Daemon {
        let mut command = Command::new(wanctl_binary());
        command.args(["run", "--log-level", "trace", "--config"]).arg(self.files.config());
        Daemon::start(&mut command)
    }

    /// Runs `wanctl run` until it ends by itself.
    pub(crate) fn run(&self) -> Ended {
        self.start().end()
    }

    /// Runs `wanctl check` with these options.
    pub(crate) fn check(&self, options: &[&str]) -> Ended {
        let mut command = Command::new(wanctl_binary());
        command.arg("check").args(options).arg("--config").arg(self.files.config());
        Daemon::start(&mut command).end()
    }

    /// Waits until both queues have been looked up and a write is being worked on.
    pub(crate) fn wait_for_open_write(&self, daemon: &Daemon) {
        let open = self.emulator.wait_until(PATIENCE, |view| {
            let lookups = view.requests.iter().filter(|request| request.path == "/rest/queue/tree");
            lookups.count() == 2 && view.arrived_count > view.request_count
        });
        assert!(open, "no write: {:#?}", daemon.process.lines());
    }

    /// Starts `wanctl run` and waits until both queues have their first rate.
    pub(crate) fn start_controlling(&self) -> Daemon {
        let daemon = self.start();
        let begun = self.emulator.wait_until(PATIENCE, |view| view.writes.len() >= 2);
        assert!(begun, "no writes: {:#?}", daemon.process.lines());
        let confirmed = |line: &str| status(line).is_some_and(|status| status.writes_open == 0);
        daemon.wait_for("a status with both rates confirmed", 0, confirmed);
        daemon
    }
}

/// A `wanctl` that runs.
pub(crate) struct Daemon {
    pub(crate) process: DaemonProcess,
}

/// A `wanctl` that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// Everything it has said.
    pub(crate) text: String,
}

impl Daemon {
    pub(crate) fn start(command: &mut Command) -> Self {
        let process = DaemonProcess::start(command, |_| {}).expect("wanctl starts");
        Self { process }
    }

    /// Waits for a line at index `from` or later; returns its index and text.
    pub(crate) fn wait_for(
        &self,
        what: &str,
        from: usize,
        wanted: impl Fn(&str) -> bool,
    ) -> (usize, String) {
        let found = self.process.wait_for_line(from, PATIENCE, wanted);
        found.unwrap_or_else(|| panic!("no {what}: {:#?}", self.process.lines()))
    }

    /// Waits for the next status line at index `from` or later.
    pub(crate) fn wait_for_status(&self, from: usize) -> (usize, Status) {
        let (index, line) = self.wait_for("status line", from, |line| status(line).is_some());
        (index, status(&line).expect("a status line was waited for"))
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(self) -> Ended {
        self.signal(Signal::TERM)
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn signal(mut self, signal: Signal) -> Ended {
        self.process.signal(signal);
        self.end()
    }

    /// Waits for the end. Whatever the test: the password was not shown.
    pub(crate) fn end(mut self) -> Ended {
        let ended = self.process.wait_end(PATIENCE);
        let text = self.process.lines().join("\n");
        let status = ended.unwrap_or_else(|error| panic!("{error}:\n{text}"));
        for secret in [PASSWORD, PASSWORD_IN_BASE64, CREDENTIALS_IN_BASE64] {
            assert!(!text.contains(secret), "the password was shown:\n{text}");
        }
        Ended { code: status.code(), text }
    }
}

impl Ended {
    /// Asserts the exit code and that every piece of text was said.
    #[track_caller]
    pub(crate) fn expect(&self, code: u8, pieces: &[&str]) -> &Self {
        assert_eq!(self.code, Some(i32::from(code)), "{}", self.text);
        for piece in pieces {
            assert!(self.text.contains(piece), "{piece:?} is missing in\n{}", self.text);
        }
        self
    }

    /// Asserts that a piece of text was not said.
    #[track_caller]
    pub(crate) fn expect_not(&self, piece: &str) -> &Self {
        assert!(!self.text.contains(piece), "{piece:?} should not be in\n{}", self.text);
        self
    }
}

/// What a status line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    /// Ticks begun and deadlines missed.
    pub(crate) deadlines: u64,
    /// Directions without a confirmed rate.
    pub(crate) writes_open: usize,
}

/// Reads "...; 40 ticks, 0 late (>10 ms), 0 missed, worst 1.0 ms late; ...".
pub(crate) fn status(line: &str) -> Option<Status> {
    let pacing = line.split("; ").find(|part| part.contains(" ticks, "))?;
    let number = |word: &str| {
        let (before, _) = pacing.split_once(word)?;
        before.rsplit(' ').next()?.parse::<u64>().ok()
    };
    let deadlines = number(" ticks,")? + number(" missed,")?;
    Some(Status { deadlines, writes_open: line.matches("unconfirmed").count() })
}

/// Plays an episode on real packets, up to three times until the daemon could keep its pace: a machine that
/// is busy with other things delays the emulated line as well, and what is seen then says nothing.
pub(crate) fn play_undisturbed(episode: Episode) -> (NetRecording, Vec<u8>) {
    for _ in 0..2 {
        let (recording, table) = play(episode);
        let latest = recording.log.lines.iter().rev().find(|line| line.contains(" ticks, "));
        if latest.is_some_and(|line| line.contains(", 0 missed")) {
            return (recording, table);
        }
        let _closed = writeln!(std::io::stdout(), "disturbed, once more: {latest:?}");
    }
    play(episode)
}

fn play(episode: Episode) -> (NetRecording, Vec<u8>) {
    let mut table = Vec::new();
    let recording = play_root_net(episode, wanctl_binary(), &mut table);
    (recording.expect("the episode is played"), table)
}

/// Sends SIGHUP and waits until the reload is over; returns what was said.
pub(crate) fn reload(daemon: &mut Daemon) -> Vec<String> {
    let from = daemon.process.lines().len();
    daemon.process.signal(Signal::HUP);
    let is_over = |line: &str| {
        line.contains("INFO reload: done, ")
            || line.contains("going on under the old configuration")
    };
    let (last, _) = daemon.wait_for("the end of the reload", from, is_over);
    daemon.process.lines()[from..=last].to_vec()
}
