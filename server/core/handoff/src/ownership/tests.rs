//! What an instance makes of answers that come late, twice or not at all. Each of these tests was a fault that the simulator found.

use meridian_ids::Generation;

use super::*;
use crate::{Allowance, REMEMBERED};

const WEST: ZoneId = ZoneId(0);
const EAST: ZoneId = ZoneId(1);
const ENTITY: WorldEntityId = WorldEntityId(7);
const RENEWAL: Duration = Duration::from_millis(500);

type Answer = Option<Result<Done, Refusal>>;

fn epoch(generation: u32, count: u64) -> EntityEpoch {
    EntityEpoch(count).in_generation(Generation(generation))
}

fn lease(generation: u32, count: u32) -> LeaseEpoch {
    LeaseEpoch::new(Generation(generation), count)
}

fn record(epoch: EntityEpoch, after: u64) -> Record {
    Record {
        entity: ENTITY,
        epoch,
        player: None,
        after: Tick(after),
        allowance: Allowance::full(Tick(0)),
        state: Vec::new(),
        inputs: Vec::new(),
    }
}

/// A zone's instance, and the time that it is told.
struct Zone {
    ownership: Ownership,
    now: Duration,
}

impl Zone {
    /// An instance that has its zone, and these records.
    fn claimed(records: Vec<Record>) -> Self {
        let mut zone = Self {
            ownership: Ownership::new(WEST, "one", TickRate::default()),
            now: Duration::ZERO,
        };
        zone.ownership.begin_tick(zone.now);
        let claimed = Done::Claimed {
            lease: lease(1, 1),
            records,
            inbox: Vec::new(),
        };
        let (claim, _) = zone.command();
        zone.answer(claim, Some(Ok(claimed)));
        zone
    }

    /// An instance that has asserted one entity to a store that is in its second generation.
    fn asserted() -> Self {
        let mut zone = Self::claimed(vec![record(epoch(1, 1), 9)]);
        zone.is_told_of_generation(2);
        let assertion = zone.assert(vec![record(epoch(1, 1), 9)]);
        zone.is_asserted(&assertion, 2, vec![(ENTITY, epoch(2, 1))]);
        zone
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.ownership.begin_tick(self.now);
    }

    fn command(&mut self) -> (Ticket, Command) {
        self.ownership.next_command().expect("a command is due")
    }

    fn commands(&mut self) -> Vec<(Ticket, Command)> {
        std::iter::from_fn(|| self.ownership.next_command()).collect()
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) -> Vec<News> {
        self.ownership.answered(ticket, answer, Tick(100));
        std::iter::from_fn(|| self.ownership.next_news()).collect()
    }

    /// Its next renewal meets a store that was restarted.
    fn is_told_of_generation(&mut self, generation: u32) {
        self.pass(RENEWAL);
        let answer = Some(Err(Refusal::NewGeneration(Generation(generation))));
        for (ticket, _) in self.commands() {
            self.answer(ticket, answer.clone());
        }
    }

    /// Its next renewal succeeds.
    fn renews(&mut self) {
        self.pass(RENEWAL);
        for (ticket, command) in self.commands() {
            if let Command::ClaimZone { held: Some(lease), .. } = command {
                let (records, inbox) = (Vec::new(), Vec::new());
                self.answer(ticket, Some(Ok(Done::Claimed { lease, records, inbox })));
            }
        }
    }

    fn assert(&mut self, owned: Vec<Record>) -> (Ticket, Command) {
        self.ownership.assert(owned);
        self.command()
    }

    fn is_asserted(
        &mut self,
        (ticket, _): &(Ticket, Command),
        generation: u32,
        owned: Vec<(WorldEntityId, EntityEpoch)>,
    ) {
        let lease = lease(generation, generation);
        self.answer(*ticket, Some(Ok(Done::Asserted { lease, owned })));
    }

