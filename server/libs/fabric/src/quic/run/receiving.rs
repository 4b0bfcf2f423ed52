//! What a connection's task receives.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use meridian_ids::ZoneId;
use quinn::{Connection, ConnectionError, ReadError, ReadToEndError, RecvStream};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{Ended, SentSoFar};
use crate::quic::arrivals::{Arrivals, Delivery, HELD_RELIABLE_MAX, Sent};
use crate::quic::carried::{Carried, Class, Reading};
use crate::quic::clock::{Clock, Exchange, OtherClock};
use crate::quic::link::Link;
use crate::quic::meters::Meters;
use crate::quic::wire::{self, DatagramHeader, FRAME_BYTES_MAX, STREAM_BYTES_MAX, WireError};

/// How often the other side is asked for its time at first, so that times are right from the start.
const ASK_FIRST_INTERVAL: Duration = Duration::from_millis(20);
/// How many times.
const ASK_FIRST_COUNT: u32 = 8;
/// How often it is asked from then on. A question also tells how much was sent before it, so that a loss that nothing follows is
/// noticed after so long at most.
const ASK_INTERVAL: Duration = Duration::from_millis(250);
/// How often the gauges are brought up to date.
const SHOW_INTERVAL: Duration = Duration::from_secs(1);
/// Datagrams that are taken in before anything else gets its turn: as many of the smallest inputs as the buffer holds.
const DATAGRAMS_PER_TURN_MAX: usize = 4_096;
/// Bytes that a datagram of the clocks has at most.
const CLOCK_DATAGRAM_BYTES_MAX: usize = 64;

/// What came wrong, or that nothing comes any more.
enum Failure {
    Wire(WireError),
    Connection(ConnectionError),
    /// The other side has said all that it will say.
    Finished,
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => Self::Connection(error),
            // Nobody of the fabric resets a stream, and it is never read after its end.
            ReadError::Reset(_)
            | ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => Self::Wire(WireError::Stream),
        }
    }
}

/// The receiving part of a connection's task.
pub(super) struct Receiver<'a, Out: Carried, In: Carried> {
    connection: &'a Connection,
    link: &'a Link<Out, In>,
    meters: &'a Meters,
    sent: &'a SentSoFar,
    clock: Clock,
    other: OtherClock,
    zone: ZoneId,
    arrivals: Arrivals<In>,
    /// Messages that came by stream.
    by_stream: u64,
    lost_packets: u64,
}

impl<'a, Out: Carried, In: Carried> Receiver<'a, Out, In> {
    pub(super) fn new(
        connection: &'a Connection,
        link: &'a Link<Out, In>,
        meters: &'a Meters,
        sent: &'a SentSoFar,
        (clock, other): (Clock, OtherClock),
        zone: ZoneId,
    ) -> Self {
        Self {
            connection,
            link,
            meters,
            sent,
            clock,
            other,
            zone,
            arrivals: Arrivals::new(In::ORDER),
            by_stream: 0,
            lost_packets: 0,
        }
    }

