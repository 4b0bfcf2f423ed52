//! Which services of a world are there, and where: each says so as long as it is, and everybody can look.
//!
//! What stands here is a hint for finding each other. Who owns what is never decided by it.

mod in_process;

pub use in_process::InProcessDirectory;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meridian_ids::{LeaseEpoch, ZoneId};
use serde::{Deserialize, Serialize};

/// How often a service that several machines share says that it is there.
pub const ANNOUNCED_EVERY: Duration = Duration::from_millis(500);
/// A service that did not say so for as long is not there any more: two times may be lost.
pub const SERVICE_TTL: Duration = Duration::from_secs(2);
/// How old what [`Directory::snapshot`] tells is at most, while the store answers.
pub const SNAPSHOT_EVERY: Duration = Duration::from_millis(250);
/// Bytes of an instance's name at most.
pub const INSTANCE_BYTES_MAX: usize = 128;

/// What a service does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ServiceKind {
    /// Simulates a zone.
    Zone {
        /// Which.
        zone: ZoneId,
        /// As which instance: of several, the highest is the one.
        lease: LeaseEpoch,
    },
    /// Terminates clients.
    Gateway,
    /// Lets players in.
    Auth,
    /// Text clients.
    Text,
    /// REST and the console.
    Api,
    /// Chat.
    Chat,
    /// Scripts of the game.
    Scripts,
    /// Keeps what must not be lost.
    Persistence,
    /// Models, textures, sounds.
    Assets,
    /// Who is online.
    Presence,
}

/// How a service does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceDetail {
    /// Median of what its ticks take, in microseconds.
    pub tick_p50_us: u32,
    /// What one tick in a hundred takes or more, in microseconds.
    pub tick_p99_us: u32,
    /// Entities that it has.
    pub entities: u32,
    /// Players that it has.
    pub players: u32,
    /// Ticks that it is behind the world's clock.
    pub lag_ticks: u32,
}

/// One service that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What it does.
    pub kind: ServiceKind,
    /// Its name, the same after a restart, in at most [`INSTANCE_BYTES_MAX`] bytes.
    pub instance: String,
    /// Where other servers reach it.
    pub fabric: Option<SocketAddr>,
    /// Where clients reach it.
    pub public: Option<SocketAddr>,
    /// Where operators reach it.
    pub admin: Option<SocketAddr>,
    /// How much it has to do, in its own measure: less is better.
    pub load: u32,
    /// How it does.
    pub detail: ServiceDetail,
}

/// A service as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The service.
    pub service: Service,
    /// How long ago it said that it is there.
    pub renewed_ago: Duration,
}

/// Why the directory cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// What is announced is too long.
    #[error("the name of an instance has at most {INSTANCE_BYTES_MAX} bytes")]
    TooLong,
    /// The store does not answer.
    #[error("the directory does not answer: {0}")]
    Unavailable(String),
}

/// Keeps a service listed until it is dropped.
pub trait Announcement: Send + Sync {
    /// Says how the service does from now on.
    fn update(&self, load: u32, detail: ServiceDetail);
}

/// Which services are there.
pub trait Directory: Send + Sync {
    /// Lists a service until what is returned is dropped; then it is gone at once. One that does the same under the same name is replaced.
    ///
    /// # Errors
    ///
    /// If its name is too long. That the store is away is no error: the service is listed when it is back.
    fn announce(&self, service: Service) -> Result<Box<dyn Announcement>, DirectoryError>;

    /// The services that are there now. May block for as long as the store takes to answer: not for ticks, nor for async tasks.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    fn list(&self) -> Result<Vec<Listed>, DirectoryError>;

    /// The services that were there a moment ago; the last that were known while the store is away. Never blocks.
    fn snapshot(&self) -> Arc<Vec<Listed>>;
}

impl Service {
    /// What tells it apart from others: what it does, where for a zone, and its name.
    pub(crate) fn identity(&self) -> String {
        let kind = match self.kind {
            ServiceKind::Zone { zone, .. } => format!("zone-{}", zone.0),
            ServiceKind::Gateway => "gateway".to_owned(),
            ServiceKind::Auth => "auth".to_owned(),
            ServiceKind::Text => "text".to_owned(),
            ServiceKind::Api => "api".to_owned(),
            ServiceKind::Chat => "chat".to_owned(),
            ServiceKind::Scripts => "scripts".to_owned(),
            ServiceKind::Persistence => "persistence".to_owned(),
            ServiceKind::Assets => "assets".to_owned(),
            ServiceKind::Presence => "presence".to_owned(),
        };
        format!("{kind}/{}", self.instance)
    }

    pub(crate) fn checked(self) -> Result<Self, DirectoryError> {
        if self.instance.len() > INSTANCE_BYTES_MAX {
            return Err(DirectoryError::TooLong);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use meridian_events::envelope;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_do_harm_as_a_service(bytes in prop::collection::vec(any::<u8>(), 0..128), at in 0usize..64) {
            let service = Service {
                kind: ServiceKind::Gateway,
                instance: "one".to_owned(),
                fabric: Some(([127, 0, 0, 1], 7).into()),
                public: None,
                admin: None,
                load: 3,
                detail: ServiceDetail::default(),
            };
            let mut near = envelope::encode(None, &service).unwrap();
            prop_assert_eq!(envelope::decode::<Service>(&near).unwrap().body, service);
            near.truncate(at % near.len());
            near.extend(&bytes);
            let _ = (envelope::decode::<Service>(&near), envelope::decode::<Service>(&bytes));
        }
    }
}
