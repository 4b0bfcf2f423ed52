//! The schedules of a client without a window, taken out of its app and run by hand.
//!
//! With dozens of clients in a process every memory access misses the cache, so what an idle schedule costs is not its
//! systems but looking it up, moving it out of the world and back. Schedules that hold no system are dropped.

use std::time::Instant;

use bevy::app::{
    First, FixedFirst, FixedLast, FixedPostUpdate, FixedPreUpdate, FixedUpdate, Last, PostUpdate, PreUpdate,
    RunFixedMainLoop, Update,
};
use bevy::ecs::schedule::{Schedule, ScheduleLabel, Schedules};
use bevy::ecs::system::{ResMut, SystemState};
use bevy::ecs::world::World;
use bevy::state::state::{NextState, StateTransition};
use bevy::time::{Fixed, Real, Time, Virtual, update_virtual_time};
use bevy_replicon::prelude::ClientState;

/// An app's schedules. Systems added to any of them after [`Passes::take`] do not run.
pub(crate) struct Passes {
    first: Option<Schedule>,
    pre_update: Option<Schedule>,
    fixed: FixedLoop,
    after: Vec<Schedule>,
    /// What a pass between frames advances, looked up once.
    times: SystemState<Times>,
    /// Real time as `PreUpdate` saw it last.
    taken_in: Time<Real>,
    /// Real time as the schedules after the fixed ones saw it last: what is shown goes by whole frames.
    shown: Time<Real>,
}

type Times = (
    ResMut<'static, Time<Real>>,
    ResMut<'static, Time>,
    ResMut<'static, Time<Virtual>>,
);

enum FixedLoop {
    /// Only the fixed schedules hold systems.
    Steps(Vec<Schedule>),
    /// The game has systems around the fixed steps.
    Whole(Box<Schedule>),
}

impl Passes {
    /// Takes the schedules of an app that has run its start-up.
    pub(crate) fn take(world: &mut World) -> Self {
        let taken_in = *world.resource::<Time<Real>>();
        let times = SystemState::new(world);
        let mut schedules = world.resource_mut::<Schedules>();
        let schedules = &mut *schedules;
        let around = schedules.get(RunFixedMainLoop).map_or(0, Schedule::systems_len);
        let fixed = match schedules.remove(RunFixedMainLoop).filter(|_| around > 1) {
            Some(whole) => FixedLoop::Whole(Box::new(whole)),
            None => FixedLoop::Steps(
                [
                    take(schedules, FixedFirst),
                    take(schedules, FixedPreUpdate),
                    take(schedules, FixedUpdate),
                    take(schedules, FixedPostUpdate),
                    take(schedules, FixedLast),
                ]
                .into_iter()
                .flatten()
                .collect(),
            ),
        };
        Self {
            first: take(schedules, First),
            pre_update: take(schedules, PreUpdate),
            fixed,
            after: [
                take(schedules, Update),
                take(schedules, PostUpdate),
                take(schedules, Last),
            ]
            .into_iter()
            .flatten()
            .collect(),
            times,
            taken_in,
            shown: taken_in,
        }
    }

    /// A pass between frames: time goes on, as in `bevy_time::time_system`, and what waits is taken in.
    pub(crate) fn receive(&mut self, world: &mut World, now: Instant) {
        let times = self.times.get_mut(world);
        let (mut real, mut current, mut pace) = times.expect("nobody takes a client's clocks away");
        real.update_with_instant(now);
        update_virtual_time(&mut current, &mut pace, &real);
        let passed = pace.delta();
        *real = taken_in(&mut self.taken_in, now);
        run(self.pre_update.as_mut_slice(), world);
        // The time that passed is the next frame's as well: without the main loop nobody else keeps it.
        world.resource_mut::<Time<Fixed>>().accumulate_overstep(passed);
    }

    /// A frame. Without `take_in` it leaves `PreUpdate` out, for a pass just before has done its work.
    pub(crate) fn frame(&mut self, world: &mut World, take_in: bool) {
        run(self.first.as_mut_slice(), world);
        if let Some(now) = world.resource::<Time<Real>>().last_update().filter(|_| take_in) {
            *world.resource_mut::<Time<Real>>() = taken_in(&mut self.taken_in, now);
            run(self.pre_update.as_mut_slice(), world);
        }
        let idle = matches!(
            world.get_resource::<NextState<ClientState>>(),
            None | Some(NextState::Unchanged)
        );
        if !idle {
            world.run_schedule(StateTransition);
        }
        match &mut self.fixed {
            FixedLoop::Steps(steps) => run_fixed_steps(steps, world),
            FixedLoop::Whole(whole) => whole.run(world),
        }
        if let Some(now) = world.resource::<Time<Real>>().last_update() {
            self.shown.update_with_instant(now);
            *world.resource_mut::<Time<Real>>() = self.shown;
        }
        run(&mut self.after, world);
        world.clear_trackers();
    }
}

fn take(schedules: &mut Schedules, label: impl ScheduleLabel) -> Option<Schedule> {
    schedules.remove(label).filter(|schedule| schedule.systems_len() > 0)
}

fn run(schedules: &mut [Schedule], world: &mut World) {
    schedules.iter_mut().for_each(|schedule| schedule.run(world));
}

/// Real time for `PreUpdate`: what passed is what has passed since it ran last, for its timeouts count on seeing all of it.
fn taken_in(last: &mut Time<Real>, now: Instant) -> Time<Real> {
    last.update_with_instant(now);
    *last
}

/// What `bevy_time::run_fixed_main_schedule` does, on schedules at hand.
fn run_fixed_steps(steps: &mut [Schedule], world: &mut World) {
    let passed = world.resource::<Time<Virtual>>().delta();
    world.resource_mut::<Time<Fixed>>().accumulate_overstep(passed);
    loop {
        let mut fixed = world.resource_mut::<Time<Fixed>>();
        let timestep = fixed.timestep();
        if fixed.overstep() < timestep {
            break;
        }
        fixed.discard_overstep(timestep);
        fixed.advance_by(timestep);
        let generic = fixed.as_generic();
        *world.resource_mut::<Time>() = generic;
        run(steps, world);
    }
    let generic = world.resource::<Time<Virtual>>().as_generic();
    *world.resource_mut::<Time>() = generic;
}
