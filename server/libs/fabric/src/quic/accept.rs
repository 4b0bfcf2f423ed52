//! Accepting links: who dials is asked for its hello, and gets a link or is told why not.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quinn::{Connection, ConnectionError, Incoming, RecvStream, SendStream};
use rustls::pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::carried::Carried;
use super::clock::OtherClock;
use super::endpoint::Core;
use super::hello::{Answer, Hello, HelloError, Party, Refusal, read_hello, told_reason, write_answer};
use super::link::{AnyLink, CloseCode, End, Link};
use super::meters::Ends;
use super::run::{self, Session};
use super::serving::{AcceptedLink, Served};
use crate::metric_definitions::FABRIC_REFUSED;
use crate::{GatewayMessage, PeerMessage, ZoneMessage};

/// Handshakes and hellos under way: a world's gateways and neighbours may all come at once after a restart. What comes beyond it is
/// refused, and comes again.
pub(super) const HANDSHAKES_MAX: usize = 128;
/// Handshakes under way beyond which a peer must show that it receives at its address before it costs a signature.
const HANDSHAKES_UNPROVEN_MAX: usize = HANDSHAKES_MAX / 4;
/// Links that a process accepts: sixteen zones with a gateway for each 250 of 32,000 players, and neighbours.
const ACCEPTED_MAX: usize = 4_096;
/// A hello that was not read after so long does not come.
pub(super) const HELLO_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a refused peer is waited for to read why.
const REFUSED_WAIT_MAX: Duration = Duration::from_secs(1);
/// Peers whose last refusal is remembered, so that it is logged once and not with each retry. Those beyond it are not logged: anybody
/// can send packets from as many addresses as he likes.
const REFUSED_PEERS_MAX: usize = 256;
/// How long a refusal is remembered at least.
const REFUSED_KEPT: Duration = Duration::from_secs(60);

/// Accepts until the endpoint is closed.
pub(super) async fn accept_all(core: Arc<Core>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let accepted = Arc::new(Semaphore::new(ACCEPTED_MAX));
    let refusals = Arc::new(Refusals::default());
    while let Some(incoming) = core.endpoint.accept().await {
        let under_way = HANDSHAKES_MAX - handshakes.available_permits();
        if under_way >= HANDSHAKES_UNPROVEN_MAX && !incoming.remote_address_validated() && incoming.may_retry() {
            // It fails where no retry is possible, which was asked.
            let _ = incoming.retry();
            continue;
        }
        let permits = (
            Arc::clone(&handshakes).try_acquire_owned(),
            Arc::clone(&accepted).try_acquire_owned(),
        );
        let (Ok(handshake), Ok(link)) = permits else {
            refusals.count(incoming.remote_address(), Refusal::Busy, "too many links or handshakes");
            incoming.refuse();
            continue;
        };
        let acceptor = Acceptor {
            core: Arc::clone(&core),
            refusals: Arc::clone(&refusals),
            address: incoming.remote_address(),
        };
        tokio::spawn(async move {
            acceptor.accept(incoming, handshake).await;
            drop(link);
        });
    }
}

/// What was refused: counted each time, logged when the reason is another than the time before.
#[derive(Default)]
struct Refusals {
    last: Mutex<HashMap<SocketAddr, (Refusal, Instant)>>,
}

impl Refusals {
    fn count(&self, address: SocketAddr, refusal: Refusal, reason: &str) {
        metrics::counter!(FABRIC_REFUSED, "side" => "accepting", "reason" => refusal.label()).increment(1);
        if self.is_news(address, refusal, Instant::now()) {
            tracing::warn!(%address, code = refusal.label(), reason, "a peer is refused");
        }
    }

    fn is_news(&self, address: SocketAddr, refusal: Refusal, now: Instant) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= REFUSED_PEERS_MAX && !last.contains_key(&address) {
            last.retain(|_, (_, since)| now.saturating_duration_since(*since) < REFUSED_KEPT);
            if last.len() >= REFUSED_PEERS_MAX {
                return false;
            }
        }
        let before = last.insert(address, (refusal, now));
        before.is_none_or(|(before, _)| before != refusal)
    }

    fn forget(&self, address: SocketAddr) {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&address);
    }
}

