//! Tells a client where the time of its probed action went, in the same packet as the echo.

use std::time::{Duration, Instant};

use bevy::app::{App, PostUpdate};
use bevy::ecs::resource::Resource;
use bevy::ecs::schedule::IntoScheduleConfigs;
use bevy::ecs::system::{Query, Res, ResMut};
use bevy_replicon::server::ServerSystems;
use lightyear::prelude::MessageSender;
use lightyear_messages::plugin::MessageSystems;
use meridian_game::{ProbeReport, TimingChannel};

use crate::gateway::Zones;
use crate::mirror::PendingProbes;

pub(crate) fn plugin(app: &mut App) {
    app.insert_resource(Epoch(Instant::now()));
    app.add_systems(
        PostUpdate,
        report.after(ServerSystems::Send).before(MessageSystems::Send),
    );
}

/// The instant from which the gateway's clock counts in reports.
#[derive(Resource)]
struct Epoch(Instant);

fn report(
    mut pending: ResMut<PendingProbes>,
    epoch: Res<Epoch>,
    zones: Res<Zones>,
    mut links: Query<&mut MessageSender<ProbeReport>>,
) {
    if pending.probes.is_empty() {
        return;
    }
    let now = zones.now();
    for (link, probe, finished) in pending.probes.drain(..) {
        let Ok(mut sender) = links.get_mut(link) else { continue };
        sender.send::<TimingChannel>(ProbeReport {
            sequence: probe.sequence,
            received_us: micros_64(probe.received.saturating_duration_since(epoch.0)),
            forward_us: micros(probe.forwarded.saturating_duration_since(probe.received)),
            tick_wait_us: micros(probe.applied.saturating_duration_since(probe.forwarded)),
            simulate_us: micros(finished.saturating_duration_since(probe.applied)),
            gateway_us: micros(now.saturating_duration_since(finished)),
            sent_us: micros_64(now.saturating_duration_since(epoch.0)),
        });
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

fn micros_64(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
