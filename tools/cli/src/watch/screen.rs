//! The terminal as a screen: taken, drawn on, and given back.

use std::io::{self, Stdout};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossterm::cursor::Show;
use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use super::state::WatchState;

/// How long a terminal may take to be given back if the process ends at once.
const RESTORED_WITHIN: Duration = Duration::from_millis(200);

/// Whether the terminal is taken: it is given back once, by whoever comes first.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// A terminal that is taken.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn open() -> io::Result<Self> {
        restore_on_panic();
        IS_TAKEN.store(true, Ordering::SeqCst);
        let taken = enable_raw_mode().and_then(|()| {
            execute!(io::stdout(), EnterAlternateScreen)?;
            Terminal::new(CrosstermBackend::new(io::stdout()))
        });
        match taken {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                restore();
                Err(error)
            }
        }
    }

    /// Draws the view as it is now.
    pub(super) fn draw(&mut self, state: &WatchState) -> io::Result<()> {
        let now = Instant::now();
        self.terminal.draw(|frame| state.draw(frame, now))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back before the process ends, without waiting for who may stand in a write to it.
pub(super) fn restore_soon() {
    let (sender, restored) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().spawn(move || {
        restore();
        let _ = sender.send(());
    });
    if thread.is_ok() {
        let _ = restored.recv_timeout(RESTORED_WITHIN);
    }
}

/// Gives the terminal back, if it is taken. Of a terminal that is gone nothing can be wanted.
fn restore() {
    if IS_TAKEN.swap(false, Ordering::SeqCst) {
        let _ = disable_raw_mode();
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    }
}

/// What a panic says would not be seen on the view's screen.
fn restore_on_panic() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            before(panic);
        }));
    });
}
