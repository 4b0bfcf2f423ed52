//! The section `auth` of the configuration.

use std::{net::SocketAddr, num::NonZeroU32};

use serde::{Deserialize, Serialize};

/// Longest life of a token: it is meant to be used at once, and cannot be called back.
const TOKEN_EXPIRY_S_MAX: u32 = 600;

/// Longest life of a resume: who finds one on a machine plays as its player for so long.
const RESUME_EXPIRY_S_MAX: u32 = 24 * 3600;

/// Longest silence after which a connection counts as lost.
const CONNECTION_TIMEOUT_S_MAX: u32 = 60;

/// Longest time in which a limit may fill up again: each address that was seen is remembered for that long.
const RATE_LIMIT_REFILL_S_MAX: u32 = 3600;

/// Configuration of the role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// Where clients are sent when the gateway runs in another process. In the gateway's own process this is not needed.
    pub gateway_address: Option<SocketAddr>,
    /// How long a connect token may be used, in seconds.
    pub token_expiry_s: u32,
    /// How long a client may come back as the player that it was, in seconds since its last session.
    pub resume_expiry_s: u32,
    /// After how many seconds of silence either end of a connection gives it up.
    pub connection_timeout_s: u32,
    /// How many sessions one address may ask for.
    pub rate_limit: RateLimitConfig,
}

/// A limit per peer address (IPv6: per /64, which is what one customer is given).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimitConfig {
    /// Sessions per second, lasting.
    pub per_second: NonZeroU32,
    /// Sessions at once.
    pub burst: NonZeroU32,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            gateway_address: None,
            token_expiry_s: 30,
            resume_expiry_s: 3600,
            connection_timeout_s: 5,
            rate_limit: RateLimitConfig::default(),
        }
    }
}

impl Default for RateLimitConfig {
    /// A swarm of 200 bots behind one address joins at once, twice.
    fn default() -> Self {
        Self {
            per_second: NonZeroU32::new(100).unwrap_or(NonZeroU32::MIN),
            burst: NonZeroU32::new(400).unwrap_or(NonZeroU32::MIN),
        }
    }
}

impl AuthConfig {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the field and the bounds.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        within("auth.token_expiry_s", self.token_expiry_s, TOKEN_EXPIRY_S_MAX)?;
        within("auth.resume_expiry_s", self.resume_expiry_s, RESUME_EXPIRY_S_MAX)?;
        within(
            "auth.connection_timeout_s",
            self.connection_timeout_s,
            CONNECTION_TIMEOUT_S_MAX,
        )?;
        let refill_s = self.rate_limit.burst.get() / self.rate_limit.per_second.get();
        within(
            "auth.rate_limit: burst / per_second",
            refill_s.max(1),
            RATE_LIMIT_REFILL_S_MAX,
        )
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
        assert_eq!(AuthConfig::default().validate(), Ok(()));
        let config = AuthConfig {
            token_expiry_s: 0,
            ..AuthConfig::default()
        };
        assert_eq!(
            config.validate().unwrap_err().to_string(),
            "auth.token_expiry_s is 0, but must be 1 to 600"
        );
        let config: AuthConfig = serde_json::from_str(r#"{"rate_limit": {"per_second": 1, "burst": 999999}}"#).unwrap();
        assert!(config.validate().is_err());
        assert!(serde_json::from_str::<AuthConfig>(r#"{"rate_limit": {"burst": 0}}"#).is_err());
    }
}
