//! A line of the prompt as words, as a shell would split it, but for what only a shell can do.

/// Splits a line at white space outside of quotes. Between `'` everything is meant as it is written; between `"` and outside, a backslash
/// takes the next character as it is.
///
/// # Errors
/// What is wrong with it.
pub(super) fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                // Quotes with nothing between them are a word too.
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let next = characters.next().ok_or("a line ends with a backslash")?;
                word.get_or_insert_default().push(next);
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    if let Some(quote) = quote {
        return Err(format!("a quote {quote} is not closed"));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        let split = |line| split(line).unwrap();
        assert_eq!(split("  move north  5\r\n"), ["move", "north", "5"]);
        assert_eq!(split("join --name 'Ada Lovelace'"), ["join", "--name", "Ada Lovelace"]);
        assert_eq!(split(r#"a"b \"c"d '' e\ f"#), ["ab \"cd", "", "e f"]);
        assert!(split(" ").is_empty());
    }

    #[test]
    fn what_is_not_closed_is_refused() {
        for line in ["'a", "\"a", "a\\"] {
            assert!(split(line).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn quoted_words_come_back_as_they_were(words in prop::collection::vec("[^']{0,10}", 0..5)) {
            let line = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(split(&line), Ok(words));
        }

        #[test]
        fn no_line_breaks_the_splitter(line in ".{0,60}") {
            let _ = split(&line);
        }
    }
}
