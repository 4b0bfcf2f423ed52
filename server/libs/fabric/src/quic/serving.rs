//! The zones that this process serves, and the links that wait to be taken by them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use meridian_ids::ZoneId;

use super::hello::{Party, Refusal};
use super::link::{AnyLink, CloseCode};
use crate::{PeerEnd, ZoneEnd};

/// Links of one zone that wait to be taken: a zone takes them in each tick, and has a gateway for every few hundred players.
const ACCEPTED_WAITING_MAX: usize = 64;

/// A link that somebody has dialled.
pub enum AcceptedLink {
    /// A gateway's.
    Gateway {
        /// The gateway's name. A later link of the same name replaces the former.
        gateway: String,
        /// The zone's end of it.
        end: Arc<dyn ZoneEnd>,
    },
    /// A neighbouring zone's.
    Peer {
        /// The neighbour. A later link of the same zone replaces the former.
        zone: ZoneId,
        /// The zone's end of it.
        end: Arc<dyn PeerEnd>,
    },
}

impl AcceptedLink {
    fn is_closed(&self) -> bool {
        match self {
            Self::Gateway { end, .. } => end.is_closed(),
            Self::Peer { end, .. } => end.is_closed(),
        }
    }
}

/// Where a zone takes the links that others have dialled. While it is held the zone is served; dropped, it ends them.
pub trait LinkSource: Send + Sync {
    /// The next link, if there is one.
    fn try_accept(&self) -> Option<AcceptedLink>;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The zones of this process.
#[derive(Default)]
pub(super) struct Registry {
    zones: Mutex<HashMap<ZoneId, Arc<Served>>>,
}

/// One zone of this process, from when it is served to when it is served anew.
#[derive(Default)]
pub(super) struct Served {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_over: bool,
    waiting: VecDeque<AcceptedLink>,
    links: HashMap<Party, Weak<dyn AnyLink>>,
}

struct Source {
    zone: ZoneId,
    served: Arc<Served>,
    registry: Arc<Registry>,
}

impl Registry {
    /// Serves a zone. Who served it before gets no more links, and those that it has end.
    pub(super) fn serve(self: &Arc<Self>, zone: ZoneId) -> Arc<dyn LinkSource> {
        let served = Arc::new(Served::default());
        let former = lock(&self.zones).insert(zone, Arc::clone(&served));
        if let Some(former) = former {
            former.end(CloseCode::Left);
        }
        Arc::new(Source {
            zone,
            served,
            registry: Arc::clone(self),
        })
    }

    pub(super) fn find(&self, zone: ZoneId) -> Option<Arc<Served>> {
        lock(&self.zones).get(&zone).cloned()
    }
}

impl Served {
    /// Lets a link wait for the zone. A former one of the same party ends.
    pub(super) fn admit(&self, party: Party, link: Weak<dyn AnyLink>, accepted: AcceptedLink) -> Result<(), Refusal> {
        let former = {
            let mut state = lock(&self.state);
            if state.is_over {
                return Err(Refusal::Zone);
            }
            state.waiting.retain(|waiting| !waiting.is_closed());
            if state.waiting.len() >= ACCEPTED_WAITING_MAX {
                return Err(Refusal::Busy);
            }
            state.links.retain(|_, link| link.strong_count() > 0);
            state.waiting.push_back(accepted);
            state.links.insert(party, link)
        };
        if let Some(former) = former.and_then(|former| former.upgrade()) {
            former.end(CloseCode::Replaced);
        }
        Ok(())
    }

    fn end(&self, code: CloseCode) {
        let (waiting, links) = {
            let mut state = lock(&self.state);
            state.is_over = true;
            (std::mem::take(&mut state.waiting), std::mem::take(&mut state.links))
        };
        for link in links.into_values().filter_map(|link| link.upgrade()) {
            link.end(code);
        }
        drop(waiting);
    }
}

impl LinkSource for Source {
    fn try_accept(&self) -> Option<AcceptedLink> {
        let mut state = lock(&self.served.state);
        while let Some(accepted) = state.waiting.pop_front() {
            if !accepted.is_closed() {
                return Some(accepted);
            }
        }
        None
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        {
            let mut zones = lock(&self.registry.zones);
            let is_own = |served: &Arc<Served>| Arc::ptr_eq(served, &self.served);
            if zones.get(&self.zone).is_some_and(is_own) {
                zones.remove(&self.zone);
            }
        }
        self.served.end(CloseCode::Left);
    }
}
