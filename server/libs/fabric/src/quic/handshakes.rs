//! Handshakes under way: how many there may be, and how many of one host.
//!
//! Anybody can begin a handshake, and needs no certificate to leave it unfinished. So no host has more of them under way than a few,
//! and who has finished his counts here no longer. Knows neither connections nor certificates, and never waits.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Handshakes under way: a world's gateways and neighbours may all come at once after a restart. What comes beyond it is
/// refused, and comes again.
pub(super) const HANDSHAKES_MAX: usize = 128;
/// Handshakes under way beyond which a peer must show that it receives at its address before it costs a signature.
const HANDSHAKES_UNPROVEN_MAX: usize = HANDSHAKES_MAX / 4;
/// Handshakes under way of one host: as many links as a gateway's process dials when a process of sixteen zones comes back.
const HANDSHAKES_OF_HOST_MAX: usize = HANDSHAKES_MAX / 8;
/// Handshakes under way of one host beyond which it must show that it receives there: anybody can send in its name, and would take
/// its share otherwise.
const HANDSHAKES_OF_HOST_UNPROVEN_MAX: usize = HANDSHAKES_OF_HOST_MAX / 4;

/// What one party can choose addresses from: a single IPv4 address, or the /64 that an IPv6 host takes any number from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Host {
    V4(Ipv4Addr),
    V6(u64),
}

impl Host {
    fn of(address: IpAddr) -> Self {
        // A socket for both families tells IPv4 addresses as IPv6 ones, which are all of one /64.
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(prefix(address)),
        }
    }
}

fn prefix(address: Ipv6Addr) -> u64 {
    (u128::from(address) >> 64) as u64
}

/// What to do about who begins a handshake.
pub(super) enum Admission {
    /// Go on. It is under way until the permit is dropped.
    GoesOn(HandshakePermit),
    /// Let it show first that it receives at its address.
    MustProve,
    /// It cannot be now, for this reason.
    Refused(&'static str),
}

/// The handshakes under way of an endpoint.
#[derive(Default)]
pub(super) struct Handshakes {
    under_way: Mutex<UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    all: usize,
    /// Has no host without a handshake, and so no more hosts than there may be handshakes.
    of_host: HashMap<Host, usize>,
}

/// One handshake under way.
pub(super) struct HandshakePermit {
    handshakes: Arc<Handshakes>,
    host: Host,
}

impl Handshakes {
    /// Decides about a handshake of this address. `is_proven` says whether its peer has shown that it receives there, or cannot be asked to.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr, is_proven: bool) -> Admission {
        let host = Host::of(address);
        let mut under_way = self.lock();
        let of_host = under_way.of_host.get(&host).copied().unwrap_or_default();
        let is_many = under_way.all >= HANDSHAKES_UNPROVEN_MAX || of_host >= HANDSHAKES_OF_HOST_UNPROVEN_MAX;
        if is_many && !is_proven {
            return Admission::MustProve;
        }
        if of_host >= HANDSHAKES_OF_HOST_MAX {
            return Admission::Refused("too many handshakes of its host are under way");
        }
        if under_way.all >= HANDSHAKES_MAX {
            return Admission::Refused("too many handshakes are under way");
        }
        under_way.all += 1;
        under_way.of_host.insert(host, of_host + 1);
        Admission::GoesOn(HandshakePermit {
            handshakes: Arc::clone(self),
            host,
        })
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        let mut under_way = self.handshakes.lock();
        under_way.all = under_way.all.saturating_sub(1);
        let left = under_way
            .of_host
            .get(&self.host)
            .map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            under_way.of_host.remove(&self.host);
        } else {
            under_way.of_host.insert(self.host, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many handshakes of this address as it gets, up to `max`.
    fn take(handshakes: &Arc<Handshakes>, address: &str, is_proven: bool, max: usize) -> Vec<HandshakePermit> {
        let admit = |_| match handshakes.admit(address.parse().unwrap(), is_proven) {
            Admission::GoesOn(permit) => Some(permit),
            Admission::MustProve | Admission::Refused(_) => None,
        };
        (0..max).map_while(admit).collect()
    }

    #[test]
    fn a_host_has_a_few_handshakes_and_leaves_the_rest_to_others() {
        let handshakes = Arc::new(Handshakes::default());
        let one = take(&handshakes, "192.0.2.1", true, HANDSHAKES_MAX);
        assert_eq!(one.len(), HANDSHAKES_OF_HOST_MAX);
        let other = take(&handshakes, "192.0.2.2", true, HANDSHAKES_MAX);
        assert_eq!(other.len(), HANDSHAKES_OF_HOST_MAX);
        drop(one);
        let again = take(&handshakes, "192.0.2.1", true, HANDSHAKES_MAX);
        assert_eq!(again.len(), HANDSHAKES_OF_HOST_MAX);
    }

    #[test]
    fn a_host_is_an_ipv4_address_however_it_is_written_or_an_ipv6_network() {
        let handshakes = Arc::new(Handshakes::default());
        let _first = take(&handshakes, "2001:db8:0:1::1", true, HANDSHAKES_MAX);
        assert!(take(&handshakes, "2001:db8:0:1:ffff::2", true, 1).is_empty());
        assert_eq!(take(&handshakes, "2001:db8:0:2::1", true, 1).len(), 1);
        let _second = take(&handshakes, "::ffff:192.0.2.1", true, HANDSHAKES_MAX);
        assert!(take(&handshakes, "192.0.2.1", true, 1).is_empty());
        assert_eq!(take(&handshakes, "::ffff:192.0.2.2", true, 1).len(), 1);
    }

    #[test]
    fn who_does_not_show_that_it_receives_at_an_address_takes_no_more_than_a_part_of_its_share() {
        let handshakes = Arc::new(Handshakes::default());
        let address = "192.0.2.1".parse().unwrap();
        let _spoofed = take(&handshakes, "192.0.2.1", false, HANDSHAKES_MAX);
        assert!(matches!(handshakes.admit(address, false), Admission::MustProve));
        let own = take(&handshakes, "192.0.2.1", true, HANDSHAKES_MAX);
        assert_eq!(own.len(), HANDSHAKES_OF_HOST_MAX - HANDSHAKES_OF_HOST_UNPROVEN_MAX);
        assert!(matches!(handshakes.admit(address, true), Admission::Refused(_)));
    }

    #[test]
    fn all_hosts_together_have_as_many_as_the_process_bears_and_nothing_of_them_is_kept() {
        let handshakes = Arc::new(Handshakes::default());
        let hosts = |is_proven| {
            let of_host = |host| take(&handshakes, &format!("192.0.2.{host}"), is_proven, HANDSHAKES_MAX);
            (0..100).flat_map(of_host).collect::<Vec<_>>()
        };
        assert_eq!(hosts(false).len(), HANDSHAKES_UNPROVEN_MAX);
        assert_eq!(hosts(true).len(), HANDSHAKES_MAX);
        assert!(handshakes.lock().of_host.is_empty());
        assert_eq!(handshakes.lock().all, 0);
    }
}
