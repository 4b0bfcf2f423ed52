//! The directory of a world that lives in a store: a task says what is announced, withdraws what is dropped, and keeps a snapshot.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use meridian_events::envelope;
use metrics::counter;
use redis::Value;
use tokio::sync::Notify;

use super::answer::Parts;
use super::facts::Control;
use super::keys::Keys;
use super::scripts::{ScriptName, call};
use super::store::nonce;
use super::{ValkeyError, words};
use crate::directory::{
    ANNOUNCED_EVERY, Announcement, Directory, DirectoryError, Listed, SERVICE_TTL, SNAPSHOT_EVERY, Service,
    ServiceDetail,
};
use crate::metric_definitions::BUS_UNREADABLE_SERVICES;

/// Who waits for a fresh list, at most: more than a process has threads that ask.
const ASKERS_MAX: usize = 64;

type Answer = Result<Vec<Listed>, DirectoryError>;

#[derive(Debug)]
struct Own {
    service: Service,
    /// When it was last said that it is there.
    said: Option<Instant>,
}

#[derive(Debug, Default)]
struct State {
    /// By who announces: a number that nobody else has.
    announced: BTreeMap<u64, Own>,
    /// What is not there any more: its identity, and who had announced it.
    withdrawn: Vec<(String, u64)>,
    askers: Vec<SyncSender<Answer>>,
    is_closed: bool,
}

struct Shared {
    state: Mutex<State>,
    snapshot: Mutex<Arc<Vec<Listed>>>,
    changed: Notify,
    response_timeout: Duration,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each access leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The services of a world.
#[derive(Clone)]
pub struct ValkeyDirectory {
    shared: Arc<Shared>,
    _end: Arc<End>,
}

/// Ends the task when nobody has the directory any more.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.state().is_closed = true;
        self.0.changed.notify_one();
    }
}

impl ValkeyDirectory {
    pub(super) fn new(
        control: Arc<Control>,
        keys: Keys,
        response_timeout: Duration,
        runtime: &tokio::runtime::Handle,
    ) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            snapshot: Mutex::default(),
            changed: Notify::new(),
            response_timeout,
        });
        let task = ServicesTask {
            shared: Arc::clone(&shared),
            control,
            services: keys.services(),
            unreadable: AtomicU64::new(0),
        };
        runtime.spawn(task.run());
        let end = Arc::new(End(Arc::clone(&shared)));
        Self { shared, _end: end }
    }
}

impl Directory for ValkeyDirectory {
    fn announce(&self, service: Service) -> Result<Box<dyn Announcement>, DirectoryError> {
        let service = service.checked()?;
        let announced = nonce();
        let said = None;
        self.shared.state().announced.insert(announced, Own { service, said });
        self.shared.changed.notify_one();
        Ok(Box::new(Announced {
            directory: self.clone(),
            announced,
        }))
    }

    fn list(&self) -> Result<Vec<Listed>, DirectoryError> {
        let unavailable = |why: &str| DirectoryError::Unavailable(why.to_owned());
        let (asker, answer) = std::sync::mpsc::sync_channel(1);
        {
            let mut state = self.shared.state();
            if state.askers.len() >= ASKERS_MAX {
                return Err(unavailable("too many ask"));
            }
            state.askers.push(asker);
        }
        self.shared.changed.notify_one();
        // What is to be said comes first, then what is asked.
        let answer = answer.recv_timeout(2 * self.shared.response_timeout);
        answer.unwrap_or_else(|_| Err(unavailable("no answer in time")))
    }

