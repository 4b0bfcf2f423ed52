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

/// The session of the first bot; without it there is no run. A cluster that has just been started may know of no gateway yet: it is asked again.
pub(super) fn first_session(server: &str) -> anyhow::Result<Session> {
    let mut tries = 1;
    loop {
        match request_session(&SessionQuery::guest(server, &name(0))) {
            Err(error) if is_not_ready(&error) && tries < TRIES_MAX => std::thread::sleep(RETRY_AFTER),
            result => return result.context("no session for the first bot"),
        }
        tries += 1;
    }
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

/// The server is there, and may be able to do it soon.
fn is_not_ready(error: &SessionError) -> bool {
    matches!(error, SessionError::Refused { .. }) && error.is_temporary()
}

fn may_help(error: &SessionError) -> bool {
    error.is_temporary()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A server that refuses everybody so, and how often it is asked by who waits for a first session.
    fn asked_of_one_that_says(status: &str, code: &str) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let body = format!("{{\"code\":\"{code}\",\"message\":\"no\"}}");
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        let asking = std::thread::spawn(move || first_session(&server).is_err());
        let mut asked = 0;
        listener.set_nonblocking(true).unwrap();
        while !asking.is_finished() {
            let Ok((mut stream, _)) = listener.accept() else {
                std::thread::yield_now();
                continue;
            };
            asked += 1;
            stream.set_nonblocking(false).unwrap();
            let mut request = Vec::new();
            let mut part = [0; 512];
            while !request.ends_with(b"}") {
                let read = stream.read(&mut part).unwrap();
                request.extend_from_slice(&part[..read]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
        }
        assert!(asking.join().unwrap());
        asked
    }

    #[test]
    fn a_cluster_that_knows_of_no_gateway_yet_is_asked_again_and_one_that_refuses_is_not() {
        assert_eq!(
            asked_of_one_that_says("503 Service Unavailable", "no_gateway"),
            TRIES_MAX
        );
        assert_eq!(asked_of_one_that_says("400 Bad Request", "bad_name"), 1);
    }
}
