//! What a connection's task sends.

use std::sync::Arc;

use bytes::Bytes;
use quinn::{Connection, SendDatagramError, SendStream, StoppedError, WriteError};
use tokio::task::JoinSet;

use super::{Ended, FLUSH_WAIT_MAX, SentSoFar};
use crate::quic::arrivals::Sent;
use crate::quic::carried::{Carried, Class};
use crate::quic::clock::Clock;
use crate::quic::link::Link;
use crate::quic::meters::Meters;
use crate::quic::outbox::{Fast, Outbox, Sequenced, count_dropped};
use crate::quic::wire::{self, DatagramHeader, WireError};

/// Priority of the ordered stream above those of snapshots: a join must not wait for a whole snapshot.
const RELIABLE_PRIORITY: i32 = 1;
/// What the length of a frame takes.
const LENGTH_BYTES: usize = 4;
/// Frames that wait already are written together up to so much: QUIC keeps a record of each write until it is acknowledged.
const WRITE_BYTES: usize = 32 * 1024;

/// Why something was not sent.
enum Unsent {
    /// The message itself: the next one may do.
    Message(WireError),
    /// There is no way to carry it now.
    TooLarge,
    /// The connection is over.
    Over(Ended),
}

impl From<WireError> for Unsent {
    fn from(error: WireError) -> Self {
        Self::Message(error)
    }
}

/// How a connection ended on which a stream cannot be written any more.
fn write_ended(error: WriteError, connection_ended: impl FnOnce() -> Ended) -> Ended {
    match error {
        WriteError::ConnectionLost(error) => Ended::There(error),
        // Nobody of the fabric stops a stream before its end.
        WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => connection_ended(),
    }
}

/// Sends what is reliable, in order, until the link ends and all of it was sent.
pub(super) async fn reliable<Out: Carried, In: Carried>(
    connection: &Connection,
    mut stream: SendStream,
    link: &Link<Out, In>,
    clock: &Clock,
    meters: &Meters,
) -> Ended {
    // It fails for a stream that is closed, which writing tells too.
    let _ = stream.set_priority(RELIABLE_PRIORITY);
    let mut frames = Vec::new();
    while let Some(first) = link.outbox.next_reliable().await {
        frames.clear();
        let mut next = Some(first);
        while let Some((after, message)) = next.take() {
            let start = frames.len();
            match append_frame(&message, after, clock, &mut frames) {
                Ok(()) => meters.sent(Class::Reliable, frames.len() - start),
                Err(error) => {
                    frames.truncate(start);
                    count_dropped::<Out>(Class::Reliable);
                    tracing::warn!(%error, "a message cannot be sent");
                }
            }
            if frames.len() < WRITE_BYTES {
                next = link.outbox.try_next_reliable();
            }
        }
        if let Err(error) = stream.write_all(&frames).await {
            return write_ended(error, || Ended::Malformed(WireError::Stream));
        }
    }
    // The other side closes the connection when it has read all; if it does not, this one does. Neither changes what was sent.
    let _ = stream.finish();
    let _ = tokio::time::timeout(FLUSH_WAIT_MAX, connection.closed()).await;
    Ended::Here(link.ended().await)
}

fn append_frame<T: Carried>(message: &T, after: u64, clock: &Clock, frames: &mut Vec<u8>) -> Result<(), WireError> {
    let start = frames.len();
    frames.extend_from_slice(&[0; LENGTH_BYTES]);
    wire::append(&after, frames)?;
    message.encode(clock, frames)?;
    let length = frames.len() - start - LENGTH_BYTES;
    if length > wire::FRAME_BYTES_MAX {
        return Err(WireError::FrameTooLong(length));
    }
    frames.splice(start..start + LENGTH_BYTES, (length as u32).to_le_bytes());
    Ok(())
}

