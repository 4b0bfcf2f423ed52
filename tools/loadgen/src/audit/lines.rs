//! Cuts a stream of bytes into lines of a bounded length. A read that times out loses nothing: the next one goes on.

use std::io::{self, Read};

/// A zone's whole line takes some 60 bytes per entity: this is room for 17,000 of them.
pub(super) const LINE_BYTES_MAX: usize = 1 << 20;
/// Bytes that are asked for at once.
const READ_BYTES: usize = 16 << 10;

/// What came of asking for a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A line, without its end.
    Line(Vec<u8>),
    /// The stream has ended; `unfinished` bytes had no end of line.
    Ended { unfinished: usize },
    /// A line is longer than [`LINE_BYTES_MAX`].
    TooLong,
}

/// The lines of a source of bytes.
#[derive(Debug)]
pub(super) struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that hold no end of line.
    searched: usize,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(source: R) -> Self {
        Self {
            source,
            buffer: Vec::new(),
            searched: 0,
        }
    }

    /// The next line. After an error the next call goes on where this one stopped.
    pub(super) fn next(&mut self) -> io::Result<Next> {
        loop {
            let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            if let Some(position) = found {
                let end = self.searched + position;
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                self.searched = 0;
                return Ok(if line.len() > LINE_BYTES_MAX {
                    Next::TooLong
                } else {
                    Next::Line(line)
                });
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > LINE_BYTES_MAX {
                return Ok(Next::TooLong);
            }
            if self.read()? == 0 {
                return Ok(Next::Ended {
                    unfinished: self.buffer.len(),
                });
            }
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        let held = self.buffer.len();
        self.buffer.resize(held + READ_BYTES, 0);
        let read = self.source.read(&mut self.buffer[held..]);
        self.buffer.truncate(held + read.as_ref().copied().unwrap_or(0));
        read
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Gives out its parts one a read; an empty one is a read that times out.
    struct Parts(VecDeque<&'static [u8]>);

    impl Read for Parts {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let part = self.0.pop_front().unwrap_or(b"");
            if part.is_empty() && !self.0.is_empty() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            buffer[..part.len()].copy_from_slice(part);
            Ok(part.len())
        }
    }

    #[test]
    fn lines_come_whole_however_they_are_cut_and_whenever_reads_time_out() {
        let parts = [b"on".as_slice(), b"", b"e\n\ntw", b"o\nthr"];
        let mut lines = Lines::new(Parts(parts.into_iter().collect()));
        assert_eq!(lines.next().unwrap_err().kind(), io::ErrorKind::TimedOut);
        for expected in [b"one".as_slice(), b"", b"two"] {
            assert_eq!(lines.next().unwrap(), Next::Line(expected.to_vec()));
        }
        assert_eq!(lines.next().unwrap(), Next::Ended { unfinished: 3 });
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let mut lines = Lines::new(io::repeat(b'x'));
        assert_eq!(lines.next().unwrap(), Next::TooLong);
        let longest = vec![b'x'; LINE_BYTES_MAX];
        let text = [longest.as_slice(), b"\n", &longest, b"x\n"].concat();
        let mut lines = Lines::new(text.as_slice());
        assert_eq!(lines.next().unwrap(), Next::Line(longest));
        assert_eq!(lines.next().unwrap(), Next::TooLong);
    }
}
