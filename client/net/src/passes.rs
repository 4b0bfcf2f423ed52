//! The schedules of a client without a window, taken out of its app and run by hand.
//!
//! With dozens of clients in a process every memory access misses the cache, so what an idle schedule costs is not its
//! systems but looking it up, moving it out of the world and back. Schedules that hold no system are dropped, and systems that do nothing for
//! such a client, or what is done here by hand, are taken out of the others.

use std::time::Instant;

use bevy::app::{
    First, FixedFirst, FixedLast, FixedPostUpdate, FixedPreUpdate, FixedUpdate, Last, PostUpdate, PreUpdate,
    RunFixedMainLoop, Update,
};
use bevy::ecs::change_detection::Tick;
use bevy::ecs::message::{MessageRegistry, message_update_system, signal_message_update_system};
use bevy::ecs::schedule::{IntoSystemSet, Schedule, ScheduleCleanupPolicy, ScheduleError, ScheduleLabel, Schedules};
use bevy::ecs::system::{ResMut, SystemState, despawn_unused_registered_systems};
use bevy::ecs::world::{Mut, World};
use bevy::state::state::{NextState, StateTransition};
use bevy::time::{Fixed, Real, Time, Virtual, time_system, update_virtual_time};
use bevy_replicon::prelude::ClientState;
use lightyear::link::LinkPlugin;
use lightyear_messages::plugin::{MessagePlugin, MessageSystems};

/// How often what is of no use any more is let go, messages that everybody has read above all, in frames: each time costs a bot a fiftieth of its tick.
const LETS_GO_EVERY: u32 = 16;

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
    frames: u32,
    /// When messages were let go last.
    messages_gone: Tick,
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
        let lighter_by = lighten(world);
        if lighter_by != LIGHTER_BY {
            tracing::error!(
                lighter_by,
                "systems are there that this client does the work of: its clock may run twice as fast"
            );
        }
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
            frames: 0,
            // What was written before is let go as well.
            messages_gone: Tick::default(),
        }
    }

    /// A pass between frames: time goes on, as in `bevy_time::time_system`, and what waits is taken in.
    pub(crate) fn receive(&mut self, world: &mut World, now: Instant) {
        let (mut real, pace) = self.advance(world, now);
        let passed = pace.delta();
        *real = taken_in(&mut self.taken_in, now);
        run(self.pre_update.as_mut_slice(), world);
        // The time that passed is the next frame's as well: without the main loop nobody else keeps it.
        world.resource_mut::<Time<Fixed>>().accumulate_overstep(passed);
    }

    /// Time goes on, as in `bevy_time::time_system`.
    fn advance<'w>(
        &mut self,
        world: &'w mut World,
        now: Instant,
    ) -> (ResMut<'w, Time<Real>>, ResMut<'w, Time<Virtual>>) {
        let times = self.times.get_mut(world);
        let (mut real, mut current, mut pace) = times.expect("nobody takes a client's clocks away");
        real.update_with_instant(now);
        update_virtual_time(&mut current, &mut pace, &real);
        (real, pace)
    }

    /// A frame. Without `take_in` it leaves `PreUpdate` out, for a pass just before has done its work.
    pub(crate) fn frame(&mut self, world: &mut World, now: Instant, take_in: bool) {
        self.advance(world, now);
        self.frames = self.frames.wrapping_add(1);
        if self.frames.is_multiple_of(LETS_GO_EVERY) {
            self.let_messages_go(world);
            // Those that a game registered and has no handle of any more; where it never registered any it is skipped.
            let _ = world.run_system_cached(despawn_unused_registered_systems);
        }
        run(self.first.as_mut_slice(), world);
        if take_in {
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
        self.shown.update_with_instant(now);
        *world.resource_mut::<Time<Real>>() = self.shown;
        run(&mut self.after, world);
        world.clear_trackers();
    }

    /// What `message_update_system` does, each time.
    fn let_messages_go(&mut self, world: &mut World) {
        world.try_resource_scope(|world, mut registry: Mut<MessageRegistry>| {
            registry.run_updates(world, self.messages_gone);
        });
        // What is written from now on is newer.
        self.messages_gone = world.increment_change_tick();
    }
}

/// Systems that [`lighten`] takes out.
const LIGHTER_BY: usize = 7;

