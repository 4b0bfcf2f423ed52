//! The simulator finds what it is there to find: mistakes that somebody could make, put in on purpose.

#![expect(clippy::panic, reason = "a helper of a test fails by panicking")]

use meridian_sim::{Failure, Invariant, Planted, run_seed};

/// Histories within which each mistake has to be found.
const SEEDS: u64 = 400;
const STEPS: usize = 200;
/// Choices beyond the passing of time that a mistake needs to show, at most; histories have about a hundred.
const FAULTS_MAX: usize = 12;

fn found(planted: Planted) -> Box<Failure> {
    let failure = (0..SEEDS).find_map(|seed| run_seed(seed, STEPS, Some(planted)).err());
    let failure = failure.unwrap_or_else(|| panic!("{planted} is not found in {SEEDS} histories"));
    assert!(
        failure.faults() <= FAULTS_MAX,
        "{planted} is told at length:\n{failure}"
    );
    failure
}

macro_rules! is_found {
    ($($test:ident: $planted:ident breaks $($invariant:ident)|+,)*) => {
        $(
            #[test]
            fn $test() {
                let failure = found(Planted::$planted);
                let invariant = failure.violation.invariant;
                assert!(matches!(invariant, $(Invariant::$invariant)|+), "{failure}");
            }
        )*

        #[test]
        fn every_mistake_has_its_test() {
            assert_eq!([$(Planted::$planted),*], Planted::ALL);
        }
    };
}

is_found! {
    a_store_that_ignores_epochs_is_found: StoreIgnoresEpochs breaks OneSimulator | OnePlace | Liveness | EpochsGrow | OneState,
    a_gateway_that_ignores_epochs_is_found: GatewayIgnoresEpochs breaks EpochsGrow,
    a_store_that_ignores_leases_is_found: StoreIgnoresLeases breaks OneInstance | OneSimulator | OnePlace | OneState | EpochsGrow,
    a_gateway_that_ignores_leases_is_found: GatewayIgnoresLeases breaks EpochsGrow,
    what_accepts_twice_is_found: AcceptsTwice breaks OneSimulator | OnePlace | Liveness | OneState,
    a_claim_that_forgets_the_inbox_is_found: ClaimForgetsInbox breaks OnePlace | Liveness,
    a_transfer_that_keeps_the_record_is_found: TransferKeepsRecord breaks OnePlace,
    a_zone_that_asserts_nothing_is_found: AssertsNothing breaks OnePlace | OneSimulator | Liveness,
    a_store_that_lets_in_without_settling_is_found: LetsInWithoutSettling breaks OneInstance | OneSimulator | OnePlace,
    a_zone_that_goes_on_without_an_answer_is_found: ResumesOnUnknown breaks OneSimulator | OneState,
    a_zone_that_ignores_its_lease_is_found: IgnoresItsLease breaks OneResult | OneSimulator,
    a_zone_that_makes_up_for_a_crash_is_found: CatchesUpAfterCrash breaks OneSimulator | OneResult,
    a_zone_that_holds_nothing_is_found: HoldsNothing breaks OneSimulator | OneResult | OneState,
    a_zone_that_applies_late_inputs_is_found: AppliesLateInputs breaks InputsOnce,
}
