//! Notices what ends, what is silent and what takes too long, and brings a broken connection back.

use std::time::{Duration, Instant};

use bevy::ecs::entity::Entity;
use bevy::ecs::lifecycle::Add;
use bevy::ecs::observer::On;
use bevy::ecs::system::{Query, Res, ResMut};
use bevy::ecs::world::World;
use bevy::state::state::State;
use bevy::time::{Real, Time};
use bevy_replicon::prelude::ClientState;
use crossbeam_channel::TryRecvError;
use lightyear::prelude::client::Disconnect;
use lightyear::prelude::{Connected, Disconnected, DisconnectedReason};
use lightyear_replication::receive::ReplicationReceiver;
use meridian_link::{Arrival, LinkEndpoint};

use super::opening::{begin_anew, connect, despawn, open_candidate};
use super::renewal;
use super::stash::Stash;
use super::{CONNECT_TIMEOUT, Candidate, ConnectionState, Connector, GOODBYE, SILENCE_MAX};
use crate::session::{Session, SessionProvider, SessionReply};

/// How long another gateway may take to welcome the player while this one is silent, before a third one is asked for.
const CANDIDATE_TIMEOUT: Duration = Duration::from_secs(3);
/// What is told when no request for a connection is answered: a gateway says nothing to whom it refuses.
const NOT_ANSWERED: &str = "the gateway does not answer: its UDP port may be closed, the session's token expired or sealed with another \
                            key, or this client of another version";
/// What is told when the connection stands and the player is not welcomed.
const NOT_WELCOMED: &str = "the gateway answers, but no zone has let the player in";

pub(super) fn note_disconnect(
    added: On<Add, Disconnected>,
    reasons: Query<&Disconnected>,
    time: Res<Time<Real>>,
    mut connector: ResMut<Connector>,
) {
    if let Some(candidate) = &mut connector.candidate
        && candidate.link == added.entity
    {
        candidate.failed = true;
        return;
    }
    // Every client entity starts as disconnected; that is not a break.
    let is_tried = connector.state == ConnectionState::Playing || connector.retry_at.is_none();
    if !connector.listens_to(added.entity) || !is_tried || connector.is_over() {
        return;
    }
    let reason = reasons
        .get(added.entity)
        .map(|reason| in_plain_words(&reason.reason))
        .unwrap_or_default();
    connector.broke(reason, time.last_update().unwrap_or_else(Instant::now));
}

/// Once a frame: whatever is due.
pub(super) fn supervise(world: &mut World) {
    let now = world
        .resource::<Time<Real>>()
        .last_update()
        .unwrap_or_else(Instant::now);
    if is_at_rest(world, now) {
        return;
    }
    part(world, now);
    show_link(world);
    if world.resource::<Connector>().is_over() {
        return;
    }
    watch_silence(world, now);
    renewal::renew(world, now);
    take_answer(world, now);
    watch_candidate(world, now);
    ask_if_due(world, now);
}

/// Whether the client plays, hears its gateway, and nothing is under way or due: so it is in nearly every frame, and a swarm pays for each look.
fn is_at_rest(world: &World, now: Instant) -> bool {
    let connector = world.resource::<Connector>();
    let is_busy = connector.candidate.is_some()
        || connector.requested.is_some()
        || connector.silent_since.is_some()
        || connector.retry_at.is_some()
        || connector.asks
        || !connector.left.is_empty()
        || !connector.leaving.is_empty()
        || (connector.resume.is_some() && connector.server_url.is_some() && connector.renewal.is_due(now));
    if is_busy || connector.state != ConnectionState::Playing {
        return false;
    }
    let link = connector.link.and_then(|link| world.get_entity(link).ok());
    link.filter(|link| link.contains::<ReplicationReceiver>())
        .and_then(|link| link.get::<Arrival>().copied())
        .is_some_and(|arrival| now.saturating_duration_since(arrival.0) <= SILENCE_MAX)
}

/// Says goodbye on links that were left, and closes them when that is sent.
fn part(world: &mut World, now: Instant) {
    let mut connector = world.resource_mut::<Connector>();
    if connector.left.is_empty() && connector.leaving.is_empty() {
        return;
    }
    let left = std::mem::take(&mut connector.left);
    let over: Vec<(Entity, Instant)> = connector.leaving.extract_if(.., |(_, until)| now >= *until).collect();
    let leaving = left.iter().map(|link| (*link, now + GOODBYE));
    connector.leaving.extend(leaving);
    for link in left {
        // What it has replicated goes with its receiver, before it is anybody else's.
        if let Ok(mut link) = world.get_entity_mut(link) {
            link.remove::<(ReplicationReceiver, Stash)>();
        }
        world.trigger(Disconnect { entity: link });
    }
    over.into_iter().for_each(|(link, _)| despawn(world, link));
}

/// A link that was a candidate is shown once the world of the one before is put away: replication forgets it in its own time.
fn show_link(world: &mut World) {
    let is_free = world
        .get_resource::<State<ClientState>>()
        .is_some_and(|state| *state.get() == ClientState::Disconnected);
    let link = world.resource::<Connector>().link.filter(|_| is_free);
    if let Some(mut link) = link.and_then(|link| world.get_entity_mut(link).ok())
        && !link.contains::<ReplicationReceiver>()
    {
        link.insert(ReplicationReceiver);
    }
}

