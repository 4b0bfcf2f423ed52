//! Which entity a bot's own player is, from one connection to the next: who comes back as somebody else was lost.

use meridian_ids::WorldEntityId;

/// The entity of one bot's own player.
#[derive(Debug, Default)]
pub(super) struct OwnEntity {
    /// With the number of the connection in which it was told.
    last: Option<(WorldEntityId, u64)>,
    /// How often it was another than in the connection before. What happens within one, the client counts.
    made_anew: u64,
}

impl OwnEntity {
    /// A gateway has said in connection number `connection` which entity it is.
    pub(super) fn told(&mut self, entity: WorldEntityId, connection: u64) {
        let before = self.last.replace((entity, connection));
        let is_another = before.is_some_and(|(was, when)| was != entity && when != connection);
        self.made_anew += u64::from(is_another);
    }

    /// How often a connection began with another entity than the one before had.
    pub(super) fn made_anew(&self) -> u64 {
        self.made_anew
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_back_as_another_entity_was_made_anew() {
        let mut own = OwnEntity::default();
        own.told(WorldEntityId(7), 0);
        own.told(WorldEntityId(7), 1);
        assert_eq!(own.made_anew(), 0, "the same one, over another gateway");
        own.told(WorldEntityId(8), 1);
        assert_eq!(own.made_anew(), 0, "within a connection");
        own.told(WorldEntityId(9), 2);
        own.told(WorldEntityId(9), 2);
        assert_eq!(own.made_anew(), 1);
    }
}
