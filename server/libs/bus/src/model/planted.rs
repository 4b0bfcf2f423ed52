//! Mistakes on purpose, for the simulator that has to find them. Nobody else calls these.

use meridian_handoff::script::Record;
use meridian_ids::ZoneId;

use super::Model;

impl Model {
    /// Throws away what waits for a zone.
    #[doc(hidden)]
    pub fn plant_empty_inbox(&mut self, zone: ZoneId) {
        self.zone(zone).inbox.clear();
    }

    /// Puts a record into a zone, whoever owns its entity.
    #[doc(hidden)]
    pub fn plant_record(&mut self, zone: ZoneId, record: Record) {
        self.zone(zone).records.insert(record.entity, record);
    }
}
