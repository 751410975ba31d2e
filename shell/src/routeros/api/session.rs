//! One session of the binary API: a connection, a login, then one command at a time.

use std::io;
use std::time::Instant;

use serde_json::Value;

use super::sentence::{Decoder, Malformed, Words, encode};
use super::stream::{Endpoint, Stream};
use crate::routeros::model::Record;
use crate::routeros::transport::{CONNECT_TIMEOUT, REPLY_BYTES_MAX, REQUEST_TIMEOUT};

/// Bytes read at once.
const CHUNK_BYTES: usize = 16 << 10;
/// Why a command brought no answer. But for [`Failure::Trap`] the session is over.
#[derive(Debug)]
pub(super) enum Failure {
    /// The router refused it.
    Trap { category: Option<u8>, message: String },
    /// The router ended the session, and said why.
    Fatal(String),
    /// The connection broke, or a time limit passed.
    Io(io::Error),
    /// What came is not what the protocol has; in full, so that a login in it can be found.
    Nonsense(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Self::Nonsense(malformed.to_string())
    }
}

/// What a command brought.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) records: Vec<Record>,
    /// What came with the end.
    pub(super) done: Record,
}

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    stream: Stream,
    decoder: Decoder,
    /// The tag of the latest command.
    tag: u64,
}

/// One sentence of the router.
#[derive(Debug)]
struct Reply {
    /// The first word, as `!re`.
    kind: String,
    tag: Option<String>,
    attributes: Record,
    /// A text that is no attribute, as that of `!fatal`.
    text: String,
}

impl Session {
    /// Connects. Nobody is logged in yet.
    pub(super) fn open(endpoint: &Endpoint) -> io::Result<Self> {
        let stream = endpoint.connect(Instant::now() + CONNECT_TIMEOUT)?;
        Ok(Self { stream, decoder: Decoder::default(), tag: 0 })
    }

    /// Sends a command with its words and reads the whole answer.
    pub(super) fn run(&mut self, command: &str, words: &[String]) -> Result<Answer, Failure> {
        self.stream.set_deadline(Instant::now() + REQUEST_TIMEOUT);
        self.tag += 1;
        let tag = self.tag.to_string();
        let mut sentence = Vec::with_capacity(words.len() + 2);
        sentence.push(command.to_owned());
        sentence.extend_from_slice(words);
        sentence.push(format!(".tag={tag}"));
        self.stream.send(&encode(&sentence)?)?;
        let mut answer = Answer::default();
        let mut trap = None;
        let mut bytes = 0;
        loop {
            let reply = self.reply(&mut bytes)?;
            if reply.kind == "!fatal" {
                return Err(Failure::Fatal(reply.text));
            }
            if reply.tag.as_ref() != Some(&tag) {
                let what = format!("{} with the tag {:?} instead of {tag}", reply.kind, reply.tag);
                return Err(Failure::Nonsense(what));
            }
            match reply.kind.as_str() {
                "!re" => answer.records.push(reply.attributes),
                "!empty" => {}
                // The first one is the cause. The end follows.
                "!trap" => drop(trap.get_or_insert(trap_of(&reply.attributes))),
                "!done" => {
                    answer.done = reply.attributes;
                    return trap.map_or(Ok(answer), Err);
                }
                other => return Err(Failure::Nonsense(format!("an unknown reply {other:?}"))),
            }
        }
    }

    /// Reads the next sentence; `bytes` counts those of the whole answer.
    fn reply(&mut self, bytes: &mut usize) -> Result<Reply, Failure> {
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            if let Some(words) = self.decoder.next_sentence()? {
                return Reply::read(&words).map_err(Failure::Nonsense);
            }
            let count = match self.stream.receive(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                other => other?,
            };
            *bytes += count;
            if *bytes > REPLY_BYTES_MAX {
                return Err(Failure::Nonsense(format!("longer than {REPLY_BYTES_MAX} bytes")));
            }
            self.decoder.push(&chunk[..count]);
        }
    }
}

impl Reply {
    /// Reads a sentence; `Err` says why it is none of a router.
    fn read(words: &Words) -> Result<Self, String> {
        let mut words = words.iter().map(|word| text(word));
        let kind = words.next().unwrap_or_default();
        if !kind.starts_with('!') {
            return Err(format!("no reply: {kind:?}"));
        }
        let mut reply = Self { kind, tag: None, attributes: Record::new(), text: String::new() };
        for word in words {
            if let Some(tag) = word.strip_prefix(".tag=") {
                reply.tag = Some(tag.to_owned());
            } else if let Some((key, value)) =
                word.strip_prefix('=').and_then(|word| word.split_once('='))
            {
                reply.attributes.insert(key.to_owned(), Value::String(value.to_owned()));
            } else {
                reply.text = word;
            }
        }
        Ok(reply)
    }
}

/// Reads a word. Comments may hold control characters and bytes of other encodings.
fn text(word: &[u8]) -> String {
    let text = String::from_utf8_lossy(word);
    text.chars().map(|letter| if letter < ' ' { ' ' } else { letter }).collect()
}

fn trap_of(attributes: &Record) -> Failure {
    let word = |key| attributes.get(key).and_then(Value::as_str);
    let category = word("category").and_then(|category| category.parse().ok());
    let message = word("message").unwrap_or("(no reason given)").to_owned();
    Failure::Trap { category, message }
}
