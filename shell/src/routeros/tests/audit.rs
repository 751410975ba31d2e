//! An audit of a router that does not tell everything.

use std::path::Path;

use super::super::RouterError;
use super::client;
use super::server::{Answer, FakeRouter};
use crate::audit::{Audit, Severity, audit};
use crate::config::{DaemonConfig, ReadFiles, parse};

const QUEUES: [(&str, &str); 2] = [("*1", "down"), ("*2", "up")];

fn look(router: &FakeRouter) -> Result<Audit, RouterError> {
    let (client, config) = (client(&router.url()), config(&router.url()));
    audit(&client, config.backend.router().unwrap(), &config)
}

fn config(url: &str) -> DaemonConfig {
    let text = format!(
        "[router]\nurl = \"{url}\"\nuser = \"controller\"\npassword-file = \"password\"\n\
         [[wan]]\nname = \"dsl\"\nreflectors = [\"192.0.2.7\"]\n\
         download = {{ queue = \"down\", ceiling = \"90M\", floor = \"9M\" }}\n\
         upload = {{ queue = \"up\", ceiling = \"9M\", floor = \"1M\" }}\n"
    );
    parse(Path::new("wanctl.toml"), &text, ReadFiles::No).unwrap()
}

#[test]
fn a_menu_that_is_refused_is_named_and_does_no_harm() {
    let refusal =
        r#"{"error":500,"message":"Internal Server Error","detail":"not enough permissions (9)"}"#;
    let router = FakeRouter::start(&QUEUES, |request| match request.path.as_str() {
        "/rest/user" | "/rest/queue/type" => Answer::Status(500, refusal.to_owned()),
        _ => Answer::Healthy,
    });
    let found = look(&router).unwrap();
    let told = found.to_string();
    for menu in ["/user", "/queue/type", "/ip/service"] {
        assert!(told.contains(&format!("note: {menu} was not looked at: ")), "{told}");
    }
    assert!(told.contains("dsl upload: queue up"), "{told}");
    // Nothing is concluded from what is not known.
    assert!(found.findings.iter().all(|finding| finding.severity < Severity::Error), "{told}");
    assert!(!told.contains("does not exist"), "{told}");
    assert!(router.methods_seen().iter().all(|method| method == "GET"));
}

#[test]
fn queues_that_may_not_be_read_are_an_error_with_the_policies_needed() {
    let refusal = r#"{"error":500,"detail":"not enough permissions (9)"}"#;
    let router = FakeRouter::start(&QUEUES, move |request| {
        if request.path.starts_with("/rest/queue") {
            Answer::Status(500, refusal.to_owned())
        } else {
            Answer::Healthy
        }
    });
    let found = look(&router).unwrap();
    let failure = found.failure().unwrap();
    assert_eq!(failure.reason, crate::exit::ExitReason::RouterPermission);
    assert!(found.to_string().contains("needs the policies rest-api, api, read and write"));
}

#[test]
fn a_router_that_vanishes_meanwhile_ends_the_audit() {
    let router = FakeRouter::start(&QUEUES, |request| match request.path.as_str() {
        "/rest/ip/service" => Answer::Raw(String::new()),
        _ => Answer::Healthy,
    });
    let error = look(&router).unwrap_err();
    assert!(matches!(error, RouterError::Unreachable { .. }), "{error:?}");
}