struct Acceptor {
    core: Arc<Core>,
    refusals: Arc<Refusals>,
    address: SocketAddr,
}

/// A connection with a hello that is neither answered nor refused.
struct Greeted {
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
    hello: Hello,
    heard: Instant,
}

/// Why there is no hello.
enum Ungreeted {
    /// There is no connection.
    Connection(ConnectionError),
    /// There is one, but what came over it is no hello.
    Hello(Connection, Option<SendStream>, HelloError),
}

impl Acceptor {
    async fn accept(self, incoming: Incoming, handshake: OwnedSemaphorePermit) {
        let greeted = tokio::time::timeout(HELLO_WAIT_MAX, greet(incoming)).await;
        let greeted = match greeted {
            Ok(Ok(greeted)) => greeted,
            Ok(Err(Ungreeted::Connection(error))) => return self.no_connection(&error),
            Ok(Err(Ungreeted::Hello(connection, send, error))) => {
                let refusal = match error {
                    HelloError::Version(_) => Refusal::Version,
                    _ => Refusal::Malformed,
                };
                return self.refuse(&connection, send, refusal, &error.to_string()).await;
            }
            Err(_) => {
                // The connection was dropped with what waited for the hello, which closes it.
                return self
                    .refusals
                    .count(self.address, Refusal::Late, "no hello came in time");
            }
        };
        drop(handshake);
        match self.check(&greeted) {
            Ok(served) => {
                self.refusals.forget(self.address);
                self.start(greeted, &served).await;
            }
            Err((refusal, reason)) => {
                let Greeted { connection, send, .. } = greeted;
                self.refuse(&connection, Some(send), refusal, &reason).await;
            }
        }
    }

    fn no_connection(&self, error: &ConnectionError) {
        match error {
            ConnectionError::TransportError(_) => {
                let reason = format!(
                    "{error}; its certificate must be of this authority, valid now, and not be meant for something else"
                );
                self.refusals.count(self.address, Refusal::Certificate, &reason);
            }
            // The peer has told itself, or is gone: its own logs say more.
            _ => tracing::debug!(address = %self.address, %error, "a handshake has ended early"),
        }
    }

    /// The zone that the peer wants, if it may have a link to it.
    fn check(&self, greeted: &Greeted) -> Result<Arc<Served>, (Refusal, String)> {
        let Hello { world, party, zone, .. } = &greeted.hello;
        if *world != self.core.world {
            let reason = format!(
                "this process serves world {}, the other {world}; start both with the same world file",
                self.core.world
            );
            return Err((Refusal::World, reason));
        }
        let role = party.role();
        let identity = greeted.connection.peer_identity();
        let chain = identity.and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
        let certificate = chain.as_ref().and_then(|chain| chain.first());
        if !certificate.is_some_and(|certificate| role.is_in(certificate)) {
            let reason = format!(
                "the certificate does not name {}; issue one with the role {role:?}",
                role.server_name()
            );
            return Err((Refusal::Role, reason));
        }
        self.core.registry.find(*zone).ok_or_else(|| {
            let reason = format!("zone {zone} is not served here; check where discovery says that it is");
            (Refusal::Zone, reason)
        })
    }

    async fn refuse(&self, connection: &Connection, send: Option<SendStream>, code: Refusal, reason: &str) {
        self.refusals.count(self.address, code, reason);
        if let Some(mut send) = send {
            let reason = told_reason(reason);
            let answer = Answer::Refused { code, reason };
            let told = async {
                write_answer(&mut send, &answer).await?;
                // It fails for a stream that is finished already.
                let _ = send.finish();
                // The peer closes the connection when it has read the answer.
                connection.closed().await;
                Ok::<(), HelloError>(())
            };
            // Who does not read why it was refused is refused all the same.
            let _ = tokio::time::timeout(REFUSED_WAIT_MAX, told).await;
        }
        run::close(connection, CloseCode::Refused);
    }

