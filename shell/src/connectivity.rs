//! Looks whether a line works although no reflector answers: a ping to the gateway, a TCP connection
//! to a host on the internet. The core decides when; this thread waits for the answers.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use wanctl_core::tick::{CheckKind, ConnectivityReport, MAX_WANS, Tick};
use wanctl_core::units::WanId;

use crate::probe::{Family, ProbeWan, ping_once};

/// How long a gateway may take for its answer.
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a TCP connection may take.
const TCP_TIMEOUT: Duration = Duration::from_secs(2);
/// Checks that may wait; the core has at most one per WAN under way.
const CHECKS_MAX: usize = MAX_WANS * 2;

/// What can be checked on one WAN.
#[derive(Debug, Clone)]
pub struct CheckTargets {
    /// How its packets leave.
    pub path: ProbeWan,
    /// Its gateway, if one is configured.
    pub gateway: Option<Ipv4Addr>,
    /// Hosts that accept TCP connections.
    pub tcp: Vec<SocketAddrV4>,
}

/// One check that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Ping the gateway.
    Gateway(WanId),
    /// Connect to the TCP target at this position.
    Tcp(WanId, u8),
}

/// The thread that makes checks, one after the other.
#[derive(Debug)]
pub struct Checker {
    asked: SyncSender<Check>,
    found: Receiver<ConnectivityReport>,
}

impl Checker {
    /// Starts the thread; it ends when the checker is dropped and the check under way is over.
    ///
    /// # Errors
    ///
    /// The system's error if it allows no further thread.
    pub fn start(targets: Vec<CheckTargets>) -> io::Result<Self> {
        let (asked, asked_rx) = sync_channel(CHECKS_MAX);
        let (found_tx, found) = sync_channel(CHECKS_MAX);
        Builder::new().name("check".to_owned()).spawn(move || {
            while let Ok(check) = asked_rx.recv() {
                let report = run(check, &targets);
                tracing::debug!("{report:?}");
                // Nobody listens any more: the daemon ends.
                if found_tx.send(report).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { asked, found })
    }

    /// Asks for a check; never blocks. Beyond eight waiting ones it is dropped, and the
    /// core gives it up after its own time limit.
    pub fn ask(&self, check: Check) {
        if self.asked.try_send(check).is_err() {
            tracing::debug!("{check:?} was dropped: others are still waiting");
        }
    }

    /// Moves what was found into the tick.
    pub fn drain(&self, tick: &mut Tick) {
        while let Ok(report) = self.found.try_recv() {
            tick.push_connectivity(report);
        }
    }
}

fn run(check: Check, targets: &[CheckTargets]) -> ConnectivityReport {
    let (Check::Gateway(wan) | Check::Tcp(wan, _)) = check;
    let target = targets.get(usize::from(wan.0));
    let (kind, connected) = match check {
        Check::Gateway(_) => {
            let answers = target.and_then(|target| {
                let gateway = target.gateway?;
                ping_once(&target.path, gateway.into(), GATEWAY_TIMEOUT).ok()
            });
            (CheckKind::Gateway, answers.unwrap_or(false))
        }
        Check::Tcp(_, index) => {
            let address = target
                .and_then(|target| Some((&target.path, *target.tcp.get(usize::from(index))?)));
            let accepts = |(path, address)| connect(path, address).is_ok();
            (CheckKind::Tcp, address.is_some_and(accepts))
        }
    };
    ConnectivityReport { wan, kind, connected }
}

/// Makes a TCP connection that leaves by the WAN, and closes it.
fn connect(path: &ProbeWan, address: SocketAddrV4) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    path.bind(&socket, Family::V4).map_err(|(_, error)| error)?;
    socket.connect_timeout(&address.into(), TCP_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use embassy_time::Instant;

    use super::*;

    fn path() -> ProbeWan {
        ProbeWan::default()
    }

    /// Waits for the next report without a limit of its own: every check ends by itself.
    fn next_report(checker: &Checker) -> ConnectivityReport {
        let report = checker.found.recv().unwrap();
        let mut tick = Tick::new(Instant::from_ticks(0));
        checker.drain(&mut tick);
        assert!(tick.connectivity.is_empty(), "one check, one report");
        report
    }

    #[test]
    fn a_tcp_target_that_accepts_is_connected_and_a_closed_port_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let std::net::SocketAddr::V4(open) = listener.local_addr().unwrap() else { panic!() };
        let closed = {
            let gone = TcpListener::bind("127.0.0.1:0").unwrap();
            let std::net::SocketAddr::V4(address) = gone.local_addr().unwrap() else { panic!() };
            address
        };
        let targets = CheckTargets { path: path(), gateway: None, tcp: vec![closed, open] };
        let checker = Checker::start(vec![targets]).unwrap();
        for (target, connected) in [(0, false), (1, true), (7, false)] {
            checker.ask(Check::Tcp(WanId(0), target));
            let expected = ConnectivityReport { wan: WanId(0), kind: CheckKind::Tcp, connected };
            assert_eq!(next_report(&checker), expected);
        }
    }

    #[test]
    fn a_gateway_that_is_not_configured_does_not_answer() {
        let targets = CheckTargets { path: path(), gateway: None, tcp: Vec::new() };
        let checker = Checker::start(vec![targets]).unwrap();
        for wan in [0, 9] {
            checker.ask(Check::Gateway(WanId(wan)));
            let report = next_report(&checker);
            assert_eq!((report.kind, report.connected), (CheckKind::Gateway, false));
        }
    }
}
