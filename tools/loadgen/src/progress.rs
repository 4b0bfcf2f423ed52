//! The bar that shows how far a run is. Hidden where standard error is not a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::timing::{Phase, Timing};

/// How often the bar is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// Draws the run until it ends.
pub fn show(timing: &Timing) {
    // To standard error, and only where that is a terminal.
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_length(millis(timing.stop - timing.start));
    if let Ok(style) = ProgressStyle::with_template("{msg:9} {bar:40} {percent:>3} %") {
        bar.set_style(style);
    }
    loop {
        let now = Instant::now();
        bar.set_message(match timing.phase(now) {
            Phase::Joining => "joining",
            Phase::Measuring => "measuring",
            Phase::Ending | Phase::Over => "ending",
        });
        bar.set_position(millis(now.saturating_duration_since(timing.start)));
        if now >= timing.stop {
            break;
        }
        timing.sleep_until((now + DRAW_EVERY).min(timing.stop));
    }
    bar.finish_and_clear();
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
