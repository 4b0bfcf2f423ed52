//! Certificates for the fabric: a world's own authority, and what it issues to processes.
//!
//! Each process has one certificate, which says in its names which roles the process may play ([`FabricRole`]). There is no
//! public authority in it: who holds the authority's key decides who belongs to the world. Never prints or logs a key, and never
//! writes over one unless it is told to.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::FabricRole;

/// Days that an authority is valid: longer than anybody runs the same world without looking at it.
pub const AUTHORITY_DAYS: u64 = 3_650;
/// Days that the certificate of a process is valid.
pub const CERTIFICATE_DAYS: u64 = 825;
/// Days before now from which on certificates are valid: clocks of machines differ.
const BACKDATED_DAYS: u64 = 1;
/// Mode of a file that holds a key: its owner may read and write it, others may not.
const KEY_MODE: u32 = 0o600;
/// Mode of a file that holds a certificate.
const CERTIFICATE_MODE: u32 = 0o644;

/// Why a certificate was not made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The certificate cannot be made as asked for.
    #[error("cannot make the certificate of {name:?}; check its name and hosts")]
    Make {
        /// Whose.
        name: String,
        /// What is wrong with it.
        source: rcgen::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}; give the path of a file that this user may read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} is no PEM file of {what}; give the files of one authority", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Why it does not.
        source: rcgen::Error,
    },
    /// There is such a file already.
    #[error("{} is there already; replacing a key locks out who relies on it: say that it is to be replaced, or choose another path", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("cannot write {}; check its folder and its permissions", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What to do about files that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Leave them, and fail.
    Keep,
    /// Replace them.
    Replace,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate; of a process, without that of its authority.
    pub certificate_pem: String,
    /// The key, in PKCS #8.
    pub key_pem: String,
}

impl Issued {
    /// Writes both files, the key so that its owner alone may read it.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Exists`] if either is there already and is to be kept: then neither is written. [`CertificateError::Write`]
    /// names the file that cannot be written.
    pub fn write(&self, certificate: &Path, key: &Path, existing: Existing) -> Result<(), CertificateError> {
        if existing == Existing::Keep {
            for path in [certificate, key] {
                if fs::symlink_metadata(path).is_ok() {
                    return Err(CertificateError::Exists { path: path.to_owned() });
                }
            }
        }
        // The key first: a certificate without its key is of no use, a key without its certificate does no harm.
        write_file(key, &self.key_pem, KEY_MODE, existing)?;
        write_file(certificate, &self.certificate_pem, CERTIFICATE_MODE, existing)
    }
}

