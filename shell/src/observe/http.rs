//! Just enough of HTTP/1.1 for one question and one answer per connection.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use super::{health, metrics, report};
use crate::published::Published;

/// The longest request that is read, in bytes: browsers send about 500.
const REQUEST_BYTES_MAX: usize = 4096;
/// The most header lines of a request.
const HEADERS_MAX: usize = 32;
/// How long a whole request may take to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// The Prometheus text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

/// Reads one request, answers it, and is done with the connection.
pub(super) fn serve(stream: &mut (impl Read + Write), published: &Published) -> io::Result<()> {
    let reply = match read_request(stream)? {
        Some((method, path)) => answer(&method, &path, published),
        None => plain(400, "not an HTTP request\n"),
    };
    let reason = match reply.status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        _ => "Service Unavailable",
    };
    let Reply { status, content_type, body } = reply;
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.flush()
}

/// Returns method and path of a request; `None` if it is none.
fn read_request(stream: &mut impl Read) -> io::Result<Option<(String, String)>> {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    let mut buffer = [0_u8; REQUEST_BYTES_MAX];
    let mut filled = 0;
    while Instant::now() < deadline {
        let room = buffer.get_mut(filled..).unwrap_or_default();
        let count = stream.read(room)?;
        filled += count;
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(buffer.get(..filled).unwrap_or_default()) {
            Ok(httparse::Status::Complete(_)) => {
                let method = request.method.unwrap_or_default().to_owned();
                return Ok(Some((method, request.path.unwrap_or_default().to_owned())));
            }
            // The end of the stream, or no more room.
            Ok(httparse::Status::Partial) if count == 0 => return Ok(None),
            Ok(httparse::Status::Partial) => {}
            Err(_) => return Ok(None),
        }
    }
    Ok(None)
}

pub(super) fn answer(method: &str, path: &str, published: &Published) -> Reply {
    if method != "GET" {
        return plain(405, "GET only\n");
    }
    match path.split('?').next().unwrap_or_default() {
        "/status" => plain(200, &report::text(published)),
        "/status.json" => json(200, &report::json(published)),
        "/health" => {
            let health = health::judge(published, crate::clock::now());
            json(if health.is_well() { 200 } else { 503 }, &health.to_json())
        }
        "/metrics" => Reply { status: 200, content_type: METRICS, body: metrics::text(published) },
        _ => plain(404, "there are /health, /metrics, /status and /status.json\n"),
    }
}

fn plain(status: u16, body: &str) -> Reply {
    Reply { status, content_type: TEXT, body: body.to_owned() }
}

fn json(status: u16, value: &serde_json::Value) -> Reply {
    Reply { status, content_type: JSON, body: format!("{value:#}\n") }
}
