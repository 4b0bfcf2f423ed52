//! `server certs`: an authority for a cluster, and certificates for its processes.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use meridian_fabric::{
    FabricRole,
    certificates::{Authority, Existing},
};

use crate::cli::CertsArgs;

/// The authority's certificate, in its own folder and in that of each process.
pub const AUTHORITY_FILE: &str = "authority.pem";
/// A process's certificate.
pub const CERTIFICATE_FILE: &str = "certificate.pem";
/// A process's key.
pub const KEY_FILE: &str = "key.pem";
/// The authority's key: who has it can join the cluster.
const AUTHORITY_KEY_FILE: &str = "authority-key.pem";

/// Makes the authority, unless it is there, and one certificate; tells what it wrote.
///
/// # Errors
/// A role is unknown, a file is there already or cannot be read or written; the message names it.
pub fn run(args: &CertsArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let roles = args
        .roles
        .iter()
        .map(|name| role(name))
        .collect::<Result<Vec<_>, _>>()?;
    let authority = authority(&args.authority, out)?;
    let issued = authority.issue(&roles, &args.name, &[])?;
    make_folder(&args.out)?;
    let existing = if args.replace {
        Existing::Replace
    } else {
        Existing::Keep
    };
    let (certificate, key) = (args.out.join(CERTIFICATE_FILE), args.out.join(KEY_FILE));
    issued
        .write(&certificate, &key, existing)
        .context("--replace makes a new certificate in the place of one that is there")?;
    let copy = args.out.join(AUTHORITY_FILE);
    fs::write(&copy, authority.certificate_pem()).with_context(|| format!("cannot write {}", copy.display()))?;
    tell(
        out,
        &format!("certificate of {} ({}):", args.name, args.roles.join(", ")),
        &[&certificate, &key, &copy],
    )
}

fn authority(folder: &Path, out: &mut dyn Write) -> anyhow::Result<Authority> {
    let (certificate, key) = (folder.join(AUTHORITY_FILE), folder.join(AUTHORITY_KEY_FILE));
    if certificate.exists() || key.exists() {
        return Ok(Authority::load(&certificate, &key)?);
    }
    let authority = Authority::create("meridian cluster")?;
    make_folder(folder)?;
    authority.write(&certificate, &key, Existing::Keep)?;
    tell(
        out,
        "authority, whose key lets anybody join the cluster:",
        &[&certificate, &key],
    )?;
    Ok(authority)
}

fn role(name: &str) -> anyhow::Result<FabricRole> {
    match name.trim() {
        "zone" => Ok(FabricRole::Zone),
        "gateway" => Ok(FabricRole::Gateway),
        other => bail!("--roles: certificates are for zone and gateway, not for `{other}`"),
    }
}

fn make_folder(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))
}

fn tell(out: &mut dyn Write, what: &str, files: &[&PathBuf]) -> anyhow::Result<()> {
    let mut text = format!("{what}\n");
    for file in files {
        text.push_str(&format!("  {}\n", file.display()));
    }
    out.write_all(text.as_bytes())
        .context("cannot write to standard output")
}

#[cfg(test)]
mod tests {
    use meridian_fabric::FabricTls;

    use super::*;

    fn args(folder: &Path, name: &str, replace: bool) -> CertsArgs {
        CertsArgs {
            authority: folder.join("authority"),
            out: folder.join(name),
            roles: vec!["zone".to_owned(), "gateway".to_owned()],
            name: name.to_owned(),
            replace,
        }
    }

    #[test]
    fn two_processes_have_certificates_of_one_authority_and_none_is_replaced_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let mut told = Vec::new();
        for name in ["one", "two"] {
            run(&args(folder.path(), name, false), &mut told).unwrap();
        }
        let told = String::from_utf8(told).unwrap();
        assert_eq!(told.matches("authority, whose key").count(), 1, "{told}");
        for name in ["one", "two"] {
            let of = |file: &str| folder.path().join(name).join(file);
            let tls = FabricTls::load(&of(AUTHORITY_FILE), &of(CERTIFICATE_FILE), &of(KEY_FILE)).unwrap();
            assert_eq!(tls.roles(), [FabricRole::Zone, FabricRole::Gateway]);
        }
        let key = folder.path().join("one").join(KEY_FILE);
        let before = fs::read(&key).unwrap();
        let error = run(&args(folder.path(), "one", false), &mut Vec::new()).unwrap_err();
        assert!(format!("{error:#}").contains("--replace"), "{error:#}");
        assert_eq!(fs::read(&key).unwrap(), before);
        run(&args(folder.path(), "one", true), &mut Vec::new()).unwrap();
        assert_ne!(fs::read(&key).unwrap(), before);
    }

    #[test]
    fn a_role_without_links_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut args = args(folder.path(), "auth", false);
        args.roles = vec!["auth".to_owned()];
        let error = run(&args, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("`auth`"), "{error}");
    }
}
