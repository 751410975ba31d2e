//! The top of the document and the router's table.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};
use wanctl_core::config::{Config, TICK_MAX, TICK_MIN};
use wanctl_core::steering::SteeringConfig;
use wanctl_core::tick::MAX_WANS;

use super::reader::{Placed, Problems, Refusal, Section};
use super::{
    BackendConfig, DaemonConfig, Keys, LinuxCakeConfig, OnExit, ReadFiles, RouterConfig, quantity,
    record, steering, wan,
};
use crate::exit::ExitReason;
use crate::linux_cake;
use crate::routeros::{COUNTER_INTERVAL, COUNTER_INTERVAL_MAX, COUNTER_INTERVAL_MIN};
use crate::routeros::{Secret, SteeringRules, TlsTrust, TransportKind, check_url, check_user};

/// A password file in the folder of systemd's credentials (`LoadCredential=`) begins with this.
const CREDENTIALS: &str = "$CREDENTIALS_DIRECTORY/";
/// The most bytes a password file may hold.
const PASSWORD_BYTES_MAX: usize = 256;

pub(super) fn parse(path: &Path, source: &str, files: ReadFiles) -> Result<DaemonConfig, Problems> {
    let mut problems = Problems::new(path, source);
    let (document, syntax_errors) = DeTable::parse_recoverable(source);
    for error in &syntax_errors {
        let at = error.span().unwrap_or(0..0);
        problems.add(ExitReason::ConfigText, at, "not valid TOML", error.message(), None);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let root = Section::new(document.get_ref(), 0..0, String::new());
    let folder = path.parent().unwrap_or(Path::new("."));
    let config = root_section(root, folder, files, &mut problems);
    problems.sort();
    match config {
        Some(config) if problems.is_empty() => {
            Ok(DaemonConfig { keys: Keys::of(document.get_ref()), ..config })
        }
        _ => Err(problems),
    }
}

fn root_section(
    mut root: Section<'_>,
    folder: &Path,
    files: ReadFiles,
    problems: &mut Problems,
) -> Option<DaemonConfig> {
    let interval = root.optional(problems, "interval", duration);
    if let Some(interval) = &interval {
        let (least, most) = (TICK_MIN.into(), TICK_MAX.into());
        check_duration(interval, least, most, problems);
    }
    let tick = interval.map_or(Duration::from_millis(50), |interval| interval.value);
    let kind = root.optional(problems, "backend", backend_kind);
    let kind = kind.map_or(BackendKind::RouterOs, |placed| placed.value);
    let on_exit = root.optional(problems, "on-exit", on_exit).map(|placed| placed.value);
    let on_exit = on_exit.unwrap_or(match kind {
        BackendKind::RouterOs => OnExit::Keep,
        BackendKind::LinuxCake => OnExit::Restore,
    });
    let mut bounded = |key, default: Duration, least, most| {
        let placed = root.optional(problems, key, duration);
        if let Some(placed) = &placed {
            check_duration(placed, least, most, problems);
        }
        placed.map_or(default, |placed| placed.value)
    };
    let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
    let status_interval = bounded("status-interval", minute, second, minute * 60 * 24);
    let probe_timeout =
        bounded("probe-timeout", second * 2, Duration::from_millis(100), second * 4);
    let state_dir = root.optional(problems, "state-dir", string);
    let run_dir = root.optional(problems, "run-dir", string);
    let listen = root.optional(problems, "listen", loopback).map(|placed| placed.value);
    let backend = backend(&mut root, kind, tick, (folder, files), problems);
    let (wans, steering) = lines(&mut root, kind, tick, on_exit, problems);
    let record_table = root.table(problems, "record");
    root.finish(problems);
    let (steering, steering_rules) = steering.unzip();
    let steering_rules = steering_rules.unwrap_or_default();
    let core = Config {
        tick: to_core(tick),
        wans: wans.iter().take(MAX_WANS).map(|wan| wan.core).collect(),
        steering,
    };
    let (backend, wans) = (backend?, wans.into_iter().map(|wan| wan.shell).collect());
    if problems.is_empty() {
        // The core checks its own invariants; a message here means that one above is missing.
        if let Err(error) = core.check() {
            problems.add(ExitReason::ConfigValue, 0..0, "wan", error.to_string(), None);
        }
    }
    let state_dir = state_dir.map(|placed| folder.join(placed.value));
    let run_dir = run_dir.map(|placed| folder.join(placed.value));
    let flight = record::read(record_table, folder, state_dir.as_deref(), problems);
    Some(DaemonConfig {
        on_exit,
        status_interval,
        probe_timeout,
        state_dir,
        run_dir,
        listen,
        record: None,
        flight,
        keys: Keys::default(),
        backend,
        wans,
        steering_rules,
        core,
    })
}

/// Reads the WANs and the steering between them.
fn lines(
    root: &mut Section<'_>,
    kind: BackendKind,
    tick: Duration,
    on_exit: OnExit,
    problems: &mut Problems,
) -> (Vec<wan::ReadWan>, Option<(SteeringConfig, SteeringRules)>) {
    let sections = root.tables(problems, "wan");
    let count = sections.len();
    if count > MAX_WANS {
        let message = format!("at most {MAX_WANS} WANs can be controlled");
        problems.add(ExitReason::ConfigValue, root.at(), "wan", message, None);
    }
    let wans: Vec<_> = sections
        .into_iter()
        .filter_map(|section| wan::read(section, kind, tick, on_exit, problems))
        .collect();
    check_unique(&wans, problems);
    let names = steering::Names {
        list: wans.iter().map(|wan| wan.shell.name.as_str()).collect(),
        are_complete: wans.len() == count,
    };
    let table = root.table(problems, "steering");
    if let (BackendKind::LinuxCake, Some(table)) = (kind, &table) {
        let message = "steering switches rules of a MikroTik router, and this backend has none";
        let hint = "remove the table; choose WANs on this machine with policy routing".to_owned();
        problems.add(ExitReason::ConfigValue, table.at(), "steering", message, Some(hint));
        return (wans, None);
    }
    let steering = table.and_then(|table| steering::read(table, &names, tick, problems));
    (wans, steering)
}

/// Two WANs must not share a name or drive the same queue.
fn check_unique(wans: &[wan::ReadWan], problems: &mut Problems) {
    let mut seen: Vec<&Placed<String>> = Vec::new();
    for placed in wans.iter().flat_map(|wan| &wan.unique) {
        let twin = seen.iter().find(|other| {
            // `download-interface` and `upload-interface` are of one kind.
            let kind = |key: &str| key.rsplit(['.', '-']).next().map(str::to_owned);
            other.value == placed.value && kind(&other.key) == kind(&placed.key)
        });
        if twin.is_some() {
            let subject = format!("{} = \"{}\"", placed.key, placed.value);
            let message = "this is used twice; every WAN and direction needs its own";
            problems.add(ExitReason::ConfigValue, placed.at.clone(), subject, message, None);
        }
        seen.push(placed);
    }
}

/// Which backend is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BackendKind {
    RouterOs,
    LinuxCake,
}

