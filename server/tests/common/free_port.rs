//! Ports for programs that are told theirs before they start. Tests of several crates share this file.

use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the ports that systems give to whoever asks for any: none of these is taken by another program's connection before it is used.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;
/// Processes that run at the same time begin so far apart.
const PER_PROCESS: u32 = 61;

/// A port that nobody has, over TCP or UDP, and that this process was not told before.
pub fn free_port() -> u16 {
    static TOLD: AtomicU32 = AtomicU32::new(0);
    let is_free =
        |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok();
    let next = || {
        let place = std::process::id()
            .wrapping_mul(PER_PROCESS)
            .wrapping_add(TOLD.fetch_add(1, Ordering::Relaxed));
        u16::try_from(FIRST + place % COUNT).unwrap_or(u16::MAX)
    };
    let found = (0..COUNT).map(|_| next()).find(|port| is_free(*port));
    found.expect("one of many ports is free")
}
