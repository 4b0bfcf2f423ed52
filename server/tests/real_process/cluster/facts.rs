//! What services were told of who came, changed zones and left, against what is so.

use std::collections::BTreeMap;

use meridian_events::{Event, Happening, envelope};
use meridian_ids::WorldEntityId;
use redis::Commands;
use redis::streams::StreamRangeReply;

use super::Cluster;

/// A hash of the store.
type Table = BTreeMap<String, Vec<u8>>;

/// What was told of one entity.
#[derive(Debug, Default)]
struct Told {
    joined: usize,
    /// The epochs of its handovers, in the order in which they were told, without generations.
    epochs: Vec<u64>,
    left: usize,
}

impl Cluster {
    /// Each player who came was told once, each handover and each leave as well, whoever was killed meanwhile; and who was told to have come and not to
    /// have left is in the world.
    pub fn assert_all_facts_were_told(&self) {
        let mut raw = redis::Client::open(self.valkey.url())
            .unwrap()
            .get_connection()
            .unwrap();
        let keys: Vec<String> = raw.keys("*}:events").unwrap();
        let [events] = keys.as_slice() else {
            panic!("one world, not {keys:?}");
        };
        let key = |what: &str| events.replace(":events", what);
        // At one moment: players may be leaving.
        let mut questions = redis::pipe();
        questions
            .atomic()
            .xrange_all(events)
            .hgetall(key(":owner"))
            .hgetall(key(":players"));
        let (entries, owners, players): (StreamRangeReply, Table, Table) = questions.query(&mut raw).unwrap();
        let mut told = BTreeMap::<WorldEntityId, Told>::new();
        for entry in &entries.ids {
            let event = envelope::decode::<Event>(&entry.get::<Vec<u8>>("e").unwrap()).unwrap();
            match event.body.what {
                Happening::Joined { entity, .. } => told.entry(entity).or_default().joined += 1,
                Happening::HandedOff { entity, epoch, .. } => {
                    told.entry(entity)
                        .or_default()
                        .epochs
                        .push(epoch.0 & u64::from(u32::MAX));
                }
                Happening::Left { entity } => told.entry(entity).or_default().left += 1,
                Happening::Died { .. } => {}
            }
        }
        let owned = |entity: WorldEntityId| owners.contains_key(&format!("{:016x}", entity.0));
        assert!(told.values().any(|told| told.joined > 0), "nobody came");
        for (entity, told) in &told {
            // Crates are there from the beginning, and nobody's.
            assert!(told.joined <= 1 && told.left <= 1, "{entity}: {told:?}");
            let all: Vec<u64> = (2..).take(told.epochs.len()).collect();
            assert_eq!(told.epochs, all, "{entity}: each handover once, in order");
            assert_eq!(owned(*entity), told.left == 0, "{entity}: {told:?}");
        }
        for of in players.keys().filter_map(|field| field.strip_prefix("of:")) {
            let entity = WorldEntityId(u64::from_str_radix(of, 16).unwrap());
            assert_eq!(
                told.get(&entity).map(|told| told.joined),
                Some(1),
                "{entity} is a player's"
            );
        }
    }
}
