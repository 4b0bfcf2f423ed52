//! Names of the metrics this crate records.

/// Commands of zones, by `kind` and `outcome` (`done`, `refused`, `inbox_full`, `unknown`, `unsent`).
pub const BUS_COMMANDS: &str = "meridian_bus_commands_total";
/// From a command's handing in to its answer, by `kind`.
pub const BUS_COMMAND_SECONDS: &str = "meridian_bus_command_seconds";
/// Connections to the store that were opened again, by `what` they are for.
pub const BUS_RECONNECTS: &str = "meridian_bus_reconnects_total";
/// Entries that could not be read and were taken out of their streams, by `stream` and `reason`: the dead letters, and those that were too many to be kept.
pub const BUS_DEAD_LETTERS: &str = "meridian_bus_dead_letters_total";
/// Records of a zone that could not be read, by `reason`; they stay where they are.
pub const BUS_UNREADABLE_RECORDS: &str = "meridian_bus_unreadable_records_total";
/// Records that were left out of states and assertions for they would not be read again, by `reason`.
pub const BUS_UNWRITABLE_RECORDS: &str = "meridian_bus_unwritable_records_total";
/// Transfers that a zone has sent and the receiving instance cannot read, by `reason`; a copy of each is put aside, and it waits for one that can.
pub const BUS_UNREADABLE_TRANSFERS: &str = "meridian_bus_unreadable_transfers_total";
/// Services that came to be listed in a way that is not read here: of another version, or a stranger's.
pub const BUS_UNREADABLE_SERVICES: &str = "meridian_bus_unreadable_services_total";
/// Transfers that wait in a zone's inbox, by `zone`.
pub const BUS_INBOX_LENGTH: &str = "meridian_bus_inbox_length";
/// The generation that the store is in.
pub const BUS_GENERATION: &str = "meridian_bus_generation";
/// Events that are kept, as the zones of this process hear it.
pub const BUS_EVENTS_LENGTH: &str = "meridian_bus_events_length";
/// Events that were taken away from the first on that some group was not done with, for they had waited long and were many.
pub const BUS_EVENTS_LOST: &str = "meridian_bus_events_lost_total";
/// What was to be published and fell out of a full queue, by `stream`.
pub const BUS_UNPUBLISHED: &str = "meridian_bus_unpublished_total";
