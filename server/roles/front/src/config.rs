//! The section `rpc` of the configuration.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// Most connections, streams and watchers that a limit may allow: what a process may have open as files, with room.
const OPEN_MAX: u32 = 65_536;
/// Most calls in a second that a player may be allowed: several in each tick of the fastest world.
const CALLS_PER_SECOND_MAX: u32 = 10_000;
/// Longest patience, in seconds: what a slow watcher has waiting for it is kept for so long.
const PATIENCE_S_MAX: u32 = 300;
/// Longest time that a player may do nothing, in seconds.
const IDLE_S_MAX: u32 = 3_600;

/// Configuration of the role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FrontConfig {
    /// Where the gRPC API is served.
    pub listen: SocketAddr,
    /// Where clients and other servers reach it, if that is another address than the one that is listened at.
    pub public_address: Option<SocketAddr>,
    /// Connections at once; one more is closed at once.
    pub connections_max: u32,
    /// `Play` streams at once.
    pub streams_max: u32,
    /// `WatchPositions` streams at once.
    pub watchers_max: u32,
    /// Calls of one player in a second, lasting: messages of its `Play` streams count as calls. For a moment twice as many.
    pub calls_per_second_per_player: NonZeroU32,
    /// A watcher that has read nothing for so long, in seconds, is let go.
    pub watcher_patience_s: u32,
    /// A player that nobody moves for so long, in seconds, is taken out of the world.
    pub idle_s: u32,
}

impl Default for FrontConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7650)),
            public_address: None,
            connections_max: 1_024,
            streams_max: 4_096,
            watchers_max: 1_024,
            // One in each tick of a world of 60 Hz, three times over.
            calls_per_second_per_player: NonZeroU32::new(200).unwrap_or(NonZeroU32::MIN),
            watcher_patience_s: 30,
            idle_s: 60,
        }
    }
}

impl FrontConfig {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the field and the bounds.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        within("rpc.connections_max", self.connections_max, OPEN_MAX)?;
        within("rpc.streams_max", self.streams_max, OPEN_MAX)?;
        within("rpc.watchers_max", self.watchers_max, OPEN_MAX)?;
        within(
            "rpc.calls_per_second_per_player",
            self.calls_per_second_per_player.get(),
            CALLS_PER_SECOND_MAX,
        )?;
        within("rpc.watcher_patience_s", self.watcher_patience_s, PATIENCE_S_MAX)?;
        within("rpc.idle_s", self.idle_s, IDLE_S_MAX)
    }
}

fn within(field: &'static str, value: u32, max: u32) -> Result<(), InvalidConfig> {
    if (1..=max).contains(&value) {
        Ok(())
    } else {
        Err(InvalidConfig { field, value, max })
    }
}

/// A value of the configuration that is out of its bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, but must be 1 to {max}")]
pub struct InvalidConfig {
    field: &'static str,
    value: u32,
    max: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_the_bounds_named() {
        assert_eq!(FrontConfig::default().validate(), Ok(()));
        let with = |change: fn(&mut FrontConfig)| {
            let mut config = FrontConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert_eq!(
            with(|config| config.watchers_max = 0),
            "rpc.watchers_max is 0, but must be 1 to 65536"
        );
        assert_eq!(
            with(|config| config.idle_s = 3_601),
            "rpc.idle_s is 3601, but must be 1 to 3600"
        );
    }

    #[test]
    fn an_unknown_field_is_refused_and_a_missing_one_has_its_default() {
        let config: FrontConfig = serde_json::from_str(r#"{"listen": "127.0.0.1:0"}"#).unwrap();
        assert_eq!((config.listen.port(), config.idle_s), (0, 60));
        assert!(serde_json::from_str::<FrontConfig>(r#"{"listn": "127.0.0.1:0"}"#).is_err());
        assert!(serde_json::from_str::<FrontConfig>(r#"{"calls_per_second_per_player": 0}"#).is_err());
    }
}