    /// The entity leaves for East, as it is after a tick.
    fn departs(&mut self, after: u64) -> (Ticket, Transfer) {
        let departure = self.ownership.cross(ENTITY, EAST, Tick(after));
        let departure = departure.expect("nothing keeps it");
        let (_, epoch, _) = departure.entities[0];
        self.ownership.depart(&departure, vec![record(epoch, after)]);
        match self.command() {
            (ticket, Command::Transfer(transfer)) => (ticket, transfer),
            other => panic!("a departure asks for a transfer, not for {other:?}"),
        }
    }

    fn accepts(&mut self, epoch: EntityEpoch, after: u64) -> Ticket {
        let from = Instance {
            zone: EAST,
            lease: lease(1, 1),
        };
        self.ownership.inbox(Transfer {
            id: TransferId { from, number: epoch.0 },
            to: WEST,
            records: vec![record(epoch, after)],
        });
        self.command().0
    }
}

fn accepted(epoch: EntityEpoch) -> Answer {
    let owned = vec![(ENTITY, epoch)];
    Some(Ok(Done::Accepted { owned }))
}

#[test]
fn what_was_given_up_and_not_confirmed_is_asserted_to_have_left() {
    let mut zone = Zone::claimed(vec![record(epoch(1, 1), 9)]);
    assert!(zone.ownership.retire(ENTITY, Tick(1)));
    zone.is_told_of_generation(2);
    let (_, command) = zone.assert(Vec::new());
    let Command::Assert { retired, .. } = command else {
        panic!("an assertion is due, not {command:?}");
    };
    assert_eq!(retired, [(ENTITY, epoch(1, 1))]);
}

#[test]
fn what_is_given_up_during_an_assertion_is_named_by_its_epoch_in_the_new_generation() {
    let mut zone = Zone::claimed(vec![record(epoch(1, 1), 9)]);
    zone.is_told_of_generation(2);
    let assertion = zone.assert(vec![record(epoch(1, 1), 9)]);
    assert!(zone.ownership.retire(ENTITY, Tick(1)));
    zone.is_asserted(&assertion, 2, vec![(ENTITY, epoch(2, 1))]);
    zone.pass(Duration::from_millis(16));
    let (_, command) = zone.command();
    let Command::Retire { entities, .. } = command else {
        panic!("it is to leave, not {command:?}");
    };
    assert_eq!(entities, [(ENTITY, epoch(2, 1))]);
}

#[test]
fn what_is_recalled_while_it_is_given_up_does_not_come_back() {
    let mut zone = Zone::asserted();
    zone.pass(RENEWAL);
    let commands = zone.commands();
    let recall = commands
        .iter()
        .find(|(_, command)| matches!(command, Command::Recall { .. }));
    let (recall, _) = *recall.expect("the store may know more");
    assert!(zone.ownership.retire(ENTITY, Tick(1)));
    let (retire, _) = zone.command();
    let records = vec![record(epoch(2, 1), 9)];
    assert_eq!(zone.answer(recall, Some(Ok(Done::Recalled { records }))), []);
    let entities = vec![(ENTITY, epoch(2, 1))];
    assert_eq!(zone.answer(retire, Some(Ok(Done::Retired))), [News::Retired(entities)]);
}

#[test]
fn what_is_told_of_once_more_while_it_is_given_up_does_not_come_back() {
    let mut zone = Zone::claimed(Vec::new());
    let accept = zone.accepts(epoch(1, 2), 9);
    assert_eq!(zone.answer(accept, accepted(epoch(1, 2))).len(), 1);
    let again = zone.accepts(epoch(1, 2), 9);
    assert!(zone.ownership.retire(ENTITY, Tick(1)));
    assert_eq!(zone.answer(again, accepted(epoch(1, 2))), []);
}

#[test]
fn what_came_while_it_was_said_to_be_nowhere_is_dropped_when_it_has_left() {
    let mut zone = Zone::claimed(Vec::new());
    let accept = zone.accepts(epoch(1, 2), 9);
    zone.ownership.retire_unknown(ENTITY, epoch(1, 2), Tick(1));
    let (retire, _) = zone.command();
    assert_eq!(zone.answer(accept, accepted(epoch(1, 2))).len(), 1);
    let news = zone.answer(retire, Some(Ok(Done::Retired)));
    let gone = News::Retired(vec![(ENTITY, epoch(1, 2))]);
    assert_eq!(news, [News::Disowned(ENTITY), gone]);
    assert_eq!(zone.ownership.handoff().epoch(ENTITY), None);
}