fn backend_kind(value: &DeValue<'_>) -> Result<BackendKind, String> {
    match value.as_str() {
        Some("routeros") => Ok(BackendKind::RouterOs),
        Some("linux-cake") => Ok(BackendKind::LinuxCake),
        _ => Err("expected \"routeros\" or \"linux-cake\"".to_owned()),
    }
}

/// Reads the table of the backend, and refuses that of the other one.
fn backend(
    root: &mut Section<'_>,
    kind: BackendKind,
    tick: Duration,
    (folder, files): (&Path, ReadFiles),
    problems: &mut Problems,
) -> Option<BackendConfig> {
    let unused = match kind {
        BackendKind::RouterOs => root.table(problems, "linux-cake"),
        BackendKind::LinuxCake => root.table(problems, "router"),
    };
    if let Some(table) = unused {
        let message = "this table belongs to a backend that is not used";
        let hint = "choose with `backend = \"routeros\"` or `backend = \"linux-cake\"`".to_owned();
        problems.add(ExitReason::ConfigValue, table.at(), table.path(), message, Some(hint));
    }
    match kind {
        BackendKind::RouterOs => {
            let placed = root.required(problems, "router", table_of("router"))?;
            let section = Section::new(placed.value, placed.at, placed.key);
            router_section(section, folder, files, problems).map(BackendConfig::RouterOs)
        }
        BackendKind::LinuxCake => {
            // Fresh counters for every tick; reading them costs next to nothing.
            let mut counter_interval = tick;
            if let Some(mut section) = root.table(problems, "linux-cake") {
                if let Some(placed) = section.optional(problems, "counter-interval", duration) {
                    let (least, most) =
                        (linux_cake::COUNTER_INTERVAL_MIN, linux_cake::COUNTER_INTERVAL_MAX);
                    check_duration(&placed, least, most, problems);
                    counter_interval = placed.value;
                }
                section.finish(problems);
            }
            Some(BackendConfig::LinuxCake(LinuxCakeConfig { counter_interval }))
        }
    }
}

