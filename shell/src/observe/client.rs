//! Asks a running daemon over its unix socket.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long the daemon may take for its answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes.
const REPLY_BYTES_MAX: u64 = 1 << 20;

/// Returns the body of the answer to `GET path`.
///
/// # Errors
///
/// When nobody listens there, or the answer is none of this program.
pub fn get(socket: &Path, path: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut reply = String::new();
    stream.take(REPLY_BYTES_MAX).read_to_string(&mut reply)?;
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "an answer that makes no sense");
    let (head, body) = reply.split_once("\r\n\r\n").ok_or_else(odd)?;
    if head.starts_with("HTTP/1.1 200 ") { Ok(body.to_owned()) } else { Err(odd()) }
}
