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

/// Control characters break logs and terminals; characters that reorder text or render as nothing let one name look like
/// another, or like none.
fn is_forbidden(character: char) -> bool {
    character.is_control() || is_default_ignorable(character) || reorders_or_hides(character)
}

/// Unicode's property `Default_Ignorable_Code_Point` (DerivedCoreProperties.txt): what a font without a glyph for it shows nothing
/// for, such as soft hyphens, joiners, fillers, variation selectors and tags.
fn is_default_ignorable(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Line and paragraph separators, the blank Braille pattern and annotation marks.
fn reorders_or_hides(character: char) -> bool {
    matches!(character, '\u{2028}'..='\u{2029}' | '\u{2800}' | '\u{fff9}'..='\u{fffb}')
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

    #[test]
    fn characters_that_render_as_nothing_are_refused_alone_and_within() {
        let singles = "\u{ad}\u{34f}\u{61c}\u{115f}\u{1160}\u{17b4}\u{17b5}\u{180e}\u{2800}\u{3164}\u{feff}\u{ffa0}";
        let ranges = [
            '\u{200b}'..='\u{200f}',
            '\u{202a}'..='\u{202e}',
            '\u{2060}'..='\u{206f}',
            '\u{fe00}'..='\u{fe0f}',
            '\u{e0000}'..='\u{e0fff}',
        ];
        for hidden in singles.chars().chain(ranges.into_iter().flatten()) {
            for name in [format!("{hidden}"), format!("Ada{hidden}"), format!("A{hidden}da")] {
                assert_eq!(validate_name(&name), Err(NameError::Control), "{name:?}");
            }
        }
    }

    #[test]
    fn names_of_every_script_are_allowed() {
        for name in ["Zoë", "Ада", "愛", "아다", "آدا", "Ada Lovelace", "\u{1f980}"] {
            assert_eq!(validate_name(name), Ok(name));
        }
    }
}