fn router_section(
    mut section: Section<'_>,
    folder: &Path,
    files: ReadFiles,
    problems: &mut Problems,
) -> Option<RouterConfig> {
    let url = section.required(problems, "url", string);
    let hint = "write scheme, host and, if unusual, port: \"https://192.168.88.1\"";
    check_text(url.as_ref(), check_url, hint, problems);
    let transport = section.optional(problems, "transport", transport);
    let transport = transport.map_or(TransportKind::Rest, |transport| transport.value);
    let user = section.required(problems, "user", string);
    let hint = "/user add name=wanctl group=...";
    check_text(user.as_ref(), check_user, hint, problems);
    let password_file = section.required(problems, "password-file", string);
    let ca_file = section.optional(problems, "ca-file", string);
    let insecure = section.optional(problems, "insecure", boolean);
    let counter_interval = section.optional(problems, "counter-interval", duration);
    if let Some(interval) = &counter_interval {
        check_duration(interval, COUNTER_INTERVAL_MIN, COUNTER_INTERVAL_MAX, problems);
    }
    let counter_interval = counter_interval.map_or(COUNTER_INTERVAL, |interval| interval.value);
    section.finish(problems);
    let insecure_wanted = insecure.as_ref().is_some_and(|insecure| insecure.value);
    if let (Some(ca), true) = (&ca_file, insecure_wanted) {
        let hint = "remove one of the two".to_owned();
        let message = "a CA has no effect when `insecure = true` accepts every certificate";
        problems.add(ExitReason::ConfigValue, ca.at.clone(), &*ca.key, message, Some(hint));
    }
    let is_plain = url.as_ref().is_some_and(|url| url.value.starts_with("http:"));
    let tls_key = ca_file.as_ref().map(|ca| (&ca.key, &ca.at));
    let tls_key = tls_key.or(insecure.as_ref().map(|insecure| (&insecure.key, &insecure.at)));
    if let (true, Some((key, at))) = (is_plain, tls_key) {
        let hint = Some("use https://, or remove this key".to_owned());
        let message = "has no effect with http://, which sends the password in clear text";
        problems.add(ExitReason::ConfigValue, at.clone(), key.as_str(), message, hint);
    }
    let trust = match (ca_file, insecure_wanted) {
        (_, true) => Some(TlsTrust::Insecure),
        (Some(ca), false) if files == ReadFiles::Yes => ca_pem(&ca, folder, problems),
        (Some(_), false) => Some(TlsTrust::Ca(Vec::new())),
        (None, false) => Some(TlsTrust::PublicRoots),
    };
    let password = match files {
        ReadFiles::Yes => password_file.and_then(|file| password(&file, folder, problems)),
        ReadFiles::No => Some(Secret::new(String::new())),
    };
    let (url, user, password, trust) = (url?.value, user?.value, password?, trust?);
    Some(RouterConfig { url, transport, user, password, trust, counter_interval })
}

/// Reports what a check says about a text.
fn check_text<T>(
    placed: Option<&Placed<String>>,
    check: impl FnOnce(&str) -> Result<T, String>,
    hint: &str,
    problems: &mut Problems,
) {
    let Some(placed) = placed else { return };
    if let Err(message) = check(&placed.value) {
        let subject = format!("{} = \"{}\"", placed.key, without_login(&placed.value));
        let (reason, hint) = (ExitReason::ConfigValue, Some(hint.to_owned()));
        problems.add(reason, placed.at.clone(), subject, message, hint);
    }
}

/// Returns a URL or a user name without what may be a password in it: both are refused with one.
fn without_login(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(_, rest)| {
        (text.get(..text.len() - rest.len()).unwrap_or_default(), rest)
    });
    match (rest.rsplit_once('@'), rest.split_once(':')) {
        (Some((_, host)), _) => format!("{scheme}***@{host}"),
        (None, Some((user, _))) if scheme.is_empty() => format!("{user}:***"),
        (None, _) => text.to_owned(),
    }
}

