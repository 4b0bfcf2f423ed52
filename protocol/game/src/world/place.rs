//! Finds the line of what is wrong with a world file.

use toml::de::{DeTable, DeValue};

/// A key in the text of a world.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// The table's name; empty for the whole document.
    table: &'static str,
    /// Which of several tables of that name, from 0.
    index: usize,
    /// Empty for the table itself.
    key: &'static str,
}

impl Place {
    pub(super) const fn top(key: &'static str) -> Self {
        Self::within("", key)
    }

    pub(super) const fn within(table: &'static str, key: &'static str) -> Self {
        Self::within_nth(table, 0, key)
    }

    pub(super) const fn within_nth(table: &'static str, index: usize, key: &'static str) -> Self {
        Self { table, index, key }
    }
}

/// The line, from 1, of a key, or of its table's header where the table does not have it.
pub(super) fn line_of(text: &str, place: Place) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let document = document.get_ref();
    let start = if place.table.is_empty() {
        start_of_key(document, place.key)?
    } else {
        let named = document.get(place.table)?;
        let table = match named.get_ref() {
            DeValue::Array(tables) => tables.get(place.index)?,
            _ => named,
        };
        let key = table
            .get_ref()
            .as_table()
            .and_then(|keys| start_of_key(keys, place.key));
        key.unwrap_or(table.span().start)
    };
    Some(line_at(text, start))
}

fn start_of_key(table: &DeTable<'_>, key: &str) -> Option<usize> {
    table.get_key_value(key).map(|(key, _)| key.span().start)
}

/// The line, from 1, of a byte of the text.
pub(super) fn line_at(text: &str, start: usize) -> usize {
    text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1
}
