//! What a window test needs: a display, a server, bots, and the window itself. All of it ends with the test.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything here takes on a slow machine without a graphics card.
const PATIENCE: Duration = Duration::from_secs(45);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A binary of the same build.
fn binary(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_client")).with_file_name(name);
    assert!(path.exists(), "{} is missing: `./just build` makes it", path.display());
    path
}

fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let gives_up_at = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(
                Instant::now() < gives_up_at,
                "{what}: not in {PATIENCE:?}; last seen:\n{seen}"
            ),
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// An X server in memory, and a folder for what is made on it.
pub struct Display {
    number: String,
    folder: tempfile::TempDir,
    _server: Option<Running>,
}

impl Display {
    pub fn open() -> Self {
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1280x720x24", "-nolisten", "tcp"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb; `./just setup` installs it");
        let mut number = String::new();
        let told = server.stdout.take().expect("its output");
        BufReader::new(told)
            .read_line(&mut number)
            .expect("the display's number");
        assert!(!number.trim().is_empty(), "Xvfb found no free display");
        Self {
            number: format!(":{}", number.trim()),
            folder: tempfile::tempdir().expect("a folder"),
            _server: Some(Running(server)),
        }
    }

    /// No display, for a client without a window.
    pub fn none() -> Self {
        Self {
            number: String::new(),
            folder: tempfile::tempdir().expect("a folder"),
            _server: None,
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Checks that a picture shows something, and keeps it if the environment says where.
    pub fn keep(&self, name: &str, picture: &Path) {
        let pixels = image::open(picture).expect("a picture").to_rgb8();
        let colours: std::collections::HashSet<_> = pixels.pixels().collect();
        assert!(colours.len() > 50, "{name}: only {} colours are seen", colours.len());
        // The sky has no hard edges; what is drawn or written before it has.
        let edges = pixels.rows().map(|row| {
            let brightness: Vec<i32> = row
                .map(|pixel| pixel.0.iter().map(|part| i32::from(*part)).sum())
                .collect();
            brightness
                .windows(2)
                .filter(|pair| pair[0].abs_diff(pair[1]) > 90)
                .count()
        });
        let edges: usize = edges.sum();
        assert!(edges > 500, "{name}: only {edges} edges are seen");
        if let Some(folder) = std::env::var_os("CLIENT_PICTURES") {
            // Tests run in their package's folder; the pictures' is told from the workspace's.
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
            std::fs::copy(picture, folder.join(format!("{name}.png"))).expect("the picture kept");
        }
    }
}

/// A server with all roles and four zones.
pub struct Server {
    running: Running,
    addresses: Value,
    _folder: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Self {
        Self::start_at(&serde_json::json!({
            "http": "127.0.0.1:0", "admin": "127.0.0.1:0", "gateway": "127.0.0.1:0", "rpc": "127.0.0.1:0"
        }))
    }

    /// At addresses that another one had.
    pub fn start_at(addresses: &Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ready = folder.path().join("ready.json");
        let mut command = Command::new(binary("server"));
        for role in ["http", "admin", "gateway", "rpc"] {
            command.args([&format!("--{role}"), addresses[role].as_str().expect("an address")]);
        }
        let child = command
            .arg("--ready-file")
            .arg(&ready)
            // Beside a window that is drawn by software it has little time, and would say so all the time.
            .env("RUST_LOG", "error")
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
            .spawn()
            .expect("the server starts");
        let mut running = Running(child);
        let addresses = until("the server is ready", || {
            let ended = running.0.try_wait().map_err(|error| error.to_string())?;
            assert!(ended.is_none(), "the server ended with {ended:?}");
            let text = std::fs::read_to_string(&ready).map_err(|error| error.to_string())?;
            serde_json::from_str(&text).map_err(|error| error.to_string())
        });
        Self {
            running,
            addresses,
            _folder: folder,
        }
    }

    fn url(&self, role: &str) -> String {
        format!("http://{}", self.addresses[role].as_str().expect("an address"))
    }

    /// Ends it as a crash does, and says where it was.
    pub fn kill(self) -> Value {
        drop(self.running);
        self.addresses
    }
}

/// Takes in what programs push to a collector over HTTP, and says yes to all of it.
pub struct Collector {
    address: SocketAddr,
    pushed: mpsc::Receiver<Vec<u8>>,
}

impl Collector {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (push, pushed) = mpsc::channel();
        // Ends with the first that comes after the test.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let body = take_request(BufReader::new(&stream)).unwrap_or_default();
                let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                if push.send(body).is_err() {
                    return;
                }
            }
        });
        Self { address, pushed }
    }

    /// What a program needs to know to push to it every so often.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", self.address)),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".to_owned()),
            ("OTEL_METRIC_EXPORT_INTERVAL", "500".to_owned()),
        ]
    }

    /// Waits for a request that holds all of these words.
    pub fn wait_for(&self, words: &[&str]) {
        let gives_up_at = Instant::now() + PATIENCE;
        loop {
            let left = gives_up_at.saturating_duration_since(Instant::now());
            let body = self
                .pushed
                .recv_timeout(left)
                .expect("something with these words is pushed");
            let holds = |word: &&str| body.windows(word.len()).any(|bytes| bytes == word.as_bytes());
            if words.iter().all(holds) {
                return;
            }
        }
    }
}

