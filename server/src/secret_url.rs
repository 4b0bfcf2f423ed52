//! A URL that may hold a password: what is shown of it is only where it leads.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// A URL whose user and password nobody is shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The whole of it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Without what is secret.
    #[must_use]
    pub fn redacted(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return "<redacted>".to_owned();
        };
        match rest.rsplit_once('@') {
            Some((_, place)) => format!("{scheme}://<redacted>@{place}"),
            None => self.0.clone(),
        }
    }
}

impl From<String> for SecretUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.redacted())
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.redacted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_in_no_dump_and_no_log() {
        for url in [
            "valkey://user:p%40ss@host:6379/0",
            "valkeys://:pass@word@host",
            "nonsense-pass",
        ] {
            let secret = SecretUrl::from(url.to_owned());
            let shown = [format!("{secret:?}"), serde_json::to_string(&secret).unwrap()].concat();
            assert!(!shown.contains("pass") && !shown.contains("p%40ss"), "{shown}");
            assert_eq!(secret.expose(), url);
        }
        let plain = SecretUrl::from("valkey://127.0.0.1:6379".to_owned());
        assert_eq!(format!("{plain:?}"), "valkey://127.0.0.1:6379");
    }
}
