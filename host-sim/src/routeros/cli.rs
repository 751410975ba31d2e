//! The command `wanctl-sim routeros`: an emulated router until SIGINT or SIGTERM.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use signal_hook::consts::{SIGINT, SIGTERM};
use wanctl::linux_cake::CakeShaper;

use super::emulator::{Emulator, EmulatorOptions, Listeners};
use super::faults::{FaultScript, FaultSpec};
use super::plane::{QueueInterface, check_bonds};
use super::seed::{RouterOptions, User};
use super::shared::Latency;
use super::value::parse_time_us;

/// Arguments of `wanctl-sim routeros`.
#[derive(Debug, Clone, clap::Args)]
pub struct RouterosArgs {
    /// Address for HTTP, for example 127.0.0.1:8080; not served without it
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Address for HTTPS; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub https: SocketAddr,
    /// Address for the binary API in clear text, for example 127.0.0.1:8728; not served without it
    #[arg(long, value_name = "ADDR")]
    pub api: Option<SocketAddr>,
    /// Address for the binary API with TLS, for example 127.0.0.1:8729; not served without it
    #[arg(long, value_name = "ADDR")]
    pub api_ssl: Option<SocketAddr>,
    /// IP address or host name for the certificate, besides the HTTPS address; may be repeated
    #[arg(long, value_name = "NAME")]
    pub name: Vec<String>,
    /// User that may read and write
    #[arg(long, default_value = "wanctl")]
    pub user: String,
    /// File with the user's password in its first line; the password is "wanctl" without it
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Time each request takes, for example 20ms
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_latency)]
    pub latency: Duration,
    /// Time each write takes, when it differs from the latency
    #[arg(long, value_name = "TIME", value_parser = parse_latency)]
    pub write_latency: Option<Duration>,
    /// Time between two refreshes of the queues' counters, for example 1s; live without it
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_latency)]
    pub counter_refresh: Duration,
    /// Fault to switch on: NAME, or NAME:DETAIL, then any of `,method=PATCH`, `,path=/rest/queue`,
    /// `,percent=50`, `,times=3`, `,from=10s`, `,until=20s`; may be repeated. docs/faults.md lists them
    #[arg(long, value_name = "FAULT")]
    pub fault: Vec<FaultSpec>,
    /// Tree queues and the interfaces whose root qdisc, a CAKE, carries their traffic: their
    /// `max-limit` becomes its bandwidth, its counters theirs; the bandwidth found at the start comes
    /// back at the end. Needs CAP_NET_ADMIN
    #[arg(long, value_name = "QUEUE=INTERFACE", value_delimiter = ',')]
    pub tc: Vec<QueueInterface>,
    /// File to write the CA certificate to, for the client to trust
    #[arg(long, value_name = "FILE")]
    pub ca_out: Option<PathBuf>,
}

/// Runs an emulated router until SIGINT or SIGTERM and prints its addresses first.
///
/// # Errors
/// A file cannot be read or written, or an address cannot be bound.
pub fn run(args: &RouterosArgs) -> anyhow::Result<()> {
    let (mut stop, signalled) = UnixStream::pair().context("signal pipe")?;
    for signal in [SIGINT, SIGTERM] {
        let signalled = signalled.try_clone().context("signal pipe")?;
        signal_hook::low_level::pipe::register(signal, signalled).context("signal handler")?;
    }
    run_until(args, &mut std::io::stdout().lock(), &mut stop)
}

/// Runs an emulated router until `stop` yields a byte or ends; prints its addresses to `out`.
///
/// # Errors
/// As [`run`].
pub fn run_until(
    args: &RouterosArgs,
    out: &mut impl Write,
    stop: &mut impl Read,
) -> anyhow::Result<()> {
    check_bonds(&args.tc)?;
    let bind = |address: SocketAddr| {
        TcpListener::bind(address).with_context(|| format!("listen on {address}"))
    };
    let listeners = Listeners {
        http: args.http.map(bind).transpose()?,
        https: Some(bind(args.https)?),
        api: args.api.map(bind).transpose()?,
        api_ssl: args.api_ssl.map(bind).transpose()?,
    };
    let emulator = Emulator::start_with(&options(args)?, listeners)?;
    for QueueInterface { queue, interface } in &args.tc {
        let bound = CakeShaper::open(interface)
            .map_err(anyhow::Error::from)
            .and_then(|shaper| emulator.bind(queue, Box::new(shaper)));
        bound.with_context(|| format!("--tc {queue}={interface}"))?;
    }
    if let Some(path) = &args.ca_out {
        std::fs::write(path, emulator.ca_pem())
            .with_context(|| format!("write {}", path.display()))?;
    }
    for url in [emulator.https_url(), emulator.http_url()] {
        if !url.is_empty() {
            writeln!(out, "{url}/rest")?;
        }
    }
    for url in [emulator.api_ssl_url(), emulator.api_url()] {
        if !url.is_empty() {
            writeln!(out, "{url} (transport = \"api\")")?;
        }
    }
    out.flush()?;
    let script = FaultScript::start(&emulator, &args.fault)?;
    let ended = wait(stop);
    drop(script);
    emulator.release_shapers();
    tracing::info!(requests = emulator.request_count(), "emulated router stops");
    ended
}

