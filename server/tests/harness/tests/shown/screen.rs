//! What a client shows, frame by frame, and how far a frame may move it.

use std::time::{Duration, Instant};

use bevy::ecs::entity::Entity;
use bevy::ecs::query::{With, Without};
use bevy::math::Vec3;
use bevy::time::{Time, Virtual};
use meridian_client_net::{Correction, OwnPlayer, ShownPose};
use meridian_game::Identity;
use meridian_harness::TestWorld;
use meridian_ids::PlayerId;

/// How fast a correction is to fade: to a third in this time, in seconds.
const FADE_S: f32 = 0.1;
/// What a frame may be off by, in metres. Each tick ends on the wire's grid: half of a line along x and along z are
/// 2.8 mm. A frame comes up to a millisecond after its tick: a corrected velocity is shown for so long at once.
const ROUNDING_M: f32 = 0.005;

/// The share of a correction that fades in a frame.
pub fn faded(seconds: f32) -> f32 {
    1.0 - (-seconds / FADE_S).exp()
}

/// Something that is shown: its entity in the client's world, and where.
pub type Shown = (Entity, Vec3);

/// What a client showed in a frame.
pub struct Frame {
    /// Seconds since the frame before.
    pub seconds: f32,
    /// The same by the client's clock, which goes faster or slower to keep inputs in time: what a walk goes by.
    pub own_seconds: f32,
    /// The own player.
    pub own: Option<Shown>,
    /// The other player that is watched.
    pub other: Option<Shown>,
    /// How the own player was corrected since the frame before.
    pub corrections: Vec<Correction>,
}

/// Looks at each frame of a client.
pub struct Screen {
    client: usize,
    other: PlayerId,
    next_frame: Instant,
    last_frame: Instant,
    own_time: f64,
    /// What it has shown since; of the first frame nobody knows how long it took.
    pub frames: Vec<Frame>,
}

impl Screen {
    /// The screen of a client, on which another client is watched; it may be the same where there is no other.
    pub fn new(world: &mut TestWorld, client: usize, other: usize) -> Self {
        world.clients[client].drain_corrections();
        Self {
            client,
            other: PlayerId(100 + other as u64),
            next_frame: world.clients[client].next_tick(),
            last_frame: world.now(),
            own_time: 0.0,
            frames: Vec::new(),
        }
    }

    /// Takes the frame that the client has drawn in the last millisecond, if any. A frame is a tick without a window.
    fn look(&mut self, world: &mut TestWorld) {
        let now = world.now();
        let client = &mut world.clients[self.client];
        if client.next_tick() == self.next_frame {
            return;
        }
        self.next_frame = client.next_tick();
        let corrections = client.drain_corrections();
        let world = client.world_mut();
        let own_time = world.resource::<Time<Virtual>>().elapsed_secs_f64();
        let mut own = world.query_filtered::<(Entity, &ShownPose), With<OwnPlayer>>();
        let own = own.single(world).ok().map(|(entity, shown)| (entity, shown.position));
        let mut others = world.query_filtered::<(Entity, &Identity, &ShownPose), Without<OwnPlayer>>();
        let other = others
            .iter(world)
            .find(|(_, identity, _)| identity.player == Some(self.other))
            .map(|(entity, _, shown)| (entity, shown.position));
        self.frames.push(Frame {
            seconds: (now - self.last_frame).as_secs_f32(),
            own_seconds: (own_time - self.own_time) as f32,
            own,
            other,
            corrections,
        });
        (self.last_frame, self.own_time) = (now, own_time);
    }

    /// Each frame but the first, with how far the own player was moved by it.
    pub fn own_steps(&self) -> impl Iterator<Item = (&Frame, Vec3)> {
        steps(&self.frames, |frame| frame.own)
    }

    /// The same of the other player.
    pub fn other_steps(&self) -> impl Iterator<Item = (&Frame, Vec3)> {
        steps(&self.frames, |frame| frame.other)
    }

    /// The corrections of the own player in all frames.
    pub fn corrections(&self) -> impl Iterator<Item = &Correction> {
        self.frames.iter().flat_map(|frame| &frame.corrections)
    }

    /// How far the own player was moved by its longest correction.
    pub fn worst_correction(&self) -> f32 {
        self.corrections()
            .map(|correction| correction.distance_m)
            .fold(0.0, f32::max)
    }

    /// Asserts that the own player never jumps, and returns how far it was moved by the frame that moved it farthest.
    ///
    /// A frame may move it as far as it goes at `speed`, and by what fades in this frame of all corrections so far.
    pub fn assert_no_jump(&self, speed: f32, what: &str) -> f32 {
        let (mut hidden, mut worst) = (0.0f32, 0.0f32);
        for (index, (frame, step)) in self.own_steps().enumerate() {
            let corrected: f32 = frame.corrections.iter().map(|correction| correction.distance_m).sum();
            let fades = (hidden + corrected) * faded(frame.seconds);
            hidden += corrected - fades;
            let (goes, moved) = (speed * frame.own_seconds, step.length());
            assert!(
                moved <= goes + fades + ROUNDING_M,
                "{what}, frame {index} of {} s: moved by {moved} m where it goes {goes} m and {fades} m fade",
                frame.seconds
            );
            worst = worst.max(moved);
        }
        worst
    }
}

fn steps(frames: &[Frame], shown: impl Fn(&Frame) -> Option<Shown>) -> impl Iterator<Item = (&Frame, Vec3)> {
    frames.windows(2).map(move |pair| {
        let [before, after] = [&pair[0], &pair[1]].map(|frame| shown(frame).expect("shown in every frame"));
        assert_eq!(before.0, after.0, "the same entity in every frame");
        (&pair[1], after.1 - before.1)
    })
}

/// Lets time pass while screens are looked at.
pub fn run(world: &mut TestWorld, screens: &mut [Screen], duration: Duration) {
    let end = world.now() + duration;
    run_while(world, screens, |world| world.now() < end);
}

/// The same for as long as `condition` holds.
pub fn run_while(world: &mut TestWorld, screens: &mut [Screen], mut condition: impl FnMut(&mut TestWorld) -> bool) {
    while condition(world) {
        world.run(Duration::from_millis(1));
        screens.iter_mut().for_each(|screen| screen.look(world));
    }
}
