//! Faults that are put in on purpose: a simulator that does not find them finds nothing.

use std::fmt;

/// A mistake that somebody could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The store does not look at entity epochs.
    StoreIgnoresEpochs,
    /// A gateway does not look at entity epochs.
    GatewayIgnoresEpochs,
    /// The store does not look at lease epochs.
    StoreIgnoresLeases,
    /// A gateway does not look at lease epochs.
    GatewayIgnoresLeases,
    /// What was accepted once is accepted again, whoever has it by now.
    AcceptsTwice,
    /// A new instance's claim throws away what waits in the zone's inbox.
    ClaimForgetsInbox,
    /// A transfer leaves the sender's records as they are.
    TransferKeepsRecord,
    /// A zone asserts nothing after the store was restarted.
    AssertsNothing,
    /// A restarted store lets new instances in at once.
    LetsInWithoutSettling,
    /// A zone that does not know what became of a transfer goes on simulating.
    ResumesOnUnknown,
    /// A zone goes on simulating when its lease has ended.
    IgnoresItsLease,
    /// A restarted zone goes on with what it reads as if it had come from a neighbour: it makes up for ticks that were simulated.
    CatchesUpAfterCrash,
    /// What comes early is simulated at once.
    HoldsNothing,
    /// An input for a tick that has passed is applied to the next.
    AppliesLateInputs,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::StoreIgnoresEpochs,
        Self::GatewayIgnoresEpochs,
        Self::StoreIgnoresLeases,
        Self::GatewayIgnoresLeases,
        Self::AcceptsTwice,
        Self::ClaimForgetsInbox,
        Self::TransferKeepsRecord,
        Self::AssertsNothing,
        Self::LetsInWithoutSettling,
        Self::ResumesOnUnknown,
        Self::IgnoresItsLease,
        Self::CatchesUpAfterCrash,
        Self::HoldsNothing,
        Self::AppliesLateInputs,
    ];
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
