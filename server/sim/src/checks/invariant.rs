//! What must hold, and what is told of it when it does not.

use std::time::Duration;

/// What must hold after every step, and in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invariant {
    /// For one entity and tick, no two zones' results are accepted by gateways.
    #[error("gateways accept one result for an entity and a tick")]
    OneResult,
    /// No two instances of valid lease simulate the same tick of an entity, nor one of them twice.
    #[error("one zone simulates an entity in a tick, once")]
    OneSimulator,
    /// Who simulates an entity goes on from where it was.
    #[error("an entity is simulated on from the state that it had")]
    OneState,
    /// What was told to be in the world and not to have left it is in one place.
    #[error("an entity is in exactly one place")]
    OnePlace,
    /// Epochs of entities and leases, with their generation, only grow.
    #[error("epochs only grow")]
    EpochsGrow,
    /// The id of an entity is never given to another.
    #[error("an id is given once")]
    IdsOnce,
    /// A player has one entity, unless a zone died together with what the store knew of it.
    #[error("a player has one entity")]
    OneEntity,
    /// A player's input is applied at its tick, and once.
    #[error("an input is applied once, at its tick")]
    InputsOnce,
    /// Only one instance of a zone may simulate.
    #[error("one instance of a zone may simulate")]
    OneInstance,
    /// What is under way does not grow without end.
    #[error("what is under way stays bounded")]
    Bounded,
    /// When nothing goes wrong any more, everything comes right.
    #[error("when faults stop, everything comes right")]
    Liveness,
}

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {what}")]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// What happened instead.
    pub what: String,
    /// When, since the history's beginning.
    pub at: Duration,
}
