//! Keeps what the client shows to be the same player again from expiring while it plays: one who has played for hours is to survive the end of
//! its gateway as well.

use std::time::{Duration, Instant};

use bevy::ecs::world::World;
use crossbeam_channel::{Receiver, TryRecvError};

use super::{ConnectionState, Connector};
use crate::session::{Session, SessionError, SessionProvider, SessionQuery, SessionReply};

/// How long after a renewal that did not come off the next one is tried.
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// What becomes of a resume while the player plays.
#[derive(Default)]
pub(super) struct Renewal {
    /// When another one is asked for.
    due: Option<Instant>,
    asked: Option<Receiver<Result<Session, SessionError>>>,
}

impl Renewal {
    /// Whether [`renew`] may have something to do.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.asked.is_some() || self.due.is_none_or(|due| now >= due)
    }
}

/// Once a frame: asks for another session when half of the resume's time is over, and keeps of it what makes it the same player.
pub(super) fn renew(world: &mut World, now: Instant) {
    let mut connector = world.resource_mut::<Connector>();
    if let Some(asked) = &connector.renewal.asked {
        let answer = match asked.try_recv() {
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => None,
            Ok(answer) => answer.ok(),
        };
        connector.renewal.asked = None;
        take(&mut connector, answer, now);
    }
    if connector.state != ConnectionState::Playing || connector.silent_since.is_some() {
        return;
    }
    let Some(good_for) = connector.resume.as_ref().map(|resume| resume.good_for) else {
        return;
    };
    let due = *connector.renewal.due.get_or_insert(now + good_for / 2);
    if now < due {
        return;
    }
    let query = connector.query().map(|query| SessionQuery {
        // It is not lost: the same gateway will do.
        lost_gateway: None,
        ..query
    });
    let Some(query) = query else { return };
    let (reply, asked) = SessionReply::pair();
    connector.renewal.asked = Some(asked);
    world.resource::<SessionProvider>().clone().0.ask(query, reply);
}

fn take(connector: &mut Connector, answer: Option<Session>, now: Instant) {
    let player = connector.welcome.map(|welcome| welcome.player);
    match answer.filter(|session| Some(session.player) == player) {
        Some(session) => connector.note_session(&session),
        None => connector.renewal.due = Some(now + TRIED_AGAIN_AFTER),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use bevy::time::{Real, Time};
    use lightyear_replication::receive::ReplicationReceiver;
    use meridian_game::{Welcome, WorldDefinition};
    use meridian_ids::{PlayerId, Tick, TickRate, WorldEntityId};
    use meridian_link::Arrival;

    use super::*;
    use crate::connection::supervision::supervise;
    use crate::session::{Resume, SessionSource};

    const HOUR: Duration = Duration::from_secs(3_600);
    const ADA: PlayerId = PlayerId(7);
    const WORLD: &str = include_str!("../../../../assets/data/world.toml");

    /// Gives sessions of one player, or none, and remembers with what each was asked for.
    struct Auth {
        player: Option<PlayerId>,
        asked: Mutex<Vec<Option<String>>>,
    }

    impl SessionSource for Auth {
        fn ask(&self, query: SessionQuery, reply: SessionReply) {
            assert_eq!(query.lost_gateway, None);
            let mut asked = self.asked.lock().unwrap();
            asked.push(query.resume);
            if let Some(player) = self.player {
                reply.send(Ok(session(player, &format!("resume {}", asked.len()))));
            }
        }
    }

    fn session(player: PlayerId, resume: &str) -> Session {
        Session {
            token: Vec::new(),
            gateway: "127.0.0.1:1".parse().unwrap(),
            player,
            name: "Ada".to_owned(),
            world: Arc::new(WorldDefinition::parse(WORLD, "world.toml").unwrap()),
            world_hash: String::new(),
            resume: Some(Resume {
                secret: resume.to_owned(),
                good_for: HOUR,
            }),
        }
    }

    /// Ada plays with a resume that is good for an hour; what she asked with for others by each of these times, in minutes.
    fn asked_by(player: Option<PlayerId>, minutes: &[u64]) -> Vec<Vec<Option<String>>> {
        let (mut world, began) = (World::new(), Instant::now());
        let mut connector = Connector::new(Some("http://127.0.0.1:1".to_owned()), "Ada".to_owned(), began);
        connector.note_session(&session(ADA, "resume 0"));
        let welcome = Welcome {
            base_tick: Tick(0),
            tick_rate: TickRate::default(),
            player: ADA,
            entity: WorldEntityId(1),
            gateway: 1,
        };
        connector.welcomed(welcome, began);
        let auth = Arc::new(Auth {
            player,
            asked: Mutex::default(),
        });
        let link = world.spawn((ReplicationReceiver, Arrival(began))).id();
        connector.link = Some(link);
        world.insert_resource(connector);
        world.insert_resource(Time::<Real>::new(began));
        world.insert_resource(SessionProvider(Arc::clone(&auth) as Arc<dyn SessionSource>));
        let at = |minute: &u64| {
            let now = began + Duration::from_secs(60 * minute);
            // The gateway is heard all the time.
            world.entity_mut(link).insert(Arrival(now));
            world.resource_mut::<Time<Real>>().update_with_instant(now);
            // A frame asks, and the next one hears.
            for _ in 0..2 {
                supervise(&mut world);
            }
            auth.asked.lock().unwrap().clone()
        };
        minutes.iter().map(at).collect()
    }

    #[test]
    fn who_plays_for_hours_has_a_resume_that_is_good_all_the_time() {
        let asked = asked_by(Some(ADA), &[0, 29, 30, 59, 61]);
        let both = ["resume 0", "resume 1"].map(|resume| Some(resume.to_owned()));
        assert_eq!(asked[1], []);
        assert_eq!(asked[2], both[..1]);
        assert_eq!(asked[3], both[..1]);
        assert_eq!(asked[4], both);
    }

    #[test]
    fn a_renewal_that_does_not_come_off_is_tried_again_and_changes_nothing() {
        for player in [None, Some(PlayerId(8))] {
            let asked = asked_by(player, &[0, 30, 31, 32]);
            assert_eq!(asked[3], vec![Some("resume 0".to_owned()); 3], "{player:?}");
        }
    }
}
