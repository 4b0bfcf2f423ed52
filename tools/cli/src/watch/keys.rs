//! The keyboard, read by a thread of its own that ends with the view: the prompt reads it again afterwards.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc::{self, Receiver, Sender};

/// How long the thread waits for a key before it looks whether it is still wanted.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Keys that wait to be looked at. Who types faster than the view is drawn loses some.
const KEYS_WAITING_MAX: usize = 64;
/// Rows of a page.
const PAGE_ROWS: isize = 10;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// To end.
    Quit,
    /// To see what is so many rows farther down, or up.
    Scroll(isize),
}

/// Keys as they are pressed.
pub(super) struct Keys {
    keys: Receiver<Key>,
    is_wanted: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keys {
    /// Begins to listen.
    pub(super) fn listen() -> io::Result<Self> {
        let (sender, keys) = mpsc::channel(KEYS_WAITING_MAX);
        let is_wanted = Arc::new(AtomicBool::new(true));
        let wanted = Arc::clone(&is_wanted);
        let thread = std::thread::Builder::new()
            .name("keyboard".to_owned())
            .spawn(move || read_keys(&sender, &wanted))?;
        Ok(Self {
            keys,
            is_wanted,
            thread: Some(thread),
        })
    }

    /// The next key that asks for something; none if the keyboard is gone.
    pub(super) async fn next(&mut self) -> Option<Key> {
        self.keys.recv().await
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.is_wanted.store(false, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ends within an interval.
            let _ = thread.join();
        }
    }
}

fn read_keys(keys: &Sender<Key>, is_wanted: &AtomicBool) {
    while is_wanted.load(Ordering::Relaxed) {
        let read = event::poll(POLL_INTERVAL).and_then(|is_there| is_there.then(event::read).transpose());
        match read {
            Ok(Some(Event::Key(key))) => {
                if let Some(key) = meaning(key) {
                    let _ = keys.try_send(key);
                }
            }
            Ok(_) => {}
            // The terminal is gone; the view learns it from the closed channel.
            Err(_) => return,
        }
    }
}

fn meaning(key: KeyEvent) -> Option<Key> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Quit),
        KeyCode::Down | KeyCode::Char('j') => Some(Key::Scroll(1)),
        KeyCode::Up | KeyCode::Char('k') => Some(Key::Scroll(-1)),
        KeyCode::PageDown => Some(Key::Scroll(PAGE_ROWS)),
        KeyCode::PageUp => Some(Key::Scroll(-PAGE_ROWS)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_escape_and_ctrl_c_end_the_view() {
        let key = |code, modifiers| meaning(KeyEvent::new(code, modifiers));
        assert_eq!(key(KeyCode::Char('q'), KeyModifiers::NONE), Some(Key::Quit));
        assert_eq!(key(KeyCode::Esc, KeyModifiers::NONE), Some(Key::Quit));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::Quit));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), None);
        assert_eq!(key(KeyCode::PageUp, KeyModifiers::NONE), Some(Key::Scroll(-PAGE_ROWS)));
    }
}
