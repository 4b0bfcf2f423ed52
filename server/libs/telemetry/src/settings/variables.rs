//! Values of environment variables: bounded, and an error that names the variable for each that is not allowed.

use std::{ffi::OsString, ops::RangeInclusive, str::FromStr};

use thiserror::Error;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};

/// Characters of a wrong value that an error repeats.
const SHOWN_MAX: usize = 80;
/// Bytes of a list. The specification of baggage, whose form lists have, asks for as many.
const LIST_BYTES_MAX: usize = 8192;
/// Entries of a list.
const LIST_LENGTH_MAX: usize = 64;
/// Headers of the transport, and beginnings of such.
const FRAMING_HEADERS: [&str; 10] = [
    "connection",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
];
const FRAMING_PREFIXES: [&str; 2] = ["content-", "grpc-"];

/// An environment variable has a value that is not allowed.
#[derive(Debug, Error)]
#[error("{variable} is `{value}`: {allowed}")]
pub struct SettingsError {
    variable: String,
    value: String,
    allowed: String,
}

/// The environment, or what stands in for it.
pub(super) struct Variables<'a> {
    lookup: &'a dyn Fn(&str) -> Option<OsString>,
}

impl SettingsError {
    pub(super) fn new(variable: &str, value: &str, allowed: impl Into<String>) -> Self {
        Self {
            variable: variable.to_owned(),
            value: value.chars().take(SHOWN_MAX).collect(),
            allowed: allowed.into(),
        }
    }
}

impl<'a> Variables<'a> {
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Self { lookup }
    }

    /// A value; an empty one is none, as the specification has it.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, SettingsError> {
        let Some(value) = (self.lookup)(name) else {
            return Ok(None);
        };
        let Ok(value) = value.into_string() else {
            return Err(SettingsError::new(name, "(not shown)", "it must be text in UTF-8"));
        };
        let value = value.trim();
        Ok((!value.is_empty()).then(|| value.to_owned()))
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, SettingsError> {
        let Some(value) = self.text(name)? else {
            return Ok(false);
        };
        match value.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(SettingsError::new(name, &value, "it must be true or false")),
        }
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<Option<T>, SettingsError> {
        let Some(value) = self.text(name)? else {
            return Ok(None);
        };
        match choices.iter().find(|(word, _)| *word == value) {
            Some((_, chosen)) => Ok(Some(*chosen)),
            None => {
                let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
                let allowed = format!("it must be {}", words.join(" or "));
                Err(SettingsError::new(name, &value, allowed))
            }
        }
    }

    pub(super) fn choice_of_signal<T: Copy>(
        &self,
        of_signal: &str,
        general: &str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, SettingsError> {
        let general = self.choice(general, choices)?;
        Ok(self.choice(of_signal, choices)?.or(general))
    }

    pub(super) fn whole(&self, name: &str, default: u64, range: RangeInclusive<u64>) -> Result<u64, SettingsError> {
        let Some(value) = self.text(name)? else {
            return Ok(default);
        };
        let parsed = value.parse().ok().filter(|value| range.contains(value));
        parsed.ok_or_else(|| {
            let allowed = format!("it must be a whole number from {} to {}", range.start(), range.end());
            SettingsError::new(name, &value, allowed)
        })
    }

    pub(super) fn whole_of_signal(
        &self,
        of_signal: &str,
        general: &str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64, SettingsError> {
        let default = self.whole(general, default, range.clone())?;
        self.whole(of_signal, default, range)
    }

    /// A number from 0 to 1.
    pub(super) fn share(&self, name: &str, default: f64) -> Result<f64, SettingsError> {
        let Some(value) = self.text(name)? else {
            return Ok(default);
        };
        let parsed = f64::from_str(&value).ok().filter(|share| (0.0..=1.0).contains(share));
        parsed.ok_or_else(|| SettingsError::new(name, &value, "it must be a number from 0 to 1"))
    }

    /// A list such as `key=value,key2=value%202`.
    pub(super) fn pairs(&self, name: &str) -> Result<Vec<(String, String)>, SettingsError> {
        let Some(list) = self.text(name)? else {
            return Ok(Vec::new());
        };
        // Not repeated: headers hold keys.
        let wrong = |allowed: &str| SettingsError::new(name, "(not shown)", allowed);
        if list.len() > LIST_BYTES_MAX || list.split(',').count() > LIST_LENGTH_MAX {
            return Err(wrong("it may have 64 entries and 8192 bytes"));
        }
        let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries
            .map(|entry| {
                let (key, value) = entry.split_once('=')?;
                let (key, value) = (percent_decoded(key.trim())?, percent_decoded(value.trim())?);
                (!key.is_empty()).then_some((key, value))
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| wrong("it must be a list such as key=value,key2=value%202"))
    }

    /// A list of headers that can be sent.
    pub(super) fn headers_of_signal(
        &self,
        of_signal: &str,
        general: &str,
    ) -> Result<Vec<(String, String)>, SettingsError> {
        let general = self.headers(general)?;
        let own = self.headers(of_signal)?;
        Ok(if own.is_empty() { general } else { own })
    }

    fn headers(&self, name: &str) -> Result<Vec<(String, String)>, SettingsError> {
        let headers = self.pairs(name)?;
        for (key, value) in &headers {
            let is_sendable = AsciiMetadataKey::from_str(key).is_ok() && AsciiMetadataValue::from_str(value).is_ok();
            if !is_sendable {
                let allowed = "every key must be the name of a header, and every value printable";
                return Err(SettingsError::new(name, "(not shown)", allowed));
            }
            if is_framing(key) {
                let allowed = format!("{key} says how a request is sent, and is not yours to give; leave it out");
                return Err(SettingsError::new(name, "(not shown)", allowed));
            }
        }
        Ok(headers)
    }
}

/// Whether a header is the transport's own: with another value requests would be read wrongly.
fn is_framing(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let is_of_a_kind = FRAMING_PREFIXES.iter().any(|prefix| key.starts_with(prefix));
    is_of_a_kind || FRAMING_HEADERS.contains(&key.as_str())
}

/// Undoes `%20` and its like; none if a percent sign is not followed by two digits, or what comes of it is no text.
fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            decoded.push((high * 16 + low) as u8);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}