/// The body of a request that says how long it is.
fn take_request(mut reader: impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut bytes = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim().to_ascii_lowercase().split_once(':') {
            Some(("content-length", length)) => bytes = length.trim().parse().unwrap_or(0),
            Some(_) => {}
            None if line.trim().is_empty() => break,
            // The first line.
            None => {}
        }
    }
    let mut body = vec![0; bytes];
    reader.read_exact(&mut body)?;
    Ok(body)
}

/// Bots that walk about.
pub struct Swarm(#[expect(dead_code, reason = "ends with the test")] Running);

impl Swarm {
    pub fn start(server: &Server, bots: usize) -> Self {
        let child = Command::new(binary("loadgen"))
            .args(["run", "--server", &server.url("http"), "--admin", &server.url("admin")])
            .args(["--scenario", "crowd", "--seconds", "600", "--bots", &bots.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("loadgen starts");
        Self(Running(child))
    }
}

/// The window.
pub struct Client<'a> {
    display: &'a Display,
    running: Running,
    report: PathBuf,
    album: PathBuf,
}

impl<'a> Client<'a> {
    pub fn start(display: &'a Display, arguments: &[&str]) -> Self {
        Self::start_with(display, arguments, &[])
    }

    fn start_with(display: &'a Display, arguments: &[&str], environment: &[(&str, String)]) -> Self {
        let report = display.folder().join("report.json");
        let album = display.folder().join("album");
        let settings = display.folder().join("client.toml");
        if !settings.exists() {
            // All that is written has room in a window that software draws fast enough.
            std::fs::write(&settings, "ui_scale = 0.6\n").expect("the settings");
        }
        std::fs::create_dir_all(&album).expect("a folder");
        // Of another window before this one.
        let _ = std::fs::remove_file(&report);
        let child = Command::new(env!("CARGO_BIN_EXE_client"))
            // Later flags win.
            .args(["--size", "640x360"])
            .args(arguments)
            .arg("--report")
            .arg(&report)
            .arg("--screenshots")
            .arg(&album)
            .arg("--settings")
            .arg(settings)
            .env("DISPLAY", &display.number)
            .env("RUST_BACKTRACE", "0")
            .env_remove("WAYLAND_DISPLAY")
            .env("XDG_RUNTIME_DIR", display.folder())
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .spawn()
            .expect("the window starts");
        Self {
            display,
            running: Running(child),
            report,
            album,
        }
    }

    pub fn join(display: &'a Display, server: &Server, name: &str, arguments: &[&str]) -> Self {
        Self::join_with(display, server, name, arguments, &[])
    }

    pub fn join_with(
        display: &'a Display,
        server: &Server,
        name: &str,
        arguments: &[&str],
        environment: &[(&str, String)],
    ) -> Self {
        let url = server.url("http");
        let mut all = vec!["--server", url.as_str(), "--name", name, "--quality", "low"];
        all.extend(arguments);
        Self::start_with(display, &all, environment)
    }

    /// What the window tells of itself, as it was last.
    pub fn report(&self) -> Value {
        self.try_report().expect("a report")
    }

    fn try_report(&self) -> Result<Value, String> {
        let text = std::fs::read_to_string(&self.report).map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    pub fn wait(&mut self, what: &str, is: impl Fn(&Value) -> bool) {
        until(what, || {
            let ended = self.running.0.try_wait().map_err(|error| error.to_string())?;
            assert!(ended.is_none(), "{what}: the window ended with {ended:?}");
            let report = self.try_report()?;
            if is(&report) {
                Ok(())
            } else {
                Err(format!("{report:#}"))
            }
        });
    }

    /// Waits for what stands in the settings file.
    pub fn wait_for_settings(&mut self, what: &str, is: impl Fn(&str) -> bool) {
        let file = self.display.folder().join("client.toml");
        until(what, || {
            let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
            if is(&text) { Ok(()) } else { Err(text) }
        });
    }

    /// Where the player stands once it no longer moves.
    pub fn wait_until_still(&mut self) -> [f64; 3] {
        let mut last = None;
        until("the player stands still", || {
            let report = self.try_report()?;
            let now = [0, 1, 2].map(|axis| report["own"][axis].as_f64().unwrap_or(f64::NAN));
            let frames = report["frames"].as_u64();
            match last.replace((now, frames)) {
                Some((before, drawn)) if before == now && frames > drawn => Ok(now),
                // The same report was read again.
                Some((before, drawn)) if before == now => {
                    last = Some((before, drawn));
                    Err(format!("{now:?}"))
                }
                _ => Err(format!("{now:?}")),
            }
        })
    }

    pub fn wait_for_exit(&mut self) -> ExitStatus {
        until("the window closes", || {
            let ended = self.running.0.try_wait().map_err(|error| error.to_string())?;
            ended.ok_or_else(|| "it is open".to_owned())
        })
    }

    /// Asks the window to close, as a window manager does, and sees it go in order.
    pub fn close(mut self) {
        let asked = Command::new("kill").arg(self.running.0.id().to_string()).status();
        assert!(asked.is_ok_and(|status| status.success()));
        assert!(self.wait_for_exit().success());
    }

    fn xdotool(&self, arguments: &[&str]) -> bool {
        let status = Command::new("xdotool")
            .args(arguments)
            .env("DISPLAY", &self.display.number)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.expect("xdotool; `./just setup` installs it").success()
    }

    /// Gives the window the keyboard: without a window manager nobody else does.
    fn focus(&self) {
        until("the window has the keyboard", || {
            let found = self.xdotool(&[
                "search",
                "--onlyvisible",
                "--class",
                "meridian",
                "windowfocus",
                "--sync",
            ]);
            if found { Ok(()) } else { Err("no window".to_owned()) }
        });
    }

    /// Types a key, and sees the frame that takes it go by: two keys in one frame are not what people do.
    pub fn type_key(&mut self, key: &str) {
        self.focus();
        assert!(self.xdotool(&["key", "--delay", "100", key]));
        let typed = self.report()["frames"].as_u64();
        self.wait("the key is taken", |report| {
            report["frames"].as_u64() > typed.map(|frames| frames + 2)
        });
    }

    pub fn hold_key(&self, key: &str) {
        self.focus();
        assert!(self.xdotool(&["keydown", key]));
    }

    pub fn release_key(&self, key: &str) {
        assert!(self.xdotool(&["keyup", key]));
    }

    /// Takes a picture by its key.
    pub fn take_picture(&mut self, name: &str) {
        self.wait(
            "everything is drawn, and nothing is told of the last picture",
            |report| report["pipelines_waiting"] == 0 && report["notices"].as_array().is_some_and(Vec::is_empty),
        );
        self.type_key("F12");
        let album = self.album.clone();
        let picture = until("the picture is saved", || {
            let mut files = std::fs::read_dir(&album).map_err(|error| error.to_string())?;
            let png = files.find_map(|file| {
                let path = file.ok()?.path();
                (path.extension()? == "png").then_some(path)
            });
            png.ok_or_else(|| "no file".to_owned())
        });
        self.display.keep(name, &picture);
        std::fs::remove_file(picture).expect("the picture is taken away");
    }
}
