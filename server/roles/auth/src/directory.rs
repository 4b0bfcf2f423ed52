//! Which gateway a client is sent to.

use std::net::SocketAddr;

/// Where clients are sent. Any `Fn(Option<SocketAddr>) -> Option<SocketAddr>` is one.
pub trait GatewayDirectory: Send + Sync + 'static {
    /// The UDP address of a gateway that takes players now, as clients reach it; another one than `avoid`, which the client has just lost, if
    /// there is another.
    fn live_gateway(&self, avoid: Option<SocketAddr>) -> Option<SocketAddr>;
}

impl<F: Fn(Option<SocketAddr>) -> Option<SocketAddr> + Send + Sync + 'static> GatewayDirectory for F {
    fn live_gateway(&self, avoid: Option<SocketAddr>) -> Option<SocketAddr> {
        self(avoid)
    }
}

/// A directory that spreads players over the gateways that `F` says are live.
pub struct LiveGateways<F>(pub F);

impl<F: Fn() -> Vec<SocketAddr> + Send + Sync + 'static> GatewayDirectory for LiveGateways<F> {
    fn live_gateway(&self, avoid: Option<SocketAddr>) -> Option<SocketAddr> {
        choose_gateway(&(self.0)(), avoid, rand::random())
    }
}

/// One of the gateways that are live, by `random` bits, so that players spread over all of them; `avoid` only if it is the last one: who lost
/// it may be the only one who did.
#[must_use]
fn choose_gateway(live: &[SocketAddr], avoid: Option<SocketAddr>, random: u64) -> Option<SocketAddr> {
    let others: Vec<SocketAddr> = live.iter().copied().filter(|gateway| Some(*gateway) != avoid).collect();
    let choice = if others.is_empty() { live } else { &others };
    let nth = random.checked_rem(choice.len() as u64)?;
    choice.get(nth as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn players_spread_over_all_gateways_but_the_lost_one() {
        let live = [gateway(1), gateway(2), gateway(3)];
        let chosen = |avoid| (0..30).filter_map(move |random| choose_gateway(&live, avoid, random));
        for port in [1, 2, 3] {
            assert_eq!(chosen(None).filter(|chosen| *chosen == gateway(port)).count(), 10);
        }
        assert!(chosen(Some(gateway(2))).all(|chosen| chosen != gateway(2)));
        assert_eq!(chosen(Some(gateway(2))).count(), 30);
    }

    #[test]
    fn the_last_gateway_is_named_even_to_who_lost_it() {
        assert_eq!(choose_gateway(&[gateway(1)], Some(gateway(1)), 7), Some(gateway(1)));
        assert_eq!(choose_gateway(&[], Some(gateway(1)), 7), None);
    }
}
