//! Links come about, end, and come about again.

use std::sync::Arc;

use meridian_fabric::{FabricError, GatewayMessage, ZoneMessage};
use meridian_ids::ZoneId;

use crate::lossy::Relay;
use crate::refusals::{keep_warnings, warnings};
use crate::support::*;

#[test]
fn a_gateway_links_again_to_a_zone_that_came_back_elsewhere() {
    let world = World::new();
    let gateways = world.gateways("gateways");
    let discovery = Discovery::default();
    let gateway = gateways.to_zone(ZONE, "gateway-1".to_owned(), discovery.address(), Arc::new(|| ()));
    assert_eq!(gateway.send(GatewayMessage::Resync), Err(FabricError::Closed));

    let mut ports = Vec::new();
    for _ in 0..3 {
        let zones = world.zones("zones");
        ports.push(zones.local_addr().port());
        let source = zones.serve(ZONE);
        discovery.set(zones.local_addr());
        let (_, zone) = accept_gateway(&source);
        until("the link", || gateway.is_connected());
        gateway.send(join(1)).unwrap();
        assert_eq!(from_gateway(&zone), join(1));
        send_snapshot(&zone, &Arc::new(snapshot(1, 10)));
        assert!(matches!(from_zone(gateway.as_ref()), ZoneMessage::Snapshot(_)));
        zones.close();
        until("the end of the link", || zone.is_closed() && !gateway.is_connected());
        assert_eq!(gateway.send(join(2)), Err(FabricError::Closed));
        assert_eq!(zone.send(left(1)), Err(FabricError::Closed));
    }
    ports.dedup();
    assert_eq!(ports.len(), 3);
}

#[test]
fn a_zone_that_is_served_anew_replaces_the_former() {
    let Pair {
        zones,
        source,
        zone,
        gateway,
        ..
    } = &Pair::new();
    let anew = zones.serve(ZONE);
    until("the end of the former link", || zone.is_closed());
    let (_, zone) = accept_gateway(&anew);
    until("the new link", || gateway.is_connected());
    zone.send(left(5)).unwrap();
    assert!(matches!(from_zone(gateway.as_ref()), ZoneMessage::Left { .. }));
    assert!(source.try_accept().is_none());
}

#[test]
fn what_is_reliable_arrives_although_its_sender_has_left_right_after() {
    let pair = Pair::new();
    let count = 5_000;
    (0..count).for_each(|player| pair.gateway.send(join(player)).unwrap());
    drop(pair.gateway);
    for player in 0..count {
        assert_eq!(from_gateway(&pair.zone), join(player));
    }
    until("the end of the link", || pair.zone.is_closed());
    assert_eq!(pair.zone.send(left(1)), Err(FabricError::Closed));
}

#[test]
fn a_gateway_that_was_started_again_replaces_its_former_link_before_that_is_known_dead() {
    let world = World::new();
    let (zones, before) = (world.zones("zones"), world.gateways("before"));
    let source = zones.serve(ZONE);
    let relay = Relay::new(zones.local_addr());
    let _dead = dial(&before, "gateway-1", relay.address());
    let (_, former) = accept_gateway(&source);
    relay.lose_per_mille(1_000);
    let after = world.gateways("after");
    let gateway = dial(&after, "gateway-1", zones.local_addr());
    let (name, zone) = accept_gateway(&source);
    assert_eq!(name, "gateway-1");
    assert!(former.is_closed());
    until("the link", || gateway.is_connected());
    gateway.send(join(1)).unwrap();
    assert_eq!(from_gateway(&zone), join(1));
}

#[test]
fn of_two_gateways_of_one_name_each_is_told() {
    keep_warnings();
    let pair = Pair::new();
    let other = pair.world.gateways("other");
    let _gateway = dial(&other, "gateway-1", pair.zones.local_addr());
    until("a warning", || {
        !warnings("give each gateway a name of its own").is_empty()
    });
}

#[test]
fn several_zones_and_gateways_share_two_ports() {
    let world = World::new();
    let (zones, gateways) = (world.zones("zones"), world.gateways("gateways"));
    let sources: Vec<_> = (0..4).map(|zone| zones.serve(ZoneId(zone))).collect();
    let mut ends = Vec::new();
    for zone in 0..4 {
        for name in ["one", "two"] {
            let end = gateways.to_zone(ZoneId(zone), name.to_owned(), at(zones.local_addr()), Arc::new(|| ()));
            ends.push((zone, name, end));
        }
    }
    let accepted: Vec<_> = sources
        .iter()
        .map(|source| [accept_gateway(source), accept_gateway(source)])
        .collect();
    for (zone, name, end) in &ends {
        until("the link", || end.is_connected());
        end.send(join(u64::from(*zone))).unwrap();
        let (_, accepted) = accepted[usize::from(*zone)]
            .iter()
            .find(|(gateway, _)| gateway == name)
            .unwrap();
        assert_eq!(from_gateway(accepted), join(u64::from(*zone)));
    }
}

#[test]
fn a_peer_that_vanishes_without_a_word_is_noticed_and_found_again() {
    let world = World::new();
    let (zones, gateways) = (world.zones("zones"), world.gateways("gateways"));
    let source = zones.serve(ZONE);
    let relay = Relay::new(zones.local_addr());
    let gateway = dial(&gateways, "gateway-1", relay.address());
    let (_, zone) = accept_gateway(&source);
    until("the link", || gateway.is_connected());
    relay.lose_per_mille(1_000);
    until("both to notice", || zone.is_closed() && !gateway.is_connected());
    relay.lose_per_mille(0);
    let (_, zone) = accept_gateway(&source);
    until("the new link", || gateway.is_connected());
    gateway.send(join(1)).unwrap();
    assert_eq!(from_gateway(&zone), join(1));
}

#[test]
fn a_link_shows_how_it_does_and_nothing_once_it_has_ended() {
    let pair = Pair::new();
    let labels = ["local=\"gateway-1\"", "peer=\"z3\""];
    send_snapshot(&pair.zone, &Arc::new(snapshot(1, 10)));
    from_zone(pair.gateway.as_ref());
    let round_trip = eventually("a measured round trip", || {
        shown("meridian_fabric_clock_round_trip_seconds", &labels).filter(|seconds| *seconds > 0.0)
    });
    assert!(round_trip < 1.0);
    assert!(shown("meridian_fabric_congestion_window_bytes", &labels).unwrap() > 1_000.0);
    assert_eq!(shown("meridian_fabric_connected", &labels), Some(1.0));
    assert_eq!(counted("meridian_fabric_connections_total", &labels), 1);
    let received = [labels[0], labels[1], "class=\"snapshot\"", "direction=\"received\""];
    assert_eq!(counted("meridian_fabric_messages_total", &received), 1);
    drop(pair.gateway);
    until("nothing to be shown", || {
        shown("meridian_fabric_connected", &labels) == Some(0.0)
            && shown("meridian_fabric_clock_round_trip_seconds", &labels) == Some(0.0)
    });
}
