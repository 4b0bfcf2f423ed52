//! Who may be in the fabric: certificates of one authority at both ends, and the roles that they name.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quinn::TransportErrorCode;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// What both sides must have in common before they exchange a byte of the fabric. The version is not in it: a wrong one is told
/// in the answer to the hello, which says more than a failed handshake.
pub(super) const ALPN: &[u8] = b"meridian-fabric";

/// QUIC tells alerts of TLS as codes from here on, 256 of them (RFC 9001, section 4.8).
const CRYPTO_ERROR_FIRST: u64 = 0x100;

/// Whether a connection that was closed with this code has failed for what TLS has refused: mostly a certificate.
pub(super) fn is_crypto(code: TransportErrorCode) -> bool {
    (CRYPTO_ERROR_FIRST..CRYPTO_ERROR_FIRST + 0x100).contains(&u64::from(code))
}

/// What a process is in the fabric: a name in its certificate, which the other side checks. A certificate may have several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FabricRole {
    /// It runs zones: may accept links, and dial other zones.
    Zone,
    /// It runs a gateway: may dial zones.
    Gateway,
    /// It administers the others. The fabric has no links for it.
    Admin,
}

impl FabricRole {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Zone, Self::Gateway, Self::Admin];

    /// The DNS name that stands for the role in a certificate. It is never looked up.
    pub const fn server_name(self) -> &'static str {
        match self {
            Self::Zone => "zone.fabric.meridian",
            Self::Gateway => "gateway.fabric.meridian",
            Self::Admin => "admin.fabric.meridian",
        }
    }

    /// Whether a certificate names the role.
    pub(super) fn is_in(self, certificate: &CertificateDer<'_>) -> bool {
        let Ok(parsed) = ParsedCertificate::try_from(certificate) else {
            return false;
        };
        let name = ServerName::try_from(self.server_name());
        name.is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
    }
}

/// Why the files of a process cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FabricTlsError {
    /// A file cannot be read.
    #[error("cannot read {}; give the path of a file that this user may read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} holds no {what} in PEM; give the file that was written for it", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A certificate is none.
    #[error("{} holds a certificate that is not understood", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The process's certificate is not the authority's, or not valid now.
    #[error("{} is not a valid certificate of the authority in {}; issue a new one", certificate.display(), authority.display())]
    NotIssued {
        /// The process's certificate.
        certificate: PathBuf,
        /// The authority's.
        authority: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// The certificate names no role.
    #[error("{} names no role of the fabric; issue a certificate with the roles of this process", path.display())]
    NoRole {
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key are of two pairs, or of a kind that is not supported.
    #[error("{} and {} do not belong together; give the key that was issued with the certificate", certificate.display(), key.display())]
    Pair {
        /// The process's certificate.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
        /// What is wrong with them.
        source: rustls::Error,
    },
}

/// What a process proves who it is with, and whom it trusts.
#[derive(Clone)]
pub struct FabricTls {
    server: Arc<QuicServerConfig>,
    client: Arc<QuicClientConfig>,
    roles: Vec<FabricRole>,
}

impl FabricTls {
    /// Reads the authority's certificate, and the certificate and the key that it has issued to this process.
    ///
    /// # Errors
    ///
    /// [`FabricTlsError`] names the file that cannot be used.
    pub fn load(authority_pem: &Path, certificate_pem: &Path, key_pem: &Path) -> Result<Self, FabricTlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(read_authority(authority_pem)?);
        let chain = read_certificates(certificate_pem)?;
        let key = read_key(key_pem)?;
        let roles = check_own(&provider, &roots, &chain, authority_pem, certificate_pem)?;
        let pair = |source| FabricTlsError::Pair {
            certificate: certificate_pem.to_owned(),
            key: key_pem.to_owned(),
            source,
        };
        let client = client_config(&provider, &roots, chain.clone(), key.clone_key()).map_err(pair)?;
        let server = server_config(&provider, &roots, chain, key).map_err(pair)?;
        Ok(Self {
            server: Arc::new(server),
            client: Arc::new(client),
            roles,
        })
    }

    /// The roles that the process's certificate names.
    pub fn roles(&self) -> &[FabricRole] {
        &self.roles
    }

    /// Whether the process's certificate names a role: others refuse what it does in one that it does not name.
    pub fn allows(&self, role: FabricRole) -> bool {
        self.roles.contains(&role)
    }

    pub(super) fn server(&self) -> Arc<QuicServerConfig> {
        Arc::clone(&self.server)
    }

    pub(super) fn client(&self) -> Arc<QuicClientConfig> {
        Arc::clone(&self.client)
    }
}

