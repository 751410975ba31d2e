//! The client and the worker against a real HTTP server in this process.

mod api;
mod audit;
mod client;
mod server;
mod steering;
mod tls;
mod trouble;
mod worker;

use super::{Client, RouterTarget, Secret, TlsTrust, TransportKind};

const PASSWORD: &str = "correct horse battery";
/// `controller:` and the password in base64.
const ENCODED: &str = "Y29udHJvbGxlcjpjb3JyZWN0IGhvcnNlIGJhdHRlcnk=";

fn target(url: &str) -> RouterTarget {
    RouterTarget {
        url: url.to_owned(),
        transport: TransportKind::Rest,
        user: "controller".to_owned(),
        password: Secret::new(PASSWORD.to_owned()),
        trust: TlsTrust::PublicRoots,
    }
}

fn client(url: &str) -> Client {
    Client::new(target(url)).unwrap()
}
