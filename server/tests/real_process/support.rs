//! Starts a server, waits until it is ready, and talks to it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use meridian_loadgen::scrape::Metrics;
use serde_json::Value;

/// How long anything may take before a test gives up: far above what a slow machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a condition.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What a test's world holds: enough for the role `auth`.
pub const WORLD: &str = "name = \"test\"\ntick_rate_hz = 30\n";

/// The world of the repository, for servers that run a zone. Asked for at run time: checkouts that share a target folder share
/// this test's binary too.
pub fn demo_world() -> String {
    let package = std::env::var("CARGO_MANIFEST_DIR").expect("started by cargo");
    format!("{package}/../assets/data/world.toml")
}

/// A key that can be searched for in what a server prints.
pub const NETCODE_KEY: &str = "5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e7abcd";

/// A running server, killed when dropped.
pub struct Server {
    child: Child,
    folder: Folder,
    ready: Value,
}

impl Server {
    /// Starts the role `auth` with this configuration, on free ports, and waits until it is ready.
    pub fn start(config: &str) -> Self {
        Self::start_with(config, &["--roles", "auth", "--world", "world.toml"])
    }

    /// Starts every role with this configuration in the demo world, on free ports, and waits until all are ready.
    pub fn start_every_role(config: &str) -> Self {
        Self::start_with(
            config,
            &[
                "--gateway",
                "127.0.0.1:0",
                "--rpc",
                "127.0.0.1:0",
                "--world",
                &demo_world(),
            ],
        )
    }

    fn start_with(config: &str, arguments: &[&str]) -> Self {
        let folder = folder_with_world(config);
        let mut command = command_in(&folder);
        command
            .args(["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--config", "config.toml", "--ready-file", "ready.json"])
            .args(arguments);
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut server = Self {
            child,
            folder,
            ready: Value::Null,
        };
        server.await_ready();
        server
    }

    fn await_ready(&mut self) {
        let path = self.ready_file();
        let mut exited = None;
        wait_until("the ready file or an exit", || {
            exited = self.child.try_wait().unwrap();
            exited.is_some() || path.exists()
        });
        if let Some(status) = exited {
            panic!("the server ended before it was ready ({status}):\n{}", self.log());
        }
        self.ready = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(self.ready["pid"], self.child.id());
    }

    /// The URL of a path of the listener `http` or `admin`.
    pub fn url(&self, listener: &str, path: &str) -> String {
        format!("http://{}{path}", self.address(listener))
    }

    /// The address of `http`, `admin` or, where it runs, `gateway`.
    pub fn address(&self, listener: &str) -> &str {
        self.ready[listener].as_str().unwrap()
    }

    /// A metric's sum over the samples that carry these labels; 0 while there is none.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let page = get(&self.url("admin", "/metrics")).body;
        Metrics::parse(&page).unwrap().sum(name, labels).unwrap_or(0.0)
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn ready_file(&self) -> PathBuf {
        self.folder.path().join("ready.json")
    }

    /// Everything the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Sends a signal by its name, and waits for the end.
    pub fn stop_with(&mut self, name: &str) -> ExitStatus {
        signal(self.child.id(), name);
        let mut exited = None;
        wait_until("an exit", || {
            exited = self.child.try_wait().unwrap();
            exited.is_some()
        });
        exited.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a process a signal by its name.
pub fn signal(pid: u32, name: &str) {
    let kill = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status();
    assert!(kill.unwrap().success());
}

/// A folder of one test, removed when dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is in the build folder, and gone with it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A folder with `world.toml` and `config.toml`.
pub fn folder_with_world(config: &str) -> Folder {
    let folder = Folder::new();
    fs::write(folder.path().join("world.toml"), WORLD).unwrap();
    fs::write(folder.path().join("config.toml"), config).unwrap();
    folder
}

/// The server in a folder, with nothing of this machine's environment that configures it.
pub fn command_in(folder: &Folder) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_server")));
    command.current_dir(folder.path()).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().to_uppercase().starts_with("MERIDIAN_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs the server to its end; for runs that end by themselves.
pub fn run_in(folder: &Folder, arguments: &[&str]) -> Output {
    command_in(folder).args(arguments).output().unwrap()
}

/// A run that ended with code 1 and a message, and without a panic.
pub fn fails_saying(output: &Output, said: &str) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(said), "`{said}` is not in\n{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Looks at a condition until it holds.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began_at = Instant::now();
    while !holds() {
        assert!(began_at.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// An answer of a listener.
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<String>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

pub fn get(url: &str) -> Answer {
    answer(agent().get(url).call())
}

pub fn post(url: &str, body: &str) -> Answer {
    answer(agent().post(url).send(body))
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .build()
        .into()
}

fn answer(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let mut response = result.unwrap();
    let retry_after = response
        .headers()
        .get("retry-after")
        .map(|value| value.to_str().unwrap().to_owned());
    Answer {
        status: response.status().as_u16(),
        retry_after,
        body: response.body_mut().read_to_string().unwrap(),
    }
}
