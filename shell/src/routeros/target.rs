//! Where the router is and whom to trust: URL, user and certificate, checked before the first request.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::error::RouterError;

/// What decides whether the router's certificate is trusted.
#[derive(Clone, PartialEq, Eq)]
pub enum TlsTrust {
    /// The public certificate authorities known to this program (Mozilla's list).
    PublicRoots,
    /// Only the certificate authorities in this PEM text.
    Ca(Vec<u8>),
    /// Anybody. Whoever is between this machine and the router can read the password.
    Insecure,
}

impl TlsTrust {
    /// Trusts the certificate authorities of a PEM text, after a look at whether it holds any.
    ///
    /// # Errors
    ///
    /// [`RouterError::BadTarget`] if it is not PEM, holds no certificate, or holds a key.
    pub fn from_pem(pem: Vec<u8>) -> Result<Self, RouterError> {
        ca_certificates(&pem)?;
        Ok(Self::Ca(pem))
    }
}

impl fmt::Debug for TlsTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PublicRoots => f.write_str("PublicRoots"),
            Self::Ca(pem) => write!(f, "Ca({} bytes)", pem.len()),
            Self::Insecure => f.write_str("Insecure"),
        }
    }
}

/// Checks a base URL and returns it without a slash at its end.
///
/// # Errors
///
/// What is wrong, without the URL itself: it may hold a password by mistake.
pub fn check_url(url: &str) -> Result<String, String> {
    let base = url.trim_end_matches('/');
    if base.contains('@') {
        return Err("the URL must not hold a login (no '@')".to_owned());
    }
    let malformed = |_| "the URL is malformed, expected https://<address>".to_owned();
    let uri: Uri = base.parse().map_err(malformed)?;
    let Some(host) = uri.host().filter(|host| !host.is_empty()) else {
        return Err("the URL must start with https:// or http:// and name a host".to_owned());
    };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("the URL must start with https:// or http:// and name a host".to_owned());
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let is_portless = authority == host;
    if !is_portless && uri.port_u16().is_none_or(|port| port == 0) {
        return Err("the port in the URL must be a number from 1 to 65535".to_owned());
    }
    if uri.path() != "/" || uri.query().is_some() {
        return Err("the URL must end after host and port; /rest is added where needed".to_owned());
    }
    Ok(base.to_owned())
}

/// Checks a RouterOS user name for basic authentication.
///
/// # Errors
///
/// What is wrong.
pub fn check_user(user: &str) -> Result<(), String> {
    if user.is_empty() || user.contains(':') {
        return Err("the user name must not be empty nor contain a colon".to_owned());
    }
    Ok(())
}

pub(super) fn tls_config(trust: &TlsTrust) -> Result<TlsConfig, RouterError> {
    let config = TlsConfig::builder();
    Ok(match trust {
        TlsTrust::PublicRoots => config.root_certs(RootCerts::WebPki).build(),
        TlsTrust::Ca(pem) => {
            config.root_certs(RootCerts::Specific(ca_certificates(pem)?.into())).build()
        }
        TlsTrust::Insecure => config.disable_verification(true).build(),
    })
}

/// Returns what [`tls_config`] means, for connections without HTTP.
pub(super) fn client_config(trust: &TlsTrust) -> Result<Arc<ClientConfig>, RouterError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(|error| RouterError::BadTarget(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    match trust {
        TlsTrust::PublicRoots => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        TlsTrust::Ca(pem) => {
            let certificates = ca_certificates(pem)?;
            let der = certificates.iter().map(|one| CertificateDer::from(one.der()));
            roots.add_parsable_certificates(der);
        }
        TlsTrust::Insecure => {
            let anybody = Arc::new(Anybody(provider));
            let builder = builder.dangerous().with_custom_certificate_verifier(anybody);
            return Ok(Arc::new(builder.with_no_client_auth()));
        }
    }
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// Trusts every certificate, as `insecure = true` asks for.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn ca_certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, RouterError> {
    let bad = |reason: String| RouterError::BadTarget(format!("the CA file {reason}"));
    let mut certificates = Vec::new();
    for item in parse_pem(pem) {
        match item.map_err(|error| bad(format!("is not PEM text: {error}")))? {
            PemItem::Certificate(certificate) => certificates.push(certificate),
            _ => return Err(bad("must hold certificates only, no keys".to_owned())),
        }
    }
    if certificates.is_empty() {
        return Err(bad("holds no certificate".to_owned()));
    }
    Ok(certificates)
}
