//! Seeds: what is drawn holds, is the same every time, and holds everything that can go wrong.

use meridian_sim::command::{ExitOutcome, SimArgs, run as run_command};
use meridian_sim::{Coverage, Entry, Occurrence, Planted, Simulation, drawn, run, run_seed};

/// Histories of the ordinary test.
const SEEDS: u64 = 2_000;
const STEPS: usize = 200;

#[test]
fn in_two_thousand_histories_everything_goes_wrong_and_all_that_must_hold_holds() {
    let mut coverage = Coverage::default();
    for seed in 0..SEEDS {
        match run_seed(seed, STEPS, None) {
            Ok(of_seed) => coverage.add(&of_seed),
            Err(failure) => panic!("{failure}"),
        }
    }
    assert_eq!(coverage.missing(), Vec::<&str>::new(), "{coverage}");
    // What the rest is about happens in most histories, not in a few.
    for what in [
        Occurrence::Handoff,
        Occurrence::Crash,
        Occurrence::Straggler,
        Occurrence::TailLost,
    ] {
        assert!(coverage.histories(what) > SEEDS / 4, "{}\n{coverage}", what.text());
    }
}

/// A minute or two: `cargo nextest run -p meridian-sim --run-ignored only`.
#[test]
#[ignore = "takes minutes: for changes of ownership"]
fn in_a_hundred_thousand_histories_all_that_must_hold_holds() {
    for (seeds, steps) in [(100_000, STEPS), (20_000, 600)] {
        let args = SimArgs {
            seeds,
            steps,
            ..SimArgs::default()
        };
        let outcome = run_command(&args, &mut std::io::stdout().lock()).unwrap();
        assert_eq!(outcome, ExitOutcome::Held);
    }
}

#[test]
fn a_seed_is_the_same_history_every_time() {
    for seed in 0..40 {
        let history = || {
            let (setup, choices) = drawn(seed, STEPS);
            let mut simulation = Simulation::new(setup).recording().telling();
            choices.iter().for_each(|choice| simulation.step(*choice).unwrap());
            let trace = simulation.trace().to_vec();
            let entries: Vec<Entry> = simulation.into_history().entries().cloned().collect();
            (trace, entries)
        };
        let (first, second) = (history(), history());
        assert!(!first.1.is_empty());
        assert!(first == second, "seed {seed} differs from itself");
    }
}

#[test]
fn a_recorded_history_replays_on_a_fresh_model_answer_by_answer() {
    let (mut executed, mut restarts) = (0, 0);
    for seed in 0..100 {
        let (setup, choices) = drawn(seed, STEPS);
        let mut simulation = Simulation::new(setup).recording();
        choices.iter().for_each(|choice| simulation.step(*choice).unwrap());
        let history = simulation.into_history();
        let replayed = history
            .replayed()
            .unwrap_or_else(|entry| panic!("seed {seed}: entry {entry} differs"));
        assert_eq!(replayed.owners(), history.outcome().owners(), "seed {seed}");
        for entry in history.entries() {
            executed += u64::from(matches!(entry, Entry::Executed { .. }));
            restarts += u64::from(matches!(entry, Entry::Restarted { .. }));
        }
    }
    assert!(
        executed > 5_000 && restarts > 50,
        "{executed} commands, {restarts} restarts"
    );
}

#[test]
fn a_seed_that_fails_is_told_with_its_number_and_fails_again_alone() {
    let planted = Some(Planted::TransferKeepsRecord);
    let failing = (0..SEEDS).find_map(|seed| run_seed(seed, STEPS, planted).err());
    let failure = failing.expect("such a fault is found");
    let told = failure.to_string();
    assert!(told.contains(&format!("seed {}", failure.seed)), "{told}");
    assert!(told.contains(&failure.violation.what), "{told}");
    let again = run_seed(failure.seed, STEPS, planted).unwrap_err();
    assert_eq!(again.to_string(), told);
    // What it was reduced to fails in the same way, without the seed.
    let (violation, _) = run(&failure.setup, &failure.choices, planted).violation.unwrap();
    assert_eq!(violation, failure.violation);
}

#[test]
fn the_command_tells_what_failed_and_how_to_run_it_again() {
    let mut args = SimArgs {
        seeds: 20,
        ..SimArgs::default()
    };
    let mut out = Vec::new();
    assert_eq!(run_command(&args, &mut out).unwrap(), ExitOutcome::Held);
    assert!(String::from_utf8(out).unwrap().contains("20 seeds of 200 steps"));
    args.planted = Some(Planted::IgnoresItsLease);
    args.seeds = 1_000;
    let mut out = Vec::new();
    assert_eq!(run_command(&args, &mut out).unwrap(), ExitOutcome::Failed);
    let told = String::from_utf8(out).unwrap();
    assert!(told.contains("again: server sim --seed "), "{told}");
}
