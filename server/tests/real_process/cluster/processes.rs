//! A process of a cluster that can be killed, stopped and started again on the same ports.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, ExitStatus, Stdio},
};

use serde_json::Value;

use crate::free_port::free_port;
use crate::support::{Folder, command_in, signal, wait_until};

/// One process; killed when dropped.
pub struct Process {
    instance: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    ready_file: PathBuf,
    log_file: PathBuf,
    admin: String,
    fabric: SocketAddr,
    child: Option<Child>,
    ready: Value,
}

impl Process {
    /// Not started yet. Its ports are chosen here, so that they are the same each time it is started: who follows it finds it again.
    pub fn new(folder: &Folder, instance: &str) -> Self {
        let ready_file = folder.path().join(format!("{instance}.json"));
        let any = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (admin, fabric) = (any().to_string(), any());
        let mut process = Self {
            instance: instance.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            ready_file,
            log_file: folder.path().join(format!("{instance}.log")),
            admin: admin.clone(),
            fabric,
            child: None,
            ready: Value::Null,
        };
        process
            .arguments(&["--http", &any().to_string(), "--admin", &admin])
            .arguments(&[
                "--gateway",
                &any().to_string(),
                "--fabric",
                &fabric.to_string(),
                "--rpc",
                &any().to_string(),
            ]);
        process
    }

    pub fn arguments(&mut self, arguments: &[&str]) -> &mut Self {
        self.arguments.extend(arguments.iter().map(|text| (*text).to_owned()));
        self
    }

    pub fn environment(&mut self, name: &str, value: &str) -> &mut Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it; what it logs is added to what it logged before.
    pub fn start(&mut self, folder: &Folder) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log_file)
            .unwrap();
        let _ = fs::remove_file(&self.ready_file);
        let child = command_in(folder)
            .args(&self.arguments)
            .arg("--ready-file")
            .arg(&self.ready_file)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    pub fn await_ready(&mut self) {
        let (path, instance) = (self.ready_file.clone(), self.instance.clone());
        let child = self.child.as_mut().unwrap();
        let mut exited = None;
        wait_until(&format!("{instance} to be ready"), || {
            exited = child.try_wait().unwrap();
            exited.is_some() || path.exists()
        });
        assert!(
            exited.is_none(),
            "{instance} ended before it was ready:\n{}",
            fs::read_to_string(&self.log_file).unwrap_or_default()
        );
        self.ready = serde_json::from_str(&fs::read_to_string(&self.ready_file).unwrap()).unwrap();
    }

    /// Waits until its admin listener answers: a zone that waits for its lease is not ready.
    pub fn await_start(&self) {
        wait_until(&format!("{} to start", self.instance), || {
            TcpStream::connect(&self.admin).is_ok()
        });
    }

    /// Where its fabric listens.
    pub fn fabric(&self) -> SocketAddr {
        self.fabric
    }

    /// The URL of its admin listener, from the beginning on.
    pub fn admin(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// The URL of a path of the listener `http` or `admin`.
    pub fn url(&self, listener: &str, path: &str) -> String {
        format!("http://{}{path}", self.ready[listener].as_str().unwrap())
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Kills it, as a power cut would.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits for its end.
    pub fn await_exit(&mut self) -> ExitStatus {
        let child = self.child.as_mut().unwrap();
        let mut exited = None;
        wait_until(&format!("the end of {}", self.instance), || {
            exited = child.try_wait().unwrap();
            exited.is_some()
        });
        exited.unwrap()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log_file).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
