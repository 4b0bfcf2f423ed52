//! Which zone had each player last that this server speaks for, and who of them has gone quiet.
//!
//! What stands here is a hint: a zone that does not have a player says so. Nothing here asks anybody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use meridian_ids::{PlayerId, ZoneId};

/// Players that are remembered at most: four times what a busy server plays for. Beyond that whoever was quiet the longest is forgotten; its zone
/// takes it out when its grace is over.
pub(crate) const PLAYERS_MAX: usize = 16_384;
/// How often another server is told that a player of an open stream is still there: well within the time after which a quiet one is taken out.
const TOUCHED_EVERY: Duration = Duration::from_secs(20);

/// The players that this server speaks for.
pub(crate) struct Players {
    state: Mutex<State>,
    idle_after: Duration,
}

#[derive(Default)]
struct State {
    known: HashMap<PlayerId, Known>,
    /// How many streams play each player.
    plays: HashMap<PlayerId, u32>,
}

struct Known {
    zone: ZoneId,
    name: String,
    /// When somebody last called for it.
    spoken: Instant,
    /// When the server of its zone last heard of it through this one; never since it has that zone.
    touched: Option<Instant>,
}

/// A player that is to be spoken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Active {
    pub(crate) player: PlayerId,
    pub(crate) zone: ZoneId,
    pub(crate) name: String,
    /// Whether another server that has its zone should hear that it is there.
    pub(crate) is_touch_due: bool,
}

/// What is to be done for players, once a second.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) active: Vec<Active>,
    /// Quiet for too long, and forgotten with this.
    pub(crate) idle: Vec<(PlayerId, ZoneId)>,
}

/// A stream that plays a player, until it is dropped.
pub(crate) struct Playing {
    players: Arc<Players>,
    player: PlayerId,
}

impl Drop for Playing {
    fn drop(&mut self) {
        let mut state = self.players.state();
        if let Some(plays) = state.plays.get_mut(&self.player) {
            *plays -= 1;
            if *plays == 0 {
                state.plays.remove(&self.player);
            }
        }
        // From here on its time runs.
        if let Some(known) = state.known.get_mut(&self.player) {
            known.spoken = Instant::now();
        }
    }
}

