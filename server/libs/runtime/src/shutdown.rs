//! The stop signal that async tasks await and OS threads poll or are woken by.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// A stop signal. Clones share it; once given it stays given.
///
/// An async task awaits [`Shutdown::cancelled`]. An OS thread asks [`Shutdown::is_cancelled`] in its loop and, where it blocks,
/// registers with [`Shutdown::on_cancel`] what wakes it: a channel message, a `Thread::unpark`, a datagram to its own socket.
#[derive(Clone, Default)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    token: CancellationToken,
    hooks: Mutex<Vec<Hook>>,
}

type Hook = Box<dyn FnOnce() + Send>;

impl Shutdown {
    /// A signal that has not been given.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the signal and runs the hooks, in the order of their registration, on this thread. Later calls do nothing.
    pub fn cancel(&self) {
        let hooks = {
            let mut hooks = self.inner.hooks.lock().unwrap_or_else(PoisonError::into_inner);
            self.inner.token.cancel();
            std::mem::take(&mut *hooks)
        };
        for hook in hooks {
            hook();
        }
    }

    /// Whether the signal has been given. One atomic load and a short lock: cheap enough for each turn of a loop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.inner.token.is_cancelled()
    }

    /// Waits for the signal.
    pub async fn cancelled(&self) {
        self.inner.token.cancelled().await;
    }

    /// Registers what wakes a blocked thread. It runs once, on the thread that gives the signal, or here and now if the signal
    /// was given before; so it must not block.
    pub fn on_cancel(&self, hook: impl FnOnce() + Send + 'static) {
        {
            let mut hooks = self.inner.hooks.lock().unwrap_or_else(PoisonError::into_inner);
            if !self.inner.token.is_cancelled() {
                hooks.push(Box::new(hook));
                return;
            }
        }
        hook();
    }

    /// The same signal as a [`CancellationToken`], for libraries that take one. Cancelling the returned token runs no hooks: it is
    /// a child.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.inner.token.child_token()
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Shutdown")
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn hooks_wake_a_blocked_thread_once_and_in_order() {
        let shutdown = Shutdown::new();
        let (wake, woken) = mpsc::channel();
        for number in 0..3 {
            let wake = wake.clone();
            shutdown.on_cancel(move || wake.send(number).unwrap());
        }
        drop(wake);
        let thread = std::thread::spawn(move || woken.iter().collect::<Vec<_>>());
        shutdown.clone().cancel();
        shutdown.cancel();
        assert_eq!(thread.join().unwrap(), [0, 1, 2]);
        assert!(shutdown.is_cancelled());
    }

    #[test]
    fn a_hook_registered_after_the_signal_runs_at_once() {
        let shutdown = Shutdown::new();
        shutdown.cancel();
        let (sender, receiver) = mpsc::channel();
        shutdown.on_cancel(move || sender.send(()).unwrap());
        assert_eq!(receiver.try_recv(), Ok(()));
    }

    #[test]
    fn a_hook_may_use_the_signal_itself() {
        let shutdown = Shutdown::new();
        let inner = shutdown.clone();
        let (sender, receiver) = mpsc::channel();
        shutdown.on_cancel(move || {
            assert!(inner.is_cancelled());
            inner.on_cancel(move || sender.send(()).unwrap());
        });
        shutdown.cancel();
        assert_eq!(receiver.try_recv(), Ok(()));
    }

    #[tokio::test]
    async fn a_task_awaits_it() {
        let shutdown = Shutdown::new();
        let waiting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.cancelled().await }
        });
        let token = shutdown.token();
        shutdown.cancel();
        waiting.await.unwrap();
        assert!(token.is_cancelled());
    }
}
