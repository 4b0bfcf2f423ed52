//! The carrier over a real Valkey, in worlds whose time the tests let pass.

use std::sync::Mutex;
use std::time::Duration;

use meridian_bus::valkey::{Remembered, Scripts, ValkeyOptions, ValkeyWorld};
use meridian_bus::{Bus, EventReader, PositionReader};
use meridian_ids::{LeaseEpoch, ZoneId};
use tokio::runtime::Runtime;

use crate::{Carrier, server};

/// Longer than any pause of a busy machine: what is not known is another test's matter.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);
const BEFORE: LeaseEpoch = LeaseEpoch(40);

pub struct InValkey {
    world: ValkeyWorld,
    scripts: Mutex<Scripts>,
    remembered: Mutex<Remembered>,
    _runtime: Runtime,
}

impl Default for InValkey {
    fn default() -> Self {
        let options = ValkeyOptions {
            response_timeout: RESPONSE_TIMEOUT,
            ..ValkeyOptions::new(server::shared().url(), server::world_name())
        };
        let scripts = Mutex::new(Scripts::begin(&options, BEFORE).unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let world = runtime
            .block_on(ValkeyWorld::connect(&options, runtime.handle()))
            .unwrap();
        Self {
            world,
            scripts,
            remembered: Mutex::default(),
            _runtime: runtime,
        }
    }
}

impl Carrier for InValkey {
    fn connect(&self, zone: ZoneId) -> Box<dyn Bus> {
        self.world.connect_zone(zone)
    }

    fn events(&self, group: &str) -> Box<dyn EventReader> {
        self.world.events(group)
    }

    fn positions(&self, zone: ZoneId) -> Box<dyn PositionReader> {
        self.world.positions(zone)
    }

    fn pass_time(&self, duration: Duration) {
        self.scripts.lock().unwrap().pass_time(duration).unwrap();
    }

    fn remember(&self) {
        *self.remembered.lock().unwrap() = self.scripts.lock().unwrap().remember().unwrap();
    }

    fn lose_what_came_after(&self) {
        let remembered = self.remembered.lock().unwrap();
        self.scripts.lock().unwrap().lose_what_came_after(&remembered).unwrap();
    }

    fn forget_everything(&self) {
        self.scripts.lock().unwrap().forget_everything(BEFORE).unwrap();
    }
}
