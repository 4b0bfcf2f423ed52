//! The names under which a world's things stand in the store: all with the world's name as hash tag, so that they share a slot in a cluster.

use meridian_ids::ZoneId;

use super::ValkeyError;

/// Characters of a world's name at most: it stands in every key.
pub(super) const WORLD_NAME_CHARS_MAX: usize = 64;

/// The keys of one world.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    world: String,
}

impl Keys {
    pub(super) fn new(world: &str) -> Result<Self, ValkeyError> {
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_named = (1..=WORLD_NAME_CHARS_MAX).contains(&world.len()) && world.bytes().all(is_fit);
        let world = is_named
            .then(|| format!("{{{world}}}:"))
            .ok_or(ValkeyError::WorldName)?;
        Ok(Self { world })
    }

    /// What the world is called.
    pub(super) fn world_name(&self) -> &str {
        self.world.trim_start_matches('{').trim_end_matches("}:")
    }

    /// What is known of the world as a whole; the scripts make all other keys from it.
    pub(super) fn meta(&self) -> String {
        self.named("meta")
    }

    pub(super) fn owner(&self) -> String {
        self.named("owner")
    }

    pub(super) fn events(&self) -> String {
        self.named("events")
    }

    pub(super) fn dead(&self) -> String {
        self.named("dead")
    }

    pub(super) fn services(&self) -> String {
        self.named("services")
    }

    /// For trying out what the store allows.
    pub(super) fn scratch(&self, kind: &str) -> String {
        self.named(&format!("scratch:{kind}"))
    }

    pub(super) fn entities(&self, zone: ZoneId) -> String {
        self.of_zone(zone, "entities")
    }

    pub(super) fn inbox(&self, zone: ZoneId) -> String {
        self.of_zone(zone, "inbox")
    }

    /// Which entry of the inbox each transfer is in.
    pub(super) fn waiting(&self, zone: ZoneId) -> String {
        self.of_zone(zone, "waiting")
    }

    pub(super) fn position(&self, zone: ZoneId) -> String {
        self.of_zone(zone, "position")
    }

    /// Who follows the zone's positions, until when.
    pub(super) fn followers(&self, zone: ZoneId) -> String {
        self.of_zone(zone, "followers")
    }

    /// Matches all keys of the world.
    pub(super) fn pattern(&self) -> String {
        // A world's name holds nothing that a pattern gives a meaning to.
        self.named("*")
    }

    /// The zone whose key of this kind it is.
    pub(super) fn zone_of(&self, key: &str, what: &str) -> Option<ZoneId> {
        let zone = key
            .strip_prefix(&self.named("zone:"))?
            .strip_suffix(what)?
            .strip_suffix(':')?;
        zone.parse().ok().map(ZoneId)
    }

    fn named(&self, what: &str) -> String {
        format!("{}{what}", self.world)
    }

    fn of_zone(&self, zone: ZoneId, what: &str) -> String {
        format!("{}zone:{}:{what}", self.world, zone.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_world_share_its_hash_tag_and_no_name_reaches_out_of_it() {
        let keys = Keys::new("main-1.b_C").unwrap();
        assert_eq!(keys.meta(), "{main-1.b_C}:meta");
        assert_eq!(keys.inbox(ZoneId(12)), "{main-1.b_C}:zone:12:inbox");
        assert_eq!(keys.zone_of(&keys.inbox(ZoneId(12)), "inbox"), Some(ZoneId(12)));
        assert_eq!(keys.zone_of(&keys.waiting(ZoneId(12)), "inbox"), None);
        for name in ["", "a}b", "*", "a b", "ä", &"a".repeat(WORLD_NAME_CHARS_MAX + 1)] {
            assert_eq!(Keys::new(name).err(), Some(ValkeyError::WorldName), "{name}");
        }
    }
}
