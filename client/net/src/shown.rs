//! Where everything is to be drawn in a frame: the others interpolated, the own player ahead of its last tick.
//!
//! Frames and ticks have their own rates. The own player is shown where the step leads from its last predicted tick in the part of a
//! tick that has passed since, under the input of this very frame: a key answers in the frame that sees it, and frames between
//! ticks are smooth. What the zone corrects is not seen at once: the difference fades away. Nothing here changes what is predicted.

use bevy::app::{App, Update};
use bevy::ecs::component::Component;
use bevy::ecs::entity::Entity;
use bevy::ecs::query::{With, Without};
use bevy::ecs::schedule::{IntoScheduleConfigs, SystemSet};
use bevy::ecs::system::{Commands, Query, Res};
use bevy::math::{Quat, Vec3};
use bevy::time::{Fixed, Real, Time};
use meridian_game::movement::{MovementState, step_exactly};
use meridian_game::scenery::Surroundings;
use meridian_game::{Body, Orientation, Pose, Scenery};

use crate::connection::playing;
use crate::input::LocalInput;
use crate::plugin::OwnPlayer;
use crate::prediction::obstacles;

/// How fast a correction fades: to a third in this time, in seconds.
const FADE_S: f32 = 0.1;
/// Corrections that are longer are shown at once, in metres: a respawn is no correction.
const FADING_M_MAX: f32 = 2.0;

/// The order of what is shown, in `Update`.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ShownSystems {
    /// The others.
    Interpolate,
    /// The own player, and what it pushes.
    Predict,
    /// What was last seen of a world that is away, as long as nothing newer is there.
    Copies,
}

pub(crate) fn plugin(app: &mut App) {
    app.configure_sets(
        Update,
        (ShownSystems::Interpolate, ShownSystems::Predict, ShownSystems::Copies).chain(),
    );
    app.add_systems(Update, show_own.in_set(ShownSystems::Predict).run_if(playing));
}

/// Where an entity is to be drawn in this frame: metres, and the turn from standing and looking along -z.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq)]
pub struct ShownPose {
    /// Its centre.
    pub position: Vec3,
    /// Its orientation.
    pub rotation: Quat,
}

impl ShownPose {
    /// An entity's replicated pose, without interpolation; where it has no orientation it stands upright.
    pub fn of(pose: &Pose, orientation: Option<&Orientation>) -> Self {
        Self {
            position: pose.position,
            rotation: orientation.map_or_else(|| upright(pose.yaw), |orientation| orientation.0),
        }
    }
}

/// Who looks along a heading: 0 is along x, and it grows towards z, as walk directions are told.
fn upright(yaw: f32) -> Quat {
    Quat::from_rotation_y(-yaw - std::f32::consts::FRAC_PI_2)
}

/// What of the corrections of the own player is not shown yet, in metres.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq)]
pub struct CorrectionFade(pub Vec3);

impl CorrectionFade {
    /// The player was moved from where it was shown to be.
    pub(crate) fn moved(&mut self, from: Vec3, to: Vec3) {
        self.0 += from - to;
        if self.0.length() > FADING_M_MAX {
            self.0 = Vec3::ZERO;
        }
    }

    fn fade(&mut self, delta_seconds: f32) {
        self.0 *= (-delta_seconds / FADE_S).exp();
    }
}