/// Takes out what [`Passes`] does by hand, and what does nothing for a client that has links of its own, no clock of lightyear's and no host in its
/// process. Says how many systems that were.
fn lighten(world: &mut World) -> usize {
    let removed = [
        remove(world, First, time_system),
        remove(world, First, message_update_system),
        remove(world, PreUpdate, LinkPlugin::apply_link_conditioner),
        remove(world, PreUpdate, MessageSystems::ReleaseTimeline),
        remove(world, FixedPostUpdate, signal_message_update_system),
        remove(world, Last, MessagePlugin::send_local),
        remove(world, Last, despawn_unused_registered_systems),
    ];
    removed.into_iter().sum()
}

/// Takes the systems of a set out; how many there were.
fn remove<M>(world: &mut World, schedule: impl ScheduleLabel, set: impl IntoSystemSet<M>) -> usize {
    let removed = world.try_schedule_scope(schedule, |world, schedule| {
        let policy = ScheduleCleanupPolicy::RemoveSystemsOnly;
        let removed = schedule.remove_systems_in_set(set, world, policy)?;
        schedule.initialize(world)?;
        Ok::<_, ScheduleError>(removed)
    });
    // What is not there needs no removing.
    removed.map_or(0, |removed| removed.unwrap_or(0))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bevy::app::{App, TaskPoolOptions};
    use bevy::ecs::message::{Message, Messages};
    use bevy::time::{TimePlugin, TimeUpdateStrategy};
    use meridian_game::{ProtocolPlugin, ProtocolSide};
    use meridian_ids::TickRate;

    use super::*;

    #[derive(Message)]
    struct Letter;

    fn client() -> App {
        let mut app = App::new();
        TaskPoolOptions::default().create_default_pools();
        app.add_plugins((TimePlugin, meridian_link::LinkPlugin { accepts: false }));
        app.add_plugins(ProtocolPlugin {
            side: ProtocolSide::Client,
            tick_rate: TickRate::default(),
        });
        app.add_message::<Letter>();
        app.finish();
        app.cleanup();
        app.update();
        app
    }

    #[test]
    fn what_is_of_no_use_is_found_and_taken_out() {
        let mut app = client();
        assert_eq!(lighten(app.world_mut()), LIGHTER_BY);
        assert_eq!(lighten(app.world_mut()), 0);
        app.update();
    }

    #[test]
    fn time_goes_on_as_it_is_told_and_once() {
        let mut app = client();
        let world = app.world_mut();
        let mut passes = Passes::take(world);
        // A system that were still there would see to it that it is noticed.
        world.insert_resource(TimeUpdateStrategy::ManualDuration(Duration::from_millis(100)));
        let began = world.resource::<Time<Real>>().last_update().unwrap();
        let elapsed = |world: &World| world.resource::<Time<Virtual>>().elapsed();
        let before = elapsed(world);
        passes.receive(world, began + Duration::from_millis(5));
        passes.frame(world, began + Duration::from_millis(20), true);
        assert_eq!(elapsed(world) - before, Duration::from_millis(20));
    }

    #[test]
    fn systems_that_a_game_registered_and_forgot_are_gone_after_a_while() {
        let mut app = client();
        let world = app.world_mut();
        let mut passes = Passes::take(world);
        let handle = world.register_tracked_system(|| {});
        let system = handle.entity();
        drop(handle);
        let now = Instant::now();
        for _ in 0..LETS_GO_EVERY {
            assert!(world.get_entity(system).is_ok());
            passes.frame(world, now, false);
        }
        assert!(world.get_entity(system).is_err());
    }

    #[test]
    fn a_message_is_gone_after_two_rounds_whenever_it_was_written() {
        let mut app = client();
        let world = app.world_mut();
        let mut passes = Passes::take(world);
        let waiting = |world: &World| world.resource::<Messages<Letter>>().len();
        for _ in 0..3 {
            // Before anything else happens after the round before.
            world.resource_mut::<Messages<Letter>>().write(Letter);
            passes.let_messages_go(world);
            assert_eq!(waiting(world), 1, "who has not read it yet still may");
            passes.let_messages_go(world);
            assert_eq!(waiting(world), 0);
        }
    }
}