/// Waits until `stop` yields a byte or ends.
fn wait(stop: &mut impl Read) -> anyhow::Result<()> {
    let mut byte = [0_u8];
    while let Err(error) = stop.read(&mut byte) {
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error).context("signal pipe");
        }
    }
    Ok(())
}

fn options(args: &RouterosArgs) -> anyhow::Result<EmulatorOptions> {
    let password = match &args.password_file {
        Some(path) => std::fs::read_to_string(path)
            .with_context(|| format!("read {}", path.display()))?
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
        None => "wanctl".to_owned(),
    };
    let defaults = EmulatorOptions::default();
    let mut certificate_names = defaults.certificate_names.clone();
    for address in [Some(args.https), args.api_ssl].into_iter().flatten() {
        if !address.ip().is_unspecified() {
            certificate_names.push(address.ip().to_string());
        }
    }
    certificate_names.extend(args.name.iter().cloned());
    certificate_names.sort();
    certificate_names.dedup();
    let mut router = RouterOptions::default().with_users(vec![User::full(&args.user, &password)]);
    for QueueInterface { queue, .. } in &args.tc {
        if !router.has_queue(queue) {
            router = router.with_queue(queue, "global", "cake-down", 0);
        }
    }
    Ok(EmulatorOptions {
        router: RouterOptions { counter_refresh: args.counter_refresh, ..router },
        latency: Latency { read: args.latency, write: args.write_latency.unwrap_or(args.latency) },
        certificate_names,
        ..defaults
    })
}

pub(crate) fn parse_latency(text: &str) -> Result<Duration, String> {
    let time_us = parse_time_us(text).ok_or("expected a time such as 20ms or 1s500ms")?;
    Ok(Duration::from_micros(time_us))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: RouterosArgs,
    }

    #[test]
    fn an_interface_without_cake_is_named_with_the_remedy() {
        let words = ["x", "--tc", "WAN-Download=lo"];
        let command = Command::try_parse_from(words).expect("valid arguments");
        let error = run_until(&command.args, &mut Vec::new(), &mut std::io::empty());
        let error = format!("{:#}", error.expect_err("the loopback interface has no CAKE"));
        assert!(error.starts_with("--tc WAN-Download=lo: ") && error.contains("hint: "), "{error}");
        assert!(Command::try_parse_from(["x", "--tc", "WAN-Download"]).is_err());
    }

    #[test]
    fn command_prints_addresses_writes_the_ca_and_stops() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let ca = directory.path().join("ca.pem");
        let ca_text = ca.display().to_string();
        let words =
            ["x", "--http", "127.0.0.1:0", "--latency", "20ms", "--ca-out", ca_text.as_str()];
        let api = ["--api", "127.0.0.1:0", "--api-ssl", "127.0.0.1:0"];
        let command =
            Command::try_parse_from(words.into_iter().chain(api)).expect("valid arguments");
        assert_eq!(command.args.latency, Duration::from_millis(20));
        let mut out = Vec::new();
        run_until(&command.args, &mut out, &mut std::io::empty()).expect("runs");
        let out = String::from_utf8(out).expect("text");
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 4, "{out}");
        assert!(lines[0].starts_with("https://127.0.0.1:"), "{out}");
        assert!(lines[1].starts_with("http://127.0.0.1:"), "{out}");
        for (line, start) in [(lines[2], "https://127.0.0.1:"), (lines[3], "http://127.0.0.1:")] {
            assert!(line.starts_with(start) && line.ends_with(" (transport = \"api\")"), "{out}");
        }
        let pem = std::fs::read_to_string(ca).expect("CA file");
        assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"));
    }
}
