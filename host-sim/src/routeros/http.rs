//! HTTP/1.1 on a byte stream: reads requests and writes replies, with limits.

use std::io::{self, Read, Write};

use super::message::{Body, Request, Response, reason};

/// Most header lines of a request.
const HEADERS_MAX: usize = 64;
/// Longest request line and headers together, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest request body, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes asked of the stream at once.
const READ_BYTES: usize = 4096;

/// What came over the connection.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A whole request, and whether the connection stays open after the reply.
    Request { request: Request, keep_alive: bool },
    /// The client closed the connection between two requests.
    Closed,
    /// Something that cannot be answered by the router; the connection ends after this reply.
    Refused(Response),
}

struct Head {
    request: Request,
    keep_alive: bool,
    head_bytes: usize,
    body_bytes: usize,
}

/// Reads one request; `buffer` keeps what was read beyond it.
pub(crate) fn read_request(
    stream: &mut impl Read,
    buffer: &mut Vec<u8>,
    secure: bool,
) -> io::Result<Incoming> {
    let refused = |detail: &str| Ok(Incoming::Refused(Response::error(400, Some(detail))));
    let mut head = loop {
        match parse_head(buffer, secure) {
            Ok(Some(head)) => break head,
            Ok(None) if buffer.len() > HEAD_BYTES_MAX => return refused("headers too long"),
            Ok(None) if read_more(stream, buffer)? => {}
            Ok(None) if buffer.is_empty() => return Ok(Incoming::Closed),
            Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(detail) => return refused(detail),
        }
    };
    if head.head_bytes > HEAD_BYTES_MAX {
        return refused("headers too long");
    }
    if head.body_bytes > BODY_BYTES_MAX {
        return refused("failure: contents too long");
    }
    let total = head.head_bytes + head.body_bytes;
    while buffer.len() < total {
        if !read_more(stream, buffer)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    head.request.body = buffer[head.head_bytes..total].to_vec();
    buffer.drain(..total);
    Ok(Incoming::Request { request: head.request, keep_alive: head.keep_alive })
}

/// Reads once; `false` is the end of the stream.
fn read_more(stream: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0_u8; READ_BYTES];
    loop {
        match stream.read(&mut chunk) {
            Ok(count) => {
                buffer.extend_from_slice(&chunk[..count]);
                return Ok(count > 0);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Returns `None` while the head is incomplete.
fn parse_head(buffer: &[u8], secure: bool) -> Result<Option<Head>, &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let head_bytes = match parsed.parse(buffer) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err("malformed request"),
    };
    let mut head = Head {
        request: Request {
            method: parsed.method.unwrap_or_default().to_owned(),
            target: parsed.path.unwrap_or_default().to_owned(),
            secure,
            ..Request::default()
        },
        keep_alive: parsed.version == Some(1),
        head_bytes,
        body_bytes: 0,
    };
    for header in parsed.headers.iter() {
        let value = String::from_utf8_lossy(header.value).trim().to_owned();
        match header.name.to_ascii_lowercase().as_str() {
            "authorization" => head.request.authorization = Some(value),
            "content-type" => head.request.content_type = Some(value),
            "host" => head.request.host = Some(value),
            "content-length" => {
                head.body_bytes = value.parse().map_err(|_| "malformed content length")?;
            }
            "transfer-encoding" => return Err("transfer encoding not supported"),
            "connection" if value.eq_ignore_ascii_case("close") => head.keep_alive = false,
            "connection" if value.eq_ignore_ascii_case("keep-alive") => head.keep_alive = true,
            _ => {}
        }
    }
    Ok(Some(head))
}

/// Writes one reply in one piece; a reply to HEAD announces its body without sending it, and with
/// `half` only half of the announced body follows.
pub(crate) fn write_response(
    stream: &mut impl Write,
    response: &Response,
    to_head: bool,
    keep_alive: bool,
    half: bool,
) -> io::Result<()> {
    let (content_type, body) = match &response.body {
        Body::Empty => ("", Vec::new()),
        Body::Json(value) => ("application/json", value.to_string().into_bytes()),
        Body::Html(page) => ("text/html", page.as_bytes().to_vec()),
        Body::Raw(bytes) => ("application/json", bytes.clone()),
    };
    let mut text = format!("HTTP/1.1 {} {}\r\n", response.status, reason(response.status));
    if response.status == 401 {
        text.push_str("WWW-Authenticate: Basic\r\n");
    }
    if let Some(location) = &response.location {
        text.push_str(&format!("Location: {location}\r\n"));
    }
    if !content_type.is_empty() {
        let length = body.len();
        text.push_str(&format!("Content-Type: {content_type}\r\nContent-Length: {length}\r\n"));
    }
    if !keep_alive {
        text.push_str("Connection: close\r\n");
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    if !to_head {
        bytes.extend_from_slice(if half { &body[..body.len() / 2] } else { &body });
    }
    stream.write_all(&bytes)?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(mut input: &[u8]) -> Vec<String> {
        let mut buffer = Vec::new();
        let mut seen = Vec::new();
        loop {
            match read_request(&mut input, &mut buffer, true) {
                Ok(Incoming::Request { request, keep_alive }) => {
                    let body = String::from_utf8_lossy(&request.body).into_owned();
                    seen.push(format!("{} {} {body} {keep_alive}", request.method, request.target));
                }
                Ok(Incoming::Closed) => return seen,
                Ok(Incoming::Refused(response)) => {
                    seen.push(format!("refused {}", response.status));
                    return seen;
                }
                Err(error) => {
                    seen.push(error.kind().to_string());
                    return seen;
                }
            }
        }
    }

    #[test]
    fn requests_are_split_at_their_length() {
        let two = b"PUT /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\n\
                    Connection: close\r\n\r\n";
        assert_eq!(read_all(two), ["PUT /a abc true", "GET /b  false"]);
        assert_eq!(read_all(b"GET / HTTP/1.0\r\n\r\n"), ["GET /  false"]);
    }

    #[test]
    fn limits_and_nonsense_end_the_connection() {
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
        let big = format!("PUT / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", BODY_BYTES_MAX + 1);
        let cases: [(&[u8], &str); 6] = [
            (long.as_bytes(), "refused 400"),
            (big.as_bytes(), "refused 400"),
            (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", "refused 400"),
            (b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "refused 400"),
            (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "refused 400"),
            (b"PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", "unexpected end of file"),
        ];
        for (input, expected) in cases {
            assert_eq!(read_all(input), [expected], "{}", String::from_utf8_lossy(input));
        }
    }
}
