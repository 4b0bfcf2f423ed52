//! The task of one connection: sends what waits in the link's outbox, and puts what comes into its inbox, until either side ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use meridian_ids::ZoneId;
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tokio::sync::watch;

use super::arrivals::Sent;
use super::carried::Carried;
use super::clock::{Clock, OtherClock};
use super::link::{AnyLink, CloseCode, Link};
use super::meters::{Ends, Meters};
use super::wire::WireError;

mod receiving;
mod sending;

/// What is reliable and waits when a link ends is sent for so long at most: a stopping process is not kept by a peer that is gone.
pub(super) const FLUSH_WAIT_MAX: Duration = Duration::from_millis(250);

/// A connection whose hello was answered.
pub(super) struct Session {
    pub(super) connection: Connection,
    /// The link's ordered stream, both ways: what the hello came over.
    pub(super) send: SendStream,
    pub(super) receive: RecvStream,
    /// The own clock.
    pub(super) clock: Clock,
    /// What is known of the other.
    pub(super) other: OtherClock,
    /// The zone that the link is with; of a link that was accepted, the one that accepted.
    pub(super) zone: ZoneId,
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// This side has closed it.
    Here(CloseCode),
    /// The other side has closed it, or is gone.
    There(ConnectionError),
    /// The other side has said all that it will say: it leaves.
    Finished,
    /// The other side has sent what is no message.
    Malformed(WireError),
}

impl Ended {
    /// The code that the other side is told.
    fn code(&self) -> CloseCode {
        match self {
            Self::Here(code) => *code,
            Self::There(_) | Self::Finished => CloseCode::Left,
            Self::Malformed(_) => CloseCode::Malformed,
        }
    }
}

impl Ended {
    /// Whether the other side has closed it for this reason.
    pub(super) fn is_by_peer(&self, code: CloseCode) -> bool {
        let code = VarInt::from_u32(code as u32);
        matches!(self, Self::There(ConnectionError::ApplicationClosed(close)) if close.error_code == code)
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Here(code) => f.write_str(code.reason()),
            Self::There(error) => error.fmt(f),
            Self::Finished => f.write_str("the other side has left"),
            Self::Malformed(error) => error.fmt(f),
        }
    }
}

/// How far the sending part has come, for the questions that the receiving part asks. Both are parts of one task.
#[derive(Default)]
struct SentSoFar {
    sequence: AtomicU64,
    by_stream: AtomicU64,
}

impl SentSoFar {
    fn get(&self) -> Sent {
        Sent {
            sequence: self.sequence.load(Ordering::Relaxed),
            by_stream: self.by_stream.load(Ordering::Relaxed),
        }
    }

    fn set(&self, sent: Sent) {
        self.sequence.store(sent.sequence, Ordering::Relaxed);
        self.by_stream.store(sent.by_stream, Ordering::Relaxed);
    }
}

/// Closes a link's outbox however its task ends: also when the runtime drops it.
pub(super) struct ClosesOutbox<'a, Out: Carried, In: Carried>(pub(super) &'a Link<Out, In>);

impl<Out: Carried, In: Carried> Drop for ClosesOutbox<'_, Out, In> {
    fn drop(&mut self) {
        self.0.outbox.close();
    }
}

/// Closes a connection.
pub(super) fn close(connection: &Connection, code: CloseCode) {
    connection.close(VarInt::from_u32(code as u32), code.reason().as_bytes());
}

/// Carries messages until the connection ends. The link's outbox was opened before, and is closed after.
pub(super) async fn run<Out: Carried, In: Carried>(
    session: Session,
    link: &Arc<Link<Out, In>>,
    ends: &Ends,
    shutdown: watch::Receiver<bool>,
) -> Ended {
    let _closes = ClosesOutbox(link);
    let meters = Meters::new(ends);
    let sent = SentSoFar::default();
    let Session {
        connection,
        send,
        receive,
        clock,
        other,
        zone,
    } = session;
    let ended = {
        let receiver = receiving::Receiver::new(&connection, link, &meters, &sent, (clock, other), zone);
        tokio::select! {
            ended = receiver.run(receive) => ended,
            ended = sending::reliable(&connection, send, link, &clock, &meters) => ended,
            ended = sending::fast(&connection, &link.outbox, &clock, &meters, &sent) => ended,
            code = ends_late(link.as_ref(), shutdown) => Ended::Here(code),
        }
    };
    if let Ended::Malformed(error) = &ended {
        meters.malformed.increment(1);
        tracing::warn!(local = %ends.local, peer = %ends.peer, address = %connection.remote_address(), %error,
            "a peer sent what is no message; run the same build on both sides");
    }
    close(&connection, ended.code());
    ended
}

/// Ends a link a moment after it was told to: meanwhile what is reliable is sent. For one that was replaced the newer link counts.
async fn ends_late<Out: Carried, In: Carried>(link: &Link<Out, In>, mut shutdown: watch::Receiver<bool>) -> CloseCode {
    let stops = async {
        // An endpoint that is gone has stopped too.
        let _ = shutdown.wait_for(|stops| *stops).await;
    };
    let code = tokio::select! {
        code = link.ended() => code,
        () = stops => {
            link.end(CloseCode::Shutdown);
            CloseCode::Shutdown
        }
    };
    if code != CloseCode::Replaced {
        tokio::time::sleep(FLUSH_WAIT_MAX).await;
    }
    code
}
