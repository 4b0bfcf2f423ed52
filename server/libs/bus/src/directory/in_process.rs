//! The directory of a world that lives in one process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Announcement, Directory, DirectoryError, Listed, Service, ServiceDetail};

#[derive(Debug)]
struct Entry {
    announced: u64,
    service: Service,
}

#[derive(Debug, Default)]
struct State {
    services: BTreeMap<String, Entry>,
    announced: u64,
}

/// Services of one process: they are there as long as what announced them.
#[derive(Clone, Debug, Default)]
pub struct InProcessDirectory {
    state: Arc<Mutex<State>>,
}

impl InProcessDirectory {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each access leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Directory for InProcessDirectory {
    fn announce(&self, service: Service) -> Result<Box<dyn Announcement>, DirectoryError> {
        let service = service.checked()?;
        let identity = service.identity();
        let mut state = self.state();
        state.announced += 1;
        let entry = Entry {
            announced: state.announced,
            service,
        };
        let announced = entry.announced;
        state.services.insert(identity.clone(), entry);
        Ok(Box::new(Announced {
            directory: self.clone(),
            identity,
            announced,
        }))
    }

    fn list(&self) -> Result<Vec<Listed>, DirectoryError> {
        Ok(self.snapshot().to_vec())
    }

    fn snapshot(&self) -> Arc<Vec<Listed>> {
        let state = self.state();
        let listed = state.services.values().map(|entry| Listed {
            service: entry.service.clone(),
            // It is there: nobody has to say so again.
            renewed_ago: Duration::ZERO,
        });
        Arc::new(listed.collect())
    }
}

struct Announced {
    directory: InProcessDirectory,
    identity: String,
    announced: u64,
}

impl Announcement for Announced {
    fn update(&self, load: u32, detail: ServiceDetail) {
        let mut state = self.directory.state();
        if let Some(entry) = state.services.get_mut(&self.identity)
            && entry.announced == self.announced
        {
            (entry.service.load, entry.service.detail) = (load, detail);
        }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        let mut state = self.directory.state();
        let is_own = |entry: &Entry| entry.announced == self.announced;
        if state.services.get(&self.identity).is_some_and(is_own) {
            state.services.remove(&self.identity);
        }
    }
}
