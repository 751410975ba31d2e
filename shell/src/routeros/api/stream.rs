//! A TCP connection to the router, with TLS or without, on which no wait outlasts its deadline.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// Where to connect to.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// An address without brackets, or a name.
    pub(super) host: String,
    pub(super) port: u16,
    /// With TLS: whom to trust, and the name the certificate must have.
    pub(super) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// A socket whose reads and writes end at the deadline.
#[derive(Debug)]
struct Timed {
    socket: TcpStream,
    deadline: Instant,
}

#[derive(Debug)]
enum Layer {
    Plain(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
}

/// A connection.
#[derive(Debug)]
pub(super) struct Stream(Layer);

impl Endpoint {
    /// Connects, and shakes hands with TLS.
    pub(super) fn connect(&self, deadline: Instant) -> io::Result<Stream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(deadline)?) {
                Ok(socket) => return self.secure(Timed { socket, deadline }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn secure(&self, mut timed: Timed) -> io::Result<Stream> {
        timed.socket.set_nodelay(true)?;
        let Some((config, name)) = &self.tls else { return Ok(Stream(Layer::Plain(timed))) };
        let mut connection = ClientConnection::new(Arc::clone(config), name.clone())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut timed)?;
        }
        Ok(Stream(Layer::Tls(Box::new(StreamOwned::new(connection, timed)))))
    }
}

impl Stream {
    /// Sets the end of all waits from now on.
    pub(super) fn set_deadline(&mut self, deadline: Instant) {
        match &mut self.0 {
            Layer::Plain(timed) => timed.deadline = deadline,
            Layer::Tls(stream) => stream.sock.deadline = deadline,
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Layer::Plain(timed) => timed.write_all(bytes),
            Layer::Tls(stream) => {
                stream.write_all(bytes)?;
                stream.flush()
            }
        }
    }

    /// Reads what is there, at least one byte. The end of the stream is an error.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.0 {
            Layer::Plain(timed) => timed.read(buffer),
            Layer::Tls(stream) => stream.read(buffer),
        }?;
        if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(count) }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(left(self.deadline)?))?;
        self.socket.read(buffer).map_err(timed_out)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(left(self.deadline)?))?;
        self.socket.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// Returns the time that is left, never zero.
fn left(deadline: Instant) -> io::Result<std::time::Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A socket's time limit shows itself as "try again".
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    }
}
