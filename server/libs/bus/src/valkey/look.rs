//! A look at a world from outside: who is there. Asks three things that any user who may read may ask, and never writes: no script is loaded, nothing
//! is begun, and a world that is not there does not come to be.

use std::time::Duration;

use meridian_events::envelope;
use redis::Value;

use super::answer::Parts;
use super::store::{Store, ask};
use super::{LAYOUT, ValkeyError};
use crate::directory::{Listed, SERVICE_TTL, Service};

/// Digits of the microsecond at which an announcement ends, and of who announces: they stand before each envelope.
const DIGITS: usize = 16;

/// The services that are listed now.
pub(super) async fn look(store: &Store) -> Result<Vec<Listed>, ValkeyError> {
    let mut connection = store.open_bare().await?;
    let keys = store.keys();
    let question = redis::cmd("HGET").arg(keys.meta()).arg("layout").take();
    match ask(&mut connection, &question, store.response_timeout).await? {
        Value::Nil => {
            return Err(ValkeyError::NoWorld {
                world: keys.world_name().to_owned(),
            });
        }
        Value::BulkString(found) if found == LAYOUT.as_bytes() => {}
        Value::BulkString(found) => {
            return Err(ValkeyError::OtherLayout {
                found: String::from_utf8_lossy(&found).into_owned(),
                expected: LAYOUT,
            });
        }
        _ => return Err(ValkeyError::Unreadable("no layout")),
    }
    let services = redis::cmd("HGETALL").arg(keys.services()).take();
    let services = ask(&mut connection, &services, store.response_timeout).await?;
    let time = ask(&mut connection, &redis::cmd("TIME"), store.response_timeout).await?;
    let mut time = Parts::new(time)?;
    let now = Duration::from_secs(time.number()?).saturating_add(Duration::from_micros(time.number()?));
    read_services(services, now)
}

/// The services that are there at `now`, since the Unix epoch, by what stands in the store. As `listed.lua` tells them, but that nothing is removed.
fn read_services(fields: Value, now: Duration) -> Result<Vec<Listed>, ValkeyError> {
    let mut parts = Parts::new(match fields {
        // So it is told in the newer of the two protocols.
        Value::Map(fields) => Value::Array(fields.into_iter().flat_map(<[Value; 2]>::from).collect()),
        other => other,
    })?;
    let mut listed = Vec::new();
    while !parts.is_empty() {
        let (_name, value) = (parts.value()?, parts.bytes()?);
        listed.extend(read_service(&value, now));
    }
    listed.sort_by_cached_key(|listed| listed.service.identity());
    Ok(listed)
}

fn read_service(value: &[u8], now: Duration) -> Option<Listed> {
    let (ends, rest) = value.split_at_checked(DIGITS)?;
    let (_announced_by, envelope) = rest.split_at_checked(DIGITS)?;
    if !ends.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let ends = Duration::from_micros(std::str::from_utf8(ends).ok()?.parse().ok()?);
    let left = ends.checked_sub(now).filter(|left| !left.is_zero())?;
    let renewed_ago = SERVICE_TTL.checked_sub(left)?;
    let service = envelope::decode::<Service>(envelope).ok()?.body.checked().ok()?;
    Some(Listed { service, renewed_ago })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..80), digits in "[0-9]{16}", now_us in 0u64..) {
            let now = Duration::from_micros(now_us);
            let near = [digits.as_bytes(), &bytes].concat();
            for value in [bytes, near] {
                let fields = vec![Value::BulkString(b"name".to_vec()), Value::BulkString(value)];
                prop_assert_eq!(read_services(Value::Array(fields), now), Ok(Vec::new()));
            }
        }
    }
}