/// Begins to seek another gateway when this one is silent, and stops when it speaks again.
fn watch_silence(world: &mut World, now: Instant) {
    let connector = world.resource::<Connector>();
    if connector.state != ConnectionState::Playing {
        return;
    }
    let heard = connector.link.and_then(|link| world.get::<Arrival>(link));
    let heard = heard.map_or(now, |arrival| arrival.0);
    let is_silent = now.saturating_duration_since(heard) > SILENCE_MAX;
    let mut connector = world.resource_mut::<Connector>();
    if is_silent && connector.silent_since.is_none() {
        tracing::debug!(name = connector.name, "the gateway is silent; another one is sought");
        connector.silent_since = Some(heard);
        connector.delays = 0;
        connector.asks = connector.server_url.is_some();
    } else if !is_silent && connector.silent_since.take().is_some() {
        (connector.requested, connector.retry_at, connector.asks) = (None, None, false);
        drop_candidate(world);
    }
}

/// Leaves a gateway that was sought in vain.
fn drop_candidate(world: &mut World) {
    let mut connector = world.resource_mut::<Connector>();
    let Some(candidate) = connector.candidate.take() else {
        return;
    };
    connector.left.push(candidate.link);
    if let (Some(link), Some(gateway)) = (connector.link, connector.gateway) {
        world.resource_mut::<LinkEndpoint>().reconnect(gateway, link);
    }
}

/// Takes the answer of who was asked for a session, if it is there.
fn take_answer(world: &mut World, now: Instant) {
    let mut connector = world.resource_mut::<Connector>();
    let Some(requested) = &connector.requested else { return };
    let answer = match requested.try_recv() {
        Err(TryRecvError::Empty) => return,
        Err(TryRecvError::Disconnected) => None,
        Ok(answer) => Some(answer),
    };
    connector.requested = None;
    match answer {
        None => failed(
            &mut connector,
            "the session request ended without an answer".to_owned(),
            now,
        ),
        Some(Ok(session)) => take_session(world, &session, now),
        // As another player, then; but not while the one that it is may still be played.
        Some(Err(error))
            if error.is_bad_resume()
                && connector.state != ConnectionState::Playing
                && connector.resume.take().is_some() =>
        {
            connector.asks = true;
        }
        Some(Err(error)) if error.is_temporary() || connector.state == ConnectionState::Playing => {
            failed(&mut connector, error.to_string(), now);
        }
        Some(Err(error)) => connector.refuse(error.to_string()),
    }
}

/// There is no session. While there is a link that may speak again, that is no break.
fn failed(connector: &mut Connector, reason: String, now: Instant) {
    if connector.state == ConnectionState::Playing {
        tracing::debug!(name = connector.name, reason, "no session with another gateway");
        put_off(connector, now);
    } else {
        connector.broke(reason, now);
    }
}

fn put_off(connector: &mut Connector, now: Instant) {
    let delay = connector.next_delay();
    connector.retry_at = Some(now + delay);
}

fn take_session(world: &mut World, session: &Session, now: Instant) {
    let connector = world.resource::<Connector>();
    if connector.state != ConnectionState::Playing {
        connect(world, session, now);
        return;
    }
    // Where there is no other gateway, this one may speak again until its link ends.
    let is_other = connector.gateway != Some(session.gateway);
    let deadline = now + CANDIDATE_TIMEOUT;
    if !(is_other && open_candidate(world, session, deadline, now)) {
        let mut connector = world.resource_mut::<Connector>();
        connector.note_session(session);
        put_off(&mut connector, now);
    }
}

fn watch_candidate(world: &mut World, now: Instant) {
    let connector = world.resource::<Connector>();
    let Some(candidate) = &connector.candidate else { return };
    let is_full = world.get::<Stash>(candidate.link).is_some_and(Stash::is_full);
    if candidate.failed || is_full || now >= candidate.deadline {
        drop_candidate(world);
        let mut connector = world.resource_mut::<Connector>();
        if connector.state == ConnectionState::Playing {
            put_off(&mut connector, now);
        }
    } else if candidate.welcome.is_some() || connector.state != ConnectionState::Playing {
        let candidate = world.resource_mut::<Connector>().candidate.take();
        candidate
            .into_iter()
            .for_each(|candidate| take_over(world, candidate, now));
    }
}

/// The candidate's link is the one that is played over from now on: its gateway has welcomed the player, or the other link has ended.
fn take_over(world: &mut World, candidate: Candidate, now: Instant) {
    let Candidate { link, session, .. } = candidate;
    tracing::info!(gateway = %session.gateway, "another gateway takes over");
    begin_anew(world, &session);
    world.resource_mut::<LinkEndpoint>().reconnect(session.gateway, link);
    let mut connector = world.resource_mut::<Connector>();
    // One that ended before is counted already.
    if connector.state == ConnectionState::Playing {
        connector.disconnects += 1;
        connector.takeovers += 1;
    }
    let old = connector.link.replace(link);
    connector.left.extend(old);
    connector.gateway = Some(session.gateway);
    connector.own = None;
    connector.deadline = now + CONNECT_TIMEOUT;
    connector.retry_at = None;
    connector.asks = false;
    if let Some(zone) = candidate.owner_zone {
        connector.owned_by(zone);
    }
    if let Some(welcome) = candidate.welcome {
        connector.welcomed(welcome, now);
    }
    // At once: until then the old gateway's world is this one's.
    part(world, now);
}