/// A world's authority: every process of the fabric trusts what it has issued, and nothing else.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    issued: Issued,
}

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Make`] if the name cannot stand in a certificate.
    pub fn create(name: &str) -> Result<Self, CertificateError> {
        let error = make_error(name);
        let mut params = CertificateParams::new(Vec::new()).map_err(&error)?;
        params.distinguished_name = common_name(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, AUTHORITY_DAYS);
        let key = KeyPair::generate().map_err(&error)?;
        let certificate = params.self_signed(&key).map_err(&error)?;
        let issued = Issued {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        };
        let issuer = Issuer::new(params, key);
        Ok(Self { issuer, issued })
    }

    /// The authority of two files that [`Self::write`] has written.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Read`] and [`CertificateError::Parse`] name the file.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let issued = Issued {
            certificate_pem: read(certificate)?,
            key_pem: read(key)?,
        };
        let parse = |path: &Path, what| {
            let path = path.to_owned();
            move |source| CertificateError::Parse { path, what, source }
        };
        let pair = KeyPair::from_pem(&issued.key_pem).map_err(parse(key, "a key"))?;
        let issuer = Issuer::from_ca_cert_pem(&issued.certificate_pem, pair)
            .map_err(parse(certificate, "an authority's certificate"))?;
        Ok(Self { issuer, issued })
    }

    /// The authority's own certificate, in PEM: what every process needs beside its own.
    pub fn certificate_pem(&self) -> &str {
        &self.issued.certificate_pem
    }

    /// Writes the authority's certificate and key, as [`Issued::write`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Issued::write`].
    pub fn write(&self, certificate: &Path, key: &Path, existing: Existing) -> Result<(), CertificateError> {
        self.issued.write(certificate, key, existing)
    }

    /// A certificate, with a new key, for a process that plays `roles`. `hosts` are further names and addresses that it is known by;
    /// the fabric does not look at them, but other services of the process may.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Make`] if the name or a host cannot stand in a certificate.
    pub fn issue(&self, roles: &[FabricRole], name: &str, hosts: &[String]) -> Result<Issued, CertificateError> {
        let error = make_error(name);
        let names = roles.iter().map(|role| role.server_name().to_owned());
        let names: Vec<String> = names.chain(hosts.iter().cloned()).collect();
        let mut params = CertificateParams::new(names).map_err(&error)?;
        params.distinguished_name = common_name(name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // One process both accepts and dials, with one certificate.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        set_validity(&mut params, CERTIFICATE_DAYS);
        let key = KeyPair::generate().map_err(&error)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(&error)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

fn make_error(name: &str) -> impl Fn(rcgen::Error) -> CertificateError {
    let name = name.to_owned();
    move |source| CertificateError::Make {
        name: name.clone(),
        source,
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn set_validity(params: &mut CertificateParams, days: u64) {
    const DAY: Duration = Duration::from_secs(86_400);
    let epoch = date_time_ymd(1970, 1, 1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let backdated = now.saturating_sub(DAY.saturating_mul(BACKDATED_DAYS as u32));
    params.not_before = epoch + backdated;
    params.not_after = epoch + now + DAY.saturating_mul(days as u32);
}

fn read(path: &Path) -> Result<String, CertificateError> {
    fs::read_to_string(path).map_err(|source| CertificateError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Writes beside the file and renames: nobody ever reads half of it, nor a key before it has its mode.
fn write_file(path: &Path, text: &str, mode: u32, existing: Existing) -> Result<(), CertificateError> {
    let error = |source: io::Error| CertificateError::Write {
        path: path.to_owned(),
        source,
    };
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        match existing {
            Existing::Replace => fs::rename(&beside, path),
            // A link fails where a file is, even one that came a moment ago.
            Existing::Keep => fs::hard_link(&beside, path).and_then(|()| fs::remove_file(&beside)),
        }
    })();
    written.map_err(|source| {
        // What is left of it is of no use, whether it can be removed or not.
        let _ = fs::remove_file(&beside);
        match source.kind() {
            io::ErrorKind::AlreadyExists => CertificateError::Exists { path: path.to_owned() },
            _ => error(source),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_for_its_owner_alone_and_is_not_replaced_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("ca.pem"), folder.path().join("ca.key"));
        let authority = Authority::create("a world").unwrap();
        authority.write(&certificate, &key, Existing::Keep).unwrap();
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);

        let other = Authority::create("another world").unwrap();
        let refused = other.write(&certificate, &key, Existing::Keep).unwrap_err();
        assert!(matches!(&refused, CertificateError::Exists { path } if *path == certificate));
        assert_eq!(fs::read_to_string(&certificate).unwrap(), authority.certificate_pem());

        other.write(&certificate, &key, Existing::Replace).unwrap();
        assert_eq!(fs::read_to_string(&certificate).unwrap(), other.certificate_pem());
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn an_authority_that_was_written_and_read_issues_what_the_written_one_vouches_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let authority = Authority::create("a world").unwrap();
        authority
            .write(&path("ca.pem"), &path("ca.key"), Existing::Keep)
            .unwrap();
        let loaded = Authority::load(&path("ca.pem"), &path("ca.key")).unwrap();
        let issued = loaded
            .issue(
                &[FabricRole::Zone, FabricRole::Gateway],
                "node-1",
                &["10.0.0.1".to_owned()],
            )
            .unwrap();
        issued
            .write(&path("node.pem"), &path("node.key"), Existing::Keep)
            .unwrap();
        let tls = crate::FabricTls::load(&path("ca.pem"), &path("node.pem"), &path("node.key")).unwrap();
        assert_eq!(tls.roles(), [FabricRole::Zone, FabricRole::Gateway]);
    }

    #[test]
    fn files_of_no_authority_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (missing, text) = (folder.path().join("missing"), folder.path().join("text"));
        fs::write(&text, "no certificate").unwrap();
        let error = Authority::load(&missing, &text).err().unwrap().to_string();
        assert!(error.contains("missing"), "{error}");
        let error = Authority::load(&text, &text).err().unwrap().to_string();
        assert!(error.contains("text"), "{error}");
    }
}
