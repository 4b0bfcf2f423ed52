//! The order of what came over one link: a pure machine, which is told what came and says what to deliver.
//!
//! Messages of one kind come by two ways: a datagram, which can be lost, or a stream, which takes longer. So they have a sequence, and a
//! datagram also says how many were sent by stream before it. Never delivers anything twice, never waits for what cannot come.

use std::collections::{BTreeMap, VecDeque};

/// Messages that came before one that is still on its stream: a second of snapshots at 60 Hz.
const HELD_MAX: usize = 64;
/// Reliable messages that wait for a snapshot. Beyond it the link is not read further until they were delivered.
pub(super) const HELD_RELIABLE_MAX: usize = 256;

/// What the messages of a sequence are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Each builds on those before it: they are delivered in order, and it is told if one was lost.
    Each,
    /// Each holds all: only the newest is delivered.
    Newest,
}

/// How far the sender had come when it sent something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// The sequence of the last message; 0 before the first.
    pub(super) sequence: u64,
    /// How many of them were sent by stream.
    pub(super) by_stream: u64,
}

/// What is to be delivered next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Delivery<T> {
    /// A message.
    Message(T),
    /// Messages were lost, or are given up.
    Lost,
}

struct Held<T> {
    by_stream_before: u64,
    message: T,
}

/// What came over a link and was not delivered yet.
pub(super) struct Arrivals<T> {
    order: Order,
    /// Every message up to this sequence was delivered or given up.
    settled: u64,
    /// Messages that came by stream. Streams are read in the order in which they were opened.
    by_stream: u64,
    /// What came out of its turn, by sequence.
    held: BTreeMap<u64, Held<T>>,
    /// What was sent before the latest thing that came.
    sent: Sent,
    /// Reliable messages, each with the sequence that must be settled before it.
    reliable: VecDeque<(u64, T)>,
}

impl<T> Arrivals<T> {
    pub(super) fn new(order: Order) -> Self {
        Self {
            order,
            settled: 0,
            by_stream: 0,
            held: BTreeMap::new(),
            sent: Sent::default(),
            reliable: VecDeque::new(),
        }
    }

    /// A message came by datagram; `by_stream_before` of those before it were sent by stream.
    pub(super) fn datagram(&mut self, sequence: u64, by_stream_before: u64, message: T) {
        if self.held.len() >= HELD_MAX {
            // The oldest is given up; that it is missing shows when the next one is delivered.
            self.held.pop_first();
        }
        let held = Held {
            by_stream_before,
            message,
        };
        self.hold(sequence, held);
    }

    /// A message came by stream, and all that were sent by stream before it have come.
    pub(super) fn stream(&mut self, sequence: u64, message: T) {
        self.by_stream += 1;
        let held = Held {
            by_stream_before: 0,
            message,
        };
        self.hold(sequence, held);
    }

    /// A reliable message came, to be delivered when the message `after` was, or was lost.
    pub(super) fn reliable(&mut self, after: u64, message: T) {
        self.reliable.push_back((after, message));
    }

    /// The sender had sent so much before something that came now.
    pub(super) fn heard(&mut self, sent: Sent) {
        if sent.sequence > self.sent.sequence {
            self.sent = sent;
        }
    }

    /// Reliable messages that wait.
    pub(super) fn reliable_held(&self) -> usize {
        self.reliable.len()
    }

    /// The reliable messages that wait, when nothing else can come any more.
    pub(super) fn into_reliable(self) -> impl Iterator<Item = T> {
        self.reliable.into_iter().map(|(_, message)| message)
    }

    fn hold(&mut self, sequence: u64, held: Held<T>) {
        let is_outdone = match self.order {
            Order::Each => false,
            Order::Newest => self.held.last_key_value().is_some_and(|(newest, _)| *newest > sequence),
        };
        if sequence <= self.settled || is_outdone {
            return;
        }
        if self.order == Order::Newest {
            self.held.clear();
        }
        self.held.entry(sequence).or_insert(held);
    }