fn ask_if_due(world: &mut World, now: Instant) {
    let mut connector = world.resource_mut::<Connector>();
    if connector.requested.is_some() || connector.candidate.is_some() || connector.is_over() {
        return;
    }
    if connector.asks || connector.retry_at.is_some_and(|at| now >= at) {
        connector.asks = false;
        ask(world);
    } else if connector.retry_at.is_none() && connector.state != ConnectionState::Playing && now >= connector.deadline {
        let link = connector.link;
        let is_answered = link.is_some_and(|link| world.get::<Connected>(link).is_some());
        let reason = if is_answered { NOT_WELCOMED } else { NOT_ANSWERED };
        world.resource_mut::<Connector>().broke(reason.to_owned(), now);
    }
}

fn ask(world: &mut World) {
    let source = world.resource::<SessionProvider>().clone();
    let mut connector = world.resource_mut::<Connector>();
    let Some(query) = connector.query() else {
        connector.refuse("the connection broke and no server is known".to_owned());
        return;
    };
    let (reply, requested) = SessionReply::pair();
    connector.requested = Some(requested);
    source.0.ask(query, reply);
}

fn in_plain_words(reason: &DisconnectedReason) -> String {
    match reason {
        DisconnectedReason::ByPeer(None) => "the server ended the connection".to_owned(),
        DisconnectedReason::ByPeer(Some(reason)) => format!("the server ended the connection: {reason}"),
        // Names of netcode's states.
        DisconnectedReason::TransportError(state) if state.contains("ConnectionRequestTimedOut") => {
            NOT_ANSWERED.to_owned()
        }
        DisconnectedReason::TransportError(state) if state.contains("TimedOut") => {
            "the server does not answer any more".to_owned()
        }
        DisconnectedReason::TransportError(state) if state.contains("Denied") => {
            "the gateway refuses more players for now".to_owned()
        }
        DisconnectedReason::TransportError(state) if state.contains("TokenExpired") => {
            "the connection took longer than its session was valid".to_owned()
        }
        DisconnectedReason::Unknown => "the connection broke".to_owned(),
        reason => reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;

    /// A client that plays and has heard its gateway at `now`.
    fn playing(now: Instant) -> World {
        let mut world = World::new();
        let mut connector = Connector::new(None, "Ada".to_owned(), now);
        connector.state = ConnectionState::Playing;
        connector.link = Some(world.spawn((ReplicationReceiver, Arrival(now))).id());
        world.insert_resource(connector);
        world
    }

    #[test]
    fn who_plays_and_hears_its_gateway_rests_until_anything_is_due() {
        let now = Instant::now();
        assert!(is_at_rest(&playing(now), now));
        assert!(is_at_rest(&playing(now), now + SILENCE_MAX));
        assert!(!is_at_rest(&playing(now), now + SILENCE_MAX + Duration::from_millis(1)));
        let busy: [fn(&mut Connector, Instant); 7] = [
            |connector, _| connector.state = ConnectionState::Connecting,
            |connector, now| connector.silent_since = Some(now),
            |connector, now| connector.retry_at = Some(now),
            |connector, _| connector.asks = true,
            |connector, _| connector.requested = Some(unbounded().1),
            |connector, _| connector.left.push(Entity::PLACEHOLDER),
            |connector, now| connector.leaving.push((Entity::PLACEHOLDER, now)),
        ];
        for (number, busy) in busy.into_iter().enumerate() {
            let mut world = playing(now);
            busy(&mut world.resource_mut::<Connector>(), now);
            assert!(!is_at_rest(&world, now), "{number}");
        }
        let mut world = playing(now);
        let link = world.resource::<Connector>().link.unwrap();
        world.entity_mut(link).remove::<ReplicationReceiver>();
        assert!(!is_at_rest(&world, now), "its link is not shown yet");
    }

    #[test]
    fn people_are_not_told_the_names_of_states() {
        // As lightyear_netcode 0.30 writes its client's states.
        for state in [
            "ConnectionTimedOut",
            "ChallengeResponseTimedOut",
            "ConnectionRequestTimedOut",
            "ConnectionDenied",
            "ConnectTokenExpired",
        ] {
            let told = in_plain_words(&DisconnectedReason::TransportError(state.to_owned()));
            assert!(told.starts_with("the "), "{told}");
        }
    }

    #[test]
    fn who_is_never_answered_is_told_of_the_port_the_token_and_the_version() {
        let state = "ConnectionRequestTimedOut".to_owned();
        let told = in_plain_words(&DisconnectedReason::TransportError(state));
        for cause in ["UDP port", "token", "version"] {
            assert!(told.contains(cause), "{told}");
        }
    }
}
