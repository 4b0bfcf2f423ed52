//! How numbers and names are spelled in the store: fixed numbers of lower-case hexadecimal digits, which sort as the numbers do.

use meridian_handoff::script::{Instance, TransferId};
use meridian_ids::ZoneId;

/// Digits of entities, players, ticks and epochs.
pub(super) const LONG_DIGITS: usize = 16;
/// Digits of zones.
const ZONE_DIGITS: usize = 4;

pub(super) fn long(number: u64) -> String {
    format!("{number:016x}")
}

pub(super) fn zone(zone: ZoneId) -> String {
    format!("{:04x}", zone.0)
}

/// A transfer's name: its sender's zone and lease, and its number.
pub(super) fn transfer(id: TransferId) -> String {
    let Instance { zone: from, lease } = id.from;
    format!("{}{:016x}{:016x}", zone(from), lease.0, id.number)
}

pub(super) fn read_long(text: &[u8]) -> Option<u64> {
    read(text, LONG_DIGITS)
}

pub(super) fn read_zone(text: &[u8]) -> Option<ZoneId> {
    read(text, ZONE_DIGITS)?.try_into().ok().map(ZoneId)
}

/// Exactly so many lower-case digits: each number has one spelling.
fn read(text: &[u8], digits: usize) -> Option<u64> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != digits || !text.iter().all(is_digit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use meridian_ids::LeaseEpoch;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_number_has_one_spelling() {
        for other in [
            "",
            "7",
            "000000000000000A",
            "+00000000000000a",
            "0000000000000000a",
            "000000000000000g",
        ] {
            assert_eq!(read_long(other.as_bytes()), None, "{other}");
        }
        assert_eq!(read_zone(b"ffff"), Some(ZoneId(u16::MAX)));
    }

    proptest! {
        #[test]
        fn what_is_spelled_is_read_and_sorts_as_the_numbers_do(from: u16, lease: u64, number: u64, other: u64) {
            let from = Instance { zone: ZoneId(from), lease: LeaseEpoch(lease) };
            let id = TransferId { from, number };
            prop_assert_eq!(transfer(id), format!("{}{}{}", zone(id.from.zone), long(lease), long(number)));
            prop_assert_eq!(read_long(long(number).as_bytes()), Some(number));
            prop_assert_eq!(long(number).cmp(&long(other)), number.cmp(&other));
        }

        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..48)) {
            let _ = (read_long(&bytes), read_zone(&bytes));
        }
    }
}
