//! The client over the binary API, against a router that says what it is told to say.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use wanctl_core::units::BitsPerSecond;

use super::super::sentence::{Decoder, encode};
use super::super::{RefusalCode, RouterError};
use super::*;

const RATE: BitsPerSecond = BitsPerSecond::from_mbps(25);
const QUEUE: &[&str] = &["!re", "=.id=*1", "=name=down", "=max-limit=25000000", "=bytes=7"];
const DONE: &[&str] = &["!done"];

/// What the router makes of a command: sentences, to which the tag of the command is added.
enum Says {
    Sentences(&'static [&'static [&'static str]]),
    /// These bytes as they are; then the connection ends.
    Raw(&'static [u8]),
}

/// One command as it arrived: the number of its connection, and its words but for the tag.
type Seen = (usize, Vec<String>);

struct Fake {
    url: String,
    seen: Receiver<Seen>,
}

impl Fake {
    /// A router that lets everybody in and then says these things, one for each command.
    fn new(script: Vec<Says>) -> Self {
        Self::with_login(script, &[DONE])
    }

    fn with_login(script: Vec<Says>, login: &'static [&'static [&'static str]]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (report, seen) = channel();
        // The thread ends with the script, or with the test process.
        std::thread::spawn(move || {
            let mut script = script.into_iter();
            for (connection, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let mut decoder = Decoder::default();
                while let Some(mut words) = read(&mut stream, &mut decoder) {
                    let tag = words.pop().unwrap();
                    assert!(tag.starts_with(".tag="), "{words:?} {tag}");
                    let is_login = words[0] == "/login";
                    let _ = report.send((connection, words));
                    let says =
                        if is_login { Says::Sentences(login) } else { script.next().unwrap() };
                    if !say(&mut stream, &says, &tag) {
                        break;
                    }
                }
            }
        });
        Self { url, seen }
    }

    fn client(&self) -> Client {
        Client::new(RouterTarget { transport: TransportKind::Api, ..target(&self.url) }).unwrap()
    }

    /// The commands so far, as connection and words.
    fn seen(&self) -> Vec<String> {
        let show = |(connection, words): Seen| format!("{connection} {}", words.join(" "));
        self.seen.try_iter().map(show).collect()
    }
}

fn read(stream: &mut TcpStream, decoder: &mut Decoder) -> Option<Vec<String>> {
    let mut chunk = [0; 512];
    loop {
        if let Some(words) = decoder.next_sentence().unwrap() {
            return Some(words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect());
        }
        let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
        decoder.push(&chunk[..count]);
    }
}

/// Says something; returns whether the connection goes on.
fn say(stream: &mut TcpStream, says: &Says, tag: &str) -> bool {
    match says {
        Says::Sentences(sentences) => {
            for sentence in *sentences {
                let mut words = sentence.to_vec();
                if words[0] != "!fatal" && !words.iter().any(|word| word.starts_with(".tag=")) {
                    words.push(tag);
                }
                stream.write_all(&encode(&words).unwrap()).unwrap();
            }
            sentences.last().is_none_or(|sentence| sentence[0] != "!fatal")
        }
        Says::Raw(bytes) => {
            let _ = stream.write_all(bytes);
            false
        }
    }
}

/// What a client makes of a write after which the router says this.
fn write_error(says: Says) -> RouterError {
    Fake::new(vec![says]).client().set_max_limit("*1", "down", RATE).unwrap_err()
}

fn trap(message: &'static [&'static [&'static str]]) -> RouterError {
    write_error(Says::Sentences(message))
}

#[test]
fn a_write_is_a_set_and_a_look_in_the_session_that_stays() {
    let router = Fake::new(vec![
        Says::Sentences(&[DONE]),
        Says::Sentences(&[QUEUE, DONE]),
        Says::Sentences(&[QUEUE, DONE]),
    ]);
    let client = router.client();
    let written = client.set_max_limit("*1", "down", RATE).unwrap();
    assert_eq!((written.held, written.counters.unwrap().bytes), (RATE, 7));
    assert_eq!(client.queues().unwrap().len(), 1);
    let look = "=.proplist=.id,name,max-limit,bytes,dropped,queued-bytes,queued-packets";
    let expected = [
        format!("0 /login =name=controller =password={PASSWORD}"),
        "0 /queue/tree/set =.id=*1 =max-limit=25000000".to_owned(),
        format!("0 /queue/tree/print {look} ?.id=*1"),
    ];
    assert_eq!(router.seen()[..3], expected);
}

#[test]
fn a_queue_of_another_name_or_rate_is_noticed() {
    let says = |queue| vec![Says::Sentences(&[DONE]), Says::Sentences(queue)];
    let guest = Fake::new(says(&[&["!re", "=.id=*1", "=name=guest", "=max-limit=25M"], DONE]));
    let error = guest.client().set_max_limit("*1", "down", RATE).unwrap_err();
    assert!(matches!(error, RouterError::OtherQueue { .. }), "{error:?}");
    let other = Fake::new(says(&[&["!re", "=.id=*1", "=name=down", "=max-limit=9000000"], DONE]));
    let error = other.client().set_max_limit("*1", "down", RATE).unwrap_err();
    assert!(error.to_string().ends_with("it holds 9 Mbit/s instead of 25 Mbit/s"), "{error}");
}

#[test]
fn an_empty_menu_is_no_error_and_a_missing_id_is_stale() {
    for empty in [&[&["!empty"] as &[&str], DONE] as &[&[&str]], &[DONE]] {
        let router = Fake::new(vec![Says::Sentences(empty), Says::Sentences(empty)]);
        let client = router.client();
        assert_eq!(client.queues(), Ok(Vec::new()));
        let error = client.switch_rule("*5", "steer", true).unwrap_err();
        assert!(error.is_stale_id(), "{error:?}");
    }
    let error = trap(&[&["!trap", "=category=0", "=message=no such item"], DONE]);
    assert_eq!(error, RouterError::NoSuchId { request: "/queue/tree/set".to_owned() });
}

#[test]
fn traps_are_sorted_by_their_words_and_the_session_goes_on() {
    let error = trap(&[&["!trap", "=message=not enough permissions (9)"], DONE]);
    assert!(error.is_fatal() && matches!(error, RouterError::NotPermitted { .. }), "{error:?}");
    assert!(error.to_string().ends_with("needs the policies api, read and write"), "{error}");
    let error =
        trap(&[&["!trap", "=category=1", "=message=invalid value for argument max-limit"], DONE]);
    let code = RefusalCode::Trap(Some(1));
    assert!(matches!(&error, RouterError::Refused { code: it, .. } if *it == code), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the router refused /queue/tree/set: invalid value for argument max-limit (trap of \
         category 1)"
    );
    let router = Fake::new(vec![
        Says::Sentences(&[&["!trap", "=message=failure: busy"], &["!trap", "=message=x"], DONE]),
        Says::Sentences(&[DONE]),
    ]);
    let client = router.client();
    let error = client.queues().unwrap_err();
    assert!(error.to_string().contains("failure: busy (trap)"), "{error}");
    assert_eq!(client.queues(), Ok(Vec::new()));
    assert!(router.seen().iter().all(|command| command.starts_with('0')));
}

#[test]
fn logins_that_fail_are_told_apart() {
    let login = |login| Fake::with_login(Vec::new(), login).client().identify().unwrap_err();
    let error = login(&[&["!trap", "=message=invalid user name or password (6)"], DONE]);
    assert!(matches!(error, RouterError::Unauthorized { .. }) && error.is_fatal(), "{error:?}");
    assert!(error.to_string().contains("user controller (invalid user name or password (6))"));
    assert!(!error.to_string().contains("rest-api"), "{error}");
    let error = login(&[&["!trap", "=message=std failure: not allowed (9)"], DONE]);
    assert!(matches!(error, RouterError::NotPermitted { .. }), "{error:?}");
    // A router of before 6.43 wants an answer to this.
    let error = login(&[&["!done", "=ret=ee8d06ab50d811c5585b85ed6680f813"]]);
    assert!(error.to_string().contains("the login of RouterOS before 6.43"), "{error}");
}

#[test]
fn a_session_that_has_ended_costs_one_repetition() {
    for end in [Says::Raw(b""), Says::Sentences(&[&["!fatal", "session terminated"]])] {
        let router =
            Fake::new(vec![Says::Sentences(&[QUEUE, DONE]), end, Says::Sentences(&[QUEUE, DONE])]);
        let client = router.client();
        assert_eq!(client.queues().unwrap().len(), 1);
        assert_eq!(client.queues().unwrap().len(), 1);
        let connections: Vec<char> =
            router.seen().iter().map(|command| command.chars().next().unwrap()).collect();
        assert_eq!(connections, ['0', '0', '0', '1', '1'], "a login, two looks; again both");
    }
}

#[test]
fn a_new_session_that_ends_is_not_tried_twice() {
    let router = Fake::new(vec![Says::Raw(b"")]);
    let error = router.client().queues().unwrap_err();
    assert!(matches!(&error, RouterError::Unreachable { detail, .. } if detail.contains("closed")));
    assert!(error.to_string().contains("its service api or api-ssl"), "{error}");
    assert_eq!(router.seen().len(), 2);
    let router = Fake::new(vec![Says::Sentences(&[&["!fatal", "too many sessions"]])]);
    let error = router.client().queues().unwrap_err();
    assert!(error.to_string().contains("ended the session (too many sessions)"), "{error}");
}

#[test]
fn senseless_answers_end_the_session() {
    let cases: [(Says, &str); 7] = [
        (Says::Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "closed without an answer"),
        (Says::Raw(b"\xFF"), "a word begins with the byte 0xff"),
        (Says::Raw(b"\xF0\xFF\xFF\xFF\xFF"), "a word of 4294967295 bytes"),
        (Says::Raw(b"\x04what\0"), "no reply: \"what\""),
        (Says::Sentences(&[&["!re", "=name=down", ".tag=99"]]), "!re with the tag Some(\"99\")"),
        (Says::Raw(b"\x05!done\0"), "!done with the tag None"),
        (Says::Sentences(&[&["!news"]]), "an unknown reply \"!news\""),
    ];
    for (says, expected) in cases {
        let router = Fake::new(vec![says, Says::Sentences(&[QUEUE, DONE])]);
        let client = router.client();
        let error = client.queues().unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert!(!error.is_fatal());
        assert_eq!(client.queues().unwrap().len(), 1, "{expected}: a new session works");
        assert!(router.seen().last().unwrap().starts_with('1'), "{expected}");
    }
}

/// What a client makes of an answer of so many bytes or a few more.
fn queues_of_an_answer(bytes: usize) -> Result<usize, RouterError> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut decoder = Decoder::default();
        read(&mut stream, &mut decoder).unwrap();
        stream.write_all(&encode(&["!done", ".tag=1"]).unwrap()).unwrap();
        read(&mut stream, &mut decoder).unwrap();
        let comment = format!("=comment={}", "x".repeat(60_000));
        let row = ["!re", "=.id=*1", "=name=q", &comment, ".tag=2"];
        let mut answer = encode(&row).unwrap().repeat(bytes / 60_000);
        answer.extend(encode(&["!done", ".tag=2"]).unwrap());
        // The client hangs up when it has had enough.
        let _ = stream.write_all(&answer);
    });
    let target = RouterTarget { transport: TransportKind::Api, ..target(&url) };
    Client::new(target).unwrap().queues().map(|queues| queues.len())
}

#[test]
fn answers_have_a_limit() {
    assert_eq!(queues_of_an_answer(4_100_000), Ok(68));
    let error = queues_of_an_answer(4_300_000).unwrap_err();
    assert!(error.to_string().contains("longer than 4194304 bytes"), "{error}");
}

#[test]
fn bytes_that_are_no_text_do_no_harm() {
    let raw = b"\x03!re\x07=.id=*1\x0A=name=down\x13=max-limit=25000000\x0C=note=a\xE4\x07b=c\
                \x06.tag=2\0\x05!done\x06.tag=2\0";
    let router = Fake::new(vec![Says::Raw(raw)]);
    let queues = router.client().queues().unwrap();
    assert_eq!((queues[0].name.as_str(), queues[0].max_limit), ("down", RATE));
}

#[test]
fn the_password_is_in_no_error_and_no_debug_text() {
    let router = Fake::new(vec![Says::Raw(b"x"), Says::Sentences(&[DONE])]);
    let client = router.client();
    let mut texts = vec![format!("{client:?}")];
    let login = &[&["!trap", "=message=invalid user name or password (6)"] as &[&str], DONE];
    for error in [
        client.identify().unwrap_err(),
        Fake::with_login(Vec::new(), login).client().identify().unwrap_err(),
    ] {
        texts.push(format!("{error} {error:?}"));
    }
    for text in texts {
        assert!(!text.contains(PASSWORD), "{text}");
    }
}

#[test]
fn the_port_is_that_of_the_service_unless_the_url_has_one() {
    let show = |url: &str| {
        let target = RouterTarget { transport: TransportKind::Api, ..target(url) };
        format!("{:?}", Client::new(target).unwrap())
    };
    for (url, expected) in [
        ("https://192.168.88.1", "api-ssl://192.168.88.1:8729"),
        ("http://router.lan/", "api://router.lan:8728"),
        ("https://[fd00::1]:443", "api-ssl://[fd00::1]:443"),
    ] {
        assert!(show(url).contains(&format!("\"{expected}\"")), "{}", show(url));
    }
}
