//! A small zone: it ticks, takes orders at its desk and answers them after the tick, and does to players what a test tells it to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use meridian_bus::directory::ServiceDetail;
use meridian_fabric::desk::{Answer, Desk, DeskEnd, Order, Placed, Request, desk};
use meridian_front::LocalZone;
use meridian_ids::{EntityEpoch, PlayerId, Tick, WorldEntityId, ZoneId};

/// A tick of the zone.
const TICK: Duration = Duration::from_millis(2);

/// Who owns which player: what the durable side of a real world knows.
#[derive(Default)]
pub struct Owners {
    known: Mutex<HashMap<PlayerId, ZoneId>>,
    /// Walks that were done, by any zone, in order: whose, and for how many ticks.
    walked: Mutex<Vec<(PlayerId, u32)>>,
}

impl Owners {
    /// The ticks of a player's walks, in the order in which they were done.
    pub fn walked(&self, player: PlayerId) -> Vec<u32> {
        let walked = self.walked.lock().unwrap();
        let own = walked.iter().filter(|(who, _)| *who == player);
        own.map(|(_, ticks)| *ticks).collect()
    }
}

/// How the zone is towards orders.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mood {
    Serves,
    Full,
    /// It has no lease, and answers so.
    Away,
    /// It takes orders, and never answers them.
    Silent,
    /// It refuses all of the next tick in which it has several, as if it had paused, and serves from then on.
    Refuses,
}

struct State {
    mood: Mood,
    here: HashMap<PlayerId, (WorldEntityId, EntityEpoch, [f32; 3])>,
    departed: HashMap<PlayerId, ZoneId>,
    /// All orders, in order.
    asked: Vec<(PlayerId, Request)>,
    unanswered: Vec<Order>,
    tick: u64,
}

struct Shared {
    zone: ZoneId,
    owners: Arc<Owners>,
    state: Mutex<State>,
    is_over: AtomicBool,
}

/// The zone; it ends when this is dropped.
pub struct Zone {
    shared: Arc<Shared>,
    desk: Desk,
    thread: Option<JoinHandle<()>>,
}

impl Zone {
    pub fn start(zone: u16, owners: &Arc<Owners>) -> Self {
        let (desk, end) = desk();
        let shared = Arc::new(Shared {
            zone: ZoneId(zone),
            owners: Arc::clone(owners),
            state: Mutex::new(State {
                mood: Mood::Serves,
                here: HashMap::new(),
                departed: HashMap::new(),
                asked: Vec::new(),
                unanswered: Vec::new(),
                tick: 1_000,
            }),
            is_over: AtomicBool::new(false),
        });
        let ticking = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            while !ticking.is_over.load(Ordering::Relaxed) {
                ticking.tick(&end);
                std::thread::sleep(TICK);
            }
        });
        Self {
            shared,
            desk,
            thread: Some(thread),
        }
    }

    pub fn id(&self) -> ZoneId {
        self.shared.zone
    }

    /// What a front of its process is given.
    pub fn local(&self) -> LocalZone {
        let shared = Arc::clone(&self.shared);
        let status = move || {
            let state = shared.state.lock().unwrap();
            (state.mood != Mood::Away).then(|| ServiceDetail {
                players: state.here.len() as u32,
                tick_p50_us: 7,
                ..ServiceDetail::default()
            })
        };
        LocalZone {
            zone: self.shared.zone,
            desk: self.desk.clone(),
            status: Arc::new(status),
        }
    }

    pub fn be(&self, mood: Mood) {
        self.shared.state.lock().unwrap().mood = mood;
    }

    pub fn has(&self, player: PlayerId) -> bool {
        self.shared.state.lock().unwrap().here.contains_key(&player)
    }

    /// What was asked for a player, in order.
    pub fn asked(&self, player: PlayerId) -> Vec<Request> {
        let state = self.shared.state.lock().unwrap();
        let asked = state.asked.iter().filter(|(asked, _)| *asked == player);
        asked.map(|(_, request)| request.clone()).collect()
    }

    /// Lets go of a player who is on its way to another zone; [`Self::arrive`] ends that.
    pub fn depart(&self, player: PlayerId, to: &Self) -> Traveller {
        let mut state = self.shared.state.lock().unwrap();
        let (entity, epoch, position) = state.here.remove(&player).unwrap();
        state.departed.insert(player, to.id());
        self.shared.owners.known.lock().unwrap().insert(player, to.id());
        Traveller(player, entity, epoch, position)
    }

    pub fn arrive(&self, Traveller(player, entity, epoch, position): Traveller) {
        let mut state = self.shared.state.lock().unwrap();
        state.departed.remove(&player);
        state.here.insert(player, (entity, epoch.next(), position));
    }

    pub fn cross(&self, player: PlayerId, to: &Self) {
        to.arrive(self.depart(player, to));
    }
}

/// A player between two zones.
pub struct Traveller(PlayerId, WorldEntityId, EntityEpoch, [f32; 3]);

impl Drop for Zone {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Shared {
    fn tick(&self, end: &DeskEnd) {
        let began = Instant::now();
        let orders: Vec<Order> = std::iter::from_fn(|| end.take()).collect();
        let answers: Vec<(Order, Answer)> = {
            let mut state = self.state.lock().unwrap();
            state.tick += 1;
            for order in &orders {
                state.asked.push((order.player(), order.request().clone()));
            }
            if state.mood == Mood::Silent {
                state.unanswered.extend(orders);
                return;
            }
            let refuses = state.mood == Mood::Refuses && orders.len() > 1;
            let answered = orders.into_iter().map(|order| {
                let answer = if refuses {
                    Answer::Away
                } else {
                    self.answer(&mut state, &order, began)
                };
                (order, answer)
            });
            let answered = answered.collect();
            if refuses {
                state.mood = Mood::Serves;
            }
            answered
        };
        // A zone answers when nobody waits for it.
        answers.into_iter().for_each(|(order, answer)| order.answer(answer));
    }

    fn answer(&self, state: &mut State, order: &Order, began: Instant) -> Answer {
        if state.mood == Mood::Away {
            return Answer::Away;
        }
        let player = order.player();
        if let Request::Join { .. } = order.request()
            && !state.here.contains_key(&player)
        {
            let mut owners = self.owners.known.lock().unwrap();
            match owners.get(&player) {
                Some(zone) if *zone != self.zone => return Answer::Elsewhere(Some(*zone)),
                _ if state.mood == Mood::Full => return Answer::Full,
                _ => {}
            }
            owners.insert(player, self.zone);
            let entity = WorldEntityId(player.0 + 1_000_000);
            state.here.insert(player, (entity, EntityEpoch(1), [0.0, 0.9, 0.0]));
        }
        let Some((entity, epoch, position)) = state.here.get_mut(&player) else {
            return Answer::Elsewhere(state.departed.get(&player).copied());
        };
        match order.request() {
            Request::Leave => {
                state.here.remove(&player);
                self.owners.known.lock().unwrap().remove(&player);
                return Answer::Left;
            }
            Request::Walk { direction, ticks, .. } => {
                self.owners.walked.lock().unwrap().push((player, *ticks));
                position[0] += direction[0] / 10.0;
                position[2] += direction[1] / 10.0;
            }
            Request::Stay | Request::Join { .. } => {}
        }
        Answer::Done(Placed {
            entity: *entity,
            zone: self.zone,
            epoch: *epoch,
            tick: Tick(state.tick),
            position: *position,
            began,
            finished: Instant::now(),
        })
    }
}
