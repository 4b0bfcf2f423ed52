//! The world's zones, as they are listed.

use meridian_bus::directory::ServiceDetail;
use meridian_rpc::v1::{Area, ListZonesResponse, Zone, ZoneServer};

use crate::context::ZoneSummary;
use crate::routing::newest;
use crate::service::Front;

/// All zones, and who has them.
pub(crate) fn listed(front: &Front) -> ListZonesResponse {
    let mut zones: Vec<Zone> = front.world.zones.iter().map(|zone| told(front, zone)).collect();
    zones.sort_unstable_by_key(|zone| zone.zone_id);
    ListZonesResponse {
        world: front.world.name.clone(),
        tick_rate_hz: front.world.tick_rate_hz,
        zones,
    }
}

fn told(front: &Front, zone: &ZoneSummary) -> Zone {
    let ([min_x, min_z], [max_x, max_z]) = (zone.area.min, zone.area.max);
    Zone {
        zone_id: zone.id.0.into(),
        name: zone.name.clone(),
        area: Some(Area {
            min_x,
            min_z,
            max_x,
            max_z,
        }),
        server: server(front, zone),
    }
}

/// Who has a zone: this server, if its own zone says so; otherwise whoever the directory tells of.
fn server(front: &Front, zone: &ZoneSummary) -> Option<ZoneServer> {
    let listed = front.router.listed();
    let owner = newest(&listed, zone.id).map(|listed| &listed.service);
    let here = front.router.here(zone.id).and_then(|local| (local.status)());
    if let Some(detail) = here {
        let own = front
            .public_address
            .map_or_else(String::new, |address| address.to_string());
        return Some(with_detail(&front.instance, own, true, &detail));
    }
    let owner = owner.filter(|owner| owner.instance != front.instance)?;
    let address = owner.public.map_or_else(String::new, |address| address.to_string());
    Some(with_detail(&owner.instance, address, false, &owner.detail))
}

fn with_detail(instance: &str, address: String, is_this: bool, detail: &ServiceDetail) -> ZoneServer {
    ZoneServer {
        instance: instance.to_owned(),
        address,
        is_this,
        entities: detail.entities,
        players: detail.players,
        tick_p50_us: detail.tick_p50_us,
        tick_p99_us: detail.tick_p99_us,
        lag_ticks: detail.lag_ticks,
    }
}
