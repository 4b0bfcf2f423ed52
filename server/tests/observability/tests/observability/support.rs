//! Where things are, how programs are started and ended, and how a condition is waited for.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

pub use crate::free_port::free_port;

/// How long anything may take before a test gives up: far above what a slow machine needs.
pub const PATIENCE: Duration = Duration::from_secs(80);

/// Between two looks at a condition.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A file or folder of the repository. Asked for at run time: checkouts that share a target folder share this test's binary too.
pub fn repository(path: &str) -> PathBuf {
    let package = std::env::var("CARGO_MANIFEST_DIR").expect("started by cargo");
    let root = Path::new(&package).join("../../..").canonicalize().unwrap();
    let found = root.join(path);
    assert!(found.exists(), "{} is missing", found.display());
    found
}

/// A text file of the repository.
pub fn read(path: &str) -> String {
    fs::read_to_string(repository(path)).unwrap()
}

/// The files of a folder of the repository that end so, by name.
pub fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(repository(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{folder} has no .{extension}");
    found
}

/// A program of this build: beside this test's own binary, or in the folder that `PROGRAMS_FOLDER` names, for builds that keep them
/// apart.
pub fn built(name: &str) -> PathBuf {
    let folder = std::env::var_os("PROGRAMS_FOLDER").map_or_else(
        || {
            let test = std::env::current_exe().unwrap();
            test.parent().and_then(Path::parent).unwrap().to_owned()
        },
        PathBuf::from,
    );
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: `./just build` makes it", path.display());
    path
}

/// A program of this machine: one that `./just setup` put into the cache folder, or one on the path.
pub fn installed(name: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"),
        PathBuf::from,
    );
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(cache.join("meridian/tools/bin")).chain(std::env::split_paths(&path));
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: `./just setup` installs it"))
}

/// A command without what configures Meridian or telemetry in this process's own environment.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if ["MERIDIAN_", "OTEL_", "ROTEL_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Output {
    let output = command.output();
    output.unwrap_or_else(|error| panic!("{:?} does not start: {error}", command.get_program()))
}

/// Runs a program that must end well, and says what it wrote if it does not.
pub fn run_well(command: &mut Command) -> String {
    let output = run(command);
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success(),
        "{command:?} ended with {}:\n{said}",
        output.status
    );
    said
}

/// A process that ends with the test. Its log stands in the test's folder.
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    pub fn start(name: &str, folder: &Path, command: &mut Command) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = fs::File::create(&log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self {
            name: name.to_owned(),
            child,
            log,
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for a condition, and no longer than the process lives.
    pub fn until<T>(&mut self, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
        until(&format!("{}: {what}", self.name), || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended with {status}:\n{}", self.name, self.log());
            }
            look().map_err(|seen| format!("{seen}\nits log:\n{}", self.log()))
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks until there is something to be found; else says what was last seen.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let began_at = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(
                began_at.elapsed() < PATIENCE,
                "waited in vain for {what}; last seen:\n{seen}"
            ),
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// A status and a body, or why there is none.
pub fn get(url: &str) -> Result<(u16, String), String> {
    answer(agent().get(url).call())
}

/// Sends a body as it is.
pub fn post(url: &str, body: &str) -> Result<(u16, String), String> {
    answer(agent().post(url).send(body))
}

/// Sends a form.
pub fn post_form(url: &str, fields: &[(&str, &str)]) -> Result<(u16, String), String> {
    answer(agent().post(url).send_form(fields.iter().copied()))
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .build()
        .into()
}

fn answer(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<(u16, String), String> {
    let mut response = result.map_err(|error| error.to_string())?;
    let body = response
        .body_mut()
        .read_to_string()
        .map_err(|error| error.to_string())?;
    Ok((response.status().as_u16(), body))
}

/// The body of an answer that says that all is well.
pub fn body_of(answer: Result<(u16, String), String>) -> Result<String, String> {
    match answer? {
        (200 | 204, body) => Ok(body),
        (status, body) => Err(format!("{status}: {body}")),
    }
}

/// The same as JSON.
pub fn json_of(answer: Result<(u16, String), String>) -> Result<Value, String> {
    serde_json::from_str(&body_of(answer)?).map_err(|error| error.to_string())
}
