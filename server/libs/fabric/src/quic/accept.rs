//! Accepting links: who dials is asked for its hello, and gets a link or is told why not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::{Connection, ConnectionError, Incoming, RecvStream, SendStream};
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;

use super::carried::Carried;
use super::clock::OtherClock;
use super::endpoint::Core;
use super::handshakes::{Admission, HandshakePermit, Handshakes};
use super::hello::{Answer, Hello, HelloError, Party, Refusal, read_hello, told_reason, write_answer};
use super::link::{AnyLink, CloseCode, End, Link};
use super::meters::Ends;
use super::refusals::Refusals;
use super::run::{self, Session};
use super::serving::{AcceptedLink, Served};
use super::tls::{FabricRole, is_crypto};
use crate::{GatewayMessage, PeerMessage, ZoneMessage};

/// Links that a process accepts: sixteen zones with a gateway for each 250 of 32,000 players, and neighbours.
const ACCEPTED_MAX: usize = 4_096;
/// A hello that was not read after so long does not come.
pub(super) const HELLO_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a refused peer is waited for to read why.
const REFUSED_WAIT_MAX: Duration = Duration::from_secs(1);
/// Accepts until the endpoint is closed.
pub(super) async fn accept_all(core: Arc<Core>) {
    let handshakes = Arc::new(Handshakes::default());
    let accepted = Arc::new(Semaphore::new(ACCEPTED_MAX));
    let refusals = Arc::new(Refusals::new());
    while let Some(incoming) = core.endpoint.accept().await {
        let address = incoming.remote_address();
        let is_proven = incoming.remote_address_validated() || !incoming.may_retry();
        let handshake = match handshakes.admit(address.ip(), is_proven) {
            Admission::GoesOn(permit) => permit,
            Admission::MustProve => {
                // It fails where no retry is possible, which was asked.
                let _ = incoming.retry();
                continue;
            }
            Admission::Refused(reason) => {
                refusals.count(address, Refusal::Busy, reason);
                incoming.refuse();
                continue;
            }
        };
        let Ok(link) = Arc::clone(&accepted).try_acquire_owned() else {
            refusals.count(address, Refusal::Busy, "the process has as many links as it may have");
            incoming.refuse();
            continue;
        };
        let acceptor = Acceptor {
            core: Arc::clone(&core),
            refusals: Arc::clone(&refusals),
            address,
        };
        tokio::spawn(async move {
            acceptor.accept(incoming, handshake).await;
            drop(link);
        });
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
    async fn accept(self, incoming: Incoming, handshake: HandshakePermit) {
        let until = tokio::time::Instant::now() + HELLO_WAIT_MAX;
        let greeted = tokio::time::timeout_at(until, greet(incoming, handshake)).await;
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
        match self.check(&greeted) {
            Ok(served) => self.start(greeted, &served, until).await,
            Err((refusal, reason)) => {
                let Greeted { connection, send, .. } = greeted;
                self.refuse(&connection, Some(send), refusal, &reason).await;
            }
        }
    }

    fn no_connection(&self, error: &ConnectionError) {
        let is_theirs = match error {
            ConnectionError::TransportError(error) => is_crypto(error.code).then_some(false),
            ConnectionError::ConnectionClosed(close) => is_crypto(close.error_code).then_some(true),
            _ => None,
        };
        let reason = match is_theirs {
            Some(false) => format!(
                "{error}; its certificate must be of the same authority as this process's, valid now, and not be meant for \
                 something else: issue it one"
            ),
            Some(true) => format!(
                "{error}: it does not accept this process's certificate; both must be of the same authority and valid now, and \
                 this one must name {}, whom others dial",
                FabricRole::Zone.server_name()
            ),
            // The peer is gone: its own logs say more.
            None => return tracing::debug!(address = %self.address, %error, "a handshake has ended early"),
        };
        self.refusals.count(self.address, Refusal::Certificate, &reason);
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

    async fn start(&self, greeted: Greeted, served: &Served, until: tokio::time::Instant) {
        match greeted.hello.party.clone() {
            Party::Gateway(gateway) => {
                let accept = |end| AcceptedLink::Gateway {
                    gateway,
                    end: Arc::new(end),
                };
                self.carry::<ZoneMessage, GatewayMessage>(greeted, served, until, accept)
                    .await;
            }
            Party::Zone(zone) => {
                let accept = |end| AcceptedLink::Peer {
                    zone,
                    end: Arc::new(end),
                };
                self.carry::<PeerMessage, PeerMessage>(greeted, served, until, accept)
                    .await;
            }
        }
    }

    /// Hands the zone its end, welcomes the peer (`until` then at most) and carries their messages.
    async fn carry<Out: Carried, In: Carried>(
        &self,
        greeted: Greeted,
        served: &Served,
        until: tokio::time::Instant,
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
        let instance = (hello.party.clone(), hello.lease);
        if let Err(error) = served.admit(instance, Arc::downgrade(&any), accepted) {
            let reason = format!("zone {}: {error}", hello.zone);
            return self.refuse(&connection, Some(send), error.refusal(), &reason).await;
        }
        let clock = self.core.clock;
        let answer = Answer::Welcome {
            process: self.core.process.clone(),
            heard: clock.nanoseconds(heard),
            answered: clock.nanoseconds(Instant::now()),
        };
        let _closes = run::ClosesOutbox(&link);
        let welcomed = tokio::select! {
            // First, so that a link that ends at once is one that was welcomed.
            biased;
            written = tokio::time::timeout_at(until, write_answer(&mut send, &answer)) => written.map_err(|_| CloseCode::Refused),
            code = link.ended() => Err(code),
        };
        match welcomed {
            Ok(Ok(())) => self.refusals.forget(self.address),
            Ok(Err(error)) => {
                return tracing::debug!(address = %self.address, %error, "a peer has left before its welcome");
            }
            Err(code) => {
                if code == CloseCode::Refused {
                    self.refusals.count(
                        self.address,
                        Refusal::Late,
                        "it did not take the answer to its hello in time",
                    );
                }
                return run::close(&connection, code);
            }
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

async fn greet(incoming: Incoming, handshake: HandshakePermit) -> Result<Greeted, Ungreeted> {
    let connecting = incoming.accept().map_err(Ungreeted::Connection)?;
    let connection = connecting.await.map_err(Ungreeted::Connection)?;
    // Its certificate is one of the authority's: from here on it counts as a link.
    drop(handshake);
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
