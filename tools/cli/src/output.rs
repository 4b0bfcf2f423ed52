//! What is printed: results on standard output, for people or as lines of JSON; remarks and errors of people on standard error.
//!
//! Nothing panics if who reads goes away: that ends the command, and is no error.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use crate::error::{CliError, FailedAction};

/// Where results go and how they look.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    is_json: bool,
}

/// A remark as `--json` tells it.
#[derive(Serialize)]
struct NoticeLine<'a, T> {
    notice: &'a str,
    message: &'a str,
    #[serde(flatten)]
    more: T,
}

impl Output {
    /// Results as JSON, or for people.
    pub fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    /// Whether results are lines of JSON.
    pub fn is_json(self) -> bool {
        self.is_json
    }

    /// Prints a result: its fields as JSON, or what it shows to people.
    ///
    /// # Errors
    /// [`CliError::OutputClosed`] if nobody reads any more.
    pub fn result(self, result: &(impl Serialize + Display)) -> Result<(), CliError> {
        if self.is_json {
            self.json(result)
        } else {
            self.line(&result.to_string())
        }
    }

    /// Prints a remark that is no result: `notice` is a word that stays the same.
    ///
    /// # Errors
    /// [`CliError::OutputClosed`] if nobody reads any more.
    pub fn notice(self, notice: &str, message: &str) -> Result<(), CliError> {
        self.notice_with(notice, message, ())
    }

    /// The same with fields that only JSON shows, for `message` has them in words.
    ///
    /// # Errors
    /// [`CliError::OutputClosed`] if nobody reads any more.
    pub fn notice_with(self, notice: &str, message: &str, more: impl Serialize) -> Result<(), CliError> {
        if self.is_json {
            return self.json(&NoticeLine { notice, message, more });
        }
        complain(message);
        Ok(())
    }

    /// Prints an error with the action that it has ended, and tells its exit code.
    pub fn error(self, error: &CliError, action: Option<FailedAction>) -> u8 {
        if matches!(error, CliError::OutputClosed) {
            return error.exit_code();
        }
        if self.is_json {
            // Who cannot be told of the error still sees the exit code.
            let _ = self.json(&error.line(action));
        } else {
            let told = match action {
                Some(FailedAction {
                    trace_id,
                    latency: Some(latency),
                }) => format!(" (after {:.2} ms, trace {trace_id})", milliseconds(latency)),
                Some(FailedAction { trace_id, .. }) => format!(" (trace {trace_id})"),
                None => String::new(),
            };
            complain(&format!("error: {error}{told}"));
        }
        error.exit_code()
    }

    /// Prints text for people, with a line break.
    ///
    /// # Errors
    /// [`CliError::OutputClosed`] if nobody reads any more.
    pub fn line(self, text: &str) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")
            .and_then(|()| out.flush())
            .map_err(|error| match error.kind() {
                io::ErrorKind::BrokenPipe => CliError::OutputClosed,
                _ => CliError::Output(error),
            })
    }

    fn json(self, value: &impl Serialize) -> Result<(), CliError> {
        let line = serde_json::to_string(value).map_err(|error| CliError::Output(error.into()))?;
        self.line(&line)
    }
}

/// Writes to standard error; if that is closed, there is nobody to tell.
fn complain(message: &str) {
    let _ = writeln!(io::stderr().lock(), "{message}");
}

/// Milliseconds with three digits after the point, which is what clocks are good for.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

/// A number with three digits after the point.
pub fn rounded(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}
