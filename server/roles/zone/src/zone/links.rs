//! Links of other processes: gateways and neighbours that dial the zone.

use meridian_fabric::AcceptedLink;

use super::Zone;
use crate::ghosts::Peer;

/// Links taken in a tick; the rest waits for the next.
const ACCEPTED_PER_TICK_MAX: usize = 16;

impl Zone {
    /// Takes in links that have come, and lets those go that are over.
    pub(super) fn accept_links(&mut self) {
        self.peers.retain(|peer| !peer.end.is_closed());
        let Some(source) = self.source.clone() else { return };
        for _ in 0..ACCEPTED_PER_TICK_MAX {
            let Some(link) = source.try_accept() else { return };
            self.rest.disturb();
            match link {
                AcceptedLink::Gateway { gateway, end } => {
                    tracing::info!(zone = %self.config.zone, gateway, "a gateway follows the zone");
                    self.add_gateway(end);
                }
                AcceptedLink::Peer { zone, end } => {
                    tracing::info!(zone = %self.config.zone, neighbour = %zone, "a neighbour follows the zone");
                    self.peers.retain(|peer| peer.zone != zone);
                    self.peers.push(Peer { zone, end });
                }
            }
        }
    }
}
