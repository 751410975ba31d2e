//! A small HTTP server that plays the router: a queue tree, and a hook to misbehave.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Counts the TCP connections from 0.
    pub(super) connection: usize,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) authorization: String,
    pub(super) body: String,
}

/// What the hook makes of a request.
pub(super) enum Answer {
    /// What a healthy router says.
    Healthy,
    /// This status with this body.
    Status(u16, String),
    /// These bytes, then the connection is closed.
    Raw(String),
    /// Nothing, ever.
    Silence,
}

/// The queue tree: id, name, max-limit.
pub(super) type Tree = Arc<Mutex<Vec<(String, String, String)>>>;
pub(super) type Hook = dyn Fn(&Request) -> Answer + Send + Sync;
/// Turns a connection into the stream requests are read from, such as TLS.
pub(super) type Wrap = dyn Fn(TcpStream) -> Box<dyn ReadWrite> + Send + Sync;

pub(super) trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

pub(super) struct FakeRouter {
    pub(super) address: SocketAddr,
    pub(super) tree: Tree,
    /// Every request, before it is answered.
    pub(super) seen: Receiver<Request>,
}

impl FakeRouter {
    pub(super) fn start(
        queues: &[(&str, &str)],
        hook: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::serve(listener, queues, Arc::new(hook), Arc::new(|stream| Box::new(stream)))
    }

    pub(super) fn serve(
        listener: TcpListener,
        queues: &[(&str, &str)],
        hook: Arc<Hook>,
        wrap: Arc<Wrap>,
    ) -> Self {
        let queue = |&(id, name): &(&str, &str)| (id.to_owned(), name.to_owned(), "1".to_owned());
        let tree: Tree = Arc::new(Mutex::new(queues.iter().map(queue).collect()));
        let (report, seen) = channel();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&tree);
        // The thread waits for connections until the test process ends.
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (hook, wrap, tree) = (hook.clone(), wrap.clone(), shared.clone());
                let report = report.clone();
                std::thread::spawn(move || {
                    let stream = wrap(stream.unwrap());
                    talk(stream, connection, &report, &*hook, &tree);
                });
            }
        });
        Self { address, tree, seen }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits for the next write and returns its path and body.
    pub(super) fn next_write(&self) -> (String, String) {
        loop {
            let request = self.seen.recv().unwrap();
            if request.method == "PATCH" {
                return (request.path, request.body);
            }
        }
    }

    /// Returns the methods seen so far.
    pub(super) fn methods_seen(&self) -> Vec<String> {
        self.seen.try_iter().map(|request| request.method).collect()
    }
}

fn talk(
    stream: Box<dyn ReadWrite>,
    connection: usize,
    report: &Sender<Request>,
    hook: &Hook,
    tree: &Tree,
) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream, connection) {
        let _ = report.send(request.clone());
        let (status, body) = match hook(&request) {
            Answer::Healthy => healthy(&request, tree),
            Answer::Status(status, body) => (status, body),
            Answer::Raw(bytes) => {
                let _ = stream.get_mut().write_all(bytes.as_bytes());
                return;
            }
            Answer::Silence => {
                // Until the client gives up.
                let _ = stream.read(&mut [0]);
                return;
            }
        };
        let length = body.len();
        let reply = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             \r\n{body}"
        );
        if stream.get_mut().write_all(reply.as_bytes()).is_err() {
            return;
        }
        let _ = stream.get_mut().flush();
    }
}

fn read_request(stream: &mut impl BufRead, connection: usize) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let (mut authorization, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let Some((key, value)) = line.trim().split_once(": ") else { break };
        match key.to_ascii_lowercase().as_str() {
            "authorization" => value.clone_into(&mut authorization),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    Some(Request { connection, method, path, authorization, body })
}

fn healthy(request: &Request, tree: &Tree) -> (u16, String) {
    let record = |(id, name, limit): &(String, String, String)| json!({".id": id, "name": name, "max-limit": limit, "comment": "x", "disabled": "false"});
    let mut tree = tree.lock().unwrap();
    let path = request.path.split('?').next().unwrap_or_default();
    let answer = match (request.method.as_str(), path) {
        (_, "/rest/system/identity") => json!({"name": "home"}),
        (_, "/rest/system/resource") => json!({"version": "7.20.1", "board-name": "RB5009"}),
        ("GET", "/rest/queue/tree") => Value::Array(tree.iter().map(record).collect()),
        ("PATCH", path) => {
            let wanted: Value = serde_json::from_str(&request.body).unwrap();
            let id = path.rsplit('/').next().unwrap_or_default();
            let Some(queue) = tree.iter_mut().find(|queue| queue.0 == id) else {
                return (404, json!({"error": 404, "message": "Not Found"}).to_string());
            };
            wanted["max-limit"].as_str().unwrap().clone_into(&mut queue.2);
            record(queue)
        }
        _ => return (400, json!({"error": 400, "detail": "no such command"}).to_string()),
    };
    (200, answer.to_string())
}
