//! The parts of a netcode 1.02 connect token that auth seals and a gateway opens.
//!
//! As in the standard, but with integers in network byte order, as lightyear has them.

/// netcode's version text, at the head of every token and request.
pub const NETCODE_VERSION: &[u8; 13] = b"NETCODE 1.02\0";
/// Bytes of the sealed part: its fields, zeros, and the tag.
pub const NETCODE_PRIVATE_BYTES: usize = 1_024;
/// Bytes of the tag at its end.
pub const NETCODE_TAG_BYTES: usize = 16;
/// Bytes of the nonce that the part is sealed with.
pub const NETCODE_NONCE_BYTES: usize = 24;

/// What is authenticated with the sealed part: version, protocol id and expiry (seconds since the Unix epoch).
pub fn netcode_additional_data(protocol_id: u64, expires_at_unix_s: u64) -> [u8; 29] {
    let mut data = [0; 29];
    data[..13].copy_from_slice(NETCODE_VERSION);
    data[13..21].copy_from_slice(&protocol_id.to_be_bytes());
    data[21..].copy_from_slice(&expires_at_unix_s.to_be_bytes());
    data
}
