//! What a zone of a cluster tells of itself: where it is served, and how it does.

use std::{net::SocketAddr, time::Duration};

use meridian_bus::directory::{Announcement, ServiceDetail, ServiceKind};
use meridian_ids::{LeaseEpoch, TickRate, ZoneId};
use meridian_zone::Zone;

use crate::{
    cluster::{Addresses, ClusterBus},
    roles::front::SharedDetail,
};

/// A zone's place in a cluster.
#[derive(Clone)]
pub(super) struct ClusterMember {
    pub(super) cluster: ClusterBus,
    /// Where others reach its fabric.
    pub(super) fabric: SocketAddr,
    /// Where others reach its gRPC API.
    pub(super) rpc: Option<SocketAddr>,
}

impl ClusterMember {
    /// The newest instance that serves a zone, as far as is known: its lease and its name.
    pub(super) fn holder(&self, wanted: ZoneId) -> Option<(LeaseEpoch, String)> {
        let services = self.cluster.services();
        let serving = services.iter().filter_map(|listed| match listed.service.kind {
            ServiceKind::Zone { zone, lease } if zone == wanted => Some((lease, &listed.service.instance)),
            _ => None,
        });
        serving
            .max_by_key(|(lease, _)| *lease)
            .map(|(lease, instance)| (lease, instance.clone()))
    }
}

/// What has been told of one instance of a zone; it is taken back when the instance ends.
pub(super) struct Told {
    /// Where it is told to this process.
    here: SharedDetail,
    announced: Option<(LeaseEpoch, Option<Box<dyn Announcement>>)>,
    took_us: Vec<u32>,
    /// From one telling to the next: a second.
    every_ticks: u32,
}

impl Told {
    /// Of an instance that has not begun.
    pub(super) fn new(here: SharedDetail, rate: TickRate) -> Self {
        Self {
            here,
            announced: None,
            took_us: Vec::new(),
            every_ticks: rate.hz(),
        }
    }

    /// The zone does not simulate. Its next tick is the first again.
    pub(super) fn paused(&mut self) {
        self.here.tell(None);
        self.took_us.clear();
    }

    /// A tick was simulated under a lease: from the first on, others are told, those of other processes where there are any.
    pub(super) fn ticked(
        &mut self,
        member: Option<&ClusterMember>,
        zone: &Zone,
        (lease, took): (LeaseEpoch, Duration),
    ) {
        if self.took_us.is_empty() {
            self.here.begin();
        }
        self.took_us.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        if let Some(member) = member
            && self.announced.as_ref().is_none_or(|(known, _)| *known != lease)
        {
            let kind = ServiceKind::Zone { zone: zone.id(), lease };
            let addresses = Addresses {
                fabric: Some(member.fabric),
                public: member.rpc,
            };
            self.announced = Some((lease, member.cluster.announce(kind, addresses)));
        }
        if self.took_us.len() < self.every_ticks as usize {
            return;
        }
        let mut took_us = std::mem::take(&mut self.took_us);
        took_us.sort_unstable();
        let (entities, players) = zone.population();
        let detail = ServiceDetail {
            tick_p50_us: percentile(&took_us, 50),
            tick_p99_us: percentile(&took_us, 99),
            entities: u32::try_from(entities).unwrap_or(u32::MAX),
            players: u32::try_from(players).unwrap_or(u32::MAX),
            lag_ticks: zone.lag_ticks(),
        };
        self.here.tell(Some(detail));
        if let Some((_, Some(announcement))) = &self.announced {
            announcement.update(detail.players, detail);
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.here.tell(None);
    }
}

/// Of sorted figures.
fn percentile(sorted: &[u32], percent: usize) -> u32 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or(0)
}
