//! Names of the metrics this crate records.

/// Inputs whose values had to be corrected at the edge (not finite, or longer than a unit vector).
pub const INPUTS_SANITISED: &str = "meridian_inputs_sanitised_total";
/// Actions whose bytes could not be decoded, or whose kind is not registered.
pub const ACTIONS_REFUSED: &str = "meridian_actions_refused_total";
