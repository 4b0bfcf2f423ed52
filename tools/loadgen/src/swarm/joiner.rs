//! Asks for the bots' sessions and makes the bots, one after the other, on a thread that no bot waits for.

use std::net::UdpSocket;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use meridian_client_net::{Session, SessionError, SessionQuery, request_session};

use super::bot::Bot;
use super::driver::DriverOptions;
use crate::timing::Timing;

/// How long a bot waits before it asks again, where asking again may help.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// How often a bot asks.
const TRIES_MAX: usize = 8;

fn name(index: usize) -> String {
    format!("bot-{}", index + 1)
}

/// The session of the first bot; without it there is no run.
pub(super) fn first_session(server: &str) -> anyhow::Result<Session> {
    request_session(&SessionQuery::guest(server, &name(0))).context("no session for the first bot")
}

/// Hands out bots to the drivers in turn, each at its time, until all are there or measuring begins.
pub(super) fn start(
    options: DriverOptions,
    first: Session,
    bots: usize,
    inboxes: Vec<Sender<(Bot, UdpSocket)>>,
) -> anyhow::Result<JoinHandle<()>> {
    let builder = std::thread::Builder::new().name("joiner".to_owned());
    let work = move || {
        let (mut first, timing) = (Some(first), &options.timing);
        for index in 0..bots {
            timing.sleep_until(timing.joins(index));
            let Some(session) = first.take().or_else(|| ask(&options.server, index, timing)) else {
                continue;
            };
            let bot = match Bot::join(&options, index, &session, Instant::now()) {
                Ok(bot) => bot,
                Err(error) => {
                    tracing::error!(bot = name(index), "no bot: {error:#}");
                    continue;
                }
            };
            // A driver that is gone has said why; its bots count as not connected.
            let _ = inboxes[index % inboxes.len()].send(bot);
        }
    };
    builder.spawn(work).context("cannot start a thread")
}

fn ask(server: &str, index: usize, timing: &Timing) -> Option<Session> {
    for _ in 0..TRIES_MAX {
        if Instant::now() >= timing.until {
            return None;
        }
        match request_session(&SessionQuery::guest(server, &name(index))) {
            Ok(session) => return Some(session),
            Err(error) => {
                tracing::warn!(bot = name(index), %error, "no session");
                if !may_help(&error) {
                    return None;
                }
            }
        }
        std::thread::sleep(RETRY_AFTER);
    }
    None
}

fn may_help(error: &SessionError) -> bool {
    error.is_temporary()
}
