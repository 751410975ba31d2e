//! Real TCP flows through an emulated line.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use super::{INTERNET_ADDRESS, Namespace};
use crate::link::Direction;

/// Bytes written or read at once.
const CHUNK_BYTES: usize = 32 * 1024;
/// Longest the setup of a flow may take, however full the line is.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// What most hosts on the internet use; it fills any FIFO, as the default here (BBR, for one) may
/// not.
const CONGESTION_CONTROL: &[u8] = b"cubic";

/// Bulk TCP flows in one direction; they end on drop.
#[derive(Debug)]
pub struct TcpLoad {
    streams: Vec<Arc<TcpStream>>,
    threads: Vec<JoinHandle<()>>,
    received_bytes: Arc<AtomicU64>,
}

impl TcpLoad {
    /// Connects `flows` flows from the home to the internet and sends as fast as TCP allows, in the
    /// given direction.
    ///
    /// # Errors
    ///
    /// If a connection does not come about within 15 s.
    pub fn start(
        lan: &Namespace,
        internet: &Namespace,
        direction: Direction,
        flows: usize,
    ) -> Result<Self> {
        let listener = internet.run(|| listen(flows))??;
        let address = listener.local_addr()?.as_socket().context("the listener has no address")?;
        // Dropped on an early return, so that a half-made load ends as well.
        let mut load =
            Self { streams: Vec::new(), threads: Vec::new(), received_bytes: Arc::default() };
        for _ in 0..flows {
            let client = lan.run(|| connect(address))?.context("connect a flow")?;
            let (server, _) = listener.accept().context("accept a flow")?;
            let server = TcpStream::from(server);
            let (sender, receiver) = match direction {
                Direction::Download => (server, client),
                Direction::Upload => (client, server),
            };
            load.spawn_flow(sender, receiver)?;
        }
        Ok(load)
    }

    /// Returns the bytes that have arrived over all flows.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    /// Ends all flows at once, without sending what is still waiting, and returns the bytes that
    /// have arrived.
    pub fn stop(mut self) -> u64 {
        self.end();
        self.received_bytes()
    }

    fn spawn_flow(&mut self, sender: TcpStream, receiver: TcpStream) -> Result<()> {
        let (sender, receiver) = (Arc::new(sender), Arc::new(receiver));
        self.streams.extend([Arc::clone(&sender), Arc::clone(&receiver)]);
        let received_bytes = Arc::clone(&self.received_bytes);
        let spawn = |name: &str| thread::Builder::new().name(name.to_owned());
        self.threads.push(spawn("tcp-send").spawn(move || send(&sender))?);
        self.threads.push(spawn("tcp-receive").spawn(move || receive(&receiver, &received_bytes))?);
        Ok(())
    }

    fn end(&mut self) {
        for stream in self.streams.drain(..) {
            // With this the kernel throws away what it has not sent yet.
            let _ = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
            // This wakes the threads; it fails only if the flow has already ended.
            let _ = stream.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for TcpLoad {
    fn drop(&mut self) {
        self.end();
    }
}

fn listen(flows: usize) -> Result<Socket> {
    let socket = tcp_socket()?;
    socket.bind(&SocketAddr::from((INTERNET_ADDRESS, 0)).into()).context("bind a listener")?;
    // It bounds `accept` too.
    socket.set_read_timeout(Some(CONNECT_TIMEOUT))?;
    socket.listen(i32::try_from(flows)?)?;
    Ok(socket)
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let socket = tcp_socket()?;
    socket.connect_timeout(&address.into(), CONNECT_TIMEOUT)?;
    Ok(socket.into())
}

fn tcp_socket() -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_congestion(CONGESTION_CONTROL).context("use CUBIC")?;
    Ok(socket)
}

fn send(stream: &TcpStream) {
    let mut writer = stream;
    let zeros = [0; CHUNK_BYTES];
    while writer.write_all(&zeros).is_ok() {}
}

fn receive(stream: &TcpStream, received_bytes: &AtomicU64) {
    let mut reader = stream;
    let mut buffer = [0; CHUNK_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => {
                received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
}
