//! A store's address, and how connections to it are opened. Only a managed one is opened again by itself: who uses another one decides what its end means.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, Pipeline, ServerErrorKind, TlsCertificates, Value};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

use super::command::Terms;
use super::keys::Keys;
use super::scripts;
use super::{ValkeyError, ValkeyOptions};

/// The first wait before a connection is opened again.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// The longest wait: a lease lasts two.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// How often a managed connection is tried again before who asks is told that it is not to be had: their waits are over before an answer would be late.
const MANAGED_RETRIES: usize = 3;

/// Where a world is kept.
#[derive(Clone)]
pub(super) struct Store {
    client: Client,
    pub(super) terms: Terms,
    pub(super) response_timeout: Duration,
    pub(super) replicas: u8,
}

impl Store {
    pub(super) fn new(options: &ValkeyOptions) -> Result<Self, ValkeyError> {
        let terms = Terms {
            keys: Keys::new(&options.world)?,
            lease_ttl: options.lease_ttl,
            settling: options.settling,
        };
        let address = options
            .url
            .as_str()
            .into_connection_info()
            .map_err(|_| ValkeyError::Address)?;
        // A command is small, and somebody waits for its answer.
        let address = address.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        // One of both is the first; they are the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = match &options.trusted_certificates {
            None => Client::open(address).map_err(|_| ValkeyError::Address)?,
            Some(pem) => {
                check_certificates(pem)?;
                let certificates = TlsCertificates {
                    client_tls: None,
                    root_cert: Some(pem.clone()),
                };
                Client::build_with_tls(address, certificates)
                    .map_err(|error| ValkeyError::Certificates(error.to_string()))?
            }
        };
        Ok(Self {
            client,
            terms,
            response_timeout: options.response_timeout,
            replicas: options.replicas,
        })
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.terms.keys
    }

    /// A connection of its own, that knows all scripts. It has no time limit: whoever asks sets one.
    pub(super) async fn open(&self) -> Result<MultiplexedConnection, ValkeyError> {
        let mut connection = self.open_bare().await?;
        self.teach(&mut connection).await?;
        Ok(connection)
    }

    /// Tells the server all scripts.
    pub(super) async fn teach(&self, connection: &mut impl ConnectionLike) -> Result<(), ValkeyError> {
        let loaded = ask_all(connection, &scripts::load_all(), self.response_timeout).await?;
        loaded.into_iter().try_for_each(|answer| checked(answer).map(drop))
    }

    /// A connection that is opened when it is first used, and again after it broke. Whoever asks sets a time limit, and finds out whether the server knows
    /// the scripts.
    pub(super) fn manage(&self) -> Result<ConnectionManager, ValkeyError> {
        let configuration = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(self.response_timeout))
            .set_response_timeout(None)
            .set_number_of_retries(MANAGED_RETRIES)
            .set_min_delay(BACKOFF_FIRST)
            .set_max_delay(BACKOFF_MAX);
        let manager = ConnectionManager::new_lazy_with_config(self.client.clone(), configuration);
        Ok(manager?)
    }

    /// One that knows no scripts, for who only looks.
    pub(super) async fn open_bare(&self) -> Result<MultiplexedConnection, ValkeyError> {
        let configuration = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.response_timeout))
            .set_response_timeout(None);
        let opened = self.client.get_multiplexed_async_connection_with_config(&configuration);
        let mut connection = opened.await?;
        // First something short: who is not let in and sends much has the connection closed, without a word on why.
        ask(&mut connection, &redis::cmd("PING"), self.response_timeout).await?;
        Ok(connection)
    }

    /// A blocking connection, for who compares.
    pub(super) fn open_blocking(&self) -> Result<redis::Connection, ValkeyError> {
        let mut connection = self.client.get_connection_with_timeout(self.response_timeout)?;
        scripts::load_all().exec(&mut connection)?;
        Ok(connection)
    }
}

fn check_certificates(pem: &[u8]) -> Result<(), ValkeyError> {
    let mut certificates = CertificateDer::pem_slice_iter(pem).peekable();
    if certificates.peek().is_none() {
        return Err(ValkeyError::Certificates("there is none in it".to_owned()));
    }
    let unreadable = |error: pem::Error| ValkeyError::Certificates(error.to_string());
    certificates.try_for_each(|certificate| certificate.map(drop).map_err(unreadable))
}

/// Asks, and waits so long for the answers, which may be errors of the server.
pub(super) async fn ask_all(
    connection: &mut impl ConnectionLike,
    questions: &Pipeline,
    timeout: Duration,
) -> Result<Vec<Value>, ValkeyError> {
    let answers = connection.req_packed_commands(questions, 0, questions.len());
    match tokio::time::timeout(timeout, answers).await {
        Ok(answers) => Ok(answers?),
        Err(_) => Err(ValkeyError::TimedOut),
    }
}

/// Asks one thing, and waits so long for the answer; an error of the server is an error.
pub(super) async fn ask(
    connection: &mut impl ConnectionLike,
    question: &redis::Cmd,
    timeout: Duration,
) -> Result<Value, ValkeyError> {
    match tokio::time::timeout(timeout, connection.req_packed_command(question)).await {
        Ok(answer) => checked(answer?),
        Err(_) => Err(ValkeyError::TimedOut),
    }
}

pub(super) fn checked(answer: Value) -> Result<Value, ValkeyError> {
    match answer {
        Value::ServerError(error) => Err(ValkeyError::from(redis::RedisError::from(error))),
        answer => Ok(answer),
    }
}

/// Whether an answer means that this connection is of no use, now or any more: the server is loading, or not the one that writes.
pub(super) fn ends_connection(answer: &Value) -> bool {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, Moved, ReadOnly};
    let Value::ServerError(error) = answer else {
        return false;
    };
    matches!(
        error.kind(),
        Some(BusyLoading | ClusterDown | MasterDown | Moved | ReadOnly)
    )
}

/// A number that nobody else has: from the system's randomness.
pub(super) fn nonce() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// How long to wait before a connection is opened again: longer each time, and never as long as the others wait.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: BACKOFF_FIRST }
    }
}

impl Backoff {
    pub(super) fn next(&mut self) -> Duration {
        let most = self.next;
        self.next = (most * 2).min(BACKOFF_MAX);
        // Between half of it and all of it.
        let half = most / 2;
        let jitter_us = nonce() % (half.as_micros().max(1) as u64);
        half + Duration::from_micros(jitter_us)
    }

    pub(super) fn reset(&mut self) {
        self.next = BACKOFF_FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_second_and_begin_anew_when_it_went_well() {
        let mut backoff = Backoff::default();
        for most in [50, 100, 200, 400, 800, 1_000, 1_000].map(Duration::from_millis) {
            let wait = backoff.next();
            assert!(
                (most / 2..=most).contains(&wait),
                "{wait:?} is not within half of {most:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next() <= BACKOFF_FIRST);
    }

    #[test]
    fn an_address_that_is_none_is_refused_and_never_told() {
        for url in [
            "",
            "http://somewhere",
            "redis://:secret@",
            "redis://user:secret@host:notaport/",
        ] {
            let error = Store::new(&ValkeyOptions::new(url, "world")).err().unwrap();
            assert_eq!(error, ValkeyError::Address, "{url}");
        }
        let options = ValkeyOptions::new("redis://meridian:hunter2@127.0.0.1/", "world");
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
