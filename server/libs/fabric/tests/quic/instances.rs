//! A zone that two processes have started: its neighbours talk to the newer one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meridian_fabric::{FabricEndpoint, LeaseFn, LinkSource, PeerEnd};
use meridian_ids::{LeaseEpoch, ZoneId};

use crate::refusals::{keep_warnings, refused, warnings};
use crate::support::*;

/// The zone that is started twice.
const TWICE: ZoneId = ZoneId(1);

/// A lease that can be changed; 0 is none.
#[derive(Clone, Default)]
struct Lease(Arc<AtomicU64>);

impl Lease {
    fn new(lease: u64) -> Self {
        let own = Self::default();
        own.set(lease);
        own
    }

    fn set(&self, lease: u64) {
        self.0.store(lease, Ordering::SeqCst);
    }

    fn said(&self) -> LeaseFn {
        let lease = Arc::clone(&self.0);
        Arc::new(move || {
            Some(lease.load(Ordering::SeqCst))
                .filter(|lease| *lease > 0)
                .map(LeaseEpoch)
        })
    }
}

/// The neighbour of a zone that is started twice, and the two processes.
struct Instances {
    _world: World,
    neighbour: FabricEndpoint,
    source: Arc<dyn LinkSource>,
    one: FabricEndpoint,
    other: FabricEndpoint,
}

impl Instances {
    fn new() -> Self {
        let world = World::new();
        let (neighbour, one, other) = (world.zones("neighbour"), world.zones("one"), world.zones("other"));
        Self {
            source: neighbour.serve(ZONE),
            neighbour,
            one,
            other,
            _world: world,
        }
    }

    fn dial(&self, from: &FabricEndpoint, lease: &Lease) -> Arc<dyn PeerEnd> {
        from.to_peer_as(TWICE, ZONE, at(self.neighbour.local_addr()), lease.said())
    }
}

fn is_outdated_again() -> impl FnMut() -> bool {
    let before = refused("dialling", "outdated");
    move || refused("dialling", "outdated") > before
}

#[test]
fn the_older_of_two_instances_of_a_zone_takes_no_link_from_the_newer_however_often_it_dials() {
    keep_warnings();
    let instances = Instances::new();
    let newer = instances.dial(&instances.one, &Lease::new(6));
    let (zone, accepted) = accept_peer(&instances.source);
    assert_eq!(zone, TWICE);
    until("the link", || newer.is_connected());
    // It has lost its lease; and this one never had one.
    for lease in [5, 0] {
        let is_refused = is_outdated_again();
        let older = instances.dial(&instances.other, &Lease::new(lease));
        until("a refusal", is_refused);
        until("another refusal", is_outdated_again());
        assert!(!older.is_connected() && newer.is_connected() && !accepted.is_closed());
        assert!(instances.source.try_accept().is_none());
    }
    assert_eq!(warnings("a peer is refused").len(), 1);
    let said = warnings("another instance of the zone is newer (its lease is 6, this one's 5)");
    // At the neighbour, and at the older instance.
    assert_eq!(said.len(), 2, "{said:?}");
}

#[test]
fn the_newer_instance_of_a_zone_takes_the_link_from_the_older_which_is_told_and_has_it_again_after() {
    keep_warnings();
    let instances = Instances::new();
    let older = instances.dial(&instances.one, &Lease::new(5));
    let (_, former) = accept_peer(&instances.source);
    until("the link", || older.is_connected());
    let is_refused = is_outdated_again();
    let newer = instances.dial(&instances.other, &Lease::new(6));
    let (_, accepted) = accept_peer(&instances.source);
    until("the newer one's link", || newer.is_connected());
    until("the end of the former", || former.is_closed());
    until("a refusal of the older one", is_refused);
    assert!(!older.is_connected() && !accepted.is_closed());
    let said = warnings("another process has linked under this name");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("two instances of the zone dial") && !said[0].contains("gateway"),
        "{said:?}"
    );

    drop(newer);
    accept_peer(&instances.source);
    until("the older one's link", || older.is_connected());
}

#[test]
fn an_instance_that_was_refused_takes_the_link_when_it_has_a_newer_lease() {
    let instances = Instances::new();
    let first = instances.dial(&instances.one, &Lease::new(6));
    let (_, _accepted) = accept_peer(&instances.source);
    until("the link", || first.is_connected());
    let (is_refused, lease) = (is_outdated_again(), Lease::default());
    let second = instances.dial(&instances.other, &lease);
    until("a refusal", is_refused);
    lease.set(7);
    accept_peer(&instances.source);
    until("the link", || second.is_connected());
    until("the end of the other's", || !first.is_connected());
}

#[test]
fn of_two_instances_that_say_no_lease_the_later_replaces_the_former_as_ever() {
    let instances = Instances::new();
    let address = || at(instances.neighbour.local_addr());
    let _first = instances.one.to_peer(TWICE, ZONE, address());
    let (_, former) = accept_peer(&instances.source);
    let _second = instances.other.to_peer(TWICE, ZONE, address());
    accept_peer(&instances.source);
    until("the end of the former", || former.is_closed());
    assert_eq!(refused("dialling", "outdated"), 0);
}
