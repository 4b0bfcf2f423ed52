//! How often what happened: a history in which nothing went wrong proves nothing.

use std::fmt;

macro_rules! occurrences {
    ($($(#[$doc:meta])* $name:ident: $text:literal,)*) => {
        /// What can happen to a world, and is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Occurrence { $($(#[$doc])* $name,)* }

        impl Occurrence {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// In words.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

occurrences! {
    /// An entity changed its owner, and the former one knows.
    Handoff: "handoffs",
    /// Several entities changed their owner together.
    GroupHandoff: "handoffs of groups",
    /// A handover was refused or closed, and the entity went on where it was.
    Resumed: "resumed",
    /// Nobody knew whether a handover had happened.
    Settled: "settled",
    /// An entity came before its time, and was held.
    Held: "held until their time",
    /// An entity was simulated for ticks that had passed.
    CaughtUp: "caught up",
    /// An answer was lost.
    AnswerLost: "answers lost",
    /// A command was held up.
    HeldUp: "commands held up",
    /// A command that was held up was done.
    Straggler: "stragglers executed",
    /// A straggler changed something or was done as if it were in time.
    StragglerDone: "stragglers that were not refused",
    /// A command was not answered in time.
    TimedOut: "commands timed out",
    /// A connection broke.
    Broken: "connections broken",
    /// A receiver refused: no lease, or a full inbox.
    NoReceiver: "receivers without a lease",
    /// An inbox was full.
    InboxFull: "full inboxes",
    /// An inbox was told of once more.
    ToldAgain: "inboxes told again",
    /// The store did nothing for a while.
    StoreAway: "store away",
    /// The store was restarted, and had all it had.
    RestartWhole: "store restarted whole",
    /// The store was restarted, and had lost its newest writes.
    TailLost: "tails lost",
    /// What was lost was more than leases and states.
    EntitiesInTail: "entities in lost tails",
    /// Somebody died who had acted in a lost tail.
    DoubleFault: "double faults",
    /// An instance asserted what it has.
    Asserted: "assertions",
    /// A new instance was told to wait until the store has settled.
    Settling: "waits for settling",
    /// A process died.
    Crash: "crashes",
    /// A process took over from one that was on another machine.
    TakenOver: "takeovers by another name",
    /// A process of the same name came back while the lease lasted.
    Reclaimed: "leases reclaimed by name",
    /// A process waited for another's lease.
    Taken: "waits for a lease",
    /// A process was paused for longer than its lease.
    Zombie: "zombies",
    /// A process that was paused went on within the tick in which it was caught.
    ZombieMidTick: "zombies in mid-tick",
    /// A process was told that another has its zone.
    Fenced: "fenced",
    /// A zone stopped because its lease might have ended.
    Stopped: "ticks without a lease",
    /// A zone left ticks out.
    Skipped: "stalls",
    /// Everybody slept.
    Slept: "sleeps",
    /// A clock was corrected.
    Skewed: "clocks corrected",
    /// A message was lost.
    MessageLost: "messages lost",
    /// A message came twice.
    MessageTwice: "messages doubled",
    /// A message came late.
    MessageLate: "messages late",
    /// A gateway died.
    GatewayCrash: "gateway crashes",
    /// A gateway ignored an older instance of a zone.
    StaleLease: "stale snapshots ignored",
    /// A gateway ignored an older owner of an entity.
    StaleEpoch: "stale entities ignored",
    /// A gateway sent inputs again to an entity's new owner.
    InputsResent: "inputs sent again",
    /// A player joined.
    Joined: "joins",
    /// A player who is in the world asked to be let in once more.
    JoinedTwice: "joins of players that are in",
    /// An entity left the world.
    Retired: "retired",
    /// A zone was told to drop an entity.
    Disowned: "disowned",
    /// Entities were tied together.
    Tied: "ties",
}

/// How often each thing happened, and in how many histories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    counts: Vec<u64>,
    histories: Vec<u64>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self {
            counts: vec![0; Occurrence::ALL.len()],
            histories: vec![0; Occurrence::ALL.len()],
        }
    }
}

impl Coverage {
    pub(crate) fn note(&mut self, what: Occurrence) {
        if let Some(count) = self.counts.get_mut(what as usize) {
            *count += 1;
        }
    }

    /// How often it happened.
    pub fn count(&self, what: Occurrence) -> u64 {
        self.counts.get(what as usize).copied().unwrap_or(0)
    }

    /// In how many of the histories that were [added](Self::add) it happened.
    pub fn histories(&self, what: Occurrence) -> u64 {
        self.histories.get(what as usize).copied().unwrap_or(0)
    }

    /// Adds what happened in another history.
    pub fn add(&mut self, other: &Self) {
        for (index, count) in other.counts.iter().enumerate() {
            if let (Some(sum), Some(histories)) = (self.counts.get_mut(index), self.histories.get_mut(index)) {
                *sum += count;
                *histories += u64::from(*count > 0);
            }
        }
    }

    /// What never happened.
    pub fn missing(&self) -> Vec<&'static str> {
        let never = Occurrence::ALL.iter().filter(|what| self.count(**what) == 0);
        never.map(|what| what.text()).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>12} {:>10}  what", "times", "histories")?;
        for what in Occurrence::ALL {
            let (count, histories) = (self.count(*what), self.histories(*what));
            writeln!(f, "{count:>12} {histories:>10}  {}", what.text())?;
        }
        Ok(())
    }
}