    async fn start(&self, greeted: Greeted, served: &Served) {
        match greeted.hello.party.clone() {
            Party::Gateway(gateway) => {
                let accept = |end| AcceptedLink::Gateway {
                    gateway,
                    end: Arc::new(end),
                };
                self.carry::<ZoneMessage, GatewayMessage>(greeted, served, accept).await;
            }
            Party::Zone(zone) => {
                let accept = |end| AcceptedLink::Peer {
                    zone,
                    end: Arc::new(end),
                };
                self.carry::<PeerMessage, PeerMessage>(greeted, served, accept).await;
            }
        }
    }

    /// Hands the zone its end, welcomes the peer and carries their messages.
    async fn carry<Out: Carried, In: Carried>(
        &self,
        greeted: Greeted,
        served: &Served,
        accept: impl FnOnce(End<Out, In>) -> AcceptedLink,
    ) {
        let Greeted {
            connection,
            mut send,
            receive,
            hello,
            heard,
        } = greeted;
        let link = Link::<Out, In>::new(Arc::new(|| ()));
        link.outbox.open();
        let any: Arc<dyn AnyLink> = Arc::clone(&link) as _;
        let accepted = accept(End::accepted(Arc::clone(&link)));
        if let Err(refusal) = served.admit(hello.party.clone(), Arc::downgrade(&any), accepted) {
            let reason = format!("zone {} takes no more links now; it will later", hello.zone);
            return self.refuse(&connection, Some(send), refusal, &reason).await;
        }
        let clock = self.core.clock;
        let answer = Answer::Welcome {
            process: self.core.process.clone(),
            heard: clock.nanoseconds(heard),
            answered: clock.nanoseconds(Instant::now()),
        };
        if let Err(error) = write_answer(&mut send, &answer).await {
            tracing::debug!(address = %self.address, %error, "a peer has left before its welcome");
            return link.outbox.close();
        }
        let ends = Ends {
            local: hello.zone.to_string(),
            peer: hello.party.to_string(),
        };
        tracing::info!(local = %ends.local, peer = %ends.peer, process = hello.process, address = %self.address, "linked");
        let session = Session {
            other: OtherClock::from_hello(clock, hello.clock, connection.rtt() / 2, heard),
            connection,
            send,
            receive,
            clock,
            zone: hello.zone,
        };
        let ended = run::run(session, &link, &ends, self.core.shutdown()).await;
        tracing::info!(local = %ends.local, peer = %ends.peer, address = %self.address, reason = %ended, "link ended");
    }
}

async fn greet(incoming: Incoming) -> Result<Greeted, Ungreeted> {
    let connecting = incoming.accept().map_err(Ungreeted::Connection)?;
    let connection = connecting.await.map_err(Ungreeted::Connection)?;
    let (send, mut receive) = connection.accept_bi().await.map_err(Ungreeted::Connection)?;
    match read_hello(&mut receive).await {
        Ok(hello) => Ok(Greeted {
            heard: Instant::now(),
            connection,
            send,
            receive,
            hello,
        }),
        Err(error) => {
            // To who does not speak this protocol at all there is nothing to say in it.
            let answers = !matches!(error, HelloError::Magic);
            Err(Ungreeted::Hello(connection, answers.then_some(send), error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_news_once_until_its_reason_changes() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let address = SocketAddr::from(([127, 0, 0, 1], 7));
        assert!(refusals.is_news(address, Refusal::World, now));
        assert!(!refusals.is_news(address, Refusal::World, now));
        assert!(refusals.is_news(address, Refusal::Zone, now));
        refusals.forget(address);
        assert!(refusals.is_news(address, Refusal::Zone, now));
    }

    #[test]
    fn peers_without_number_are_neither_remembered_nor_logged() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let is_news = |port: usize, now| {
            let address = SocketAddr::from(([127, 0, 0, 1], port as u16));
            refusals.is_news(address, Refusal::Malformed, now)
        };
        let news = (0..10 * REFUSED_PEERS_MAX).filter(|port| is_news(*port, now)).count();
        assert_eq!(news, REFUSED_PEERS_MAX);
        assert_eq!(refusals.last.lock().unwrap().len(), REFUSED_PEERS_MAX);
        assert!(is_news(60_000, now + REFUSED_KEPT));
    }
}
