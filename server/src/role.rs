//! The roles a process can run: the one list that drives the command line, the configuration, health and metric labels.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A role, in the order in which roles are created and started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Simulates and owns entities.
    Zone,
    /// Terminates client connections and replicates to them.
    Gateway,
    /// Gives out sessions and connect tokens.
    Auth,
}

impl Role {
    /// Every role there is, whether this binary has it or not.
    pub const ALL: [Self; 3] = [Self::Zone, Self::Gateway, Self::Auth];

    /// The name, as on the command line and in metric labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zone => "zone",
            Self::Gateway => "gateway",
            Self::Auth => "auth",
        }
    }

    /// Whether this binary was built with the role.
    #[must_use]
    pub fn is_built_in(self) -> bool {
        match self {
            Self::Zone => cfg!(feature = "zone"),
            Self::Gateway => cfg!(feature = "gateway"),
            Self::Auth => cfg!(feature = "auth"),
        }
    }

    /// Whether the role has routes on the HTTP listener.
    #[must_use]
    pub fn serves_http(self) -> bool {
        self == Self::Auth
    }

    /// The roles this binary was built with: what runs by default.
    #[must_use]
    pub fn built_in() -> Vec<Self> {
        Self::ALL.into_iter().filter(|role| role.is_built_in()).collect()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(name: &str) -> Result<Self, UnknownRole> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == name)
            .ok_or_else(|| UnknownRole(name.to_owned()))
    }
}

/// A name that no role has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no role `{0}`; the roles are {names}", names = Role::ALL.map(Role::name).join(", "))]
pub struct UnknownRole(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.name());
        }
        let error = "zoo".parse::<Role>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no role `zoo`; the roles are zone, gateway, auth"
        );
    }
}