impl Players {
    pub(crate) fn new(idle_after: Duration) -> Self {
        Self {
            state: Mutex::default(),
            idle_after,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each access leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The zone that had it last.
    pub(crate) fn zone_of(&self, player: PlayerId) -> Option<ZoneId> {
        self.state().known.get(&player).map(|known| known.zone)
    }

    /// Somebody called for it, and a zone has it: of this server, or of another, which has now heard of it.
    pub(crate) fn seen(&self, player: PlayerId, name: &str, zone: ZoneId, now: Instant) {
        let mut state = self.state();
        if let Some(known) = state.known.get_mut(&player) {
            (known.zone, known.spoken, known.touched) = (zone, now, Some(now));
            return;
        }
        state.make_room();
        let known = Known {
            zone,
            name: name.to_owned(),
            spoken: now,
            touched: Some(now),
        };
        state.known.insert(player, known);
    }

    /// A zone said that it went to another, without that anybody called for it.
    pub(crate) fn moved(&self, player: PlayerId, from: ZoneId, to: ZoneId) {
        let mut state = self.state();
        let known = state.known.get_mut(&player).filter(|known| known.zone == from);
        if let Some(known) = known {
            (known.zone, known.touched) = (to, None);
        }
    }

    /// The server of its zone has heard that it is there.
    pub(crate) fn touched(&self, player: PlayerId, zone: ZoneId, now: Instant) {
        let mut state = self.state();
        let known = state.known.get_mut(&player).filter(|known| known.zone == zone);
        if let Some(known) = known {
            known.touched = Some(now);
        }
    }

    /// It has left, or is not where it was thought to be.
    pub(crate) fn forget(&self, player: PlayerId) {
        self.state().known.remove(&player);
    }

    /// A stream plays it.
    pub(crate) fn plays(self: &Arc<Self>, player: PlayerId) -> Playing {
        *self.state().plays.entry(player).or_default() += 1;
        Playing {
            players: Arc::clone(self),
            player,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.state().known.len()
    }

    /// Who is to be spoken for now, and who has been quiet for too long.
    pub(crate) fn round(&self, now: Instant) -> Round {
        let mut state = self.state();
        let State { known, plays } = &mut *state;
        let mut round = Round::default();
        known.retain(|player, known| {
            let is_played = plays.contains_key(player);
            if !is_played && now.saturating_duration_since(known.spoken) >= self.idle_after {
                round.idle.push((*player, known.zone));
                return false;
            }
            let is_touch_due = known
                .touched
                .is_none_or(|touched| is_played && now.saturating_duration_since(touched) >= TOUCHED_EVERY);
            round.active.push(Active {
                player: *player,
                zone: known.zone,
                name: known.name.clone(),
                is_touch_due,
            });
            true
        });
        round
    }
}

impl State {
    /// Forgets who was quiet the longest of those whom no stream plays, if there are too many.
    fn make_room(&mut self) {
        if self.known.len() < PLAYERS_MAX {
            return;
        }
        let quiet = self.known.iter().filter(|(player, _)| !self.plays.contains_key(player));
        let oldest = quiet.min_by_key(|(_, known)| known.spoken).map(|(player, _)| *player);
        // Where all are played, any of them: more streams than players are open then, and their next move finds them again.
        let oldest = oldest.or_else(|| self.known.keys().next().copied());
        if let Some(oldest) = oldest {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const ADA: PlayerId = PlayerId(1);
    const WEST: ZoneId = ZoneId(0);
    const EAST: ZoneId = ZoneId(1);

    fn active(zone: ZoneId, is_touch_due: bool) -> Vec<Active> {
        vec![Active {
            player: ADA,
            zone,
            name: "Ada".to_owned(),
            is_touch_due,
        }]
    }

    #[test]
    fn who_is_quiet_for_a_minute_is_told_of_once_and_forgotten() {
        let (players, now) = (Players::new(MINUTE), Instant::now());
        players.seen(ADA, "Ada", WEST, now);
        let before = players.round(now + Duration::from_secs(59));
        assert_eq!((before.active, before.idle), (active(WEST, false), Vec::new()));
        assert_eq!(players.round(now + MINUTE).idle, [(ADA, WEST)]);
        assert_eq!(players.round(now + MINUTE), Round::default());
        assert_eq!((players.zone_of(ADA), players.count()), (None, 0));
    }

    #[test]
    fn while_a_stream_is_open_its_player_is_never_quiet_and_after_it_for_a_minute_more() {
        let players = Arc::new(Players::new(MINUTE));
        let now = Instant::now();
        let (one, other) = (players.plays(ADA), players.plays(ADA));
        players.seen(ADA, "Ada", WEST, now);
        drop(one);
        assert_eq!(players.round(now + MINUTE * 9).active, active(WEST, true));
        players.touched(ADA, WEST, now + MINUTE * 9);
        assert_eq!(players.round(now + MINUTE * 9).active, active(WEST, false));
        drop(other);
        assert_eq!(
            players.round(Instant::now() + MINUTE / 2).active,
            active(WEST, true)
                .iter()
                .map(|known| Active {
                    is_touch_due: false,
                    ..known.clone()
                })
                .collect::<Vec<_>>()
        );
        assert_eq!(players.round(Instant::now() + MINUTE).idle, [(ADA, WEST)]);
    }

    #[test]
    fn who_crossed_without_a_call_is_told_to_the_next_server_once() {
        let (players, now) = (Players::new(MINUTE), Instant::now());
        players.seen(ADA, "Ada", WEST, now);
        players.moved(ADA, EAST, WEST);
        assert_eq!(players.round(now).active, active(WEST, false));
        players.moved(ADA, WEST, EAST);
        assert_eq!(players.round(now).active, active(EAST, true));
        // What was done for its zone before says nothing of this one.
        players.touched(ADA, WEST, now);
        assert_eq!(players.round(now).active, active(EAST, true));
        players.touched(ADA, EAST, now);
        assert_eq!(players.round(now).active, active(EAST, false));
        // Whoever it is that calls now, calls there.
        assert_eq!(players.round(now + MINUTE).idle, [(ADA, EAST)]);
    }

    #[test]
    fn beyond_the_most_the_quietest_is_forgotten_and_none_that_is_played() {
        let players = Arc::new(Players::new(MINUTE));
        let now = Instant::now();
        let _playing = players.plays(PlayerId(0));
        for player in 0..PLAYERS_MAX as u64 + 2 {
            players.seen(PlayerId(player), "Ada", WEST, now + Duration::from_millis(player));
        }
        assert_eq!(players.count(), PLAYERS_MAX);
        let known = |player| players.zone_of(PlayerId(player)).is_some();
        assert_eq!([0, 1, 2, 3].map(known), [true, false, false, true]);
    }
}
