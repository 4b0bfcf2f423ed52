//! Signals that ask the process to end: the first ends what goes on in order, a second at once.
//!
//! They are listened to from the beginning on and by nobody else, for a signal that was listened to once is never again what it was before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};
use tokio::sync::{Notify, watch};

use crate::error::CliError;

/// How long what goes on may take to end in order, for it may stand in a write to somebody who does not read.
const ENDS_WITHIN: Duration = Duration::from_secs(1);
/// How often a read is broken off until it ends.
const WAKE_INTERVAL: Duration = Duration::from_millis(50);
/// What shells add to the number of a signal for the exit code of what it ended.
const EXIT_OF_SIGNALS: u8 = 128;

/// A signal that asks the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndSignal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP: the terminal is gone.
    HangUp,
}

impl EndSignal {
    /// The exit code of what it cut short.
    pub fn exit_code(self) -> u8 {
        let number = match self {
            Self::HangUp => 1,
            Self::Interrupt => 2,
            Self::Terminate => 15,
        };
        EXIT_OF_SIGNALS + number
    }

    /// As people know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::HangUp => "SIGHUP",
        }
    }
}

/// The signals of the process.
#[derive(Clone, Debug)]
pub struct Signals {
    /// The one that nobody has done what it asks for yet.
    pending: watch::Sender<Option<EndSignal>>,
    /// Whether the next interrupt is from [`Self::interrupt_reading`].
    is_own: Arc<AtomicBool>,
    own_was_heard: Arc<Notify>,
}

impl Signals {
    /// Listens until the runtime ends.
    ///
    /// # Errors
    /// [`CliError::Runtime`] if the system does not let it.
    pub fn listen(runtime: &Handle) -> Result<Self, CliError> {
        let _entered = runtime.enter();
        let open = |kind| signal(kind).map_err(CliError::Runtime);
        let listeners = Listeners {
            interrupt: open(SignalKind::interrupt())?,
            terminate: open(SignalKind::terminate())?,
            hang_up: open(SignalKind::hangup())?,
        };
        let signals = Self {
            pending: watch::Sender::new(None),
            is_own: Arc::default(),
            own_was_heard: Arc::default(),
        };
        runtime.spawn(listeners.tell(signals.clone()));
        Ok(signals)
    }

    /// Waits for a signal. It stays the one that was received until [`Self::take`].
    pub async fn received(&self) -> EndSignal {
        let mut pending = self.pending.subscribe();
        loop {
            if let Some(signal) = *pending.borrow_and_update() {
                return signal;
            }
            if pending.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The signal that was received, if there is one: what it asks for is done now.
    pub fn take(&self) -> Option<EndSignal> {
        self.pending.send_replace(None)
    }

    /// Ends the read of a line when a signal comes. An editor of lines gives the terminal back and returns for an interrupt only, and only when its
    /// read is broken off: the listening of this process lets reads go on, that of the editor to changes of the window's size does not.
    ///
    /// `is_after_interrupt` says that the editor has still to hear of one that was for a command.
    pub async fn interrupt_reading(&self, is_after_interrupt: bool) {
        if is_after_interrupt {
            tokio::time::sleep(WAKE_INTERVAL).await;
            send_to_this_process(Signal::WINCH);
        }
        if self.received().await != EndSignal::Interrupt {
            self.is_own.store(true, Ordering::SeqCst);
            send_to_this_process(Signal::INT);
            self.own_was_heard.notified().await;
        }
        // Again, for it may have been between two reads; whoever reads ends this.
        loop {
            send_to_this_process(Signal::WINCH);
            tokio::time::sleep(WAKE_INTERVAL).await;
        }
    }
}

/// It cannot fail for this process itself; if it does, the time for ending in order ends.
fn send_to_this_process(signal: Signal) {
    let _ = kill_process(getpid(), signal);
}

struct Listeners {
    interrupt: Listener,
    terminate: Listener,
    hang_up: Listener,
}

impl Listeners {
    /// The next signal that somebody else has sent.
    async fn next(&mut self, signals: &Signals) -> EndSignal {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => return EndSignal::Terminate,
                _ = self.hang_up.recv() => return EndSignal::HangUp,
            }
            if !signals.is_own.swap(false, Ordering::SeqCst) {
                return EndSignal::Interrupt;
            }
            signals.own_was_heard.notify_one();
        }
    }

    async fn tell(mut self, signals: Signals) {
        loop {
            let first = self.next(&signals).await;
            signals.pending.send_replace(Some(first));
            let mut done = signals.pending.subscribe();
            let is_done = tokio::time::timeout(ENDS_WITHIN, done.wait_for(Option::is_none));
            tokio::select! {
                ended = is_done => if ended.is_err() {
                    end_at_once(first);
                },
                second = self.next(&signals) => end_at_once(second),
            }
        }
    }
}

fn end_at_once(signal: EndSignal) -> ! {
    crate::watch::give_terminal_back();
    std::process::exit(signal.exit_code().into())
}
