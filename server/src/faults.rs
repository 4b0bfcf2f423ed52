//! Faults on demand, for tests and measurements: a zone that stands still, a zone that panics. Only with `--fault-injection`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::post,
};
use meridian_ids::ZoneId;
use serde::Deserialize;

/// The longest that a zone can be made to stand still.
const STALL_MAX: Duration = Duration::from_secs(60);

/// Faults of one zone that wait to happen. Its thread looks after each tick.
#[derive(Debug, Default)]
pub struct ZoneFaults {
    stall_ms: AtomicU64,
    panics: AtomicBool,
}

impl ZoneFaults {
    /// Lets happen what was asked for.
    ///
    /// # Panics
    /// When that was asked for.
    pub fn happen(&self) {
        let stall_ms = self.stall_ms.swap(0, Ordering::Relaxed);
        if stall_ms > 0 {
            tracing::warn!(stall_ms, "fault injected: the zone stands still");
            std::thread::sleep(Duration::from_millis(stall_ms));
        }
        assert!(!self.panics.swap(false, Ordering::Relaxed), "fault injected");
    }
}

/// The faults of every zone of this process.
#[derive(Debug, Default)]
pub struct Faults {
    zones: Mutex<BTreeMap<u16, (String, Arc<ZoneFaults>)>>,
}

impl Faults {
    /// A zone whose thread will look for its faults.
    pub fn add_zone(&self, zone: ZoneId, name: &str) -> Arc<ZoneFaults> {
        let faults = Arc::default();
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        zones.insert(zone.0, (name.to_owned(), Arc::clone(&faults)));
        faults
    }

    fn zone(&self, named: &str) -> Option<Arc<ZoneFaults>> {
        let zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        let by_id = named.parse().ok().and_then(|id: u16| zones.get(&id));
        let found = by_id.or_else(|| zones.values().find(|(name, _)| name == named));
        found.map(|(_, faults)| Arc::clone(faults))
    }
}

/// `POST /v1/fault/zones/{index or name}/stall?ms=...` and `POST /v1/fault/zones/{index or name}/panic`.
pub fn router(faults: Arc<Faults>) -> Router {
    Router::new()
        .route("/v1/fault/zones/{zone}/stall", post(stall))
        .route("/v1/fault/zones/{zone}/panic", post(panic))
        .with_state(faults)
}

#[derive(Deserialize)]
struct Stall {
    ms: u64,
}

async fn stall(
    State(faults): State<Arc<Faults>>,
    Path(zone): Path<String>,
    Query(Stall { ms }): Query<Stall>,
) -> (StatusCode, String) {
    if Duration::from_millis(ms) > STALL_MAX {
        let longest = STALL_MAX.as_millis();
        return (StatusCode::BAD_REQUEST, format!("at most {longest} ms\n"));
    }
    happen_in(&faults, &zone, |faults| faults.stall_ms.store(ms, Ordering::Relaxed))
}

async fn panic(State(faults): State<Arc<Faults>>, Path(zone): Path<String>) -> (StatusCode, String) {
    happen_in(&faults, &zone, |faults| faults.panics.store(true, Ordering::Relaxed))
}

fn happen_in(faults: &Faults, zone: &str, set: impl FnOnce(&ZoneFaults)) -> (StatusCode, String) {
    match faults.zone(zone) {
        Some(faults) => {
            set(&faults);
            (StatusCode::OK, "after the next tick\n".to_owned())
        }
        None => (StatusCode::NOT_FOUND, format!("no zone {zone:?} in this process\n")),
    }
}
