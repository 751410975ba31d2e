//! Whom the client trusts.

use std::net::TcpListener;
use std::sync::Arc;

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::super::RouterError;
use super::server::{Answer, FakeRouter};
use super::*;

fn certificate(name: &str) -> CertifiedKey<KeyPair> {
    generate_simple_self_signed([name.to_owned()]).unwrap()
}

fn tls_router(own: &CertifiedKey<KeyPair>) -> FakeRouter {
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12]) // RouterOS has no 1.3
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key.into())
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let wrap = move |stream| -> Box<dyn server::ReadWrite> {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        Box::new(StreamOwned::new(connection, stream))
    };
    FakeRouter::serve(listener, &[], Arc::new(|_| Answer::Healthy), Arc::new(wrap))
}

fn identify(router: &FakeRouter, trust: TlsTrust) -> Result<String, RouterError> {
    let mut target = target(&format!("https://{}", router.address));
    target.trust = trust;
    Client::new(target)?.identify().map(|identity| identity.name)
}

fn ca(of: &CertifiedKey<KeyPair>) -> TlsTrust {
    TlsTrust::Ca(of.cert.pem().into_bytes())
}

#[test]
fn given_ca_is_trusted_and_no_other() {
    let own = certificate("127.0.0.1");
    let router = tls_router(&own);
    assert_eq!(identify(&router, ca(&own)).as_deref(), Ok("home"));
    for trust in [ca(&certificate("127.0.0.1")), TlsTrust::PublicRoots] {
        let error = identify(&router, trust).unwrap_err();
        assert!(matches!(error, RouterError::Certificate { .. }), "{error:?}");
        assert!(error.is_fatal());
    }
}

#[test]
fn certificate_of_another_name_is_not_trusted() {
    let own = certificate("router.lan");
    let error = identify(&tls_router(&own), ca(&own)).unwrap_err();
    assert!(matches!(error, RouterError::Certificate { .. }), "{error:?}");
    assert!(error.to_string().contains("subject-alt-name"));
}

#[test]
fn insecure_trusts_anybody() {
    let router = tls_router(&certificate("router.lan"));
    assert_eq!(identify(&router, TlsTrust::Insecure).as_deref(), Ok("home"));
}

#[test]
fn plain_http_behind_an_https_url_is_no_question_of_trust() {
    let router = FakeRouter::start(&[], |_| Answer::Healthy);
    let error = identify(&router, TlsTrust::PublicRoots).unwrap_err();
    assert!(!error.is_fatal(), "{error:?}");
}
