//! Collects spans as a collector does, and tells how complete the traces of probes are, and where their time went.
//!
//! It keeps what it judges in memory, for a run; it is no store of traces.

mod collect;
mod judge;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::histogram::Summary;

pub use judge::{APPLY_BY_ANOTHER, BEGUN_LATE, LEGS, Rules, judge};

/// Between two looks whether the end has come.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How far it stands back, as a nice value.
const NICE: i32 = 10;

/// How traces are collected.
#[derive(Clone, Debug)]
pub struct TracesOptions {
    /// Where OTLP is taken in, over gRPC; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How long; until `stop` if it is not said.
    pub seconds: Option<Duration>,
    /// Where every span is written, one JSON object a line.
    pub spans: Option<PathBuf>,
    /// When a probe is complete.
    pub rules: Rules,
    /// Set when it is to end.
    pub stop: Arc<AtomicBool>,
}

/// A span, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Its trace, 32 hexadecimal digits.
    pub trace: String,
    /// Itself, 16 hexadecimal digits.
    pub span: String,
    /// Its parent, 16 hexadecimal digits; empty for a root.
    pub parent: String,
    /// What it tells of.
    pub name: String,
    /// Which process told it, `service.name/service.instance.id`.
    pub process: String,
    /// The entity that it tells of, as it is logged; empty if it names none.
    #[serde(default)]
    pub entity: String,
    /// The number of the action that it tells of.
    #[serde(default)]
    pub sequence: Option<u32>,
    /// When it began, in microseconds of the Unix epoch, by that process's clock.
    pub began_us: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// Whether it ended with an error.
    pub is_error: bool,
}

/// What is told of the traces of probes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TracesReport {
    /// Spans that came.
    pub spans: u64,
    /// Spans of more traces than are kept.
    pub spans_not_kept: u64,
    /// Probes of which anything was told; those of the last seconds are left out, for not all of their spans have come.
    pub probes: u64,
    /// Those whose player saw their echo, and of which every leg was told.
    pub complete: u64,
    /// Legs that were not told, and of how many probes. What only another client can tell is named [`APPLY_BY_ANOTHER`].
    pub missing: BTreeMap<String, u64>,
    /// Spans whose parent was not told.
    pub orphans: BTreeMap<String, u64>,
    /// Probes whose player gave up waiting for their echo.
    pub unanswered: u64,
    /// Complete probes that another client saw.
    pub observed: u64,
    /// Complete probes whose action changed hands over the bus, with both of its legs.
    pub over_a_border: u64,
    /// Processes that took part in the probe with the most.
    pub processes_max: u64,
    /// How long each leg took, in milliseconds, by the span's name.
    pub legs_ms: BTreeMap<String, Summary>,
    /// Spans by name.
    pub by_name: BTreeMap<String, u64>,
}

impl TracesReport {
    /// The share of probes that are complete; nothing if there were none.
    pub fn completeness(&self) -> Option<f64> {
        (self.probes > 0).then(|| self.complete as f64 / self.probes as f64)
    }
}

/// Collects for as long as it is asked to, and judges. `listening` is told where.
///
/// # Errors
/// The address is taken, or the spans cannot be written.
pub fn run(options: &TracesOptions, listening: impl FnOnce(SocketAddr)) -> anyhow::Result<TracesReport> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the collector's runtime")?;
    // A collector has a machine of its own; this one gets out of the way of what it is told of, where both were started together.
    let _ = rustix::process::nice(NICE);
    let mut kept = options
        .spans
        .as_ref()
        .map(|path| File::create(path).with_context(|| format!("cannot write {}", path.display())))
        .transpose()?
        .map(BufWriter::new);
    let collected = runtime.block_on(async {
        let end = async {
            let ends = options.seconds.map(|seconds| tokio::time::Instant::now() + seconds);
            while !options.stop.load(Ordering::Relaxed) && ends.is_none_or(|at| tokio::time::Instant::now() < at) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        collect::collect(options.listen, listening, end).await
    })?;
    if let Some(file) = &mut kept {
        for span in &collected.spans {
            serde_json::to_writer(&mut *file, span).context("cannot write the spans")?;
            file.write_all(b"\n").context("cannot write the spans")?;
        }
        file.flush().context("cannot write the spans")?;
    }
    Ok(judge(&collected.spans, collected.not_kept, options.rules))
}
