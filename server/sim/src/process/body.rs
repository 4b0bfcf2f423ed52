//! An entity as a zone has it: its state is a hash of the ticks and the inputs that made it.

use std::collections::BTreeMap;

use meridian_handoff::Allowance;
use meridian_handoff::script::Record;
use meridian_ids::{EntityEpoch, PlayerId, Tick, WorldEntityId};

use super::Around;
use crate::checks::{Invariant, ProcessId, Simulated};
use crate::dice::mixed;

/// How far ahead an input may be, in ticks.
const INPUTS_AHEAD_MAX: usize = 64;
/// Entities whose inputs are kept before they have come.
const EXPECTED_MAX: usize = 64;

/// The input of a player for a tick: whoever has another one has made it up.
pub(crate) fn input_of(player: PlayerId, tick: Tick) -> u64 {
    mixed([player.0, tick.0, 1])
}

/// One entity of a zone.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub(super) epoch: EntityEpoch,
    pub(super) player: Option<PlayerId>,
    pub(super) state: u64,
    inputs: BTreeMap<Tick, u64>,
    /// It was read after a crash: it need not be as it was when it was last simulated.
    is_restored: bool,
}

impl Body {
    /// From its record, to be simulated from the tick `first` on.
    pub(super) fn new(record: &Record, first: Tick, is_restored: bool) -> Self {
        let mut state = [0; 8];
        for (to, from) in state.iter_mut().zip(&record.state) {
            *to = *from;
        }
        let later = record.inputs.iter().filter(|(tick, _)| *tick >= first);
        Self {
            epoch: record.epoch,
            player: record.player,
            state: u64::from_le_bytes(state),
            inputs: later.copied().collect(),
            is_restored,
        }
    }

    pub(super) fn record(
        &self,
        entity: WorldEntityId,
        (epoch, allowance, after): (EntityEpoch, Allowance, Tick),
    ) -> Record {
        Record {
            entity,
            epoch,
            player: self.player,
            after,
            allowance,
            state: self.state.to_le_bytes().to_vec(),
            inputs: self
                .inputs
                .range(after.next()..)
                .map(|(tick, input)| (*tick, *input))
                .collect(),
        }
    }

    /// Ticks before `tick` are left out.
    pub(super) fn skip_to(&mut self, tick: Tick) {
        self.inputs = self.inputs.split_off(&tick);
    }

    /// Takes in inputs for `next` and later; those for earlier ticks are late, and too late.
    pub(super) fn take_inputs(&mut self, inputs: &[(Tick, u64)], next: Tick, late_ones_too: bool) {
        for (tick, input) in inputs {
            if *tick >= next && self.inputs.len() < INPUTS_AHEAD_MAX {
                self.inputs.entry(*tick).or_insert(*input);
            } else if late_ones_too {
                self.inputs.insert(next, *input);
            }
        }
    }

    /// Simulates one tick; `may` says whether the lease is valid as it is done.
    pub(super) fn simulate(
        &mut self,
        entity: WorldEntityId,
        tick: Tick,
        (by, may): (ProcessId, bool),
        around: &mut Around<'_>,
    ) {
        let before = self.state;
        let input = self.inputs.remove(&tick);
        self.state = mixed([before, tick.0, input.unwrap_or(0)]);
        let is_restored = std::mem::take(&mut self.is_restored);
        if let (Some(player), Some(input)) = (self.player, input)
            && input != input_of(player, tick)
        {
            around.checks.fail(Invariant::InputsOnce, || {
                format!("{by} applies an input of {player} for another tick to {entity} in {tick}")
            });
        }
        if may {
            around.checks.simulated(&Simulated {
                by,
                entity,
                player: self.player,
                tick,
                before: (!is_restored).then_some(before),
                after: self.state,
                has_input: input.is_some(),
            });
        }
    }
}

/// Inputs of entities that have not come yet, if they ever will.
#[derive(Debug, Default)]
pub(super) struct Expected(BTreeMap<WorldEntityId, BTreeMap<Tick, u64>>);

impl Expected {
    pub(super) fn expect(&mut self, entity: WorldEntityId, inputs: &[(Tick, u64)]) {
        if self.0.len() >= EXPECTED_MAX && !self.0.contains_key(&entity) {
            return;
        }
        let known = self.0.entry(entity).or_default();
        known.extend(inputs.iter().copied());
        while known.len() > INPUTS_AHEAD_MAX {
            known.pop_first();
        }
    }

    /// What has come for an entity that is here now.
    pub(super) fn take(&mut self, entity: WorldEntityId) -> Vec<(Tick, u64)> {
        self.0.remove(&entity).unwrap_or_default().into_iter().collect()
    }
}
