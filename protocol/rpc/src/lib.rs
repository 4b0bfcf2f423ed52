//! The gRPC API of game servers, as `proto/meridian/v1/game_server.proto` describes it: messages, service and client, generated from it.
//!
//! This crate does no I/O of its own and holds no logic but what both ends must agree upon.

mod refusal;

pub use refusal::{ErrorWord, code_name, owner_address, owner_elsewhere, refusal};

/// Version 1 of the API.
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated; the .proto file has the documentation"
)]
pub mod v1 {
    include!("generated/meridian.v1.rs");
}

/// The descriptors of all services, for reflection: a serialised `FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/meridian.bin");

/// Metadata key of the session token: `Bearer TOKEN`.
pub const AUTHORIZATION: &str = "authorization";
/// Metadata key of the word that names an error in all versions.
pub const ERROR: &str = "meridian-error";
/// Metadata key of where the API of an entity's owner is.
pub const OWNER_ADDRESS: &str = "meridian-owner-address";
/// Metadata key of the W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// Metadata key of a call that one server passes to another: how many servers it has passed.
pub const HOPS: &str = "meridian-hops";
/// Metadata key of a `Move` that moves nothing: it only says that the player is still there. One server says so to another; the value is `1`.
pub const STAY: &str = "meridian-stay";

/// Ticks that one move lasts at most.
pub const MOVE_TICKS_MAX: u32 = 60;
/// Entities that a watcher may name.
pub const WATCHED_ENTITIES_MAX: usize = 1_024;
