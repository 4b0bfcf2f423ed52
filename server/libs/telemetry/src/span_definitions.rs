//! The names of the project's spans and of their attributes. docs/telemetry.md tells operators what they mean.

/// From a player's action until its player sees what came of it; the root of a probe. Kind client.
pub const CLIENT_INPUT: &str = "client.input";
/// A gateway reads an input and passes it on to its zone.
pub const GATEWAY_RECEIVE: &str = "gateway.receive";
/// An input waits at its zone for its tick.
pub const ZONE_INPUT: &str = "zone.input";
/// The tick of a zone that uses the input.
pub const ZONE_TICK: &str = "zone.tick";
/// The way of an entity to another zone, over the bus.
pub const BUS_TRANSFER: &str = "bus.transfer";
/// The receiving zone takes an entity over.
pub const BUS_ACCEPT: &str = "bus.accept";
/// A gateway mirrors the zone's tick and sends it to its clients.
pub const GATEWAY_SEND: &str = "gateway.send";
/// A client applies what it received: the player sees it.
pub const CLIENT_APPLY: &str = "client.apply";

/// A player joins the world. Each span of `cli` is the root of a trace; kind client.
pub const CLI_JOIN: &str = "cli.join";
/// A player leaves the world.
pub const CLI_LEAVE: &str = "cli.leave";
/// A player plays by what standard input says, until that ends.
pub const CLI_PLAY: &str = "cli.play";
/// A player moves; one for each call.
pub const CLI_MOVE: &str = "cli.move";
/// Positions are watched.
pub const CLI_WATCH: &str = "cli.watch";
/// The zones are listed.
pub const CLI_ZONES: &str = "cli.zones";
/// The server is asked whether it serves.
pub const CLI_STATUS: &str = "cli.status";

/// The entity, as it is logged: `e` and hexadecimal digits.
pub const ATTRIBUTE_ENTITY: &str = "meridian.entity";
/// The zone's name.
pub const ATTRIBUTE_ZONE: &str = "meridian.zone";
/// The tick that is simulated or sent, a whole number.
pub const ATTRIBUTE_TICK: &str = "meridian.tick";
/// The number of the player's action, a whole number, as it is sent: its lowest bit says that it is traced.
pub const ATTRIBUTE_SEQUENCE: &str = "meridian.sequence";
/// The gateway's name: 16 hexadecimal digits.
pub const ATTRIBUTE_GATEWAY: &str = "meridian.gateway";

/// Semantic conventions for calls (<https://opentelemetry.io/docs/specs/semconv/rpc/grpc/>): the system, here [`RPC_SYSTEM_GRPC`].
pub const ATTRIBUTE_RPC_SYSTEM: &str = "rpc.system.name";
/// The method with its service, for example `meridian.v1.GameServer/Move`.
pub const ATTRIBUTE_RPC_METHOD: &str = "rpc.method";
/// The status of the answer by its name, for example `OK`.
pub const ATTRIBUTE_RPC_STATUS_CODE: &str = "rpc.response.status_code";
/// Of a call that this process makes: the host of the server that is asked, a name or an address.
pub const ATTRIBUTE_SERVER_ADDRESS: &str = "server.address";
/// Its port.
pub const ATTRIBUTE_SERVER_PORT: &str = "server.port";
/// The value of [`ATTRIBUTE_RPC_SYSTEM`] for gRPC.
pub const RPC_SYSTEM_GRPC: &str = "grpc";