#[test]
fn what_is_refused_goes_on_from_its_own_transfer_though_an_earlier_one_is_not_settled() {
    let mut zone = Zone::claimed(vec![record(epoch(1, 1), 9)]);
    let (first, _) = zone.departs(10);
    zone.answer(first, None);
    // It has been to East and is back, and the first transfer is not settled yet.
    let accept = zone.accepts(epoch(1, 3), 20);
    zone.answer(accept, accepted(epoch(1, 3)));
    let (second, _) = zone.departs(30);
    let news = zone.answer(second, Some(Err(Refusal::NoReceiver)));
    assert_eq!(news, [News::Resumed(record(epoch(1, 3), 30))]);
}

/// The handovers that an instance says again.
fn said_again(zone: &mut Zone) -> usize {
    let (_, command) = zone.assert(Vec::new());
    match command {
        Command::Assert { departed, .. } => departed.len(),
        other => panic!("an assertion is due, not {other:?}"),
    }
}

fn handed_over() -> Zone {
    let mut zone = Zone::claimed(vec![record(epoch(1, 1), 9)]);
    zone.renews();
    let (transfer, _) = zone.departs(10);
    zone.answer(transfer, Some(Ok(Done::Transferred)));
    zone
}

#[test]
fn what_was_done_before_a_long_silence_of_the_store_is_said_again_after_it() {
    let mut zone = handed_over();
    zone.pass(REMEMBERED * 6);
    zone.commands();
    zone.is_told_of_generation(2);
    assert_eq!(said_again(&mut zone), 1);
}

#[test]
fn what_a_store_that_answers_has_had_for_long_is_not_said_again() {
    let mut zone = handed_over();
    for _ in 0..22 {
        zone.renews();
    }
    zone.is_told_of_generation(2);
    assert_eq!(said_again(&mut zone), 0);
}

#[test]
fn what_was_said_again_may_be_lost_again() {
    let mut zone = handed_over();
    (0..18).for_each(|_| zone.renews());
    zone.is_told_of_generation(2);
    let assertion = zone.assert(Vec::new());
    zone.is_asserted(&assertion, 2, Vec::new());
    (0..10).for_each(|_| zone.renews());
    zone.is_told_of_generation(3);
    assert_eq!(said_again(&mut zone), 1);
}

#[test]
fn what_a_paused_zone_does_before_it_looks_at_the_clock_is_not_taken_for_old() {
    let mut zone = Zone::claimed(vec![record(epoch(1, 1), 9)]);
    // A minute passes, and the zone goes on in the tick in which it was caught.
    let (transfer, _) = zone.departs(10);
    zone.answer(transfer, Some(Ok(Done::Transferred)));
    zone.now += REMEMBERED * 6;
    zone.renews();
    zone.renews();
    zone.is_told_of_generation(2);
    assert_eq!(said_again(&mut zone), 1);
}

#[test]
fn a_player_that_comes_while_the_store_settles_is_asked_for_again_when_it_has() {
    let mut zone = Zone::asserted();
    zone.ownership.spawn(record(epoch(0, 1), 9));
    let (spawn, _) = zone.command();
    assert_eq!(
        zone.answer(spawn, Some(Err(Refusal::Settling))),
        [],
        "nobody is turned away"
    );
    zone.pass(RENEWAL);
    let commands = zone.commands();
    let is_spawn = |(_, command): &(Ticket, Command)| matches!(command, Command::Spawn { .. });
    assert!(!commands.iter().any(is_spawn), "not every tick");
    let recall = commands
        .iter()
        .find(|(_, command)| matches!(command, Command::Recall { .. }));
    let (recall, _) = *recall.expect("the store may know more");
    zone.answer(recall, Some(Ok(Done::Recalled { records: Vec::new() })));
    zone.pass(Duration::from_millis(16));
    assert!(zone.commands().iter().any(is_spawn));
}