fn password(file: &Placed<String>, folder: &Path, problems: &mut Problems) -> Option<Secret> {
    let mut add = |message: String, hint: &str| {
        let (at, subject) = (file.at.clone(), format!("{} = \"{}\"", file.key, file.value));
        problems.add(ExitReason::PasswordMissing, at, subject, message, Some(hint.to_owned()));
    };
    let path = match file.value.strip_prefix(CREDENTIALS) {
        Some(name) => {
            let Some(credentials) = std::env::var_os("CREDENTIALS_DIRECTORY") else {
                let message = "the router's password is missing: systemd sets this variable for its \
                               service alone";
                let hint = "for a command by hand set it to the folder that LoadCredential names: \
                            CREDENTIALS_DIRECTORY=/etc/wanctl wanctl ...";
                add(message.to_owned(), hint);
                return None;
            };
            PathBuf::from(credentials).join(name)
        }
        None => folder.join(&file.value),
    };
    let mut complain =
        |message: String| add(message, "write the password alone into the file and chmod it 600");
    match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            complain("the router's password is missing: there is no such file".to_owned());
        }
        Err(error) => complain(format!("the router's password cannot be read: {error}")),
        Ok(text) => match text.trim_end_matches(['\r', '\n']) {
            "" => complain("the router's password is missing: the file is empty".to_owned()),
            text if text.len() > PASSWORD_BYTES_MAX || text.contains('\n') => {
                complain("this does not look like a password: one short line is expected".into());
            }
            text => return Some(Secret::new(text.to_owned())),
        },
    }
    None
}

fn ca_pem(file: &Placed<String>, folder: &Path, problems: &mut Problems) -> Option<TlsTrust> {
    let path: PathBuf = folder.join(&file.value);
    let outcome = std::fs::read(&path)
        .map_err(|error| error.to_string())
        .and_then(|pem| TlsTrust::from_pem(pem).map_err(|error| error.to_string()));
    match outcome {
        Ok(trust) => Some(trust),
        Err(error) => {
            let hint = "export the CA on the router: /certificate export-certificate".to_owned();
            let subject = format!("{} = \"{}\"", file.key, file.value);
            let message = format!("the CA certificate cannot be used: {error}");
            problems.add(ExitReason::CaUnreadable, file.at.clone(), subject, message, Some(hint));
            None
        }
    }
}

pub(super) fn check_duration(
    placed: &Placed<Duration>,
    least: Duration,
    most: Duration,
    problems: &mut Problems,
) {
    if placed.value < least || placed.value > most {
        let show = |duration| humantime::format_duration(duration).to_string();
        let message = format!("must be {} to {}", show(least), show(most));
        let subject = format!("{} = \"{}\"", placed.key, show(placed.value));
        problems.add(ExitReason::ConfigValue, placed.at.clone(), subject, message, None);
    }
}

/// Converts a duration that was checked to be short.
pub(super) fn to_core(duration: Duration) -> embassy_time::Duration {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    embassy_time::Duration::from_micros(micros)
}

pub(super) fn string(value: &DeValue<'_>) -> Result<String, String> {
    match value.as_str() {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err("expected a text in quotes".to_owned()),
    }
}

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "expected true or false".to_owned())
}

pub(super) fn duration(value: &DeValue<'_>) -> Result<Duration, String> {
    quantity::duration(value.as_str().unwrap_or_default())
}

pub(super) fn table_of<'a>(
    name: &'static str,
) -> impl FnOnce(&'a DeValue<'a>) -> Result<&'a DeTable<'a>, String> {
    move |value| value.as_table().ok_or_else(|| format!("expected a table [{name}]"))
}

/// Health and metrics are for this machine: whoever wants them elsewhere puts a proxy in front.
fn loopback(value: &DeValue<'_>) -> Result<SocketAddr, Refusal> {
    let expected = || "expected address and port, such as \"127.0.0.1:9871\"".to_owned();
    let address: SocketAddr =
        value.as_str().unwrap_or_default().parse().map_err(|_| Refusal::from(expected()))?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        let message = "must be a loopback address: anybody could read it otherwise";
        Err(Refusal::out_of_range(message))
    }
}

fn on_exit(value: &DeValue<'_>) -> Result<OnExit, String> {
    match value.as_str() {
        Some("keep") => Ok(OnExit::Keep),
        Some("fail-safe") => Ok(OnExit::FailSafe),
        Some("restore") => Ok(OnExit::Restore),
        _ => Err("expected \"keep\", \"fail-safe\" or \"restore\"".to_owned()),
    }
}

fn transport(value: &DeValue<'_>) -> Result<TransportKind, String> {
    match value.as_str() {
        Some("rest") => Ok(TransportKind::Rest),
        Some("api") => Ok(TransportKind::Api),
        _ => Err("expected \"rest\" or \"api\"".to_owned()),
    }
}
