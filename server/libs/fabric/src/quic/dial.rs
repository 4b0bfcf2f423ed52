//! Dialling a zone, over and over, for as long as somebody holds the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_ids::{LeaseEpoch, ZoneId};
use quinn::{ConnectError, Connection, ConnectionError};
use rand::RngExt;

use super::accept::HELLO_WAIT_MAX;
use super::carried::Carried;
use super::clock::{Exchange, OtherClock};
use super::endpoint::{AddressFn, Core, LeaseFn};
use super::hello::{Answer, Hello, HelloError, Party, Refusal, read_answer, write_hello};
use super::link::{CloseCode, Link};
use super::meters::Ends;
use super::run::{self, Session};
use super::tls::{FabricRole, is_crypto};
use crate::metric_definitions::FABRIC_REFUSED;

/// What is waited after the first failure; twice as long after each further one.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest wait: a zone that is away for long is found again after so much at most.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often discovery is asked while a dial waits: a zone at a new address is dialled at once.
const ADDRESS_INTERVAL: Duration = Duration::from_millis(100);
/// A link that lasted so long was a good one: after it the waits begin anew.
const LASTED_MIN: Duration = Duration::from_secs(1);

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("the address cannot be dialled: {0}")]
    Connect(#[from] ConnectError),
    #[error("{0}; both certificates must be of the same authority and valid now, and the zone's must name its role")]
    Certificate(ConnectionError),
    #[error("{0}")]
    Unreachable(ConnectionError),
    #[error("no answer came in time")]
    Late,
    #[error("{reason}")]
    Refused { code: Refusal, reason: String },
    #[error(transparent)]
    Hello(HelloError),
}

impl DialError {
    /// What became of a connection.
    fn of(error: ConnectionError) -> Self {
        let is_of_certificates = match &error {
            ConnectionError::TransportError(error) => is_crypto(error.code),
            ConnectionError::ConnectionClosed(close) => is_crypto(close.error_code),
            _ => false,
        };
        if is_of_certificates {
            Self::Certificate(error)
        } else {
            Self::Unreachable(error)
        }
    }

    const ADDRESS: &str = "address";
    const UNREACHABLE: &str = "unreachable";
    /// What [`Self::label`] says beside the names of refusals.
    const LABELS: [&str; 2] = [Self::ADDRESS, Self::UNREACHABLE];

    fn label(&self) -> &'static str {
        match self {
            Self::Connect(_) => Self::ADDRESS,
            Self::Certificate(_) => Refusal::Certificate.label(),
            Self::Unreachable(_) => Self::UNREACHABLE,
            Self::Late => Refusal::Late.label(),
            Self::Refused { code, .. } => code.label(),
            Self::Hello(HelloError::Version(_)) => Refusal::Version.label(),
            Self::Hello(_) => Refusal::Malformed.label(),
        }
    }

    /// Whether a newer instance has the link.
    fn is_outdated(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: Refusal::Outdated,
                ..
            }
        )
    }

    /// Whether waiting alone does not help.
    fn needs_somebody(&self) -> bool {
        !matches!(self, Self::Unreachable(_) | Self::Late)
    }
}

/// How long to wait before the next dial.
struct Retries {
    next: Duration,
}

impl Retries {
    fn new() -> Self {
        Self { next: RETRY_MIN }
    }

    /// The wait after a failure; `share`, from 0 to 1, says where in its second half. Those that lost the same zone do not all come
    /// back at once.
    fn after_failure(&mut self, share: f64) -> Duration {
        let wait = self.next.mul_f64(0.5 + share.clamp(0.0, 1.0) / 2.0);
        self.next = (self.next * 2).min(RETRY_MAX);
        wait
    }

    /// What has failed does not soon succeed: from here on the longest waits.
    fn slow_down(&mut self) {
        self.next = RETRY_MAX;
    }
}

/// What keeps a link to a zone.
pub(super) struct Dialler<Out: Carried, In: Carried> {
    pub(super) core: Arc<Core>,
    pub(super) link: Arc<Link<Out, In>>,
    pub(super) party: Party,
    pub(super) zone: ZoneId,
    pub(super) address: AddressFn,
    /// How new this instance is.
    pub(super) lease: LeaseFn,
}

