//! Listeners and connections: one thread accepts per listener, one serves per connection.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;
use wanctl::routeros::sentence::{Decoder, Words, encode};

use super::api::{self, Command, Session, Step};
use super::faults::{BadBody, Delivery};
use super::http::{Incoming, read_request, write_response};
use super::shared::Shared;

/// Connections waiting to be accepted.
const BACKLOG: i32 = 64;
/// Attempts to find a free local port.
const BIND_ATTEMPTS_MAX: u32 = 8;
/// Bytes read at once.
const READ_BYTES: usize = 4096;
/// Longest wait for a client that does not read its reply.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Api,
}

/// What the services of an address are.
#[derive(Debug, Clone)]
struct Service {
    protocol: Protocol,
    tls: Option<Arc<ServerConfig>>,
}

/// One listening address, which can be closed and opened again.
#[derive(Debug)]
pub(crate) struct Port {
    listener: TcpListener,
    address: SocketAddr,
    service: Service,
    accepting: Option<JoinHandle<()>>,
}

impl Port {
    pub(crate) fn new(
        listener: TcpListener,
        protocol: Protocol,
        tls: Option<Arc<ServerConfig>>,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let service = Service { protocol, tls };
        Ok(Self { listener, address, service, accepting: None })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts the accept thread; connections belong to the power cycle `cycle`.
    pub(crate) fn serve(&mut self, shared: &Arc<Shared>, cycle: u64) -> std::io::Result<()> {
        let listener = self.listener.try_clone()?;
        let service = self.service.clone();
        let shared = Arc::clone(shared);
        let body = move || accept_loop(&listener, &service, &shared, cycle);
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

fn accept_loop(listener: &TcpListener, service: &Service, shared: &Arc<Shared>, cycle: u64) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    while shared.is_current(cycle) {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::yield_now();
            continue;
        };
        threads.retain(|thread| !thread.is_finished());
        // Over the limit or already going down: the client sees the connection close.
        let Some(id) = shared.register(&stream, cycle) else { continue };
        let service = service.clone();
        let connection_shared = Arc::clone(shared);
        let body = move || {
            let power = Power { shared: &connection_shared, cycle, id };
            serve_connection(stream, service, power);
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

/// What a connection belongs to.
#[derive(Debug, Clone, Copy)]
struct Power<'a> {
    shared: &'a Shared,
    cycle: u64,
    /// The number of the connection.
    id: u64,
}

fn serve_connection(stream: TcpStream, service: Service, power: Power<'_>) {
    let Service { protocol, tls } = service;
    let shared = power.shared;
    if !shared.may_serve(power.cycle, tls.is_some()) {
        return;
    }
    let Ok(socket) = stream.try_clone() else { return };
    if prepare(&stream).is_err() {
        return;
    }
    let Some(config) = tls else {
        let mut stream = stream;
        serve_stream(protocol, &mut stream, &socket, power, false);
        return;
    };
    let Ok(connection) = ServerConnection::new(shared.tls().unwrap_or(config)) else { return };
    let mut stream = StreamOwned::new(connection, stream);
    serve_stream(protocol, &mut stream, &socket, power, true);
    stream.conn.send_close_notify();
    // The client may be gone; nothing is lost then.
    let _ = stream.flush();
}

/// Serves until the connection ends; `socket` is the one below `stream`.
fn serve_stream(
    protocol: Protocol,
    stream: &mut (impl Read + Write),
    socket: &TcpStream,
    power: Power<'_>,
    secure: bool,
) {
    match protocol {
        Protocol::Http => serve_requests(stream, socket, power, secure),
        Protocol::Api => serve_sentences(stream, socket, power, secure),
    }
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

/// A socket that does not linger is reset when it is closed.
fn reset(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Answers the sentences of the binary API.
fn serve_sentences(
    stream: &mut (impl Read + Write),
    socket: &TcpStream,
    power: Power<'_>,
    secure: bool,
) {
    let Power { shared, cycle, id } = power;
    let mut session = Session::new(id);
    let mut decoder = Decoder::default();
    loop {
        if socket.set_read_timeout(shared.idle_close(Protocol::Api)).is_err() {
            return;
        }
        let Some(words) = read_sentence(stream, &mut decoder) else { return };
        let command = Command::read(&words);
        let request = match session.step(&command, secure) {
            Step::Ask(request) => request,
            Step::End(sentences) => {
                // The connection ends either way.
                let _ = write_sentences(stream, &sentences, Delivery::Whole);
                return;
            }
        };
        let exchanged = shared.exchange(&request, cycle, || is_abandoned(socket));
        let Some((response, delivery)) = exchanged else { return };
        if delivery == Delivery::Reset {
            return reset(socket);
        }
        session.answered(&command, &response);
        let mut sentences = command.answer(&response);
        api::spoil(&mut sentences, delivery);
        match write_sentences(stream, &sentences, delivery) {
            Ok(true) => {}
            Ok(false) | Err(_) => return,
        }
    }
}

/// Reads the next sentence; `None` at the end, and when it is none.
fn read_sentence(stream: &mut impl Read, decoder: &mut Decoder) -> Option<Words> {
    let mut chunk = [0; READ_BYTES];
    loop {
        if let Some(words) = decoder.next_sentence().ok()? {
            return Some(words);
        }
        match stream.read(&mut chunk) {
            Ok(0) => return None,
            Ok(count) => decoder.push(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// Writes an answer in one piece; returns whether the connection goes on.
fn write_sentences(
    stream: &mut impl Write,
    sentences: &[Words],
    delivery: Delivery,
) -> std::io::Result<bool> {
    let mut bytes = Vec::new();
    for words in sentences {
        bytes.extend(encode(words).map_err(std::io::Error::other)?);
    }
    match delivery {
        Delivery::Half => bytes.truncate(bytes.len() / 2),
        Delivery::Spoilt(BadBody::Html) => {
            bytes = b"<!doctype html><title>RouterOS</title>".to_vec();
        }
        _ => {}
    }
    stream.write_all(&bytes)?;
    stream.flush()?;
    Ok(!matches!(delivery, Delivery::Half | Delivery::Spoilt(BadBody::Html)))
}

/// Serves requests until the connection ends; `socket` is the one below `stream`.
fn serve_requests(
    stream: &mut (impl Read + Write),
    socket: &TcpStream,
    power: Power<'_>,
    secure: bool,
) {
    let Power { shared, cycle, .. } = power;
    let mut buffer = Vec::new();
    loop {
        if socket.set_read_timeout(shared.idle_close(Protocol::Http)).is_err() {
            return;
        }
        match read_request(stream, &mut buffer, secure) {
            Ok(Incoming::Request { request, keep_alive }) => {
                let exchanged = shared.exchange(&request, cycle, || is_abandoned(socket));
                let Some((response, delivery)) = exchanged else { return };
                if delivery == Delivery::Reset {
                    return reset(socket);
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
