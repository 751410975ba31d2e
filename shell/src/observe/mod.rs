//! Answers questions about a running daemon: `wanctl status` over a unix socket, health and metrics
//! over HTTP on the loopback interface. Everything comes from what the tick thread has published.

pub mod client;
mod health;
mod http;
mod metrics;
mod notices;
mod reflectors;
mod report;
mod steering;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

pub use health::{Health, HealthState};

use crate::published::Published;

/// The most sockets one daemon listens on: the unix socket and the one for HTTP.
const LISTENERS_MAX: usize = 2;
/// How long one read from or write to an observer may take. They are served one after the other, so
/// a slow one holds up the others, but nobody else.
const IO_TIMEOUT: Duration = Duration::from_millis(500);

/// A socket that observers connect to.
#[derive(Debug)]
pub enum Listener {
    /// For `wanctl status`.
    Unix(UnixListener),
    /// For monitoring.
    Tcp(TcpListener),
}

impl Listener {
    /// Listens on the loopback address, which is told in the log: the port may be 0.
    ///
    /// # Errors
    ///
    /// When the address is taken or not of this machine.
    pub fn tcp(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        tracing::info!("health and metrics on http://{}", listener.local_addr()?);
        Ok(Self::Tcp(listener))
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Unix(listener) => listener.set_nonblocking(true),
            Self::Tcp(listener) => listener.set_nonblocking(true),
        }
    }

    fn accept(&self) -> io::Result<Connection> {
        let connection = match self {
            Self::Unix(listener) => Connection::Unix(listener.accept()?.0),
            Self::Tcp(listener) => Connection::Tcp(listener.accept()?.0),
        };
        connection.prepare()?;
        Ok(connection)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

/// One observer.
#[derive(Debug)]
enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Connection {
    fn prepare(&self) -> io::Result<()> {
        let limit = Some(IO_TIMEOUT);
        match self {
            Self::Unix(stream) => {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(limit)?;
                stream.set_write_timeout(limit)
            }
            Self::Tcp(stream) => {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(limit)?;
                stream.set_write_timeout(limit)
            }
        }
    }

    fn serve(&mut self, published: &Published) -> io::Result<()> {
        match self {
            Self::Unix(stream) => http::serve(stream, published),
            Self::Tcp(stream) => http::serve(stream, published),
        }
    }
}

/// The thread that answers. Dropping it ends the thread after the answer under way and does not wait
/// for that: a slow observer must not hold up the daemon's end.
#[derive(Debug)]
pub struct Observer {
    stop: Arc<OwnedFd>,
}

impl Observer {
    /// Starts the thread; more than two listeners are not served.
    ///
    /// # Errors
    ///
    /// The system's error if it allows no further thread.
    pub fn start(listeners: Vec<Listener>, published: Arc<Published>) -> io::Result<Self> {
        for listener in &listeners {
            listener.set_nonblocking()?;
        }
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        let stop = Arc::new(eventfd(0, flags).map_err(io::Error::from)?);
        let stopped = Arc::clone(&stop);
        Builder::new()
            .name("observe".to_owned())
            .spawn(move || run(&listeners, &published, &stopped))?;
        Ok(Self { stop })
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        // The counter of an eventfd cannot overflow here.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
    }
}

fn run(listeners: &[Listener], published: &Published, stop: &OwnedFd) {
    loop {
        let mut fds: heapless::Vec<PollFd<'_>, { LISTENERS_MAX + 1 }> = heapless::Vec::new();
        let _ = fds.push(PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN));
        for listener in listeners {
            let _ = fds.push(PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN));
        }
        // An interrupted wait is as good as a finished one.
        let _ = poll(&mut fds, None);
        if fds.first().is_some_and(|fd| !fd.revents().is_empty()) {
            return;
        }
        for listener in listeners {
            // Nobody there any more, or not a request: whoever asked will notice.
            let served = listener.accept().and_then(|mut observer| observer.serve(published));
            if let Err(error) = served
                && error.kind() != io::ErrorKind::WouldBlock
            {
                tracing::debug!(%error, "an observer was not answered");
            }
        }
    }
}
