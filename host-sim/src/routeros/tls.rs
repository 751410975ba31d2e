//! The router's certificate: an own CA and a leaf, made at start and never stored.

use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// What the HTTPS listener needs, and the CA certificate its clients need.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) ca_pem: String,
    pub(crate) spoilt: Spoilt,
}

/// What the HTTPS listener uses while the handshake shall fail.
#[derive(Debug)]
pub(crate) struct Spoilt {
    pub(crate) expired: Arc<ServerConfig>,
    pub(crate) other_name: Arc<ServerConfig>,
    pub(crate) no_certificate: Arc<ServerConfig>,
}

/// Presents no certificate: the handshake ends with an alert.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

/// Makes a CA and a server certificate for `names` (IP addresses or host names).
///
/// Only TLS 1.2 is offered, as the router does.
pub(crate) fn identity(names: &[String]) -> anyhow::Result<Identity> {
    let ca_key = KeyPair::generate()?;
    let mut ca_params = CertificateParams::new(Vec::<String>::new())?;
    ca_params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca_params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca_params.distinguished_name.push(DnType::CommonName, "wanctl emulated router CA");
    let ca = ca_params.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca_params, ca_key);
    let spoilt = Spoilt {
        expired: signed(names, &issuer, true)?,
        other_name: signed(&["router.example".to_owned()], &issuer, false)?,
        no_certificate: Arc::new(builder()?.with_cert_resolver(Arc::new(NoCertificate))),
    };
    Ok(Identity { config: signed(names, &issuer, false)?, ca_pem: ca.pem(), spoilt })
}

type ConfigBuilder = rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>;

fn builder() -> anyhow::Result<ConfigBuilder> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])?
        .with_no_client_auth())
}

/// Makes a server certificate for `names`, one of the past if it shall have expired.
fn signed(
    names: &[String],
    issuer: &Issuer<'_, KeyPair>,
    expired: bool,
) -> anyhow::Result<Arc<ServerConfig>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec()).context("name of the certificate")?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.distinguished_name.push(DnType::CommonName, "wanctl emulated router");
    if expired {
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    }
    let leaf = params.signed_by(&key, issuer)?;
    let private_key = PrivateKeyDer::try_from(key.serialize_der())
        .map_err(|reason| anyhow::anyhow!("private key: {reason}"))?;
    Ok(Arc::new(builder()?.with_single_cert(vec![leaf.der().clone()], private_key)?))
}
