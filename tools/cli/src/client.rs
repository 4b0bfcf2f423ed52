//! Calls of the gRPC API: each with its token, its deadline, its trace and how long it took.

mod answers;

use std::error::Error as _;
use std::time::{Duration, Instant};

use meridian_rpc::v1::game_server_client::GameServerClient;
use meridian_telemetry::TraceContext;
use serde::Serialize;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::error::{CliError, printable};
use crate::output::{Output, milliseconds, rounded};
use crate::trace::trace_id;

pub use answers::{Place, check_area, check_join, check_place};

/// A connection on which nothing comes is asked after this long whether somebody is there, for a watch of who stands still.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long that may take to answer.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to a server.
#[derive(Clone)]
pub struct Client {
    server: String,
    channel: Channel,
    timeout: Duration,
    output: Output,
}

/// An answer, and how long it took from when the call was made on a connection that was there.
pub struct Answer<T> {
    /// What was answered.
    pub value: T,
    /// How long that took.
    pub latency: Duration,
}

/// How long an action took, as every result tells it.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Milliseconds from the call to its answer.
    pub latency_ms: f64,
    /// The same in ticks of the world; none if its tick rate is not known.
    pub latency_ticks: Option<f64>,
    /// The trace of the action.
    pub trace_id: String,
}

impl Latency {
    /// How long an action took in a world of this tick rate.
    pub fn new(latency: Duration, tick_rate_hz: Option<u32>, trace: TraceContext) -> Self {
        Self {
            latency_ms: milliseconds(latency),
            latency_ticks: tick_rate_hz.map(|rate| rounded(latency.as_secs_f64() * f64::from(rate))),
            trace_id: trace_id(&trace),
        }
    }
}

impl std::fmt::Display for Latency {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:.2} ms", self.latency_ms)?;
        if let Some(ticks) = self.latency_ticks {
            write!(formatter, " = {ticks:.2} ticks")?;
        }
        Ok(())
    }
}

impl Client {
    /// Connects to a server.
    ///
    /// # Errors
    /// [`CliError::ServerUnreachable`], or [`CliError::TimedOut`].
    pub async fn connect(server: &str, timeout: Duration, output: Output) -> Result<Self, CliError> {
        Ok(Self {
            server: server.to_owned(),
            channel: open(server, timeout).await?,
            timeout,
            output,
        })
    }

    /// The server that is asked, as a URL.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// How long an answer may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The connection, for services beside the game's.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Makes a call, and makes it once more at the owner of the entity if the server says that another has it. `call` starts a call with the request
    /// that it is given; `message` is what is sent.
    ///
    /// # Errors
    /// [`CliError::Refused`] and those of a connection.
    pub async fn call<M: Clone, A>(
        &mut self,
        message: M,
        token: Option<&str>,
        trace: TraceContext,
        kind: CallKind,
        call: impl AsyncFn(GameServerClient<Channel>, Request<M>) -> Result<Response<A>, Status>,
    ) -> Result<Answer<A>, CliError> {
        let request = self.request(message.clone(), token, trace, kind)?;
        match self.answer(call(GameServerClient::new(self.channel()), request)).await {
            Err(CliError::Refused(status)) if self.follow(&status).await? => {
                let request = self.request(message, token, trace, kind)?;
                self.answer(call(GameServerClient::new(self.channel()), request)).await
            }
            first => first,
        }
    }

    /// Goes on at the owner of an entity, if `refusal` says where that is and it can be reached.
    ///
    /// # Errors
    /// [`CliError::OutputClosed`] if nobody can be told.
    pub async fn follow(&mut self, refusal: &Status) -> Result<bool, CliError> {
        let Some(owner) = owner_address(refusal) else {
            return Ok(false);
        };
        let Ok(channel) = open(&owner, self.timeout).await else {
            return Ok(false);
        };
        let message = format!("asked {owner}, which has the entity, instead of {}", self.server);
        self.output.notice("followed_owner", &message)?;
        self.server = owner;
        self.channel = channel;
        Ok(true)
    }

    /// A request with everything that goes beside the message.
    ///
    /// # Errors
    /// The token cannot be sent.
    pub fn request<M>(
        &self,
        message: M,
        token: Option<&str>,
        trace: TraceContext,
        kind: CallKind,
    ) -> Result<Request<M>, CliError> {
        let mut request = Request::new(message);
        if kind == CallKind::Single {
            request.set_timeout(self.timeout);
        }
        if let Some(token) = token {
            let mut bearer = ascii(&format!("Bearer {token}"))?;
            bearer.set_sensitive(true);
            request.metadata_mut().insert(meridian_rpc::AUTHORIZATION, bearer);
        }
        request
            .metadata_mut()
            .insert(meridian_rpc::TRACEPARENT, ascii(&trace.to_traceparent())?);
        Ok(request)
    }

