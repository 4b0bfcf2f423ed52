//! `server status`: who serves what in a cluster, as its processes tell. It only looks: a world that is not there does not begin by it.

use std::fmt::Write;

use anyhow::Context;
use meridian_bus::{
    directory::{Listed, ServiceKind},
    valkey::ValkeyWorld,
};
use serde::Serialize;

use crate::{cli::StatusArgs, cluster::store_options, world::World};

/// What is printed, for programs.
#[derive(Debug, Serialize)]
struct Status {
    zones: Vec<ZoneStatus>,
    gateways: Vec<GatewayStatus>,
    others: Vec<OtherStatus>,
}

/// One zone; without an instance nobody simulates it.
#[derive(Debug, Serialize)]
struct ZoneStatus {
    zone: String,
    instance: Option<String>,
    lease: Option<u64>,
    fabric: Option<String>,
    admin: Option<String>,
    entities: u32,
    players: u32,
    /// Ticks by which it is behind the world's clock.
    lag_ticks: Option<u32>,
    tick_p50_us: u32,
    tick_p99_us: u32,
}

#[derive(Debug, Serialize)]
struct GatewayStatus {
    instance: String,
    clients: String,
    admin: Option<String>,
}

#[derive(Debug, Serialize)]
struct OtherStatus {
    kind: String,
    instance: String,
    admin: Option<String>,
}

/// The status as text or as JSON.
///
/// # Errors
/// The world file cannot be read, the Valkey server not be reached, or it has no such world.
pub async fn run(args: &StatusArgs) -> anyhow::Result<String> {
    let world = World::load(&args.world, None)?;
    let runtime = tokio::runtime::Handle::current();
    let options = store_options(&args.bus, &world, args.bus_authority.as_deref())?;
    let services = ValkeyWorld::look(&options, &runtime).await.context("--bus")?;
    let status = status(&world, &services);
    if args.json {
        let mut text = serde_json::to_string_pretty(&status).context("cannot write the status as JSON")?;
        text.push('\n');
        return Ok(text);
    }
    Ok(table(&status))
}

fn status(world: &World, services: &[Listed]) -> Status {
    let mut status = Status {
        zones: Vec::new(),
        gateways: Vec::new(),
        others: Vec::new(),
    };
    for (index, name) in world.zones.iter().enumerate() {
        let serving = services.iter().filter_map(|listed| match listed.service.kind {
            ServiceKind::Zone { zone, lease } if usize::from(zone.0) == index => Some((lease, &listed.service)),
            _ => None,
        });
        let newest = serving.max_by_key(|(lease, _)| *lease);
        let detail = newest.map(|(_, service)| service.detail).unwrap_or_default();
        let text = |address: Option<std::net::SocketAddr>| address.map(|address| address.to_string());
        status.zones.push(ZoneStatus {
            zone: name.clone(),
            instance: newest.map(|(_, service)| service.instance.clone()),
            lease: newest.map(|(lease, _)| lease.0),
            fabric: newest.and_then(|(_, service)| text(service.fabric)),
            admin: newest.and_then(|(_, service)| text(service.admin)),
            entities: detail.entities,
            players: detail.players,
            lag_ticks: newest.map(|_| detail.lag_ticks),
            tick_p50_us: detail.tick_p50_us,
            tick_p99_us: detail.tick_p99_us,
        });
    }
    for listed in services {
        let service = &listed.service;
        let (instance, admin) = (service.instance.clone(), service.admin.map(|admin| admin.to_string()));
        match service.kind {
            ServiceKind::Zone { .. } => {}
            ServiceKind::Gateway => status.gateways.push(GatewayStatus {
                instance,
                clients: service.public.map(|public| public.to_string()).unwrap_or_default(),
                admin,
            }),
            other => status.others.push(OtherStatus {
                kind: format!("{other:?}").to_lowercase(),
                instance,
                admin,
            }),
        }
    }
    status
}

/// For people.
fn table(status: &Status) -> String {
    let mut text = String::new();
    let head = [
        "zone", "instance", "lease", "entities", "players", "lag", "tick p50", "tick p99", "fabric", "admin",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    for zone in &status.zones {
        let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        rows.push([
            zone.zone.clone(),
            zone.instance.clone().unwrap_or_else(|| "nobody".to_owned()),
            zone.lease
                .map_or_else(|| "-".to_owned(), |lease| (lease & 0xffff_ffff).to_string()),
            zone.entities.to_string(),
            zone.players.to_string(),
            zone.lag_ticks
                .map_or_else(|| "-".to_owned(), |lag| format!("{lag} ticks")),
            format!("{:.2} ms", f64::from(zone.tick_p50_us) / 1e3),
            format!("{:.2} ms", f64::from(zone.tick_p99_us) / 1e3),
            shown(&zone.fabric),
            shown(&zone.admin),
        ]);
    }
    let mut widths = [0; 10];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        // To a text nothing can go wrong.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    for gateway in &status.gateways {
        let GatewayStatus { instance, clients, .. } = gateway;
        let _ = writeln!(text, "gateway {instance}: clients at {clients}");
    }
    if status.gateways.is_empty() {
        text.push_str("no gateway: nobody can get in\n");
    }
    for other in &status.others {
        let _ = writeln!(text, "{} {}", other.kind, other.instance);
    }
    text
}
