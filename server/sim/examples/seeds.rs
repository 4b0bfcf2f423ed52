//! Many seeds on the command line: `cargo run -p meridian-sim --example seeds -- SEEDS STEPS [FIRST] [PLANTED]`.

use std::process::ExitCode;

use meridian_sim::Planted;
use meridian_sim::command::{ExitOutcome, SimArgs, run};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |nth: usize| arguments.get(nth).and_then(|text| text.parse::<u64>().ok());
    let name = arguments.get(3);
    let args = SimArgs {
        seeds: number(0).unwrap_or(1_000),
        steps: number(1).unwrap_or(200) as usize,
        first: number(2).unwrap_or(0),
        planted: Planted::ALL
            .into_iter()
            .find(|planted| name == Some(&planted.to_string())),
    };
    match run(&args, &mut std::io::stdout().lock()) {
        Ok(ExitOutcome::Held) => ExitCode::SUCCESS,
        Ok(ExitOutcome::Failed) | Err(_) => ExitCode::FAILURE,
    }
}
