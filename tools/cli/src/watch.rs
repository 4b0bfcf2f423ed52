//! The live view of a watch: a map of the world and a table of who is where, in a terminal.
//!
//! The terminal is given back as it was found however the view ends: by a key, an error, a signal or a panic.

mod keys;
mod screen;
mod state;

use std::time::{Duration, Instant};

use meridian_rpc::v1::WatchPositionsResponse;
use tokio::time::MissedTickBehavior;
use tonic::Streaming;

use crate::client::Client;
use crate::commands::watch::WatchEnd;
use crate::error::CliError;

pub use state::WatchState;

use keys::{Key, Keys};
use screen::Screen;

/// How often the view is drawn: what an eye follows, whatever the rate of ticks is.
const REDRAW_INTERVAL: Duration = Duration::from_millis(50);

/// The view on a terminal that is its own.
pub struct View {
    state: WatchState,
    screen: Screen,
    keys: Keys,
}

/// Gives the terminal back, if the view has it, before the process ends at once.
pub fn give_terminal_back() {
    screen::restore_soon();
}

impl View {
    /// Takes the terminal.
    ///
    /// # Errors
    /// [`CliError::Terminal`] if it cannot be taken.
    pub fn open(state: WatchState) -> Result<Self, CliError> {
        Ok(Self {
            state,
            screen: Screen::open().map_err(CliError::Terminal)?,
            keys: Keys::listen().map_err(CliError::Terminal)?,
        })
    }

    /// Shows what comes until `end`, or until a key ends it.
    ///
    /// # Errors
    /// The stream breaks or ends, or the terminal goes away.
    pub async fn run(
        mut self,
        client: &Client,
        mut answers: Streaming<WatchPositionsResponse>,
        end: &mut WatchEnd,
    ) -> Result<(), CliError> {
        let mut redraw = tokio::time::interval(REDRAW_INTERVAL);
        redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                answer = answers.message() => {
                    let answer = answer.map_err(|status| client.in_plain_words(status))?;
                    let Some(answer) = answer else {
                        return Err(CliError::StreamEnded { server: client.server().to_owned() });
                    };
                    end.answered();
                    let shown = self.state.apply(answer, Instant::now()).map_err(|reason| client.malformed(reason))?;
                    if (0..shown).any(|_| end.count()) {
                        return Ok(());
                    }
                }
                _ = redraw.tick() => {
                    self.state.forget(Instant::now());
                    self.screen.draw(&self.state).map_err(CliError::Terminal)?;
                }
                key = self.keys.next() => match key {
                    Some(Key::Quit) | None => return Ok(()),
                    Some(Key::Scroll(rows)) => self.state.scroll(rows),
                },
                () = end.reached() => return Ok(()),
            }
        }
    }
}