    pub(super) async fn run(mut self, stream: RecvStream) -> Ended {
        let failure = match self.receive(stream).await {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        let ended = match failure {
            Failure::Wire(error) => return Ended::Malformed(error),
            Failure::Connection(error) => Ended::There(error),
            Failure::Finished => Ended::Finished,
        };
        // What they wait for will not come any more.
        self.arrivals
            .into_reliable()
            .for_each(|message| self.link.inbox.put(message));
        ended
    }

    async fn receive(&mut self, stream: RecvStream) -> Result<std::convert::Infallible, Failure> {
        let connection = self.connection;
        let mut frames = Frames::new(stream);
        let mut stream = pin!(next_stream(connection));
        let mut asks = Asks::new();
        let mut shows = interval(SHOW_INTERVAL);
        loop {
            // A peer whose messages nobody receives is not read further: it is told by its own full queue.
            let has_room = self.link.inbox.has_room() && self.arrivals.reliable_held() < HELD_RELIABLE_MAX;
            tokio::select! {
                datagram = connection.read_datagram() => {
                    self.on_datagram(&datagram?)?;
                    self.take_datagrams()?;
                }
                came = &mut stream => {
                    // What was sent before the stream ended came before: it lies there, if it was not lost.
                    self.take_datagrams()?;
                    self.on_stream(&came?)?;
                    stream.set(next_stream(connection));
                }
                frame = frames.next(), if has_room => match frame? {
                    Some(frame) => self.on_frame(&frame)?,
                    None => {
                        self.take_datagrams()?;
                        self.deliver();
                        return Err(Failure::Finished);
                    }
                },
                () = self.link.inbox.room(), if !has_room => {}
                () = asks.due() => self.ask()?,
                _ = shows.tick() => self.show(),
            }
            self.deliver();
            // A peer that sends without a pause must not keep a thread of the runtime to itself.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Takes in the datagrams that have come already.
    fn take_datagrams(&mut self) -> Result<(), Failure> {
        for _ in 0..DATAGRAMS_PER_TURN_MAX {
            let next = pin!(self.connection.read_datagram());
            match next.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(datagram) => self.on_datagram(&datagram?)?,
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn on_datagram(&mut self, bytes: &Bytes) -> Result<(), WireError> {
        let (header, body) = wire::take(bytes)?;
        match header {
            DatagramHeader::Ask {
                asked,
                sequence,
                by_stream,
            } => {
                check_empty(body)?;
                self.answer(asked)?;
                self.arrivals.heard(Sent { sequence, by_stream });
            }
            DatagramHeader::Answer { asked, heard, answered } => {
                check_empty(body)?;
                let received = self.clock.nanoseconds(Instant::now());
                self.other.learn(Exchange {
                    asked,
                    heard,
                    answered,
                    received,
                });
            }
            DatagramHeader::Loose => {
                let message = self.decode(body, |class| class == Class::Loose, bytes.len())?;
                self.link.inbox.put(message);
            }
            DatagramHeader::Sequenced {
                sequence,
                by_stream_before,
            } => {
                let message = self.decode(body, is_sequenced, bytes.len())?;
                self.arrivals.datagram(sequence, by_stream_before, message);
            }
        }
        Ok(())
    }

    fn on_stream(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let (header, body) = wire::take(bytes)?;
        let DatagramHeader::Sequenced {
            sequence,
            by_stream_before,
        } = header
        else {
            return Err(WireError::WrongWay("stream"));
        };
        // Streams are read in the order in which they were opened, and none is ever given up.
        if by_stream_before != self.by_stream {
            return Err(WireError::Stream);
        }
        self.by_stream += 1;
        let message = self.decode(body, is_sequenced, bytes.len())?;
        self.arrivals.stream(sequence, message);
        Ok(())
    }

    fn on_frame(&mut self, frame: &[u8]) -> Result<(), WireError> {
        let (after, body) = wire::take(frame)?;
        let message = self.decode(body, |class| class == Class::Reliable, frame.len())?;
        self.arrivals.reliable(after, message);
        Ok(())
    }

    /// A message that may come this way.
    fn decode(&self, body: &[u8], may_come: impl Fn(Class) -> bool, size: usize) -> Result<In, WireError> {
        let reading = Reading {
            zone: self.zone,
            clock: &self.other,
            now: Instant::now(),
        };
        let message = In::decode(body, &reading)?;
        let class = message.class();
        if !may_come(class) {
            return Err(WireError::WrongWay(class.label()));
        }
        self.meters.received(class, size);
        Ok(message)
    }

    fn deliver(&mut self) {
        while let Some(delivery) = self.arrivals.next(In::makes_good) {
            match delivery {
                Delivery::Message(message) => self.link.inbox.put(message),
                Delivery::Lost => {
                    self.meters.gaps.increment(1);
                    if let Some(lost) = In::lost() {
                        self.link.inbox.put(lost);
                    }
                }
            }
        }
    }

    fn ask(&self) -> Result<(), WireError> {
        let Sent { sequence, by_stream } = self.sent.get();
        let asked = self.clock.nanoseconds(Instant::now());
        self.send_of_clocks(&DatagramHeader::Ask {
            asked,
            sequence,
            by_stream,
        })
    }

    fn answer(&self, asked: i64) -> Result<(), WireError> {
        // It is answered as soon as it is heard.
        let now = self.clock.nanoseconds(Instant::now());
        self.send_of_clocks(&DatagramHeader::Answer {
            asked,
            heard: now,
            answered: now,
        })
    }

    fn send_of_clocks(&self, header: &DatagramHeader) -> Result<(), WireError> {
        let mut bytes = Vec::with_capacity(CLOCK_DATAGRAM_BYTES_MAX);
        wire::append(header, &mut bytes)?;
        // It would push out messages that wait; and what waits behind them measures the queue.
        if self.connection.datagram_send_buffer_space() > CLOCK_DATAGRAM_BYTES_MAX {
            // An ended connection is told by reading, and any datagram is as large as this.
            let _ = self.connection.send_datagram(bytes.into());
        }
        Ok(())
    }

    fn show(&mut self) {
        let stats = self.connection.stats();
        self.meters.show(&stats, &self.other, self.lost_packets);
        self.lost_packets = stats.path.lost_packets;
        self.meters
            .show_queues(self.link.outbox.waiting(), self.link.inbox.len());
    }
}

fn is_sequenced(class: Class) -> bool {
    matches!(class, Class::Snapshot | Class::Ghosts)
}

fn check_empty(rest: &[u8]) -> Result<(), WireError> {
    match rest.len() {
        0 => Ok(()),
        bytes => Err(WireError::TrailingBytes(bytes)),
    }
}

/// When to ask for the other side's time: at first often.
struct Asks {
    interval: Interval,
    first_left: u32,
}

impl Asks {
    fn new() -> Self {
        Self {
            interval: delayed(ASK_FIRST_INTERVAL),
            first_left: ASK_FIRST_COUNT,
        }
    }

    async fn due(&mut self) {
        self.interval.tick().await;
        if self.first_left > 0 {
            self.first_left -= 1;
            if self.first_left == 0 {
                self.interval = delayed(ASK_INTERVAL);
            }
        }
    }
}

fn delayed(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Reads the next stream that the other side opens, to its end. One after the other: a snapshot is of no use before those before it.
async fn next_stream(connection: &Connection) -> Result<Vec<u8>, Failure> {
    let mut stream = connection.accept_uni().await?;
    stream.read_to_end(STREAM_BYTES_MAX).await.map_err(|error| match error {
        ReadToEndError::Read(error) => error.into(),
        ReadToEndError::TooLong => WireError::Stream.into(),
    })
}

/// The frames of the ordered stream. Reading can be broken off between any two polls.
struct Frames {
    stream: RecvStream,
    /// What came and was not taken: less than a frame and what one read brought.
    buffer: BytesMut,
}

/// What is read from the stream at once.
const READ_BYTES_MAX: usize = 64 * 1024;

impl Frames {
    fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// The next frame; none if the stream has ended.
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(frame) = take_frame(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            match self.stream.read_chunk(READ_BYTES_MAX, true).await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk.bytes),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(WireError::Stream.into()),
            }
        }
    }
}

/// Takes a frame off the buffer, if all of it is there.
fn take_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, WireError> {
    let Some(length) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(WireError::FrameTooLong(length));
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(length).freeze()))
}
