//! The ready file: how scripts and tests learn the ports that were picked.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::Serialize;

/// Every address this process bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BoundAddresses {
    /// The HTTP listener, if a role here serves HTTP.
    pub http: Option<SocketAddr>,
    /// The admin listener.
    pub admin: Option<SocketAddr>,
    /// The gateway's UDP socket, if it runs here.
    pub gateway: Option<SocketAddr>,
    /// The gRPC listener, if a zone runs here.
    pub rpc: Option<SocketAddr>,
    /// The fabric's UDP socket, if this process runs a zone or a gateway of a cluster.
    pub fabric: Option<SocketAddr>,
}

/// The file on the disk; dropping it removes the file.
pub struct ReadyFile {
    path: PathBuf,
}

impl ReadyFile {
    /// Removes the file of a process that was killed: until this one is ready, who waits for the file must not find old ports.
    ///
    /// # Errors
    /// There is something that cannot be removed.
    pub fn remove_stale(path: &Path) -> anyhow::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove the old ready file {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Writes the addresses and this process's id, so that a reader sees the whole file or none.
    ///
    /// # Errors
    /// The file cannot be written there.
    pub fn write(path: &Path, bound: &BoundAddresses) -> anyhow::Result<Self> {
        #[derive(Serialize)]
        struct Document<'a> {
            #[serde(flatten)]
            bound: &'a BoundAddresses,
            pid: u32,
        }
        let document = Document {
            bound,
            pid: std::process::id(),
        };
        let text = serde_json::to_string(&document).context("cannot write the ready file as JSON")?;
        write_atomically(path, &text).with_context(|| format!("cannot write the ready file {}", path.display()))?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "ready file not removed");
        }
    }
}

/// A rename within one folder is atomic.
fn write_atomically(path: &Path, text: &str) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    fs::write(&temporary, format!("{text}\n"))?;
    fs::rename(&temporary, path).inspect_err(|_| {
        // What counts is why the rename failed.
        let _ = fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_every_address_and_is_removed() {
        let folder = std::env::temp_dir().join(format!("meridian-ready-file-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("ready.json");
        let bound = BoundAddresses {
            http: "127.0.0.1:1".parse().ok(),
            admin: "127.0.0.1:2".parse().ok(),
            gateway: None,
            rpc: "127.0.0.1:3".parse().ok(),
            fabric: None,
        };
        let file = ReadyFile::write(&path, &bound).unwrap();
        let written: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let expected = serde_json::json!({
            "http": "127.0.0.1:1", "admin": "127.0.0.1:2", "gateway": null, "rpc": "127.0.0.1:3", "fabric": null, "pid": std::process::id(),
        });
        assert_eq!(written, expected);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        drop(file);
        assert!(!path.exists());
        assert!(ReadyFile::write(&folder.join("no/such/folder"), &bound).is_err());
        fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn a_file_of_a_killed_process_is_removed_and_none_is_no_error() {
        let folder = std::env::temp_dir().join(format!("meridian-stale-ready-file-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("ready.json");
        std::mem::forget(ReadyFile::write(&path, &BoundAddresses::default()).unwrap());
        assert!(path.exists());
        ReadyFile::remove_stale(&path).unwrap();
        assert!(!path.exists());
        ReadyFile::remove_stale(&path).unwrap();
        assert!(ReadyFile::remove_stale(&folder).is_err());
        fs::remove_dir(&folder).unwrap();
    }
}
