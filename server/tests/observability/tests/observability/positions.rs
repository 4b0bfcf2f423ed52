//! The proof of concept's last step: two servers, two clients on the command line; each moves through its own server, and each sees both.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    meridian::World,
    player::{Player, lines},
    rotel::{Rotel, Sink},
    support::{Running, until},
};

/// The lines of a watch that show an entity.
fn sightings(watch: &Running, entity: &Value) -> Vec<Value> {
    let mut seen = lines(&watch.log());
    seen.retain(|line| line["entity"] == *entity);
    seen
}

fn point(line: &Value) -> [f64; 2] {
    ["x", "z"].map(|axis| line[axis].as_f64().unwrap_or(f64::NAN))
}

/// An entity as one watch saw it last, once all of them have seen it so, away from where it came into the world.
fn seen_alike(watches: &[Running], joined: &Value) -> Vec<Value> {
    let (entity, from) = (&joined["entity"], point(joined));
    until("each watch sees the walker where it stands now", || {
        let seen: Vec<Vec<Value>> = watches.iter().map(|watch| sightings(watch, entity)).collect();
        let last: Vec<[f64; 2]> = seen.iter().filter_map(|seen| seen.last().map(point)).collect();
        let is_alike = last.len() == watches.len() && last.iter().all(|at| *at == last[0]);
        let walked = last.first().map_or(0.0, |at| (at[0] - from[0]).hypot(at[1] - from[1]));
        if is_alike && walked > 3.0 {
            Ok(seen.concat())
        } else {
            Err(format!("{entity} came at {from:?}, seen at {last:?}"))
        }
    })
}

#[test]
fn two_servers_two_clients_moves_in_both_and_positions_of_both_in_each() {
    let (sink, folder) = (Sink::start(), tempfile::tempdir().unwrap());
    let collector = Rotel::start(&sink);
    let world = World::as_composed(Some(&collector.grpc));
    let servers = world.rpc();
    let player = |name, server: usize| Player {
        world: &world,
        server: servers[server].clone(),
        name,
        folder: folder.path(),
        collector: Some(&collector.grpc),
    };
    let players = [player("Ada", 0), player("Eve", servers.len() - 1)];
    let joined = players.each_ref().map(|player| player.does(&["join"]).pop().unwrap());
    assert_ne!(joined[0]["entity"], joined[1]["entity"]);
    let watches = players.each_ref().map(Player::watches);
    for (watch, joined) in watches.iter().zip(joined.iter().rev()) {
        until("each sees the other", || {
            let seen = sightings(watch, &joined["entity"]);
            seen.last().map(|_| ()).ok_or_else(|| watch.log())
        });
    }
    let mut traces = Vec::new();
    for (player, walks) in players.iter().zip([["west", "east"], ["east", "west"]]) {
        for (direction, metres) in walks.into_iter().zip(["20", "40"]) {
            let answers = player.does(&["move", direction, metres]);
            let moves = answers.iter().filter(|answer| answer["command"] == "move");
            let told: Vec<String> = moves
                .filter_map(|answer| answer["trace_id"].as_str().map(str::to_owned))
                .collect();
            assert!(!told.is_empty(), "each move tells its trace: {answers:?}");
            traces.extend(told);
        }
    }
    for joined in &joined {
        let seen = seen_alike(&watches, joined);
        let zones: BTreeSet<String> = seen.iter().map(|line| line["zone"].to_string()).collect();
        assert!(zones.len() > 1, "it went from server to server: {zones:?}");
    }
    let shown: BTreeSet<String> = watches
        .iter()
        .flat_map(|watch| lines(&watch.log()))
        .filter_map(|line| line["trace_id"].as_str().map(str::to_owned))
        .collect();
    assert!(
        traces.iter().any(|trace| shown.contains(trace)),
        "positions tell which move they show: {shown:?}"
    );
    the_trace_of_a_move_leads_to_its_tick(&sink, &traces);
}

/// One trace from the client over the server that it asked to the zone's tick.
fn the_trace_of_a_move_leads_to_its_tick(sink: &Sink, traces: &[String]) {
    until("a move's whole trace", || {
        let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (_, span) in sink.spans() {
            let trace = span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
            names.entry(trace).or_default().insert(span.name);
        }
        let whole = ["cli.move", "meridian.v1.GameServer/Move", "zone.input", "zone.tick"];
        let is_whole = |trace: &String| {
            names
                .get(trace)
                .is_some_and(|names| whole.iter().all(|name| names.contains(*name)))
        };
        traces
            .iter()
            .any(is_whole)
            .then_some(())
            .ok_or_else(|| format!("{names:?}"))
    });
}
