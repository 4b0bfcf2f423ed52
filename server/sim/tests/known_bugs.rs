//! Histories in which others have lost or doubled entities, each played through on purpose.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of a test fails by panicking")]

use std::time::Duration;

use meridian_ids::{TickRate, WorldEntityId, ZoneId};
use meridian_sim::{Choice, Coverage, Fate, Occurrence, Setup, Simulation};

const WEST: ZoneId = ZoneId(0);
const EAST: ZoneId = ZoneId(1);
/// The machine on which each zone's process runs.
const WEST_RUNS: u8 = 0;
const EAST_RUNS: u8 = 2;

/// Two zones, a gateway, and one player, who has come into the world in West.
struct Play {
    simulation: Simulation,
    player: WorldEntityId,
}

impl Play {
    fn begin(setup: Setup) -> Self {
        let mut simulation = Simulation::new(setup).telling();
        for _ in 0..6 {
            simulation.step(Choice::Beat { turn: 0 }).unwrap();
        }
        let entities = simulation.entities();
        let [(player, WEST)] = entities[..] else {
            panic!("one player is in West, not {entities:?}");
        };
        Self { simulation, player }
    }

    fn two_zones(hz: u32) -> Setup {
        Setup::new(2, 1, 1, 0, TickRate::new(hz).unwrap())
    }

    fn happen(&mut self, choice: Choice) {
        if let Err(violation) = self.simulation.step(choice) {
            panic!("{violation}\n{}", self.simulation.trace().join("\n"));
        }
    }

    fn beats(&mut self, count: u32) {
        (0..count).for_each(|_| self.happen(Choice::Beat { turn: 0 }));
    }

    fn walk(&mut self, zone: ZoneId) {
        let zone = zone.0 as u8;
        self.happen(Choice::Walk { entity: 0, zone });
    }

    fn owner(&self) -> ZoneId {
        let entities = self.simulation.entities();
        let found = entities.iter().find(|(entity, _)| *entity == self.player);
        found.expect("it is in the world").1
    }

    fn handovers(&self) -> Vec<Duration> {
        self.simulation.handovers(self.player)
    }

    fn coverage(&self) -> &Coverage {
        self.simulation.coverage()
    }

    /// Everything comes right, and the player is where it wanted to go.
    fn ends_in(mut self, zone: ZoneId) {
        if let Err(violation) = self.simulation.settle() {
            panic!("{violation}\n{}", self.simulation.trace().join("\n"));
        }
        assert_eq!(self.owner(), zone);
        assert_eq!(self.simulation.shown(0, self.player).map(|(zone, _)| zone), Some(zone));
    }
}

#[test]
fn a_destination_that_loads_before_its_source_has_saved_keeps_what_it_has() {
    let mut play = Play::begin(Play::two_zones(20));
    // What West writes down in the tick before the handover is held up, and comes when East has long had the player.
    play.beats(3);
    play.happen(Choice::HoldUp {
        machine: WEST_RUNS,
        transfer: false,
    });
    play.beats(1);
    assert_eq!(play.coverage().count(Occurrence::HeldUp), 1);
    play.walk(EAST);
    play.beats(2);
    assert_eq!(play.owner(), EAST);
    play.beats(5);
    play.happen(Choice::Straggle { which: 0 });
    assert_eq!(play.coverage().count(Occurrence::Straggler), 1);
    // East dies with what it has: it goes on from what is written down.
    play.happen(Choice::Crash {
        machine: EAST_RUNS,
        elsewhere: false,
        held_up: 0,
        ticks: 2,
    });
    play.ends_in(EAST);
}

#[test]
fn an_addition_that_overtakes_a_removal_leaves_one_entity_in_sight() {
    let mut play = Play::begin(Play::two_zones(20));
    // All that West says before the handover comes after all that East says of it.
    let late = |link: u8| Choice::Link {
        link,
        fate: Fate::Late,
        count: 8,
        ticks: 12,
    };
    play.happen(late(0));
    play.beats(2);
    play.walk(EAST);
    play.beats(4);
    assert_eq!(play.simulation.shown(0, play.player).map(|(zone, _)| zone), Some(EAST));
    play.beats(14);
    assert!(
        play.coverage().count(Occurrence::StaleEpoch) > 0,
        "what West said came late"
    );
    assert_eq!(play.simulation.shown(0, play.player).map(|(zone, _)| zone), Some(EAST));
    // It leaves the world, and what its zone said before comes after that.
    play.happen(late(2));
    play.beats(2);
    play.happen(Choice::Destroy { entity: 0 });
    play.happen(Choice::Quit { player: 0 });
    play.beats(20);
    assert_eq!(play.simulation.shown(0, play.player), None);
    assert_eq!(play.simulation.entities(), []);
    play.simulation.settle().unwrap();
}

#[test]
fn a_zone_that_is_stopped_in_the_middle_of_a_transfer_neither_loses_nor_doubles_what_leaves() {
    for (held_up, straggles) in [(0, false), (u8::MAX, true), (u8::MAX, false)] {
        for elsewhere in [false, true] {
            let mut play = Play::begin(Play::two_zones(20));
            play.happen(Choice::Slow {
                machine: WEST_RUNS,
                commands: 3,
                answers: 3,
            });
            play.walk(EAST);
            play.beats(2);
            assert_eq!(play.owner(), WEST, "the transfer is on its way");
            play.happen(Choice::Crash {
                machine: WEST_RUNS,
                elsewhere,
                held_up,
                ticks: 4,
            });
            if straggles {
                (0..4).for_each(|_| play.happen(Choice::Straggle { which: 0 }));
                assert_eq!(play.owner(), EAST);
            }
            play.ends_in(EAST);
        }
    }
}

#[test]
fn an_entity_that_swings_over_a_border_changes_hands_five_times_a_second_at_most() {
    let mut play = Play::begin(Play::two_zones(60));
    // Over the border and back fifteen times a second, for ten seconds.
    for _ in 0..150 {
        play.walk(EAST);
        play.beats(2);
        play.walk(WEST);
        play.beats(2);
    }
    let handovers = play.handovers();
    assert!(handovers.len() >= 20, "it does cross: {}", handovers.len());
    for (index, first) in handovers.iter().enumerate() {
        let within = handovers[index..]
            .iter()
            .take_while(|at| **at < *first + Duration::from_secs(1));
        let count = within.count();
        assert!(count <= 5, "{count} handovers from {first:?}");
    }
    play.ends_in(WEST);
}

#[test]
fn a_zone_whose_clock_is_behind_holds_what_comes_until_its_time() {
    let mut setup = Play::two_zones(20);
    setup.skews[usize::from(EAST_RUNS)] = -8;
    let mut play = Play::begin(setup);
    play.walk(EAST);
    play.beats(1);
    assert_eq!(play.owner(), EAST);
    assert_eq!(play.coverage().count(Occurrence::Held), 1);
    // That no tick is simulated twice, nor left out, is checked at every step.
    play.beats(6);
    // It dies with what it holds, and begins with a record from a tick that it has not reached.
    play.walk(WEST);
    play.beats(20);
    play.walk(EAST);
    play.beats(1);
    play.happen(Choice::Crash {
        machine: EAST_RUNS,
        elsewhere: false,
        held_up: 0,
        ticks: 1,
    });
    play.ends_in(EAST);
}
