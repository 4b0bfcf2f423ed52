//! What is known of one entity.

use std::time::Duration;

use meridian_ids::EntityEpoch;

use super::ProcessId;

/// Ticks of a history that are kept track of: more than any history has.
const TICKS_MAX: usize = 100_000;

/// Who did something in a tick, and what came out.
type Row = Option<(ProcessId, u64)>;

/// One entity, from its making to its end.
#[derive(Debug, Default)]
pub(super) struct Life {
    pub(super) spawned_by: Option<ProcessId>,
    pub(super) is_confirmed: bool,
    /// Somebody asked for its end.
    pub(super) is_condemned: bool,
    /// Its end was told.
    pub(super) is_retired: bool,
    /// It was lost with a tail and with who knew of it.
    pub(super) is_lost: bool,
    /// It was lost so, or nearly: it may turn up, or give way to another entity of its player.
    pub(super) is_doubtful: bool,
    /// Its epoch in the store.
    pub(super) epoch: EntityEpoch,
    /// Who died with what it had done in a lost tail: it may be done again.
    pub(super) dead: Vec<ProcessId>,
    /// When it changed its owner.
    pub(super) handovers: Vec<Duration>,
    simulated: Vec<Row>,
    accepted: Vec<Row>,
}

fn row(rows: &mut Vec<Row>, tick: i64) -> Option<&mut Row> {
    let index = usize::try_from(tick).ok().filter(|index| *index < TICKS_MAX)?;
    if rows.len() <= index {
        rows.resize(index + 64, None);
    }
    rows.get_mut(index)
}

impl Life {
    pub(super) fn may_be_nowhere(&self) -> bool {
        !self.is_confirmed || self.is_condemned || self.is_doubtful
    }

    pub(super) fn text(&self) -> &'static str {
        match self {
            Self { is_lost: true, .. } => "lost with its zone",
            Self { is_retired: true, .. } => "told to have left",
            Self { is_condemned: true, .. } => "to leave",
            Self { is_confirmed: true, .. } => "told to be in the world",
            _ => "not told of",
        }
    }

    /// It is found in the world, or not, after those who knew better have died.
    pub(super) fn accept_that(&mut self, is_there: bool) {
        (self.is_retired, self.is_lost, self.is_doubtful) = (false, !is_there, true);
    }

    /// Notes who simulated a tick; names who did before, if that is not excused.
    pub(super) fn simulated(&mut self, tick: i64, by: ProcessId, state: u64) -> Option<ProcessId> {
        let row = row(&mut self.simulated, tick)?;
        let first = row.replace((by, state));
        first.map(|(first, _)| first).filter(|first| !self.dead.contains(first))
    }

    /// The state after a tick, and who left it so.
    pub(super) fn state(&self, tick: i64) -> Row {
        let index = usize::try_from(tick).ok()?;
        self.simulated.get(index).copied().flatten()
    }

    /// Notes whose result a gateway accepted; names whose another did, if that is not excused.
    pub(super) fn accepted(&mut self, tick: i64, by: ProcessId, state: u64) -> Option<ProcessId> {
        let row = row(&mut self.accepted, tick)?;
        let (first, known) = row.replace((by, state))?;
        (known != state || first != by)
            .then_some(first)
            .filter(|first| !self.dead.contains(first))
    }
}
