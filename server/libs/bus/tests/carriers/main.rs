//! What every carrier of the durable side must do, whatever it stores things in. A new carrier adds a line at the end.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of a test fails by panicking")]

#[path = "../common/server.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod server;
mod suite;
mod valkey;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meridian_bus::{Bus, EventReader, InProcess, Model, PositionReader, in_process};
use meridian_ids::{Generation, LeaseEpoch, ZoneId};

/// An empty world on some carrier.
pub trait Carrier {
    /// A connection of a zone; closing one says nothing to the durable side.
    fn connect(&self, zone: ZoneId) -> Box<dyn Bus>;
    /// A reader of events.
    fn events(&self, group: &str) -> Box<dyn EventReader>;
    /// Follows a zone's positions.
    fn positions(&self, zone: ZoneId) -> Box<dyn PositionReader>;
    /// Lets leases grow older, and what is settling settle.
    fn pass_time(&self, duration: Duration);
    /// What is written down now is safe, whatever happens.
    fn remember(&self);
    /// The store is restarted, and has lost what was written since [`Self::remember`].
    fn lose_what_came_after(&self);
    /// Begins an empty world.
    fn forget_everything(&self);
}

struct InOneProcess {
    world: InProcess,
    elapsed_ms: Arc<AtomicU64>,
    remembered: Mutex<Model>,
}

impl Default for InOneProcess {
    fn default() -> Self {
        let elapsed_ms = Arc::new(AtomicU64::new(0));
        let elapsed = Arc::clone(&elapsed_ms);
        let now = move || Duration::from_millis(elapsed.load(Ordering::Relaxed));
        Self {
            world: in_process(LeaseEpoch(40), Arc::new(now)),
            elapsed_ms,
            remembered: Mutex::default(),
        }
    }
}

impl InOneProcess {
    fn now(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms.load(Ordering::Relaxed))
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

    fn remember(&self) {
        *self.remembered.lock().unwrap() = self.world.model().lock().unwrap().clone();
    }

    fn lose_what_came_after(&self) {
        let (model, now) = (self.world.model(), self.now());
        let mut model = model.lock().unwrap();
        let next = Generation(model.generation().0 + 1);
        *model = self.remembered.lock().unwrap().clone();
        model.restart(now, next);
    }

    fn forget_everything(&self) {
        *self.world.model().lock().unwrap() = Model::default();
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
            while_a_lease_lasts_only_an_instance_of_the_same_name_takes_a_zone_over,
            what_a_restarted_store_has_lost_is_said_again_in_any_order,
            a_handover_that_was_lost_before_it_was_accepted_happens_again,
            nobody_new_is_let_in_before_the_living_have_spoken_and_who_comes_after_that_is_late,
            who_came_died_changed_zones_and_left_is_told_by_the_command_that_makes_it_so_and_once,
            each_group_hears_each_event_once_in_order,
            what_a_reader_did_not_acknowledge_goes_to_another,
            who_does_not_keep_up_misses_the_oldest_positions,
            who_asks_to_be_woken_hears_of_each_position_and_who_has_gone_of_none,
        ]);
    };
}

carrier!(in_process: crate::InOneProcess);
carrier!(in_valkey: crate::valkey::InValkey);