    /// Waits for an answer for as long as it may take.
    ///
    /// # Errors
    /// [`CliError::Refused`] and those of a connection.
    pub async fn answer<A>(
        &self,
        call: impl Future<Output = Result<Response<A>, Status>>,
    ) -> Result<Answer<A>, CliError> {
        let began = Instant::now();
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(response)) => Ok(Answer {
                value: response.into_inner(),
                latency: began.elapsed(),
            }),
            Ok(Err(status)) => Err(self.in_plain_words(status)),
            Err(_) => Err(self.timed_out()),
        }
    }

    /// What a status means: what the server says, or what became of the connection to it.
    pub fn in_plain_words(&self, status: Status) -> CliError {
        if is_deadline(&status) {
            return self.timed_out();
        }
        // A server's own status has no source; the source of others is what the connection says.
        let Some(mut cause) = status.source() else {
            return match is_garbled(&status) {
                // Another service's port, most likely: its HTTP says what no gRPC does.
                true => self.malformed(format!(
                    "{}; is this its gRPC port? The default is 7650",
                    printable(status.message())
                )),
                false => CliError::Refused(Box::new(status)),
            };
        };
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        CliError::ConnectionLost {
            server: self.server.clone(),
            reason: printable(&cause.to_string()),
        }
    }

    /// The error of an answer that makes no sense.
    pub fn malformed(&self, reason: impl Into<String>) -> CliError {
        CliError::Malformed {
            whom: self.server.clone(),
            reason: reason.into(),
        }
    }

    /// The error of an answer that does not come.
    pub fn timed_out(&self) -> CliError {
        CliError::TimedOut {
            whom: format!("the server at {}", self.server),
            limit: self.timeout,
        }
    }
}

/// Whether a call ends with one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// It has a deadline.
    Single,
    /// Only its beginning has one.
    Stream,
}

async fn open(server: &str, timeout: Duration) -> Result<Channel, CliError> {
    let unreachable = |reason: String| CliError::ServerUnreachable {
        server: server.to_owned(),
        reason,
    };
    let endpoint = Endpoint::from_shared(server.to_owned()).map_err(|error| unreachable(error.to_string()))?;
    let endpoint = endpoint
        .connect_timeout(timeout)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    let connected = tokio::time::timeout(timeout, endpoint.connect()).await;
    let connected = connected.map_err(|_| CliError::TimedOut {
        whom: format!("the server at {server}"),
        limit: timeout,
    })?;
    connected.map_err(|error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let refused = cause.downcast_ref::<std::io::Error>();
        let refused = refused.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
        unreachable(if refused {
            "nobody listens there".to_owned()
        } else {
            cause.to_string()
        })
    })
}

/// Where the owner of an entity is, if the server refused a call for it and named an address that can be asked.
fn owner_address(status: &Status) -> Option<String> {
    let text = |key: &str| status.metadata().get(key).and_then(|value| value.to_str().ok());
    if text(meridian_rpc::ERROR) != Some("owner_elsewhere") {
        return None;
    }
    // An address and no name: nobody is asked where it is, and the token goes nowhere else.
    let address: std::net::SocketAddr = text(meridian_rpc::OWNER_ADDRESS)?.parse().ok()?;
    Some(format!("http://{address}"))
}

/// Statuses that gRPC itself makes of a deadline, on this side or on the other: whose clock is first is chance. What the game's service says of one
/// has a word of its own.
fn is_deadline(status: &Status) -> bool {
    let is_silent = status.metadata().get(meridian_rpc::ERROR).is_none();
    let is_expired = match status.code() {
        Code::DeadlineExceeded => true,
        Code::Cancelled => status.message().contains("Timeout expired"),
        _ => false,
    };
    is_silent && is_expired
}

/// Statuses that tonic makes of answers which are no gRPC, or whose message is not the one that was asked for.
fn is_garbled(status: &Status) -> bool {
    let is_silent = status.metadata().get(meridian_rpc::ERROR).is_none();
    let message = status.message();
    is_silent
        && matches!(
            status.code(),
            Code::Internal | Code::Unknown | Code::OutOfRange | Code::Unavailable
        )
        && (message.starts_with("failed to decode Protobuf")
            || message.starts_with("protocol error")
            || message.contains("grpc-status header missing")
            || message.contains("invalid compression flag")
            || message.contains("decoded message length too large")
            || message.contains("Missing response message"))
}

fn ascii(text: &str) -> Result<MetadataValue<Ascii>, CliError> {
    text.parse().map_err(|_| CliError::Malformed {
        whom: "the session file".to_owned(),
        reason: "its token is none".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_is_followed_and_only_for_an_owner_elsewhere() {
        let status = |word: &'static str, address: &'static str| {
            let mut status = Status::unavailable("");
            status.metadata_mut().insert(meridian_rpc::ERROR, word.parse().unwrap());
            status
                .metadata_mut()
                .insert(meridian_rpc::OWNER_ADDRESS, address.parse().unwrap());
            status
        };
        let followed = owner_address(&status("owner_elsewhere", "127.0.0.1:7651"));
        assert_eq!(followed.as_deref(), Some("http://127.0.0.1:7651"));
        assert_eq!(owner_address(&status("zone_away", "127.0.0.1:7651")), None);
        assert_eq!(owner_address(&status("owner_elsewhere", "http://example.com/x")), None);
        assert_eq!(owner_address(&Status::unavailable("")), None);
    }

    #[test]
    fn a_deadline_is_one_whoever_notices_it_and_the_servers_word_for_it_stays() {
        assert!(is_deadline(&Status::cancelled("Timeout expired")));
        assert!(is_deadline(&Status::deadline_exceeded("")));
        assert!(!is_deadline(&Status::cancelled("replaced")));
        let mut told = Status::deadline_exceeded("the zone did not answer");
        let word = MetadataValue::from_static("deadline");
        told.metadata_mut().insert(meridian_rpc::ERROR, word);
        assert!(!is_deadline(&told));
    }

    #[test]
    fn latency_is_told_in_ticks_if_the_rate_is_known() {
        let trace = TraceContext::new_root(true);
        let latency = Latency::new(Duration::from_micros(25_000), Some(60), trace);
        assert_eq!((latency.latency_ms, latency.latency_ticks), (25.0, Some(1.5)));
        assert_eq!(latency.to_string(), "25.00 ms = 1.50 ticks");
        assert_eq!(
            Latency::new(Duration::from_micros(25_000), None, trace).to_string(),
            "25.00 ms"
        );
    }
}
