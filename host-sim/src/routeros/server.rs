//! Listeners and connections: one thread accepts per listener, one serves per connection.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;

use super::faults::Delivery;
use super::http::{Incoming, read_request, write_response};
use super::shared::Shared;

/// Connections waiting to be accepted.
const BACKLOG: i32 = 64;
/// Attempts to find a free local port.
const BIND_ATTEMPTS_MAX: u32 = 8;
/// Longest wait for a client that does not read its reply.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// One listening address, which can be closed and opened again.
#[derive(Debug)]
pub(crate) struct Port {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    accepting: Option<JoinHandle<()>>,
}

impl Port {
    pub(crate) fn new(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self { listener, address, tls, accepting: None })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts the accept thread; connections belong to the power cycle `cycle`.
    pub(crate) fn serve(&mut self, shared: &Arc<Shared>, cycle: u64) -> std::io::Result<()> {
        let listener = self.listener.try_clone()?;
        let tls = self.tls.clone();
        let shared = Arc::clone(shared);
        let body = move || accept_loop(&listener, tls.as_ref(), &shared, cycle);
        self.accepting = Some(Builder::new().name("routeros-accept".to_owned()).spawn(body)?);
        Ok(())
    }

    /// Makes new connections fail with "refused" and the accept thread return.
    ///
    /// The socket keeps its address: on Linux shutting down a listening socket returns it to the
    /// bound state. This also works when it lives in another network namespace.
    pub(crate) fn stop_listening(&self) {
        // Fails only when it does not listen anyway.
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
    }

    /// Waits for the accept thread and all its connections.
    pub(crate) fn join(&mut self) {
        if let Some(thread) = self.accepting.take() {
            // A panic of that thread was already reported by the panic hook.
            let _ = thread.join();
        }
    }

    /// Listens again on the same address after [`Port::stop_listening`].
    pub(crate) fn listen_again(&self) -> std::io::Result<()> {
        let socket = SockRef::from(&self.listener);
        match socket.bind(&self.address.into()) {
            // Still bound, as every socket is that asked for a certain port.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {}
            other => other?,
        }
        socket.listen(BACKLOG)
    }
}

/// Binds a free port of 127.0.0.1 that stays reserved while it does not listen.
///
/// A port chosen by the kernel is given back when listening ends; one asked for by number is not.
pub(crate) fn bind_local() -> std::io::Result<TcpListener> {
    let mut attempts = 0;
    loop {
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        attempts += 1;
        match TcpListener::bind(address) {
            Err(_) if attempts < BIND_ATTEMPTS_MAX => {}
            outcome => return outcome,
        }
    }
}

fn accept_loop(
    listener: &TcpListener,
    tls: Option<&Arc<ServerConfig>>,
    shared: &Arc<Shared>,
    cycle: u64,
) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    while shared.is_current(cycle) {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::yield_now();
            continue;
        };
        threads.retain(|thread| !thread.is_finished());
        // Over the limit or already going down: the client sees the connection close.
        let Some(id) = shared.register(&stream, cycle) else { continue };
        let tls = tls.cloned();
        let connection_shared = Arc::clone(shared);
        let body = move || {
            serve_connection(stream, tls, &connection_shared, cycle);
            connection_shared.unregister(id);
        };
        match Builder::new().name("routeros-connection".to_owned()).spawn(body) {
            Ok(thread) => threads.push(thread),
            Err(_) => shared.unregister(id),
        }
    }
    for thread in threads {
        // A panic of that thread was already reported by the panic hook.
        let _ = thread.join();
    }
}

fn serve_connection(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    shared: &Shared,
    cycle: u64,
) {
    if !shared.may_serve(cycle, tls.is_some()) {
        return;
    }
    let Ok(socket) = stream.try_clone() else { return };
    if prepare(&stream).is_err() {
        return;
    }
    let Some(config) = tls else {
        let mut stream = stream;
        serve_requests(&mut stream, &socket, shared, cycle, false);
        return;
    };
    let Ok(connection) = ServerConnection::new(shared.tls().unwrap_or(config)) else { return };
    let mut stream = StreamOwned::new(connection, stream);
    serve_requests(&mut stream, &socket, shared, cycle, true);
    stream.conn.send_close_notify();
    // The client may be gone; nothing is lost then.
    let _ = stream.flush();
}

/// Tells whether the client has closed its connection.
fn is_abandoned(socket: &TcpStream) -> bool {
    let hung_up = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    let mut polled = [PollFd::new(socket, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().intersects(hung_up)
}

fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))
}

/// Serves requests until the connection ends; `socket` is the one below `stream`.
fn serve_requests(
    stream: &mut (impl Read + Write),
    socket: &TcpStream,
    shared: &Shared,
    cycle: u64,
    secure: bool,
) {
    let mut buffer = Vec::new();
    loop {
        if socket.set_read_timeout(Some(shared.idle_close())).is_err() {
            return;
        }
        match read_request(stream, &mut buffer, secure) {
            Ok(Incoming::Request { request, keep_alive }) => {
                let exchanged = shared.exchange(&request, cycle, || is_abandoned(socket));
                let Some((response, delivery)) = exchanged else { return };
                if delivery == Delivery::Reset {
                    // A socket that does not linger is reset when it is closed.
                    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
                    return;
                }
                let (to_head, half) = (request.method == "HEAD", delivery == Delivery::Half);
                let written = write_response(stream, &response, to_head, keep_alive, half);
                if written.is_err() || !keep_alive || half {
                    return;
                }
            }
            Ok(Incoming::Refused(response)) => {
                // The connection ends either way.
                let _ = write_response(stream, &response, false, false, false);
                return;
            }
            Ok(Incoming::Closed) | Err(_) => return,
        }
    }
}