/// Sends everything else, the moment it waits.
pub(super) async fn fast<Out: Carried>(
    connection: &Connection,
    outbox: &Arc<Outbox<Out>>,
    clock: &Clock,
    meters: &Meters,
    so_far: &SentSoFar,
) -> Ended {
    let mut under_way = JoinSet::new();
    let mut sent = Sent::default();
    loop {
        let fast = outbox.next_fast().await;
        while under_way.try_join_next().is_some() {}
        let (class, result) = match fast {
            Fast::Loose(message) => (message.class(), send_loose(connection, &message, clock, meters).await),
            Fast::Sequenced(sequenced) => {
                let (class, sequence) = (sequenced.message.class(), sequenced.sequence);
                let result = send_sequenced(connection, sequenced, &mut sent, (clock, meters), &mut under_way).await;
                // Also what could not be sent has its place, and is missing there.
                sent.sequence = sequence;
                so_far.set(sent);
                (class, result)
            }
        };
        match result {
            Ok(()) => {}
            Err(Unsent::Over(ended)) => return ended,
            Err(Unsent::TooLarge) => count_dropped::<Out>(class),
            Err(Unsent::Message(error)) => {
                count_dropped::<Out>(class);
                tracing::warn!(%error, "a message cannot be sent");
            }
        }
    }
}

async fn send_datagram(connection: &Connection, bytes: Bytes) -> Result<(), Unsent> {
    connection.send_datagram_wait(bytes).await.map_err(|error| match error {
        SendDatagramError::ConnectionLost(error) => Unsent::Over(Ended::There(error)),
        SendDatagramError::TooLarge | SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled => {
            Unsent::TooLarge
        }
    })
}

async fn send_loose<T: Carried>(
    connection: &Connection,
    message: &T,
    clock: &Clock,
    meters: &Meters,
) -> Result<(), Unsent> {
    let mut bytes = Vec::with_capacity(128);
    wire::append(&DatagramHeader::Loose, &mut bytes)?;
    message.encode(clock, &mut bytes)?;
    let size = bytes.len();
    send_datagram(connection, bytes.into()).await?;
    meters.sent(Class::Loose, size);
    Ok(())
}

/// Sends a message of the sequence: as a datagram if it may be lost and one is as large, else on a stream of its own.
async fn send_sequenced<T: Carried>(
    connection: &Connection,
    sequenced: Sequenced<T>,
    sent: &mut Sent,
    (clock, meters): (&Clock, &Meters),
    under_way: &mut JoinSet<()>,
) -> Result<(), Unsent> {
    let Sequenced {
        sequence,
        message,
        charge,
    } = sequenced;
    let header = DatagramHeader::Sequenced {
        sequence,
        by_stream_before: sent.by_stream,
    };
    let mut bytes = Vec::with_capacity(message.footprint() + 64);
    wire::append(&header, &mut bytes)?;
    message.encode(clock, &mut bytes)?;
    let bytes = Bytes::from(bytes);
    let (class, must_arrive) = (message.class(), message.must_arrive());
    drop(message);
    if !must_arrive && connection.max_datagram_size().is_some_and(|max| bytes.len() <= max) {
        match send_datagram(connection, bytes.clone()).await {
            // The path has become narrower in this moment.
            Err(Unsent::TooLarge) => {}
            result => {
                meters.sent(class, bytes.len());
                return result;
            }
        }
    }
    let mut stream = connection
        .open_uni()
        .await
        .map_err(|error| Unsent::Over(Ended::There(error)))?;
    let size = bytes.len();
    let over = |error| Unsent::Over(write_ended(error, || Ended::Malformed(WireError::Stream)));
    stream.write_chunk(bytes).await.map_err(over)?;
    // It fails for a stream that is finished already.
    let _ = stream.finish();
    sent.by_stream += 1;
    meters.sent(class, size);
    meters.by_stream.increment(1);
    under_way.spawn(async move {
        let _: Result<_, StoppedError> = stream.stopped().await;
        drop(charge);
    });
    Ok(())
}