    fn snapshot(&self) -> Arc<Vec<Listed>> {
        Arc::clone(&self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Withdraws at its end.
struct Announced {
    directory: ValkeyDirectory,
    announced: u64,
}

impl Announcement for Announced {
    fn update(&self, load: u32, detail: ServiceDetail) {
        if let Some(own) = self.directory.shared.state().announced.get_mut(&self.announced) {
            (own.service.load, own.service.detail) = (load, detail);
        }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        let mut state = self.directory.shared.state();
        if let Some(own) = state.announced.remove(&self.announced) {
            state.withdrawn.push((own.service.identity(), self.announced));
        }
        drop(state);
        self.directory.shared.changed.notify_one();
    }
}

struct ServicesTask {
    shared: Arc<Shared>,
    control: Arc<Control>,
    services: String,
    /// Services of the last listing that could not be read.
    unreadable: AtomicU64,
}

impl ServicesTask {
    async fn run(self) {
        let mut looked: Option<Instant> = None;
        loop {
            // What was announced or dropped before somebody asked is in what is answered.
            let askers = std::mem::take(&mut self.shared.state().askers);
            self.speak().await;
            if !askers.is_empty() || looked.is_none_or(|looked| looked.elapsed() >= SNAPSHOT_EVERY) {
                looked = Some(Instant::now());
                self.look(askers).await;
            }
            if self.is_done() {
                return;
            }
            let _ = tokio::time::timeout(SNAPSHOT_EVERY, self.shared.changed.notified()).await;
        }
    }

    fn is_done(&self) -> bool {
        let state = self.shared.state();
        state.is_closed && state.withdrawn.is_empty()
    }

    /// Withdraws what is not there any more, and says what is.
    async fn speak(&self) {
        while let Some((identity, announced)) = { self.shared.state().withdrawn.first().cloned() } {
            let mut question = call(ScriptName::Withdraw, std::slice::from_ref(&self.services));
            question.arg(identity).arg(words::long(announced));
            if let Err(error) = self.control.ask(&question).await {
                tracing::warn!(%error, "a service is still listed until its time is up");
            }
            self.shared.state().withdrawn.remove(0);
        }
        let is_due = |own: &Own| own.said.is_none_or(|said| said.elapsed() >= ANNOUNCED_EVERY);
        let due: Vec<(u64, Service)> = {
            let state = self.shared.state();
            let due = state.announced.iter().filter(|(_, own)| is_due(own));
            due.map(|(announced, own)| (*announced, own.service.clone())).collect()
        };
        for (announced, service) in due {
            match self.say(announced, &service).await {
                Ok(()) => {
                    if let Some(own) = self.shared.state().announced.get_mut(&announced) {
                        own.said = Some(Instant::now());
                    }
                }
                Err(error) => return tracing::warn!(%error, "a service is not announced"),
            }
        }
    }

    async fn say(&self, announced: u64, service: &Service) -> Result<(), ValkeyError> {
        let envelope = envelope::encode(None, service).map_err(|error| ValkeyError::TooLong(error.to_string()))?;
        let mut question = call(ScriptName::Announce, std::slice::from_ref(&self.services));
        question.arg(service.identity()).arg(words::long(announced));
        question.arg(SERVICE_TTL.as_micros() as u64).arg(envelope);
        self.control.ask(&question).await.map(drop)
    }

    async fn look(&self, askers: Vec<SyncSender<Answer>>) {
        let answer = self
            .listed()
            .await
            .map_err(|error| DirectoryError::Unavailable(error.to_string()));
        if let Ok(listed) = &answer {
            *self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(listed.clone());
        }
        for asker in askers {
            // One that has given up hears nothing.
            let _ = asker.send(answer.clone());
        }
    }

    async fn listed(&self) -> Result<Vec<Listed>, ValkeyError> {
        let mut question = call(ScriptName::Listed, std::slice::from_ref(&self.services));
        question.arg(SERVICE_TTL.as_micros() as u64);
        let (listed, unreadable) = read_listed(self.control.ask(&question).await?)?;
        let before = self.unreadable.swap(unreadable, Ordering::Relaxed);
        if unreadable > before {
            counter!(BUS_UNREADABLE_SERVICES).increment(unreadable - before);
            tracing::warn!(
                unreadable,
                "services are listed in a way that is not read here; the others are"
            );
        }
        Ok(listed)
    }
}

/// The services of a listing, and how many more there are that cannot be read: of another version, or a stranger's.
fn read_listed(answer: Value) -> Result<(Vec<Listed>, u64), ValkeyError> {
    let mut parts = Parts::new(answer)?;
    let (mut listed, mut unreadable) = (Vec::new(), 0);
    while !parts.is_empty() {
        let (left, envelope) = (parts.number(), parts.bytes());
        let service = envelope.ok().and_then(|bytes| envelope::decode::<Service>(&bytes).ok());
        let service = service.and_then(|service| service.body.checked().ok());
        let (Ok(left), Some(service)) = (left, service) else {
            unreadable += 1;
            continue;
        };
        let renewed_ago = SERVICE_TTL.saturating_sub(Duration::from_micros(left));
        listed.push(Listed { service, renewed_ago });
    }
    listed.sort_by_cached_key(|listed| listed.service.identity());
    Ok((listed, unreadable))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::directory::ServiceKind;

    fn service() -> Service {
        Service {
            kind: ServiceKind::Chat,
            instance: "one".to_owned(),
            fabric: None,
            public: None,
            admin: None,
            load: 1,
            detail: ServiceDetail::default(),
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Nil),
            any::<i64>().prop_map(Value::Int),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(Value::BulkString),
            "[0-9]{1,24}".prop_map(|digits| Value::BulkString(digits.into_bytes())),
        ]
    }

    proptest! {
        #[test]
        fn whatever_stands_before_a_service_it_is_listed(pairs in prop::collection::vec((value(), value()), 0..8)) {
            let envelope = envelope::encode(None, &service()).unwrap();
            let mut parts: Vec<Value> = pairs.iter().cloned().flat_map(<[Value; 2]>::from).collect();
            parts.extend([Value::Int(7), Value::BulkString(envelope)]);
            let (listed, unreadable) = read_listed(Value::Array(parts)).unwrap();
            prop_assert!(listed.iter().any(|listed| listed.service == service()));
            prop_assert_eq!(listed.len() + unreadable as usize, pairs.len() + 1);
        }
    }
}
