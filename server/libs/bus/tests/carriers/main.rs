//! What every carrier of the durable side must do, whatever it stores things in. A new carrier adds a line at the end.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of a test fails by panicking")]

mod suite;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use meridian_bus::{Bus, EventReader, InProcess, PositionReader, in_process};
use meridian_ids::{LeaseEpoch, ZoneId};

/// An empty world on some carrier.
pub trait Carrier {
    /// A connection of a zone; closing one says nothing to the durable side.
    fn connect(&self, zone: ZoneId) -> Box<dyn Bus>;
    /// A reader of events.
    fn events(&self, group: &str) -> Box<dyn EventReader>;
    /// Follows a zone's positions.
    fn positions(&self, zone: ZoneId) -> Box<dyn PositionReader>;
    /// Lets leases grow older.
    fn pass_time(&self, duration: Duration);
}

struct InOneProcess {
    world: InProcess,
    elapsed_ms: Arc<AtomicU64>,
}

impl Default for InOneProcess {
    fn default() -> Self {
        let elapsed_ms = Arc::new(AtomicU64::new(0));
        let elapsed = Arc::clone(&elapsed_ms);
        let now = move || Duration::from_millis(elapsed.load(Ordering::Relaxed));
        Self {
            world: in_process(LeaseEpoch(40), Arc::new(now)),
            elapsed_ms,
        }
    }
}

impl Carrier for InOneProcess {
    fn connect(&self, zone: ZoneId) -> Box<dyn Bus> {
        self.world.connect(zone)
    }

    fn events(&self, group: &str) -> Box<dyn EventReader> {
        self.world.events(group)
    }

    fn positions(&self, zone: ZoneId) -> Box<dyn PositionReader> {
        self.world.positions(zone)
    }

    fn pass_time(&self, duration: Duration) {
        self.elapsed_ms
            .fetch_add(duration.as_millis() as u64, Ordering::Relaxed);
    }
}

macro_rules! hold {
    ($name:ident: $carrier:ty, [$($test:ident),* $(,)?]) => {
        mod $name {
            $(
                #[test]
                fn $test() {
                    crate::suite::$test(&<$carrier>::default());
                }
            )*
        }
    };
}

/// Holds a carrier to the whole suite.
macro_rules! carrier {
    ($name:ident: $carrier:ty) => {
        hold!($name: $carrier, [
            a_new_instance_fences_the_one_before_and_reads_what_it_wrote_down,
            a_player_has_one_entity_and_an_id_is_spawned_once,
            a_transfer_moves_a_record_once_however_often_it_is_asked_for,
            what_waits_is_told_to_the_next_instance_as_well,
            only_a_zone_with_a_lease_and_room_is_handed_anything,
            a_settled_transfer_has_happened_or_never_will,
            a_checkpoint_touches_what_the_zone_owns_and_nothing_younger,
            what_left_is_gone_and_stays_gone,
            a_group_moves_whole_or_not_at_all,
            each_group_hears_each_event_once_in_order,
            what_a_reader_did_not_acknowledge_goes_to_another,
            who_does_not_keep_up_misses_the_oldest_positions,
        ]);
    };
}

carrier!(in_process: crate::InOneProcess);
