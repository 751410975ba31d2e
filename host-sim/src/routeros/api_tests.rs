use super::*;
use crate::routeros::{Policy, RouterOptions, User};

/// Sends sentences in one session and returns all answers, a sentence as its words joined by spaces.
fn talk(user: &User, sentences: &[&[&str]]) -> Vec<String> {
    let options = RouterOptions::default().with_users(vec![user.clone()]);
    let mut router = Router::new(&options).expect("a router");
    let mut session = Session::new(0);
    let mut said = Vec::new();
    for words in sentences {
        let words: Words = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        let command = Command::read(&words);
        let (answer, ends) = match session.step(&command, true) {
            Step::Ask(request) => {
                let response = handle(&mut router, &request);
                session.answered(&command, &response);
                (command.answer(&response), false)
            }
            Step::End(sentences) => (sentences, true),
        };
        let text = |words: &Words| {
            let words = words.iter().map(|word| String::from_utf8_lossy(word).into_owned());
            words.collect::<Vec<_>>().join(" ")
        };
        said.extend(answer.iter().map(text));
        if ends {
            break;
        }
    }
    said
}

fn wanctl() -> User {
    User::full("wanctl", "secret")
}

const LOGIN: &[&str] = &["/login", "=name=wanctl", "=password=secret", ".tag=1"];

fn logged_in(sentences: &[&[&str]]) -> Vec<String> {
    let all: Vec<&[&str]> = [LOGIN].into_iter().chain(sentences.iter().copied()).collect();
    let mut said = talk(&wanctl(), &all);
    assert_eq!(said.remove(0), "!done .tag=1");
    said
}

#[test]
fn a_login_is_answered_as_the_router_does() {
    assert_eq!(talk(&wanctl(), &[LOGIN]), ["!done .tag=1"]);
    let wrong = ["!trap =message=invalid user name or password (6) .tag=1", "!done .tag=1"];
    assert_eq!(talk(&User::full("wanctl", "other"), &[LOGIN]), wrong);
    assert_eq!(talk(&User::full("other", "secret"), &[LOGIN]), wrong);
    let no_api = User { policies: vec![Policy::Read, Policy::Write, Policy::RestApi], ..wanctl() };
    let refused = ["!trap =message=std failure: not allowed (9) .tag=1", "!done .tag=1"];
    assert_eq!(talk(&no_api, &[LOGIN]), refused);
    // REST's own policy is not needed.
    let no_rest = User { policies: vec![Policy::Read, Policy::Write, Policy::Api], ..wanctl() };
    assert_eq!(talk(&no_rest, &[LOGIN]), ["!done .tag=1"]);
}

#[test]
fn nothing_is_done_before_a_login_and_after_the_end() {
    let print: &[&str] = &["/system/identity/print", ".tag=2"];
    assert_eq!(talk(&wanctl(), &[print]), ["!fatal not logged in"]);
    let wrong: &[&str] = &["/login", "=name=wanctl", "=password=x"];
    assert_eq!(talk(&wanctl(), &[wrong, print]).last().expect("an answer"), "!fatal not logged in");
    assert_eq!(logged_in(&[&["/quit"], print]), ["!fatal session terminated on request"]);
}

#[test]
fn print_selects_records_and_properties() {
    let print: &[&str] =
        &["/queue/tree/print", "=.proplist=.id,name,max-limit", "?name=WAN-Upload", ".tag=7"];
    let expected =
        ["!re =.id=*1000001 =max-limit=50000000 =name=WAN-Upload .tag=7", "!done .tag=7"];
    assert_eq!(logged_in(&[print]), expected);
    let by_id: &[&str] = &["/queue/tree/getall", "=.proplist=name", "?.id=*1000000"];
    assert_eq!(logged_in(&[by_id]), ["!re =name=WAN-Download", "!done"]);
    let none: &[&str] = &["/queue/tree/print", "?name=x", "?name=y", "?#|", ".tag=8"];
    assert_eq!(logged_in(&[none]), ["!empty .tag=8", "!done .tag=8"]);
    let single: &[&str] = &["/system/identity/print"];
    assert_eq!(logged_in(&[single]).len(), 2);
    let count: &[&str] = &["/queue/tree/print", "=count-only="];
    assert_eq!(logged_in(&[count]), ["!done =ret=2"]);
}

#[test]
fn set_says_nothing_but_done_and_add_its_id() {
    let set: &[&str] = &["/queue/tree/set", "=.id=*1000000", "=max-limit=25M"];
    let look: &[&str] = &["/queue/tree/print", "=.proplist=max-limit", "?.id=*1000000"];
    assert_eq!(logged_in(&[set, look]), ["!done", "!re =max-limit=25000000", "!done"]);
    let add: &[&str] = &["/queue/tree/add", "=name=new", "=parent=global", "=queue=default-small"];
    assert_eq!(logged_in(&[add]), ["!done =ret=*1000002"]);
}

#[test]
fn refusals_have_the_words_of_rest_and_a_category() {
    let cases: [(&[&str], &str); 6] = [
        (&["/queue/tree/set", "=.id=*99", "=max-limit=1M"], "=category=0 =message=no such item"),
        (&["/queue/tree/nonsense"], "=category=0 =message=no such command or directory (nonsense)"),
        (&["/nonsense/print"], "=category=0 =message=no such command or directory (nonsense)"),
        (
            &["/queue/tree/set", "=.id=*1000000", "=colour=red"],
            "=category=1 =message=unknown parameter colour",
        ),
        (
            &["/queue/tree/set", "=.id=*1000000", "=parent=nowhere"],
            "=category=1 =message=input does not match any value of parent",
        ),
        (
            &["/queue/tree/set", "=.id=*1000000", "=name=WAN-Upload"],
            "=message=failure: already have such name",
        ),
    ];
    for (words, expected) in cases {
        assert_eq!(logged_in(&[words]), [format!("!trap {expected}"), "!done".to_owned()]);
    }
}

#[test]
fn a_user_may_do_what_the_policies_allow() {
    let set: &[&str] = &["/queue/tree/set", "=.id=*1000000", "=max-limit=1M"];
    let print: &[&str] = &["/queue/tree/print", "=count-only="];
    let reader = User { policies: vec![Policy::Read, Policy::Api], ..wanctl() };
    let refused = ["!trap =message=not enough permissions (9)", "!done"];
    assert_eq!(talk(&reader, &[LOGIN, set])[1..], refused);
    assert_eq!(talk(&reader, &[LOGIN, print])[1..], ["!done =ret=2"]);
    let writer = User { policies: vec![Policy::Write, Policy::Api], ..wanctl() };
    assert_eq!(talk(&writer, &[LOGIN, print])[1..], refused);
}
