//! The 256 bytes of user data inside a connect token: how `auth` tells the gateway who connects.
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 1 | layout version, [`USER_DATA_VERSION`] |
//! | 1 | 8 | player id, u64, little endian |
//! | 9 | 1 | length of the name in bytes, 1..=[`NAME_BYTES_MAX`] |
//! | 10 | length | the name in UTF-8, as [`validate_name`] accepts it |
//! | after | rest | zero |

use std::fmt;

use crate::name::{NAME_BYTES_MAX, NameError, validate_name};

/// Bytes of user data in a netcode 1.02 token.
pub const USER_DATA_BYTES: usize = 256;

/// The layout that this crate writes and reads.
pub const USER_DATA_VERSION: u8 = 1;

const PLAYER_ID_OFFSET: usize = 1;
const NAME_LENGTH_OFFSET: usize = 9;
const NAME_OFFSET: usize = 10;
const _: () = assert!(NAME_OFFSET + NAME_BYTES_MAX <= USER_DATA_BYTES && NAME_BYTES_MAX <= u8::MAX as usize);

/// Who a connect token was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenUserData {
    player_id: u64,
    name: String,
}

impl TokenUserData {
    /// Takes a player and a name, which is trimmed and checked.
    ///
    /// # Errors
    /// The name breaks a rule of [`validate_name`].
    pub fn new(player_id: u64, name: &str) -> Result<Self, NameError> {
        let name = validate_name(name)?.to_owned();
        Ok(Self { player_id, name })
    }

    /// The player's id.
    #[must_use]
    pub fn player_id(&self) -> u64 {
        self.player_id
    }

    /// The player's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes the layout of this module.
    #[must_use]
    pub fn encode(&self) -> [u8; USER_DATA_BYTES] {
        let mut bytes = [0; USER_DATA_BYTES];
        let name = self.name.as_bytes();
        bytes[0] = USER_DATA_VERSION;
        bytes[PLAYER_ID_OFFSET..NAME_LENGTH_OFFSET].copy_from_slice(&self.player_id.to_le_bytes());
        // `new` and `decode` bound the name to NAME_BYTES_MAX, which fits a byte.
        bytes[NAME_LENGTH_OFFSET] = name.len() as u8;
        bytes[NAME_OFFSET..NAME_OFFSET + name.len()].copy_from_slice(name);
        bytes
    }

    /// Reads the layout of this module; anything that [`TokenUserData::encode`] cannot have written is refused.
    ///
    /// # Errors
    /// [`UserDataError`] says what is wrong.
    pub fn decode(bytes: &[u8; USER_DATA_BYTES]) -> Result<Self, UserDataError> {
        if bytes[0] != USER_DATA_VERSION {
            return Err(UserDataError::Version(bytes[0]));
        }
        let mut player_id = [0; 8];
        player_id.copy_from_slice(&bytes[PLAYER_ID_OFFSET..NAME_LENGTH_OFFSET]);
        let length = usize::from(bytes[NAME_LENGTH_OFFSET]);
        if length > NAME_BYTES_MAX {
            return Err(UserDataError::Name(NameError::TooLong));
        }
        let (name, padding) = bytes[NAME_OFFSET..].split_at(length);
        if padding.iter().any(|byte| *byte != 0) {
            return Err(UserDataError::Padding);
        }
        let name = str::from_utf8(name).map_err(|_| UserDataError::NotUtf8)?;
        let user_data = Self::new(u64::from_le_bytes(player_id), name).map_err(UserDataError::Name)?;
        // `encode` never writes a name that trimming would change.
        if user_data.name.len() != length {
            return Err(UserDataError::Untrimmed);
        }
        Ok(user_data)
    }
}

/// Why user data is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserDataError {
    /// Written by another layout version than [`USER_DATA_VERSION`].
    Version(u8),
    /// The name breaks a rule.
    Name(NameError),
    /// The name is not UTF-8.
    NotUtf8,
    /// The name has white space at its ends.
    Untrimmed,
    /// There is something after the name.
    Padding,
}

impl fmt::Display for UserDataError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => {
                write!(
                    formatter,
                    "user data has layout version {version}, this server reads {USER_DATA_VERSION}"
                )
            }
            Self::Name(error) => write!(formatter, "user data: {error}"),
            Self::NotUtf8 => write!(formatter, "user data: the name is not UTF-8"),
            Self::Untrimmed => write!(formatter, "user data: the name has white space at its ends"),
            Self::Padding => write!(formatter, "user data: the bytes after the name are not zero"),
        }
    }
}

impl std::error::Error for UserDataError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = TokenUserData::new(0x0102_0304_0506_0708, "Ada").unwrap().encode();
        assert_eq!(&bytes[..13], &[1, 8, 7, 6, 5, 4, 3, 2, 1, 3, b'A', b'd', b'a']);
        assert!(bytes[13..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn other_versions_and_padding_are_refused() {
        let mut bytes = TokenUserData::new(7, "Ada").unwrap().encode();
        bytes[255] = 1;
        assert_eq!(TokenUserData::decode(&bytes), Err(UserDataError::Padding));
        bytes[0] = 9;
        assert_eq!(TokenUserData::decode(&bytes), Err(UserDataError::Version(9)));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(player_id: u64, name in "[^\\p{C}\\p{Z}]{1,24}") {
            // The class holds a few characters that render as nothing; names with them are refused.
            let user_data = TokenUserData::new(player_id, &name);
            prop_assume!(user_data.is_ok());
            let user_data = user_data.unwrap();
            prop_assert_eq!(TokenUserData::decode(&user_data.encode()), Ok(user_data));
        }

        /// Half of the cases are let past the version, so that the rest of the layout is reached.
        #[test]
        fn random_bytes_decode_only_to_what_encodes_to_them(
            mut bytes in prop::array::uniform32(prop::array::uniform8(any::<u8>())),
            length in 0_u8..=255,
            zero_after in 0_usize..=256,
            versioned: bool,
        ) {
            let mut flat = [0_u8; USER_DATA_BYTES];
            if versioned {
                bytes[0][0] = USER_DATA_VERSION;
                bytes[1][1] = length;
            }
            flat.copy_from_slice(bytes.as_flattened());
            flat[zero_after.max(NAME_OFFSET)..].fill(0);
            if let Ok(user_data) = TokenUserData::decode(&flat) {
                prop_assert_eq!(user_data.encode(), flat);
            }
        }

        /// Text at the name's place, of any length and with spaces, controls and padding of any kind.
        #[test]
        fn random_text_decodes_only_to_what_encodes_to_it(text in ".{0,40}", length in 0_u8..=120) {
            let mut bytes = [0_u8; USER_DATA_BYTES];
            let text = text.as_bytes();
            bytes[0] = USER_DATA_VERSION;
            bytes[NAME_LENGTH_OFFSET] = if length % 2 == 0 { text.len() as u8 } else { length };
            bytes[NAME_OFFSET..NAME_OFFSET + text.len()].copy_from_slice(text);
            if let Ok(user_data) = TokenUserData::decode(&bytes) {
                prop_assert_eq!(user_data.encode(), bytes);
            }
        }
    }
}
