//! What a store was asked and what it answered, in order: to be asked of another carrier, and compared.

use std::time::Duration;

use meridian_bus::Model;
use meridian_handoff::script::{Command, Done, Refusal};
use meridian_ids::{Generation, LeaseEpoch};

/// One thing that happened to the store.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// All that was written down is safe from now on.
    Synced,
    /// The store was restarted at this time, and is in this generation from now on.
    Restarted {
        /// When it came back.
        now: Duration,
        /// The generation that it begins.
        generation: Generation,
        /// Whether it came back as it was at the last [`Entry::Synced`], or at its beginning if there was none.
        loses: bool,
    },
    /// A command was done, or refused.
    Executed {
        /// When.
        now: Duration,
        /// What was asked.
        command: Box<Command>,
        /// What was answered.
        answer: Box<Result<Done, Refusal>>,
    },
}

/// All that happened to a store.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub(crate) before: LeaseEpoch,
    pub(crate) entries: Vec<Entry>,
    pub(crate) outcome: Model,
}

impl History {
    /// The lease epoch before that of each zone's first instance; its generation is the one that the store begins in.
    pub fn before(&self) -> LeaseEpoch {
        self.before
    }

    /// What happened, in order. Times never go back.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// What the store has in the end: compare its owners, records and inboxes.
    pub fn outcome(&self) -> &Model {
        &self.outcome
    }

    /// Does it all once more with a fresh model, and names the first entry that is answered differently.
    pub fn replayed(&self) -> Result<Model, usize> {
        let mut model = Model::new(self.before);
        let mut synced = model.clone();
        for (index, entry) in self.entries.iter().enumerate() {
            match entry {
                Entry::Synced => synced = model.clone(),
                Entry::Restarted { now, generation, loses } => {
                    if *loses {
                        model = synced;
                    }
                    model.restart(*now, *generation);
                    synced = model.clone();
                }
                Entry::Executed { now, command, answer } => {
                    if model.execute(*now, command) != **answer {
                        return Err(index);
                    }
                }
            }
        }
        Ok(model)
    }
}