    /// The next thing to deliver, until there is none. `makes_good` says whether a message needs none of those before it.
    pub(super) fn next(&mut self, makes_good: impl Fn(&T) -> bool) -> Option<Delivery<T>> {
        if let Some((_, message)) = self.reliable.pop_front_if(|(after, _)| *after <= self.settled) {
            return Some(Delivery::Message(message));
        }
        if let Some(first) = self.held.first_entry()
            && (self.order == Order::Newest || first.get().by_stream_before <= self.by_stream)
        {
            let sequence = *first.key();
            let is_next = self.order == Order::Newest || self.settled.checked_add(1) == Some(sequence);
            if !is_next && !makes_good(&first.get().message) {
                self.settled = sequence - 1;
                return Some(Delivery::Lost);
            }
            self.settled = sequence;
            return Some(Delivery::Message(first.remove().message));
        }
        // What was sent before something that came, and has not come, will not: all streams before it did.
        let is_lost = self.sent.sequence > self.settled && self.sent.by_stream <= self.by_stream;
        if self.order == Order::Each && is_lost {
            self.settled = self.sent.sequence;
            self.held.retain(|sequence, _| *sequence > self.settled);
            return Some(Delivery::Lost);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all<T>(arrivals: &mut Arrivals<T>) -> Vec<Delivery<T>> {
        std::iter::from_fn(|| arrivals.next(|_| false)).collect()
    }

    const LOST: Delivery<u64> = Delivery::Lost;

    fn message(sequence: u64) -> Delivery<u64> {
        Delivery::Message(sequence)
    }

    #[test]
    fn a_datagram_waits_for_the_stream_that_was_sent_before_it() {
        let mut arrivals = Arrivals::new(Order::Each);
        arrivals.datagram(1, 0, 1);
        arrivals.datagram(3, 1, 3);
        assert_eq!(all(&mut arrivals), [message(1)]);
        arrivals.stream(2, 2);
        assert_eq!(all(&mut arrivals), [message(2), message(3)]);
    }

    #[test]
    fn a_lost_datagram_is_told_once_and_what_comes_after_all_is_dropped() {
        let mut arrivals = Arrivals::new(Order::Each);
        arrivals.datagram(3, 0, 3);
        assert_eq!(all(&mut arrivals), [LOST, message(3)]);
        arrivals.datagram(2, 0, 2);
        arrivals.datagram(3, 0, 3);
        assert_eq!(all(&mut arrivals), []);
    }

    #[test]
    fn what_needs_nothing_before_it_makes_good_what_was_lost() {
        let mut arrivals = Arrivals::new(Order::Each);
        arrivals.datagram(3, 0, 3);
        assert_eq!(arrivals.next(|_| true), Some(message(3)));
        assert_eq!(arrivals.next(|_| true), None);
    }

    #[test]
    fn a_leave_waits_for_the_snapshot_before_it_until_that_came_or_is_known_lost() {
        let mut arrivals = Arrivals::new(Order::Each);
        arrivals.reliable(1, 100);
        arrivals.reliable(0, 101);
        assert_eq!(all(&mut arrivals), []);
        assert_eq!(arrivals.reliable_held(), 2);
        arrivals.datagram(1, 0, 1);
        assert_eq!(all(&mut arrivals), [message(1), message(100), message(101)]);

        // The last of them is lost, and nothing follows but word of how many there were.
        arrivals.reliable(2, 102);
        let sent = |sequence, by_stream| Sent { sequence, by_stream };
        arrivals.heard(sent(1, 0));
        assert_eq!(all(&mut arrivals), []);
        arrivals.heard(sent(2, 0));
        assert_eq!(all(&mut arrivals), [LOST, message(102)]);
    }

    #[test]
    fn a_leave_waits_for_a_snapshot_on_its_stream_however_long_that_takes() {
        let mut arrivals = Arrivals::new(Order::Each);
        arrivals.reliable(1, 100);
        let (sequence, by_stream) = (1, 1);
        arrivals.heard(Sent { sequence, by_stream });
        arrivals.datagram(2, 1, 2);
        assert_eq!(all(&mut arrivals), []);
        arrivals.stream(1, 1);
        assert_eq!(all(&mut arrivals), [message(1), message(100), message(2)]);
    }

    #[test]
    fn what_waits_is_bounded_and_what_was_given_up_is_told() {
        let mut arrivals = Arrivals::new(Order::Each);
        let last = HELD_MAX as u64 + 3;
        for sequence in 2..=last {
            arrivals.datagram(sequence, 1, sequence);
        }
        assert_eq!(arrivals.held.len(), HELD_MAX);
        arrivals.stream(1, 1);
        let delivered = all(&mut arrivals);
        assert_eq!(delivered[..3], [message(1), LOST, message(4)]);
        assert_eq!(delivered.last(), Some(&message(last)));
    }

    #[test]
    fn of_what_holds_all_the_newest_alone_is_delivered() {
        let mut arrivals = Arrivals::new(Order::Newest);
        arrivals.datagram(2, 1, 2);
        assert_eq!(all(&mut arrivals), [message(2)]);
        arrivals.stream(1, 1);
        assert_eq!(all(&mut arrivals), []);
        arrivals.datagram(5, 1, 5);
        arrivals.datagram(4, 1, 4);
        assert_eq!(all(&mut arrivals), [message(5)]);
    }

    /// What a sender did: a message by datagram or stream, or a reliable one.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Datagram { is_lost: bool },
        Stream,
        Reliable,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => any::<bool>().prop_map(|is_lost| Step::Datagram { is_lost }),
            1 => Just(Step::Stream),
            1 => Just(Step::Reliable),
        ];
        proptest::collection::vec(step, 1..HELD_MAX)
    }

    const RELIABLE: u64 = 1 << 32;