fn read_authority(path: &Path) -> Result<RootCertStore, FabricTlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|source| FabricTlsError::Certificate {
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(roots)
}

fn read(path: &Path) -> Result<Vec<u8>, FabricTlsError> {
    fs::read(path).map_err(|source| FabricTlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FabricTlsError> {
    let pem = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(FabricTlsError::Empty {
            path: path.to_owned(),
            what: "certificate",
        }),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, FabricTlsError> {
    let pem = read(path)?;
    let mode = fs::metadata(path).map(|metadata| metadata.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o077 != 0) {
        tracing::warn!(path = %path.display(), "the key can be read by others than its owner; set its mode to 0600");
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| FabricTlsError::Empty {
        path: path.to_owned(),
        what: "private key",
    })
}

/// The roles of the process's own certificate, if it is one that others will accept: a wrong file is told at the start and not by
/// everybody else's refusals.
fn check_own(
    provider: &CryptoProvider,
    roots: &RootCertStore,
    chain: &[CertificateDer<'_>],
    authority: &Path,
    certificate: &Path,
) -> Result<Vec<FabricRole>, FabricTlsError> {
    let Some((own, intermediates)) = chain.split_first() else {
        return Err(FabricTlsError::Empty {
            path: certificate.to_owned(),
            what: "certificate",
        });
    };
    let parsed = ParsedCertificate::try_from(own).map_err(|source| FabricTlsError::Certificate {
        path: certificate.to_owned(),
        source,
    })?;
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, UnixTime::now(), algorithms).map_err(
        |source| FabricTlsError::NotIssued {
            certificate: certificate.to_owned(),
            authority: authority.to_owned(),
            source,
        },
    )?;
    let roles: Vec<_> = FabricRole::ALL.into_iter().filter(|role| role.is_in(own)).collect();
    if roles.is_empty() {
        return Err(FabricTlsError::NoRole {
            path: certificate.to_owned(),
        });
    }
    Ok(roles)
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<QuicClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(Arc::clone(roots))
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A session that is resumed outlives the certificate that it began with.
    config.resumption = Resumption::disabled();
    QuicClientConfig::try_from(config).map_err(|error| rustls::Error::General(error.to_string()))
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<QuicServerConfig, rustls::Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    QuicServerConfig::try_from(config).map_err(|error| rustls::Error::General(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::{Authority, Existing};

    #[test]
    fn files_that_do_not_belong_together_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (authority, other) = (Authority::create("one").unwrap(), Authority::create("other").unwrap());
        for (name, issuer, roles) in [
            ("zone", &authority, &[FabricRole::Zone][..]),
            ("gateway", &authority, &[FabricRole::Gateway]),
            ("stranger", &other, &[FabricRole::Zone]),
            ("nobody", &authority, &[]),
        ] {
            let issued = issuer.issue(roles, name, &["localhost".to_owned()]).unwrap();
            let (certificate, key) = (path(&format!("{name}.pem")), path(&format!("{name}.key")));
            issued.write(&certificate, &key, Existing::Keep).unwrap();
        }
        fs::write(path("ca.pem"), authority.certificate_pem()).unwrap();
        let load = |certificate: &str, key: &str| {
            FabricTls::load(&path("ca.pem"), &path(certificate), &path(key))
                .map(|tls| tls.roles().to_vec())
                .map_err(|error| error.to_string())
        };
        assert_eq!(load("zone.pem", "zone.key"), Ok(vec![FabricRole::Zone]));
        let zone = FabricTls::load(&path("ca.pem"), &path("zone.pem"), &path("zone.key")).unwrap();
        assert!(zone.allows(FabricRole::Zone) && !zone.allows(FabricRole::Gateway) && !zone.allows(FabricRole::Admin));
        let error_of = |certificate, key| load(certificate, key).unwrap_err();
        assert!(error_of("stranger.pem", "stranger.key").contains("stranger.pem is not a valid certificate"));
        assert!(error_of("zone.pem", "gateway.key").contains("do not belong together"));
        assert!(error_of("nobody.pem", "nobody.key").contains("names no role"));
        assert!(error_of("zone.key", "zone.key").contains("zone.key holds no certificate"));
        assert!(error_of("zone.pem", "zone.pem").contains("zone.pem holds no private key"));
        assert!(error_of("absent.pem", "zone.key").contains("cannot read"));
    }
}
