//! How many frames pass from a key to what it does: measured each time a player who stands begins to walk.

use bevy::prelude::*;
use meridian_client_net::{OwnPlayer, ShownPose, ShownSystems};

use crate::controls::Wanted;

/// A shown movement that is longer is one, in metres: a fifth of a walk's first tick.
const MOVED_M: f32 = 0.001;
/// Who is shown to move less than this between two frames stands, in metres.
const STANDS_M: f32 = 0.000_1;

pub(super) fn plugin(app: &mut App) {
    app.init_resource::<KeyResponse>();
    app.add_systems(Update, measure.after(ShownSystems::Predict));
}

/// Frames from the one that sees a key to the one that shows its effect; 0 is the same frame.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyResponse {
    /// Times it was measured.
    pub measured: u32,
    /// The most frames of all of them.
    pub frames_max: u32,
}

/// A walk that has begun and is not seen yet.
#[derive(Clone, Copy, Debug)]
struct Begun {
    from: Vec3,
    frames: u32,
}

#[derive(Debug, Default)]
struct Watch {
    walked: bool,
    stood: bool,
    position: Option<Vec3>,
    begun: Option<Begun>,
}

fn measure(
    wanted: Res<Wanted>,
    own: Query<&ShownPose, With<OwnPlayer>>,
    mut watch: Local<Watch>,
    mut response: ResMut<KeyResponse>,
) {
    let Ok(own) = own.single() else {
        *watch = Watch::default();
        return;
    };
    watch.note(wanted.walk != Vec2::ZERO, own.position, &mut response);
}

impl Watch {
    fn note(&mut self, walks: bool, position: Vec3, response: &mut KeyResponse) {
        let before = self.position.replace(position);
        let walked = std::mem::replace(&mut self.walked, walks);
        let began = walks && !walked;
        match (&mut self.begun, before) {
            (Some(begun), _) => begun.frames += 1,
            // Who was on the way already cannot be seen to begin.
            (None, Some(before)) if began && self.stood => {
                self.begun = Some(Begun {
                    from: before,
                    frames: 0,
                });
            }
            _ => {}
        }
        self.stood = before.is_some_and(|before| before.distance(position) < STANDS_M);
        if let Some(begun) = self.begun
            && walks
            && begun.from.distance(position) > MOVED_M
        {
            self.begun = None;
            response.measured += 1;
            response.frames_max = response.frames_max.max(begun.frames);
        }
        if !walks {
            self.begun = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(walk: &[(bool, f32)]) -> KeyResponse {
        let (mut watch, mut response) = (Watch::default(), KeyResponse::default());
        for (walks, x) in walk {
            watch.note(*walks, Vec3::X * *x, &mut response);
        }
        response
    }

    #[test]
    fn a_walk_that_is_shown_at_once_takes_no_frame() {
        let response = frames(&[(false, 0.0), (false, 0.0), (true, 0.02), (true, 0.1)]);
        assert_eq!((response.measured, response.frames_max), (1, 0));
    }

    #[test]
    fn a_walk_that_is_shown_later_takes_the_frames_between() {
        let response = frames(&[(false, 0.0), (false, 0.0), (true, 0.0), (true, 0.0), (true, 0.05)]);
        assert_eq!((response.measured, response.frames_max), (1, 2));
    }

    #[test]
    fn every_walk_is_measured() {
        let one = [(false, 0.0), (false, 0.0), (true, 0.02), (true, 0.1)];
        let again = [(false, 0.1), (false, 0.1), (true, 0.1), (true, 0.2)];
        let response = frames(&[one, again].concat());
        assert_eq!((response.measured, response.frames_max), (2, 1));
    }

    #[test]
    fn who_slides_on_or_lets_go_again_measures_nothing() {
        assert_eq!(frames(&[(false, 0.0), (false, 0.3), (true, 0.6)]).measured, 0);
        assert_eq!(
            frames(&[(false, 0.0), (false, 0.0), (true, 0.0), (false, 0.5)]).measured,
            0
        );
    }
}
