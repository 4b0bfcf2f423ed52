//! Bytes that nobody should read anything into.

use meridian_link::DATAGRAM_BYTES_MAX;
use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};

/// A netcode connection request's length and beginning.
pub const CONNECTION_REQUEST_BYTES: usize = 1_078;
const CONNECTION_REQUEST_PREFIX: &[u8] = b"\0NETCODE 1.02\0";
/// Bytes that a client's first QUIC packet has at least.
const QUIC_INITIAL_BYTES: usize = 1_200;

/// Random datagrams, the same ones for the same seed.
pub struct Noise {
    random: SmallRng,
}

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self {
            random: SmallRng::seed_from_u64(seed),
        }
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    /// Of any length that is taken, and at times empty; every fourth begins as a request to connect does.
    pub fn datagram(&mut self) -> Vec<u8> {
        let length = match self.random.random_range(0..20) {
            0 => 0,
            1 => CONNECTION_REQUEST_BYTES,
            _ => self.random.random_range(1..=DATAGRAM_BYTES_MAX),
        };
        let mut datagram = self.bytes(length);
        if self.random.random_range(0..4) == 0 {
            let known = length.min(CONNECTION_REQUEST_PREFIX.len());
            datagram[..known].copy_from_slice(&CONNECTION_REQUEST_PREFIX[..known]);
        }
        datagram
    }

    /// A request to connect in all but its token.
    pub fn connection_request(&mut self) -> Vec<u8> {
        let mut request = self.bytes(CONNECTION_REQUEST_BYTES);
        request[..CONNECTION_REQUEST_PREFIX.len()].copy_from_slice(CONNECTION_REQUEST_PREFIX);
        request
    }

    /// The first packet of a QUIC connection, version 1 or one that nobody knows, in all but what is encrypted (RFC 9000, section 17.2.2): a connection
    /// id of eight bytes, none of the sender's, no token, the length of the rest.
    pub fn quic_initial(&mut self) -> Vec<u8> {
        let mut packet = self.bytes(QUIC_INITIAL_BYTES);
        let version = if self.random.random() { 1_u32 } else { 0xface_b002 };
        packet[0] = 0xc0 | (packet[0] & 0x0f);
        packet[1..5].copy_from_slice(&version.to_be_bytes());
        (packet[5], packet[14], packet[15]) = (8, 0, 0);
        let rest = 0x4000 | (QUIC_INITIAL_BYTES - 18) as u16;
        packet[16..18].copy_from_slice(&rest.to_be_bytes());
        packet
    }
}
