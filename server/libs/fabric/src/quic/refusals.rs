//! What the accepting side refused: counted each time, told once and not with each retry.
//!
//! Anybody can send packets from as many addresses as he likes: what is remembered is bounded, and who is beyond it is counted and not
//! logged.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::hello::Refusal;
use crate::metric_definitions::FABRIC_REFUSED;

/// Peers, and hosts, whose last refusal is remembered. Those beyond it are not logged.
const REMEMBERED_MAX: usize = 256;
/// How long a refusal is remembered at least, and how long a host's refused certificate is not told again.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// The refusals of an endpoint.
pub(super) struct Refusals {
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// The last refusal of a peer.
    of_peer: HashMap<SocketAddr, (Refusal, Instant)>,
    /// When a refused certificate of a host was told last. A process that is started over and over has another port each time.
    of_host: HashMap<(IpAddr, Refusal), Instant>,
}

/// Makes room for `key`, if there can be: what was told a while ago is forgotten first.
fn has_room<K: Eq + Hash, V>(told: &mut HashMap<K, V>, key: &K, now: Instant, since: impl Fn(&V) -> Instant) -> bool {
    if told.len() < REMEMBERED_MAX || told.contains_key(key) {
        return true;
    }
    told.retain(|_, value| now.saturating_duration_since(since(value)) < REMEMBERED_FOR);
    told.len() < REMEMBERED_MAX
}

impl Told {
    /// Whether a peer's refusal is another than the time before.
    fn is_news(&mut self, address: SocketAddr, refusal: Refusal, now: Instant) -> bool {
        if !has_room(&mut self.of_peer, &address, now, |(_, since)| *since) {
            return false;
        }
        let before = self.of_peer.insert(address, (refusal, now));
        before.is_none_or(|(before, _)| before != refusal)
    }

    /// Whether a host's refused certificate was not told in the last minute.
    fn is_due(&mut self, host: IpAddr, refusal: Refusal, now: Instant) -> bool {
        let key = (host.to_canonical(), refusal);
        let before = self.of_host.get(&key);
        if before.is_some_and(|before| now.saturating_duration_since(*before) < REMEMBERED_FOR) {
            return false;
        }
        let has_room = has_room(&mut self.of_host, &key, now, |since| *since);
        if has_room {
            self.of_host.insert(key, now);
        }
        has_room
    }
}

impl Refusals {
    pub(super) fn new() -> Self {
        // An increase from nothing at all is none to who watches.
        for refusal in Refusal::ALL {
            metrics::counter!(FABRIC_REFUSED, "side" => "accepting", "reason" => refusal.label()).increment(0);
        }
        Self { told: Mutex::default() }
    }

    /// Counts a refusal. It is logged when the peer's last one was another; one over a certificate, which somebody must see to, once a
    /// minute for each address.
    pub(super) fn count(&self, address: SocketAddr, refusal: Refusal, reason: &str) {
        metrics::counter!(FABRIC_REFUSED, "side" => "accepting", "reason" => refusal.label()).increment(1);
        let is_told = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            match refusal {
                Refusal::Certificate | Refusal::Role => told.is_due(address.ip(), refusal, now),
                _ => told.is_news(address, refusal, now),
            }
        };
        if is_told {
            tracing::warn!(%address, code = refusal.label(), reason, "a peer is refused");
        }
    }

    /// A peer has its link: what is refused to it next is news.
    pub(super) fn forget(&self, address: SocketAddr) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.of_peer.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port as u16))
    }

    #[test]
    fn a_refusal_is_news_once_until_its_reason_changes() {
        let (refusals, now) = (Refusals::new(), Instant::now());
        let is_news = |refusal| refusals.told.lock().unwrap().is_news(peer(7), refusal, now);
        assert!(is_news(Refusal::World));
        assert!(!is_news(Refusal::World));
        assert!(is_news(Refusal::Zone));
        refusals.forget(peer(7));
        assert!(is_news(Refusal::Zone));
    }

    #[test]
    fn a_hosts_refused_certificate_is_told_once_a_minute_whatever_its_port_is() {
        let (mut told, now) = (Told::default(), Instant::now());
        let host: IpAddr = "192.0.2.1".parse().unwrap();
        let minutes = 3;
        let seconds = (0..60 * minutes).map(|second| now + Duration::from_secs(second));
        let times = seconds.filter(|now| told.is_due(host, Refusal::Certificate, *now));
        assert_eq!(times.count() as u64, minutes);
        // The same host over a socket for both families, and another host.
        let now = now + Duration::from_secs(60 * minutes);
        assert!(told.is_due("::ffff:192.0.2.1".parse().unwrap(), Refusal::Certificate, now));
        assert!(!told.is_due(host, Refusal::Certificate, now));
        assert!(told.is_due("192.0.2.2".parse().unwrap(), Refusal::Certificate, now));
    }

    #[test]
    fn peers_and_hosts_without_number_are_neither_remembered_nor_logged() {
        let (mut told, now) = (Told::default(), Instant::now());
        let count = 10 * REMEMBERED_MAX;
        let news = (0..count).filter(|port| told.is_news(peer(*port), Refusal::Malformed, now));
        assert_eq!(news.count(), REMEMBERED_MAX);
        assert_eq!(told.of_peer.len(), REMEMBERED_MAX);
        assert!(told.is_news(peer(60_000), Refusal::Malformed, now + REMEMBERED_FOR));

        let host = |index: usize| IpAddr::from((index as u32).to_be_bytes());
        let due = (0..count).filter(|index| told.is_due(host(*index), Refusal::Certificate, now));
        assert_eq!(due.count(), REMEMBERED_MAX);
        assert_eq!(told.of_host.len(), REMEMBERED_MAX);
        assert!(told.is_due(host(60_000), Refusal::Certificate, now + REMEMBERED_FOR));
    }
}
