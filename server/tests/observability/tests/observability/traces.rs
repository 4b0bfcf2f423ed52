//! Probes: one trace from a player's input over gateway, zones and bus to the clients that see it, through a real collector.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    meridian::World,
    rotel::{Rotel, Sink},
};

/// The legs of a probe whose entity changes hands before its tick: each span's name, and its parent's.
const LEGS: [(&str, &str); 8] = [
    ("client.input", ""),
    ("gateway.receive", "client.input"),
    ("bus.transfer", "gateway.receive"),
    ("bus.accept", "bus.transfer"),
    ("zone.input", "gateway.receive"),
    ("zone.tick", "zone.input"),
    ("gateway.send", "zone.tick"),
    ("client.apply", "gateway.send"),
];

/// A trace as it came: its spans by their ids, and the processes that told them.
#[derive(Default)]
struct Trace {
    /// Name and parent.
    spans: BTreeMap<Vec<u8>, (String, Vec<u8>)>,
    processes: BTreeSet<String>,
}

impl Trace {
    /// Whether some span of each leg is there, each under its parent.
    fn is_whole(&self) -> bool {
        LEGS.iter().all(|(name, parent)| {
            self.spans.values().any(|(told, under)| {
                let found = self.spans.get(under).map_or("", |(name, _)| name.as_str());
                told == name && found == *parent
            })
        })
    }

    /// Clients that saw what came of it.
    fn seen(&self) -> usize {
        self.spans.values().filter(|(name, _)| name == "client.apply").count()
    }
}

fn traces(sink: &Sink) -> BTreeMap<Vec<u8>, Trace> {
    let mut traces: BTreeMap<Vec<u8>, Trace> = BTreeMap::new();
    for (resource, span) in sink.spans() {
        let trace = traces.entry(span.trace_id).or_default();
        trace.spans.insert(span.span_id, (span.name, span.parent_span_id));
        trace.processes.insert(format!("{:?}", resource.attributes));
    }
    traces
}

#[test]
fn the_trace_of_a_probe_over_a_border_leads_from_client_to_other_clients() {
    let sink = Sink::start();
    let collector = Rotel::start(&sink);
    let world = World::as_composed(Some(&collector.grpc));
    let mut swarm = world.swarm_far_away(&collector.grpc);
    let processes = swarm.until("a whole trace over a border", || {
        let traces = traces(&sink);
        let whole = traces.values().find(|trace| trace.is_whole() && trace.seen() > 1);
        let told: Vec<usize> = traces.values().map(|trace| trace.spans.len()).collect();
        whole
            .map(|trace| trace.processes.clone())
            .ok_or_else(|| format!("{} traces, of {told:?} spans", traces.len()))
    });
    // The swarm, a gateway, and the zones on both sides of the border.
    assert!(processes.len() >= 4, "{processes:?}");
}
