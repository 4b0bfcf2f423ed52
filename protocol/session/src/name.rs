//! Which player names are allowed: the one rule that client and server share.

use std::fmt;

/// Most characters (Unicode scalar values) of a name: what fits over a head and in a chat line.
pub const NAME_CHARS_MAX: usize = 24;

/// Most bytes of a name in UTF-8: every character at its longest.
pub const NAME_BYTES_MAX: usize = NAME_CHARS_MAX * 4;

/// Trims a name and checks it: 1 to [`NAME_CHARS_MAX`] characters, no control characters and none that reorder or hide text.
///
/// # Errors
/// [`NameError`] says which rule the name breaks.
pub fn validate_name(name: &str) -> Result<&str, NameError> {
    let trimmed = name.trim();
    // Bytes first: counting the characters of a name is bounded by this.
    if trimmed.len() > NAME_BYTES_MAX || trimmed.chars().count() > NAME_CHARS_MAX {
        return Err(NameError::TooLong);
    }
    if trimmed.is_empty() {
        return Err(NameError::Empty);
    }
    if trimmed.chars().any(is_forbidden) {
        return Err(NameError::Control);
    }
    Ok(trimmed)
}

/// Control characters break logs and terminals; bidirectional overrides and invisible characters let one name look like another.
fn is_forbidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Nothing is left of it after trimming.
    Empty,
    /// More than [`NAME_CHARS_MAX`] characters.
    TooLong,
    /// It holds a control character or one that reorders or hides text.
    Control,
}

impl fmt::Display for NameError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(
                formatter,
                "the name is empty: 1 to {NAME_CHARS_MAX} characters are needed"
            ),
            Self::TooLong => write!(
                formatter,
                "the name is too long: at most {NAME_CHARS_MAX} characters are allowed"
            ),
            Self::Control => write!(formatter, "the name holds control or invisible characters"),
        }
    }
}

impl std::error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_counted_in_characters() {
        assert_eq!(validate_name("  Ada "), Ok("Ada"));
        assert_eq!(validate_name(&"é".repeat(24)).map(str::len), Ok(48));
        assert_eq!(validate_name(&"é".repeat(25)), Err(NameError::TooLong));
        assert_eq!(validate_name(" \t "), Err(NameError::Empty));
        assert_eq!(validate_name(&"x".repeat(1 << 20)), Err(NameError::TooLong));
    }

    #[test]
    fn control_and_invisible_characters_are_refused() {
        for name in ["a\0b", "a\nb", "a\u{7f}b", "a\u{202e}b", "a\u{200b}b"] {
            assert_eq!(validate_name(name), Err(NameError::Control), "{name:?}");
        }
    }
}