/// What a dial goes by: when it changes, the next one need not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Aim {
    address: SocketAddr,
    lease: Option<LeaseEpoch>,
}

impl Aim {
    /// Whether dialling this one may succeed where dialling the former has failed.
    fn is_better_than(self, former: Option<Self>) -> bool {
        former.is_none_or(|former| self.address != former.address || self.lease > former.lease)
    }
}

/// What became of the dials since the last link.
struct Attempts {
    retries: Retries,
    /// The last failure: another one of its kind is not logged.
    failure: Option<&'static str>,
    /// Where the last dial went to, and what it said.
    dialled: Option<Aim>,
}

impl<Out: Carried, In: Carried> Dialler<Out, In> {
    /// Dials until the link's end is dropped or the endpoint closed.
    pub(super) async fn run(self) {
        // An increase from nothing at all is none to who watches.
        for label in DialError::LABELS.into_iter().chain(Refusal::ALL.map(Refusal::label)) {
            metrics::counter!(FABRIC_REFUSED, "side" => "dialling", "reason" => label).increment(0);
        }
        let ends = Ends {
            local: self.party.to_string(),
            peer: self.zone.to_string(),
        };
        let mut attempts = Attempts {
            retries: Retries::new(),
            failure: None,
            dialled: None,
        };
        loop {
            let session = tokio::select! {
                session = self.dial_until_linked(&mut attempts) => session,
                () = self.stops() => return,
            };
            attempts.failure = None;
            self.link.outbox.open();
            let since = Instant::now();
            let ended = run::run(session, &self.link, &ends, self.core.shutdown()).await;
            tracing::info!(local = %ends.local, peer = %ends.peer, reason = %ended, "link ended");
            if ended.is_by_peer(CloseCode::Replaced) {
                // Two of one name would take the link from each other as fast as they can.
                tracing::warn!(local = %ends.local, peer = %ends.peer, advice = self.party.advice_on_another(),
                    "another process has linked under this name");
            } else if since.elapsed() >= LASTED_MIN {
                attempts.retries = Retries::new();
            }
            let pause = attempts.retries.after_failure(rand::rng().random());
            tokio::select! {
                () = self.pause(attempts.dialled, pause) => {}
                () = self.stops() => return,
            }
        }
    }

    /// Waits until nobody wants the link any more.
    async fn stops(&self) {
        let mut shutdown = self.core.shutdown();
        tokio::select! {
            _ = self.link.ended() => {}
            // An endpoint that is gone is closed too.
            _ = shutdown.wait_for(|stops| *stops) => {}
        }
    }

    async fn dial_until_linked(&self, attempts: &mut Attempts) -> Session {
        loop {
            let aim = self.known_aim().await;
            attempts.dialled = Some(aim);
            let dialled = tokio::time::timeout(HELLO_WAIT_MAX, self.dial(aim)).await;
            match dialled.unwrap_or(Err(DialError::Late)) {
                Ok(session) => return session,
                Err(error) => {
                    self.tell(&error, aim.address, &mut attempts.failure);
                    if error.is_outdated() {
                        attempts.retries.slow_down();
                    }
                }
            }
            let pause = attempts.retries.after_failure(rand::rng().random());
            self.pause(attempts.dialled, pause).await;
        }
    }

    /// Counts a failure, and logs it unless the last one was of its kind.
    fn tell(&self, error: &DialError, address: SocketAddr, last: &mut Option<&'static str>) {
        let label = error.label();
        metrics::counter!(FABRIC_REFUSED, "side" => "dialling", "reason" => label).increment(1);
        if last.replace(label) == Some(label) {
            return;
        }
        let (local, zone) = (&self.party, self.zone);
        if error.needs_somebody() {
            tracing::warn!(%local, %zone, %address, code = label, reason = %error, "a zone cannot be linked; trying on");
        } else {
            tracing::info!(%local, %zone, %address, code = label, reason = %error, "a zone cannot be reached; trying on");
        }
    }