pub(crate) fn show_own(
    local: Res<LocalInput>,
    fixed: Res<Time<Fixed>>,
    real: Res<Time<Real>>,
    scenery: Option<Res<Scenery>>,
    others: Query<(&Pose, &Body, Option<&Orientation>), Without<OwnPlayer>>,
    mut own: Query<(Entity, &MovementState, Option<(&mut ShownPose, &mut CorrectionFade)>), With<OwnPlayer>>,
    mut commands: Commands,
) {
    let (Ok((entity, movement, shown)), Some(scenery)) = (own.single_mut(), scenery) else {
        return;
    };
    let (players, crates) = obstacles(&others, movement.position);
    let surroundings = Surroundings {
        scenery: &scenery,
        players: &players,
        crates: &crates,
    };
    let now = step_exactly(*movement, local.input, &surroundings, fixed.overstep().as_secs_f32());
    let pose = ShownPose {
        position: now.position,
        rotation: upright(now.yaw),
    };
    let Some((mut shown, mut fade)) = shown else {
        commands.entity(entity).insert((pose, CorrectionFade::default()));
        return;
    };
    fade.fade(real.delta_secs());
    shown.position = pose.position + fade.0;
    shown.rotation = pose.rotation;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bevy::app::FixedUpdate;
    use bevy::ecs::system::Single;
    use bevy::math::Vec2;
    use bevy::time::{TimePlugin, TimeUpdateStrategy};
    use meridian_game::movement::step;
    use meridian_game::{Move, WorldDefinition};

    use super::*;
    use crate::connection::{ConnectionState, Connector};

    #[test]
    fn a_correction_is_not_seen_at_once_and_fades() {
        let mut fade = CorrectionFade::default();
        fade.moved(Vec3::ZERO, Vec3::X * 0.25);
        // Shown where it was.
        assert_eq!(Vec3::X * 0.25 + fade.0, Vec3::ZERO);
        let mut largest_step = 0.0_f32;
        for _ in 0..144 {
            let before = fade.0;
            fade.fade(1.0 / 144.0);
            largest_step = largest_step.max(before.distance(fade.0));
        }
        assert!(fade.0.length() < 1e-3, "{}", fade.0);
        assert!(largest_step < 0.02, "{largest_step} m in a frame");
    }

    /// An app at 144 frames a second whose player stands on a wide floor; its ticks are simulated as the client does.
    fn app() -> (App, Entity) {
        let world = WorldDefinition::parse(
            r#"
name = "plain"
kill_below_m = -20.0
[bounds]
min = [-100.0, -100.0]
max = [100.0, 100.0]
[spawn]
centre = [0.0, 0.0, 0.0]
radius_m = 1.0
[[scenery]]
name = "floor"
centre = [0.0, -1.0, 0.0]
size = [180.0, 2.0, 180.0]
"#,
            "test",
        )
        .unwrap();
        let mut app = App::new();
        app.add_plugins((TimePlugin, plugin));
        app.insert_resource(TimeUpdateStrategy::ManualDuration(Duration::from_secs_f64(1.0 / 144.0)));
        app.insert_resource(Time::<Fixed>::from_hz(60.0));
        app.insert_resource(Scenery::new(&world));
        app.init_resource::<LocalInput>();
        let mut connector = Connector::idle();
        connector.state = ConnectionState::Playing;
        app.insert_resource(connector);
        app.add_systems(
            FixedUpdate,
            |local: Res<LocalInput>,
             scenery: Res<Scenery>,
             mut own: Single<&mut MovementState>,
             time: Res<Time<Fixed>>| {
                let around = Surroundings {
                    scenery: &scenery,
                    players: &[],
                    crates: &[],
                };
                **own = step(**own, local.input, &around, time.timestep().as_secs_f32());
            },
        );
        let mut standing = MovementState::standing_at(Vec3::ZERO);
        standing.grounded = true;
        let own = app.world_mut().spawn((OwnPlayer, standing)).id();
        (0..30).for_each(|_| app.update());
        (app, own)
    }

    fn shown(app: &App, own: Entity) -> Vec3 {
        app.world().get::<ShownPose>(own).unwrap().position
    }

    #[test]
    fn a_key_is_answered_in_the_frame_that_sees_it_whenever_the_tick_is() {
        for frames in 0..12 {
            let (mut app, own) = app();
            (0..frames).for_each(|_| app.update());
            let before = shown(&app, own);
            app.world_mut().resource_mut::<LocalInput>().input = Move::new(Vec2::X, 0.0, false).0;
            app.update();
            let moved = shown(&app, own).x - before.x;
            // A walk begins with 60 m/s^2: the shortest part of a tick moves less than a millimetre, but it moves.
            assert!(moved > 0.0, "frame {frames}: {moved} m");
        }
    }

    #[test]
    fn between_ticks_a_walk_is_smooth() {
        let (mut app, own) = app();
        app.world_mut().resource_mut::<LocalInput>().input = Move::new(Vec2::X, 0.0, false).0;
        (0..72).for_each(|_| app.update());
        let mut last = shown(&app, own).x;
        for frame in 0..288 {
            app.update();
            let now = shown(&app, own).x;
            let per_frame = 6.0 / 144.0;
            assert!(
                (now - last - per_frame).abs() < 0.01,
                "frame {frame}: {} m instead of {per_frame}",
                now - last
            );
            last = now;
        }
    }

    #[test]
    fn a_respawn_is_shown_at_once() {
        let mut fade = CorrectionFade(Vec3::X * 0.1);
        fade.moved(Vec3::ZERO, Vec3::X * 30.0);
        assert_eq!(fade, CorrectionFade::default());
    }

    #[test]
    fn who_walks_along_x_is_shown_looking_along_x() {
        for (yaw, direction) in [(0.0, Vec3::X), (std::f32::consts::FRAC_PI_2, Vec3::Z)] {
            assert!((upright(yaw) * Vec3::NEG_Z).distance(direction) < 1e-6);
        }
    }
}
