//! A Valkey server for one test, with its writes on the disk.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::free_port::free_port;
use crate::support::{signal, wait_until};

/// The server; killed when dropped.
pub struct Valkey {
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Valkey {
    /// Starts one on a free port, which syncs its writes every second.
    pub fn start(folder: &Path) -> Self {
        let mut valkey = Self {
            folder: folder.join("valkey"),
            port: free_port(),
            child: None,
        };
        std::fs::create_dir_all(&valkey.folder).unwrap();
        valkey.start_again();
        valkey
    }

    /// Starts it on what it has on the disk, and waits until it answers.
    pub fn start_again(&mut self) {
        let child = Command::new("valkey-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""])
            .args([
                "--appendonly",
                "yes",
                "--appendfsync",
                "everysec",
                "--loglevel",
                "warning",
            ])
            .arg("--dir")
            .arg(&self.folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("valkey-server starts; if there is none, run scripts/setup");
        self.child = Some(child);
        wait_until("valkey", || self.answers());
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        let mut answer = [0; 7];
        let asked = stream
            .set_read_timeout(Some(Duration::from_secs(1)))
            .and_then(|()| stream.write_all(b"PING\r\n"))
            .and_then(|()| stream.read_exact(&mut answer));
        asked.is_ok() && &answer == b"+PONG\r\n"
    }

    pub fn url(&self) -> String {
        format!("valkey://127.0.0.1:{}", self.port)
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Kills it, as a power cut would.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        signal(self.child.as_ref().unwrap().id(), name);
    }
}

impl Drop for Valkey {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
