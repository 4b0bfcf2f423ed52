//! `zones`: the world's zones, and who has each.

use std::fmt;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use meridian_rpc::v1::{ListZonesRequest, ListZonesResponse, Zone};
use meridian_telemetry::TraceContext;
use serde::Serialize;

use super::{Context, Ended};
use crate::client::{Answer, CallKind, Client, Latency, check_area};
use crate::error::{CliError, printable};
use crate::trace::Action;

/// Most zones that are believed: more than a world file may have.
const ZONES_MAX: usize = 4_096;
/// Columns of numbers, which end at the right.
const NUMBERS: [usize; 6] = [0, 6, 7, 8, 9, 10];

#[derive(Serialize)]
struct ZonesResult {
    command: &'static str,
    world: String,
    tick_rate_hz: u32,
    zones: Vec<ZoneLine>,
    #[serde(flatten)]
    latency: Latency,
}

#[derive(Serialize)]
struct ZoneLine {
    zone: u32,
    name: String,
    min_x: f32,
    min_z: f32,
    max_x: f32,
    max_z: f32,
    /// Nobody has the zone if there is none.
    server: Option<ServerLine>,
}

#[derive(Serialize)]
struct ServerLine {
    instance: String,
    address: String,
    is_this: bool,
    entities: u32,
    players: u32,
    tick_p50_ms: f64,
    tick_p99_ms: f64,
    lag_ticks: u32,
}

impl fmt::Display for ZonesResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (world, zones, rate) = (printable(&self.world), self.zones.len(), self.tick_rate_hz);
        writeln!(formatter, "{world}: {zones} zones, {rate} ticks in a second")?;
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY);
        table.set_header([
            "zone", "name", "x", "z", "server", "address", "entities", "players", "tick p50", "p99", "lag",
        ]);
        for zone in &self.zones {
            table.add_row(zone.cells());
        }
        for column in NUMBERS {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(formatter, "{table}")?;
        write!(formatter, "  {}  trace {}", self.latency, self.latency.trace_id)
    }
}

impl ZoneLine {
    fn cells(&self) -> [String; 11] {
        let range = |from: f32, to: f32| format!("{from} to {to}");
        let server = |told: &dyn Fn(&ServerLine) -> String| self.server.as_ref().map_or_else(|| "-".to_owned(), told);
        [
            self.zone.to_string(),
            printable(&self.name),
            range(self.min_x, self.max_x),
            range(self.min_z, self.max_z),
            self.server
                .as_ref()
                .map_or_else(|| "nobody".to_owned(), ServerLine::title),
            server(&|server| printable(&server.address)),
            server(&|server| server.entities.to_string()),
            server(&|server| server.players.to_string()),
            server(&|server| format!("{:.2} ms", server.tick_p50_ms)),
            server(&|server| format!("{:.2} ms", server.tick_p99_ms)),
            server(&|server| format!("{} ticks", server.lag_ticks)),
        ]
    }

    fn read(zone: Zone) -> Result<Self, String> {
        let area = check_area(zone.area)?;
        let milliseconds = |microseconds: u32| f64::from(microseconds) / 1_000.0;
        let server = zone.server.map(|server| ServerLine {
            instance: server.instance,
            address: server.address,
            is_this: server.is_this,
            entities: server.entities,
            players: server.players,
            tick_p50_ms: milliseconds(server.tick_p50_us),
            tick_p99_ms: milliseconds(server.tick_p99_us),
            lag_ticks: server.lag_ticks,
        });
        Ok(Self {
            zone: zone.zone_id,
            name: zone.name,
            min_x: area.min_x,
            min_z: area.min_z,
            max_x: area.max_x,
            max_z: area.max_z,
            server,
        })
    }
}

impl ServerLine {
    fn title(&self) -> String {
        let instance = printable(&self.instance);
        if self.is_this {
            format!("{instance} (this)")
        } else {
            instance
        }
    }
}

/// Prints the zones.
pub async fn run(context: &mut Context) -> Result<(), Ended> {
    let trace = context.begin(Action::ZONES);
    let mut client = context.client().await?;
    let answer = list(&mut client, trace).await?;
    context.set_tick_rate_hz(answer.value.tick_rate_hz);
    let zones: Result<Vec<_>, _> = answer.value.zones.into_iter().map(ZoneLine::read).collect();
    let result = ZonesResult {
        command: "zones",
        world: answer.value.world,
        tick_rate_hz: answer.value.tick_rate_hz,
        zones: zones.map_err(|reason| client.malformed(reason))?,
        latency: context.answered(answer.latency, trace),
    };
    context.keep(client);
    Ok(context.output.result(&result)?)
}

/// Asks for the zones.
///
/// # Errors
/// Those of a call, and [`CliError::Malformed`] of more zones than can be.
pub async fn list(client: &mut Client, trace: TraceContext) -> Result<Answer<ListZonesResponse>, CliError> {
    let answer = client
        .call(
            ListZonesRequest {},
            None,
            trace,
            CallKind::Single,
            async |mut server, request| server.list_zones(request).await,
        )
        .await?;
    match answer.value.zones.len() {
        0..=ZONES_MAX => Ok(answer),
        zones => Err(client.malformed(format!("a world of {zones} zones"))),
    }
}
