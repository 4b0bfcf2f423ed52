//! The zones that this process serves, and the links that wait to be taken by them.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use meridian_ids::{LeaseEpoch, ZoneId};

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
        /// The neighbour. A later link of the same zone replaces the former, unless that one's instance is newer.
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
    links: HashMap<Party, Linked>,
}

/// The link of a party.
struct Linked {
    /// What its instance has said of how new it is.
    lease: Option<LeaseEpoch>,
    link: Weak<dyn AnyLink>,
}

impl Linked {
    fn is_live(&self) -> bool {
        self.link.upgrade().is_some_and(|link| !link.is_over())
    }
}

/// Why a link was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAdmitted {
    /// The zone is not served any more.
    #[error("the zone is not served here any more; it will be elsewhere, or later")]
    Over,
    /// Too many links wait to be taken.
    #[error("the zone takes no more links now; it will later")]
    Busy,
    /// Somebody newer has the link.
    #[error(
        "another instance of the zone is newer (its lease is {}, this one's {}); end this one, or let it stand by until it has the zone",
        .newer.0, Said(*.lease)
    )]
    Outdated {
        /// The newer one's lease.
        newer: LeaseEpoch,
        /// What the refused one has said.
        lease: Option<LeaseEpoch>,
    },
}

impl NotAdmitted {
    /// What the peer is told.
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Self::Over => Refusal::Zone,
            Self::Busy => Refusal::Busy,
            Self::Outdated { .. } => Refusal::Outdated,
        }
    }
}

/// A lease for people.
struct Said(Option<LeaseEpoch>);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(LeaseEpoch(lease)) => lease.fmt(f),
            None => f.write_str("not known"),
        }
    }
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
    /// Lets a link wait for the zone. A former one of the same party ends, unless its instance is newer: what knows no lease is older than
    /// what knows one, and of two that are as new as each other the later has the link.
    pub(super) fn admit(
        &self,
        (party, lease): (Party, Option<LeaseEpoch>),
        link: Weak<dyn AnyLink>,
        accepted: AcceptedLink,
    ) -> Result<(), NotAdmitted> {
        let former = {
            let mut state = lock(&self.state);
            if state.is_over {
                return Err(NotAdmitted::Over);
            }
            let former = state.links.get(&party).filter(|former| former.is_live());
            if let Some(newer) = former
                .and_then(|former| former.lease)
                .filter(|newer| lease < Some(*newer))
            {
                return Err(NotAdmitted::Outdated { newer, lease });
            }
            state.waiting.retain(|waiting| !waiting.is_closed());
            if state.waiting.len() >= ACCEPTED_WAITING_MAX {
                return Err(NotAdmitted::Busy);
            }
            state.links.retain(|_, linked| linked.link.strong_count() > 0);
            state.waiting.push_back(accepted);
            state.links.insert(party, Linked { lease, link })
        };
        if let Some(former) = former.and_then(|former| former.link.upgrade()) {
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
        for link in links.into_values().filter_map(|linked| linked.link.upgrade()) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PeerMessage;
    use crate::quic::link::{End, Link};

    type PeerLink = Link<PeerMessage, PeerMessage>;

    const NEIGHBOUR: ZoneId = ZoneId(1);

    /// A link of the neighbour whose instance has said this.
    fn dial(served: &Served, lease: Option<u64>) -> Result<Arc<PeerLink>, NotAdmitted> {
        let link = PeerLink::new(Arc::new(|| ()));
        link.outbox.open();
        let any: Arc<dyn AnyLink> = Arc::clone(&link) as _;
        let accepted = AcceptedLink::Peer {
            zone: NEIGHBOUR,
            end: Arc::new(End::accepted(Arc::clone(&link))),
        };
        let instance = (Party::Zone(NEIGHBOUR), lease.map(LeaseEpoch));
        served.admit(instance, Arc::downgrade(&any), accepted)?;
        Ok(link)
    }

    #[test]
    fn of_two_instances_of_a_zone_the_newer_has_the_link_and_of_equals_the_later() {
        let leases = [None, Some(0), Some(1), Some(u64::MAX)];
        for (place, former) in leases.into_iter().enumerate() {
            for (later_place, later) in leases.into_iter().enumerate() {
                let served = Served::default();
                let first = dial(&served, former).unwrap();
                let second = dial(&served, later);
                let replaces = later_place >= place;
                assert_eq!(second.is_ok(), replaces, "{former:?} {later:?}");
                assert_eq!(first.is_over(), replaces, "{former:?} {later:?}");
                if let Err(error) = second {
                    assert_eq!(error.refusal(), Refusal::Outdated);
                    assert!(error.to_string().contains("another instance of the zone is newer"));
                }
            }
        }
    }

    #[test]
    fn an_older_instance_has_the_link_once_the_newer_ones_has_ended() {
        let served = Served::default();
        let newer = dial(&served, Some(6)).unwrap();
        assert!(dial(&served, Some(5)).is_err());
        newer.end(CloseCode::Left);
        let older = dial(&served, Some(5)).unwrap();
        assert!(!older.is_over());
    }
}
