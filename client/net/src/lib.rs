//! The network side of a Meridian client, for the window, the bots and tests alike.
//!
//! [`ClientNetPlugin`] connects an app to a gateway, keeps its ticks just early enough for the zone, predicts its own
//! player, interpolates the others and measures how long actions take. [`HeadlessClient`] is an app with nothing else.
//! It draws nothing, reads no keys, and never sees a private key.

mod border_watch;
mod clock;
mod connection;
mod frozen_copies;
mod headless;
mod health;
mod input;
mod interpolation;
pub mod metric_definitions;
mod passes;
mod plugin;
mod prediction;
mod probe;
mod pushed;
mod session;
mod shown;
mod traces;

pub use border_watch::{BorderCrossing, BorderWatch};
pub use clock::{SlackController, SlackSample, TickPhase};
pub use connection::{ConnectionState, Connector, GOODBYE, OpenLink, RECONNECT_AFTER, SILENCE_MAX};
pub use frozen_copies::FrozenCopy;
pub use headless::{ClientStats, HeadlessClient, HeadlessOptions};
pub use health::{NetworkHealth, NetworkHealthPlugin};
pub use input::LocalInput;
pub use interpolation::{InterpolationDelay, PoseHistory};
pub use plugin::{ClientNetPlugin, ClientSystems, GameFn, OwnPlayer, ReplicatedUpdates};
pub use prediction::{Correction, CorrectionStats, PredictionRing};
pub use probe::{Measured, ProbeSample, ProbeTerms, Probes, Sighting};
pub use pushed::PushedAhead;
pub use session::{
    Resume, Session, SessionError, SessionProvider, SessionQuery, SessionReply, SessionSource, request_session,
};
pub use shown::{CorrectionFade, ShownPose, ShownSystems};

/// What a link can be made to do to its packets.
pub use meridian_link::{LinkConditions, LinkConditionsHandle};