    /// What was sent, on three ways of which each keeps its own order: datagrams, streams, reliable messages.
    fn send(steps: &[Step]) -> ([VecDeque<Came>; 3], Sent) {
        let mut sent = Sent::default();
        let mut ways: [VecDeque<Came>; 3] = Default::default();
        for (index, step) in steps.iter().enumerate() {
            match step {
                Step::Datagram { is_lost } => {
                    sent.sequence += 1;
                    if !is_lost {
                        ways[0].push_back(Came::Datagram(sent.sequence, sent.by_stream));
                    }
                }
                Step::Stream => {
                    sent.sequence += 1;
                    sent.by_stream += 1;
                    ways[1].push_back(Came::Stream(sent.sequence));
                }
                Step::Reliable => ways[2].push_back(Came::Reliable(sent.sequence, RELIABLE + index as u64)),
            }
        }
        (ways, sent)
    }

    #[derive(Clone, Copy, Debug)]
    enum Came {
        Datagram(u64, u64),
        Stream(u64),
        Reliable(u64, u64),
    }

    proptest! {
        /// Three ways, each in order, overtake one another as they like.
        #[test]
        fn in_any_interleaving_nothing_is_out_of_order_twice_or_missing_untold(
            steps in steps(),
            choices in proptest::collection::vec(0_usize..3, 200),
        ) {
            let (mut ways, sent) = send(&steps);
            let streams: Vec<u64> = ways[1].iter().filter_map(|came| match came {
                Came::Stream(sequence) => Some(*sequence),
                _ => None,
            }).collect();
            let reliable: Vec<(u64, u64)> = ways[2].iter().filter_map(|came| match came {
                Came::Reliable(after, id) => Some((*after, *id)),
                _ => None,
            }).collect();
            let mut arrivals = Arrivals::new(Order::Each);
            let mut delivered = Vec::new();
            let mut choices = choices.into_iter().cycle();
            while ways.iter().any(|way| !way.is_empty()) {
                let way = choices.next().unwrap_or_default();
                let way = (0..3).map(|shift| (way + shift) % 3).find(|way| !ways[*way].is_empty()).unwrap();
                match ways[way].pop_front().unwrap() {
                    Came::Datagram(sequence, by_stream) => arrivals.datagram(sequence, by_stream, sequence),
                    Came::Stream(sequence) => arrivals.stream(sequence, sequence),
                    Came::Reliable(after, id) => arrivals.reliable(after, id),
                }
                delivered.extend(all(&mut arrivals));
            }
            arrivals.heard(sent);
            delivered.extend(all(&mut arrivals));
            prop_assert_eq!(arrivals.reliable_held(), 0);
            check(&delivered, &streams, &reliable, sent.sequence)?;
        }

        #[test]
        fn nothing_that_a_peer_says_overflows_or_delivers_twice(
            said in proptest::collection::vec((0_u8..4, any::<u64>(), any::<u64>()), 0..200),
        ) {
            let mut arrivals = Arrivals::new(Order::Each);
            let mut last = 0;
            for (way, sequence, by_stream) in said {
                match way {
                    0 => arrivals.datagram(sequence, by_stream, sequence),
                    1 => arrivals.stream(sequence, sequence),
                    2 => arrivals.datagram(sequence, by_stream % 4, sequence),
                    _ => arrivals.heard(Sent { sequence, by_stream: by_stream % 4 }),
                }
                for delivery in all(&mut arrivals) {
                    if let Delivery::Message(sequence) = delivery {
                        prop_assert!(sequence > last);
                        last = sequence;
                    }
                }
                prop_assert!(arrivals.held.len() <= HELD_MAX + 1);
            }
        }
    }

    fn check(
        delivered: &[Delivery<u64>],
        streams: &[u64],
        reliable: &[(u64, u64)],
        sent: u64,
    ) -> Result<(), TestCaseError> {
        let (mut last, mut is_told) = (0, false);
        let mut seen = Vec::new();
        let mut reliable = reliable.iter();
        for delivery in delivered {
            match delivery {
                Delivery::Lost => is_told = true,
                Delivery::Message(id) if *id >= RELIABLE => {
                    let (after, expected) = reliable.next().unwrap();
                    prop_assert_eq!(id, expected);
                    // Everything up to it was delivered, or told to be lost.
                    prop_assert!(last >= *after || is_told);
                }
                Delivery::Message(sequence) => {
                    prop_assert!(*sequence > last, "{} after {}", sequence, last);
                    prop_assert!(*sequence == last + 1 || is_told, "{} after {} untold", sequence, last);
                    (last, is_told) = (*sequence, false);
                    seen.push(*sequence);
                }
            }
        }
        prop_assert!(last == sent || is_told);
        prop_assert!(reliable.next().is_none());
        prop_assert!(
            streams.iter().all(|stream| seen.contains(stream)),
            "a stream is never lost"
        );
        Ok(())
    }
}
