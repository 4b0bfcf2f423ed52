//! Waits for the sockets of many bots at once.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Sockets told of at once; the others are told next.
const EVENTS_MAX: usize = 256;
const NO_TIME: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Sockets by their index, in the order in which they were added. A wait costs by those that are readable, not by all.
pub(super) struct Sockets {
    epoll: OwnedFd,
    sockets: Vec<UdpSocket>,
    events: Vec<epoll::Event>,
}

impl Sockets {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC).context("cannot wait for sockets")?,
            sockets: Vec::new(),
            events: Vec::with_capacity(EVENTS_MAX),
        })
    }

    pub(super) fn push(&mut self, socket: UdpSocket) -> anyhow::Result<()> {
        let index = EventData::new_u64(self.sockets.len() as u64);
        epoll::add(&self.epoll, &socket, index, EventFlags::IN).context("cannot wait for a bot's socket")?;
        self.sockets.push(socket);
        Ok(())
    }

    /// Sleeps until `deadline` or until a socket is readable, and says which are.
    pub(super) fn wait(&mut self, deadline: Instant, readable: &mut Vec<usize>) -> anyhow::Result<()> {
        readable.clear();
        let timeout = timespec(deadline.saturating_duration_since(Instant::now()));
        // `epoll_wait` rounds its timeout to milliseconds; `ppoll`, here over one descriptor, does not.
        let ready = poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&timeout));
        if interrupted(ready)? == 0 {
            return Ok(());
        }
        self.events.clear();
        let found = epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&NO_TIME));
        interrupted(found)?;
        readable.extend(self.events.iter().map(|event| event.data.u64() as usize));
        Ok(())
    }
}

/// A signal is as if nothing had come.
fn interrupted(result: rustix::io::Result<usize>) -> anyhow::Result<usize> {
    match result {
        Err(Errno::INTR) => Ok(0),
        other => other.context("cannot wait for the bots' sockets"),
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs() as i64,
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> UdpSocket {
        UdpSocket::bind(("127.0.0.1", 0)).unwrap()
    }

    #[test]
    fn the_readable_sockets_are_told_until_they_are_read() {
        let (sender, mut sockets, mut readable) = (socket(), Sockets::new().unwrap(), Vec::new());
        let receivers: Vec<UdpSocket> = (0..3).map(|_| socket()).collect();
        for receiver in &receivers {
            sockets.push(receiver.try_clone().unwrap()).unwrap();
        }
        sockets.wait(Instant::now(), &mut readable).unwrap();
        assert!(readable.is_empty());
        for index in [2, 0] {
            sender
                .send_to(b"hello", receivers[index].local_addr().unwrap())
                .unwrap();
        }
        for expected in [vec![0, 2], vec![2], vec![]] {
            // Loopback delivers before the send returns.
            sockets.wait(Instant::now(), &mut readable).unwrap();
            readable.sort_unstable();
            assert_eq!(readable, expected);
            if let Some(first) = readable.first() {
                receivers[*first].recv(&mut [0; 8]).unwrap();
            }
        }
    }
}
