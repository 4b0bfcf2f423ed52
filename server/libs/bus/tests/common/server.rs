//! A real `valkey-server` for tests: on a free port of 127.0.0.1, in a folder of its own, gone with the test, however that ends.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[path = "../../../../tests/common/free_port.rs"]
pub mod free_port;

use free_port::free_port;

/// A server that does not answer by then does not start.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts the server, says its process id, and ends it when the pipe to it closes: that is when the test's process is gone.
const WATCHDOG: &str =
    r#"valkey-server "$@" >/dev/null 2>&1 & server=$!; echo $server; read -r _; kill -KILL $server 2>/dev/null"#;

/// A running server.
pub struct Server {
    pub port: u16,
    pub pid: u32,
    pub folder: PathBuf,
    arguments: Vec<String>,
    watchdog: Child,
    /// Closed at the end.
    lifeline: Option<ChildStdin>,
}

/// The one server of this process, for worlds that are told apart by name.
pub fn shared() -> &'static Server {
    static SHARED: LazyLock<Server> = LazyLock::new(|| Server::start(&["--save", "", "--appendonly", "no"]));
    &SHARED
}

/// A name that no other world of this process has.
pub fn world_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("w{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

impl Server {
    /// Starts one with these arguments beside address and folder.
    pub fn start(arguments: &[&str]) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "meridian-bus-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let port = free_port();
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let (watchdog, lifeline, pid) = spawn(&folder, port, &arguments);
        let server = Self {
            port,
            pid,
            folder,
            arguments,
            watchdog,
            lifeline: Some(lifeline),
        };
        server.await_answer();
        server
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// A blocking connection without any manners.
    pub fn raw(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// Sends the server's process a signal.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.pid.to_string()])
            .status()
            .unwrap();
        assert!(sent.success(), "the server is gone");
    }

    /// Ends the server as a power cut does.
    pub fn kill(&mut self) {
        self.signal("-KILL");
        self.lifeline = None;
        self.watchdog.wait().unwrap();
    }

    /// Starts it again on the same port with the files that it left.
    pub fn start_again(&mut self) {
        let (watchdog, lifeline, pid) = spawn(&self.folder, self.port, &self.arguments);
        (self.watchdog, self.lifeline, self.pid) = (watchdog, Some(lifeline), pid);
        self.await_answer();
    }

    fn await_answer(&self) {
        let gives_up_at = Instant::now() + PATIENCE;
        while !is_answered(self.port) {
            assert!(Instant::now() < gives_up_at, "valkey-server does not answer");
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.lifeline = None;
        let _ = self.watchdog.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn spawn(folder: &Path, port: u16, arguments: &[String]) -> (Child, ChildStdin, u32) {
    let found = Command::new("valkey-server")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    assert!(
        found.is_ok_and(|status| status.success()),
        "valkey-server is missing: run scripts/setup"
    );
    let mut watchdog = Command::new("sh")
        .args(["-c", WATCHDOG, "sh", "--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut pid = String::new();
    BufReader::new(watchdog.stdout.take().unwrap())
        .read_line(&mut pid)
        .unwrap();
    let lifeline = watchdog.stdin.take().unwrap();
    (watchdog, lifeline, pid.trim().parse().unwrap())
}

/// Whether a server that has loaded its files answers.
fn is_answered(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let mut line = String::new();
    stream.write_all(b"PING\r\n").is_ok()
        && BufReader::new(stream).read_line(&mut line).is_ok()
        // One that asks for a password is there as well.
        && (line.starts_with("+PONG") || line.starts_with("-NOAUTH"))
}
