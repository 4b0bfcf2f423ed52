//! Lines of standard input, read by a thread of its own: a read cannot be taken back, and the answers are not to wait for it.

use std::io::{self, BufRead, Read};
use std::time::Duration;

use clap::Parser;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::Instant;

use crate::cli::{MoveArgs, PlayLine, parse_duration};
use crate::error::CliError;

/// Longest line in bytes: many times what a move can be.
const LINE_BYTES_MAX: u64 = 4_096;
/// Lines that are read ahead of what is sent. What `wait` holds back stays in the pipe.
const LINES_AHEAD: usize = 1;

/// A line that is to be sent.
#[derive(Debug, PartialEq)]
pub(super) struct Line {
    /// From 1, counting those that are passed over.
    pub(super) number: u64,
    text: String,
}

impl Line {
    /// The move that it tells.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub(super) fn arguments(&self) -> Result<MoveArgs, String> {
        if let Some(Err(message)) = self.wait() {
            return Err(message);
        }
        let parsed = PlayLine::try_parse_from(self.text.split_whitespace());
        parsed.map(|line| line.movement).map_err(|error| first_line(&error))
    }

    /// How long it says to wait; none if it is no `wait`.
    fn wait(&self) -> Option<Result<Duration, String>> {
        let mut words = self.text.split_whitespace();
        (words.next() == Some("wait")).then(|| match (words.next(), words.next()) {
            (Some(duration), None) => parse_duration(duration),
            _ => Err("`wait` has one duration, such as 500ms".to_owned()),
        })
    }
}

/// Lines as they come, with the waits between them.
pub(super) struct Input {
    lines: Receiver<io::Result<Line>>,
    /// Nothing is read before this.
    resume_at: Option<Instant>,
}

impl Input {
    /// Begins to read.
    ///
    /// # Errors
    /// [`CliError::Input`] if there is no thread for it.
    pub(super) fn read_standard_input() -> Result<Self, CliError> {
        let (sender, lines) = mpsc::channel(LINES_AHEAD);
        let thread = std::thread::Builder::new().name("standard-input".to_owned());
        thread
            .spawn(move || read_lines(io::stdin().lock(), &sender))
            .map_err(CliError::Input)?;
        Ok(Self { lines, resume_at: None })
    }

    /// The next move, after what is to be waited for; none at the end. Nothing is lost if this is dropped before it ends.
    ///
    /// # Errors
    /// Input cannot be read, or is no text.
    pub(super) async fn next(&mut self) -> Result<Option<Line>, CliError> {
        loop {
            if let Some(resume_at) = self.resume_at {
                tokio::time::sleep_until(resume_at).await;
                self.resume_at = None;
            }
            let Some(line) = self.lines.recv().await else {
                return Ok(None);
            };
            let line = line.map_err(CliError::Input)?;
            match line.wait() {
                Some(Ok(duration)) => self.resume_at = Some(Instant::now() + duration),
                // Told as any other line that makes no sense.
                Some(Err(_)) | None => return Ok(Some(line)),
            }
        }
    }
}

fn read_lines(mut input: impl BufRead, lines: &Sender<io::Result<Line>>) {
    let mut number = 0;
    loop {
        number += 1;
        let read = read_line(&mut input);
        let line = match read {
            Ok(None) => return,
            Ok(Some(text)) if text.trim().is_empty() || text.trim_start().starts_with('#') => continue,
            Ok(Some(text)) => Ok(Line { number, text }),
            Err(error) => Err(error),
        };
        let is_last = line.is_err();
        // Nobody waits for lines any more, or nothing more can be read.
        if lines.blocking_send(line).is_err() || is_last {
            return;
        }
    }
}

/// A line without its end; none at the end of input.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    let read = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
    if read == 0 {
        return Ok(None);
    }
    if read as u64 == LINE_BYTES_MAX && !bytes.ends_with(b"\n") {
        return Err(io::Error::other(format!(
            "a line is longer than {LINE_BYTES_MAX} bytes"
        )));
    }
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("a line is no text"))?;
    Ok(Some(text))
}

/// What clap says, without the usage that follows.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines: Vec<_> = text
        .lines()
        .take_while(|line| !line.is_empty())
        .map(str::trim)
        .collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(text: &str) -> Line {
        Line {
            number: 1,
            text: text.to_owned(),
        }
    }

    fn read(input: &[u8]) -> Vec<io::Result<Line>> {
        let (sender, mut receiver) = mpsc::channel(input.len() + 1);
        read_lines(input, &sender);
        drop(sender);
        std::iter::from_fn(|| receiver.blocking_recv()).collect()
    }

    #[test]
    fn empty_lines_and_remarks_are_counted_and_passed_over() {
        let lines = read(b"north 1\n\n  # east\r\nwait 5ms\nsouth 2");
        let numbers: Vec<_> = lines.iter().map(|line| line.as_ref().unwrap().number).collect();
        assert_eq!(numbers, [1, 4, 5]);
    }

    #[test]
    fn a_line_that_never_ends_and_one_that_is_no_text_end_the_reading() {
        for input in [vec![b'x'; 1 << 20], b"\xff\xfe\n".to_vec()] {
            let lines = read(&input);
            assert!(matches!(lines.as_slice(), [Err(_)]), "{lines:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_line_is_told_in_one() {
        for (text, expected) in [
            ("up 1", "invalid value 'up'"),
            ("north", "required"),
            ("wait", "one duration"),
        ] {
            let message = line(text).arguments().unwrap_err();
            assert!(
                message.contains(expected) && !message.contains('\n') && !message.starts_with("error"),
                "{message}"
            );
        }
    }

    #[test]
    fn waits_have_one_duration() {
        assert_eq!(line("wait 500ms").wait(), Some(Ok(Duration::from_millis(500))));
        assert!(matches!(line("wait").wait(), Some(Err(_))));
        assert!(matches!(line("wait 1s 2s").wait(), Some(Err(_))));
        assert_eq!(line("north 1").wait(), None);
    }

    proptest! {
        #[test]
        fn no_input_breaks_the_reader(input in prop::collection::vec(any::<u8>(), 0..200)) {
            for line in read(&input).into_iter().flatten() {
                let _ = (line.arguments(), line.wait());
            }
        }
    }
}