    /// Where the zone is, if that is known, and how new this instance is now.
    fn aim(&self) -> Option<Aim> {
        let address = (self.address)()?;
        let lease = (self.lease)();
        Some(Aim { address, lease })
    }

    /// Where the zone is, once that is known.
    async fn known_aim(&self) -> Aim {
        loop {
            if let Some(aim) = self.aim() {
                return aim;
            }
            tokio::time::sleep(ADDRESS_INTERVAL).await;
        }
    }

    /// Waits, but not longer than until the zone is said to be elsewhere, or this instance is newer than it said.
    async fn pause(&self, dialled: Option<Aim>, pause: Duration) {
        let moved = async {
            loop {
                tokio::time::sleep(ADDRESS_INTERVAL).await;
                if self.aim().is_some_and(|aim| aim.is_better_than(dialled)) {
                    return;
                }
            }
        };
        // That the time is up is what was waited for.
        let _ = tokio::time::timeout(pause, moved).await;
    }

    async fn dial(&self, aim: Aim) -> Result<Session, DialError> {
        let core = &self.core;
        let name = FabricRole::Zone.server_name();
        let connecting = core.endpoint.connect_with(core.client.clone(), aim.address, name)?;
        let connection = connecting.await.map_err(DialError::of)?;
        let introduced = self.introduce(&connection, aim.lease).await;
        introduced.map_err(|error| match (connection.close_reason(), error) {
            // The stream ended because the connection did, which says more.
            (Some(reason), DialError::Hello(HelloError::Read(_) | HelloError::Write(_))) => DialError::of(reason),
            (_, error) => {
                run::close(&connection, CloseCode::Refused);
                error
            }
        })
    }

    async fn introduce(&self, connection: &Connection, lease: Option<LeaseEpoch>) -> Result<Session, DialError> {
        let clock = self.core.clock;
        let (mut send, mut receive) = connection.open_bi().await.map_err(DialError::of)?;
        let asked = clock.nanoseconds(Instant::now());
        let hello = Hello {
            world: self.core.world.clone(),
            process: self.core.process.clone(),
            party: self.party.clone(),
            lease,
            zone: self.zone,
            clock: asked,
        };
        write_hello(&mut send, &hello).await.map_err(DialError::Hello)?;
        let answer = read_answer(&mut receive).await.map_err(DialError::Hello)?;
        let now = Instant::now();
        match answer {
            Answer::Refused { code, reason } => Err(DialError::Refused { code, reason }),
            Answer::Welcome {
                process,
                heard,
                answered,
            } => {
                let mut other = OtherClock::from_hello(clock, answered, connection.rtt() / 2, now);
                other.learn(Exchange {
                    asked,
                    heard,
                    answered,
                    received: clock.nanoseconds(now),
                });
                let address = connection.remote_address();
                tracing::info!(local = %self.party, peer = %self.zone, process, %address, "linked");
                Ok(Session {
                    connection: connection.clone(),
                    send,
                    receive,
                    clock,
                    other,
                    zone: self.zone,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_scatter_over_their_second_half() {
        let mut retries = Retries::new();
        assert_eq!(retries.after_failure(0.0), RETRY_MIN / 2);
        assert_eq!(retries.after_failure(1.0), 2 * RETRY_MIN);
        for _ in 0..10 {
            retries.after_failure(0.5);
        }
        assert_eq!(retries.after_failure(1.0), RETRY_MAX);
        assert_eq!(retries.after_failure(0.0), RETRY_MAX / 2);

        let mut retries = Retries::new();
        retries.slow_down();
        assert_eq!(retries.after_failure(0.0), RETRY_MAX / 2);
    }

    #[test]
    fn a_dial_need_not_wait_for_another_address_or_a_newer_lease() {
        let aim = |port, lease: Option<u64>| Aim {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            lease: lease.map(LeaseEpoch),
        };
        let former = Some(aim(1, Some(5)));
        assert!(aim(1, None).is_better_than(None));
        assert!(aim(2, Some(5)).is_better_than(former));
        assert!(aim(1, Some(6)).is_better_than(former));
        for lease in [None, Some(4), Some(5)] {
            assert!(!aim(1, lease).is_better_than(former));
        }
    }
}
