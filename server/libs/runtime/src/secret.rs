//! A key that no log, debug print or config dump shows.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Bytes of a [`SecretKey`]: what netcode's ChaCha20-Poly1305 takes.
pub const SECRET_KEY_BYTES: usize = 32;

/// What stands in a dump or a debug print instead of the key.
const REDACTED: &str = "<redacted>";

/// 32 secret bytes, read from 64 hexadecimal digits. `Debug` and `Serialize` show `<redacted>`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SecretKey([u8; SECRET_KEY_BYTES]);

impl SecretKey {
    /// A fresh key from the thread's generator, which is cryptographically secure and seeded by the operating system.
    #[must_use]
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// The bytes, for the code that encrypts with them and nothing else.
    #[must_use]
    pub fn expose(&self) -> &[u8; SECRET_KEY_BYTES] {
        &self.0
    }
}

impl From<[u8; SECRET_KEY_BYTES]> for SecretKey {
    fn from(bytes: [u8; SECRET_KEY_BYTES]) -> Self {
        Self(bytes)
    }
}

impl FromStr for SecretKey {
    type Err = ParseSecretKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.trim().as_bytes();
        if digits.len() != SECRET_KEY_BYTES * 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(ParseSecretKeyError);
        }
        let mut bytes = [0; SECRET_KEY_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = str::from_utf8(pair).map_err(|_| ParseSecretKeyError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ParseSecretKeyError)?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for SecretKey {
    type Error = ParseSecretKeyError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(REDACTED)
    }
}

impl Serialize for SecretKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

/// The text is no key. It never quotes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret key is {} hexadecimal digits", SECRET_KEY_BYTES * 2)]
pub struct ParseSecretKeyError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_hex_and_never_shown() {
        let text = "00ff".repeat(16);
        let key: SecretKey = serde_json::from_str(&format!("\"{text}\"")).unwrap();
        assert_eq!(key.expose()[..4], [0x00, 0xff, 0x00, 0xff]);
        assert_eq!(format!("{key:?}"), REDACTED);
        assert_eq!(serde_json::to_string(&key).unwrap(), format!("\"{REDACTED}\""));
    }

    #[test]
    fn a_bad_key_is_refused_without_being_quoted() {
        for text in [
            "",
            "abcd",
            &"zz".repeat(32),
            &"é".repeat(32),
            &"00".repeat(33),
            &"+1".repeat(32),
        ] {
            let error = text.parse::<SecretKey>().unwrap_err();
            assert_eq!(error.to_string(), "a secret key is 64 hexadecimal digits");
        }
    }

    #[test]
    fn generated_keys_differ() {
        assert_ne!(SecretKey::generate(), SecretKey::generate());
    }
}
