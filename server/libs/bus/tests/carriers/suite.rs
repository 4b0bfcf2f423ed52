//! The tests, over any carrier.

use std::slice::from_ref;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use meridian_bus::{Bus, EventReader, Heard, INBOX_MAX, POSITIONS_MAX, PositionReader};
use meridian_events::{Happening, Positions};
use meridian_handoff::script::{Command, Death, Done, Instance, Record, Refusal, Ticket, Transfer, TransferId};
use meridian_handoff::{Allowance, LEASE_TTL, SETTLING};
use meridian_ids::{EntityEpoch, Generation, LeaseEpoch, PlayerId, Tick, WorldEntityId, ZoneId};

use crate::Carrier;

const SPAWNED: Result<Done, Refusal> = Ok(Done::Spawned { epoch: EntityEpoch(1) });
const WEST: ZoneId = ZoneId(0);
const EAST: ZoneId = ZoneId(1);
/// An answer that takes longer than this does not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// An instance of a zone, and its connection. Epochs go in and come out as if the store were in generation 0.
struct Zone {
    bus: Box<dyn Bus>,
    name: &'static str,
    instance: Instance,
    tickets: u64,
    records: Vec<Record>,
    inbox: Vec<Transfer>,
}

/// Puts the epochs of a command into the generation of who gives it.
fn raised(mut command: Command, generation: Generation) -> Command {
    let raise = |epoch: &mut EntityEpoch| *epoch = epoch.in_generation(generation);
    match &mut command {
        Command::ClaimZone { .. } | Command::Recall { .. } => {}
        Command::Spawn { record, .. } => raise(&mut record.epoch),
        Command::Checkpoint { records, .. } => records.iter_mut().for_each(|record| raise(&mut record.epoch)),
        Command::Transfer(transfer) => transfer.records.iter_mut().for_each(|record| raise(&mut record.epoch)),
        Command::Retire { entities, .. } | Command::Settle { entities, .. } | Command::Accept { entities, .. } => {
            entities.iter_mut().for_each(|(_, epoch)| raise(epoch));
        }
        Command::Assert {
            owned,
            departed,
            retired,
            ..
        } => {
            owned.iter_mut().for_each(|record| raise(&mut record.epoch));
            let departed = departed.iter_mut().flat_map(|transfer| &mut transfer.records);
            departed.for_each(|record| raise(&mut record.epoch));
            retired.iter_mut().for_each(|(_, epoch)| raise(epoch));
        }
    }
    command
}

/// Leaves the generations out of an answer.
fn flat(mut answer: Result<Done, Refusal>) -> Result<Done, Refusal> {
    let flatten = |epoch: &mut EntityEpoch| *epoch = epoch.in_generation(Generation(0));
    match &mut answer {
        Ok(Done::Claimed { records, .. } | Done::Recalled { records }) => {
            records.iter_mut().for_each(|record| flatten(&mut record.epoch));
        }
        Ok(Done::Asserted { owned, .. } | Done::Accepted { owned }) => {
            owned.iter_mut().for_each(|(_, epoch)| flatten(epoch));
        }
        Ok(Done::Spawned { epoch }) => flatten(epoch),
        _ => {}
    }
    answer
}

fn flat_transfer(mut transfer: Transfer) -> Transfer {
    for record in &mut transfer.records {
        record.epoch = record.epoch.in_generation(Generation(0));
    }
    transfer
}

impl Zone {
    fn claim(carrier: &dyn Carrier, zone: ZoneId) -> Self {
        Self::claim_as("one", carrier, zone).expect("an instance of the same name is never refused")
    }

    fn claim_as(name: &'static str, carrier: &dyn Carrier, zone: ZoneId) -> Result<Self, Refusal> {
        let mut claimed = Self {
            bus: carrier.connect(zone),
            name,
            instance: Instance {
                zone,
                lease: LeaseEpoch::default(),
            },
            tickets: 0,
            records: Vec::new(),
            inbox: Vec::new(),
        };
        let name = name.to_owned();
        let claim = Command::ClaimZone { zone, name, held: None };
        match claimed.ask(claim)? {
            Done::Claimed { lease, records, .. } => {
                claimed.instance.lease = lease;
                claimed.records = records;
            }
            other => panic!("a claim is answered by the lease, not by {other:?}"),
        }
        Ok(claimed)
    }

    /// Asks, and waits for the answer; what comes into the inbox meanwhile is kept.
    fn ask(&mut self, command: Command) -> Result<Done, Refusal> {
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        let generation = self.instance.lease.generation();
        self.bus.submit(ticket, raised(command, generation));
        let gives_up_at = Instant::now() + PATIENCE;
        loop {
            match self.bus.try_receive() {
                Some(Heard::Answer(answered, answer)) if answered == ticket => {
                    return flat(answer.expect("the connection holds"));
                }
                Some(Heard::Answer(..)) => panic!("answers come in the order of the questions"),
                Some(Heard::Inbox(transfer)) => self.inbox.push(flat_transfer(transfer)),
                None => assert!(Instant::now() < gives_up_at, "no answer"),
            }
        }
    }

    /// Says what it owned, gave away and took out of the world to a store that was restarted.
    fn assert(
        &mut self,
        carrier: &dyn Carrier,
        owned: &[Record],
        departed: &[Transfer],
        retired: &[(WorldEntityId, EntityEpoch)],
    ) -> Result<Vec<u64>, Refusal> {
        // The connection ended with the store.
        self.bus = carrier.connect(self.instance.zone);
        let assertion = Command::Assert {
            by: self.instance,
            name: self.name.to_owned(),
            owned: owned.to_vec(),
            departed: departed.to_vec(),
            retired: retired.to_vec(),
        };
        match self.ask(assertion)? {
            Done::Asserted { lease, owned } => {
                self.instance.lease = lease;
                Ok(owned.iter().map(|(entity, _)| entity.0).collect())
            }
            other => panic!("an assertion is answered by what was kept, not by {other:?}"),
        }
    }

    /// Waits until so many transfers have come in.
    fn await_inbox(&mut self, count: usize) -> Vec<Transfer> {
        let gives_up_at = Instant::now() + PATIENCE;
        while self.inbox.len() < count {
            match self.bus.try_receive() {
                Some(Heard::Inbox(transfer)) => self.inbox.push(flat_transfer(transfer)),
                Some(Heard::Answer(..)) => panic!("an answer to no question"),
                None => assert!(
                    Instant::now() < gives_up_at,
                    "{} of {count} transfers came",
                    self.inbox.len()
                ),
            }
        }
        std::mem::take(&mut self.inbox)
    }

    fn spawn(&mut self, record: Record) -> Result<Done, Refusal> {
        let by = self.instance;
        self.ask(Command::Spawn { by, record })
    }

    fn transfer(&self, number: u64, to: ZoneId, records: Vec<Record>) -> Transfer {
        let from = self.instance;
        Transfer {
            id: TransferId { from, number },
            to,
            records,
        }
    }

    fn accept(&mut self, transfer: &Transfer) -> Result<Done, Refusal> {
        let (by, id, entities) = (self.instance, transfer.id, transfer.entities());
        self.ask(Command::Accept { by, id, entities })
    }

    fn checkpoint(&mut self, records: Vec<Record>, died: &[Death]) -> Result<Done, Refusal> {
        let (by, died) = (self.instance, died.to_vec());
        self.ask(Command::Checkpoint { by, records, died })
    }

    /// Has services told of something: a player comes.
    fn tell(&mut self, entity: u64) {
        assert_eq!(self.spawn(of_player(entity, entity)), SPAWNED);
    }

    fn settle(&mut self, transfer: &Transfer) -> Result<Done, Refusal> {
        let (id, entities) = (transfer.id, transfer.entities());
        self.ask(Command::Settle { id, entities })
    }

    fn renew(&mut self) -> Result<Done, Refusal> {
        let Instance { zone, lease } = self.instance;
        self.ask(Command::ClaimZone {
            zone,
            name: self.name.to_owned(),
            held: Some(lease),
        })
    }
}

fn record(entity: u64, epoch: u64) -> Record {
    Record {
        entity: WorldEntityId(entity),
        epoch: EntityEpoch(epoch),
        player: None,
        after: Tick(100),
        allowance: Allowance::full(Tick(0)),
        state: vec![1, 2, 3],
        inputs: vec![(Tick(101), 7)],
    }
}

/// The answer to the acceptance of a whole transfer.
fn accepted(transfer: &Transfer) -> Result<Done, Refusal> {
    let owned = transfer.entities();
    Ok(Done::Accepted { owned })
}

fn of_player(entity: u64, player: u64) -> Record {
    Record {
        player: Some(PlayerId(player)),
        ..record(entity, 1)
    }
}

pub fn a_new_instance_fences_the_one_before_and_reads_what_it_wrote_down(carrier: &dyn Carrier) {
    let mut old = Zone::claim(carrier, WEST);
    assert_eq!(old.spawn(record(1, 1)), SPAWNED);
    let new = Zone::claim(carrier, WEST);
    assert!(new.instance.lease > old.instance.lease);
    assert_eq!(new.records, [record(1, 1)]);
    assert_eq!(old.spawn(record(2, 1)), Err(Refusal::Fenced));
    assert_eq!(old.renew(), Err(Refusal::Fenced));
    let retire = Command::Retire {
        by: old.instance,
        entities: vec![(WorldEntityId(1), EntityEpoch(1))],
        after: Tick(100),
    };
    assert_eq!(old.ask(retire), Err(Refusal::Fenced));
    assert_eq!(Zone::claim(carrier, WEST).records, [record(1, 1)]);
}

pub fn a_player_has_one_entity_and_an_id_is_spawned_once(carrier: &dyn Carrier) {
    let (mut west, mut east) = (Zone::claim(carrier, WEST), Zone::claim(carrier, EAST));
    assert_eq!(west.spawn(of_player(1, 9)), SPAWNED);
    assert_eq!(west.spawn(of_player(1, 9)), SPAWNED, "the same once more");
    let exists = Done::Exists {
        entity: WorldEntityId(1),
        zone: WEST,
    };
    assert_eq!(east.spawn(of_player(2, 9)), Ok(exists));
    assert_eq!(east.spawn(record(1, 1)), Err(Refusal::NotOwner(WorldEntityId(1))));
}

pub fn a_transfer_moves_a_record_once_however_often_it_is_asked_for(carrier: &dyn Carrier) {
    let (mut west, mut east) = (Zone::claim(carrier, WEST), Zone::claim(carrier, EAST));
    west.spawn(of_player(1, 9)).unwrap();
    let moved = Record {
        epoch: EntityEpoch(2),
        ..of_player(1, 9)
    };
    let transfer = west.transfer(1, EAST, vec![moved.clone()]);
    for _ in 0..2 {
        assert_eq!(west.ask(Command::Transfer(transfer.clone())), Ok(Done::Transferred));
    }
    assert_eq!(east.await_inbox(1), from_ref(&transfer));
    for _ in 0..2 {
        assert_eq!(east.accept(&transfer), accepted(&transfer));
    }
    assert_eq!(west.ask(Command::Transfer(transfer.clone())), Ok(Done::Transferred));
    assert_eq!(Zone::claim(carrier, WEST).records, []);
    let mut east = Zone::claim(carrier, EAST);
    assert_eq!(east.records, [moved]);
    assert!(east.bus.try_receive().is_none(), "nothing waits any more");
}

pub fn what_waits_is_told_to_the_next_instance_as_well(carrier: &dyn Carrier) {
    let (mut west, mut east) = (Zone::claim(carrier, WEST), Zone::claim(carrier, EAST));
    west.spawn(record(1, 1)).unwrap();
    let transfer = west.transfer(1, EAST, vec![record(1, 2)]);
    west.ask(Command::Transfer(transfer.clone())).unwrap();
    assert_eq!(east.await_inbox(1), from_ref(&transfer));
    // It dies before it has accepted.
    let mut next = Zone::claim(carrier, EAST);
    assert_eq!(next.await_inbox(1), from_ref(&transfer));
    assert_eq!(east.accept(&transfer), Err(Refusal::Fenced));
    assert_eq!(next.accept(&transfer), accepted(&transfer));
}

pub fn only_a_zone_with_a_lease_and_room_is_handed_anything(carrier: &dyn Carrier) {
    let mut west = Zone::claim(carrier, WEST);
    for entity in 1..=INBOX_MAX as u64 + 2 {
        west.spawn(record(entity, 1)).unwrap();
    }
    let send = |west: &mut Zone, entity: u64| {
        let transfer = west.transfer(entity, EAST, vec![record(entity, 2)]);
        west.ask(Command::Transfer(transfer))
    };
    assert_eq!(send(&mut west, 1), Err(Refusal::NoReceiver), "there never was one");
    let mut east = Zone::claim(carrier, EAST);
    carrier.pass_time(LEASE_TTL - Duration::from_millis(1));
    assert_eq!(send(&mut west, 1), Ok(Done::Transferred));
    carrier.pass_time(Duration::from_millis(1));
    assert_eq!(send(&mut west, 2), Err(Refusal::NoReceiver), "its lease has ended");
    assert!(east.renew().is_ok(), "nobody took it meanwhile");
    for entity in 2..=INBOX_MAX as u64 {
        assert_eq!(send(&mut west, entity), Ok(Done::Transferred));
    }
    assert_eq!(send(&mut west, INBOX_MAX as u64 + 1), Err(Refusal::InboxFull));
}

pub fn a_settled_transfer_has_happened_or_never_will(carrier: &dyn Carrier) {
    let (mut west, _east) = (Zone::claim(carrier, WEST), Zone::claim(carrier, EAST));
    west.spawn(record(1, 1)).unwrap();
    west.spawn(record(2, 1)).unwrap();
    let happened = west.transfer(1, EAST, vec![record(1, 2)]);
    west.ask(Command::Transfer(happened.clone())).unwrap();
    assert_eq!(west.settle(&happened), Ok(Done::Transferred));
    let never = west.transfer(2, EAST, vec![record(2, 2)]);
    assert_eq!(west.settle(&never), Ok(Done::Kept));
    assert_eq!(west.ask(Command::Transfer(never)), Ok(Done::Kept), "it came too late");
    let later = west.transfer(3, EAST, vec![record(2, 2)]);
    assert_eq!(west.ask(Command::Transfer(later)), Ok(Done::Transferred));
}

pub fn a_checkpoint_touches_what_the_zone_owns_and_nothing_younger(carrier: &dyn Carrier) {
    let (mut west, _east) = (Zone::claim(carrier, WEST), Zone::claim(carrier, EAST));
    west.spawn(record(1, 1)).unwrap();
    west.spawn(record(2, 1)).unwrap();
    let at = |entity: u64, tick: u64| Record {
        after: Tick(tick),
        state: tick.to_le_bytes().to_vec(),
        ..record(entity, 1)
    };
    let transfer = west.transfer(1, EAST, vec![record(2, 2)]);
    west.ask(Command::Transfer(transfer)).unwrap();
    for tick in [200, 150] {
        let records = vec![at(1, tick), at(2, tick), at(3, tick)];
        assert_eq!(west.checkpoint(records, &[]), Ok(Done::Checkpointed));
    }
    assert_eq!(Zone::claim(carrier, WEST).records, [at(1, 200)]);
}

pub fn what_left_is_gone_and_stays_gone(carrier: &dyn Carrier) {
    let mut west = Zone::claim(carrier, WEST);
    west.spawn(of_player(1, 9)).unwrap();
    let by = west.instance;
    let retire = |epoch: u64| Command::Retire {
        by,
        entities: vec![(WorldEntityId(1), EntityEpoch(epoch))],
        after: Tick(100),
    };
    assert_eq!(west.ask(retire(2)), Err(Refusal::NotOwner(WorldEntityId(1))));
    for _ in 0..2 {
        assert_eq!(west.ask(retire(1)), Ok(Done::Retired));
    }
    assert_eq!(west.spawn(of_player(1, 9)), Err(Refusal::NotOwner(WorldEntityId(1))));
    assert_eq!(west.spawn(of_player(2, 9)), SPAWNED, "the player may have another");
}

pub fn a_group_moves_whole_or_not_at_all(carrier: &dyn Carrier) {
    let (mut west, mut east) = (Zone::claim(carrier, WEST), Zone::claim(carrier, EAST));
    west.spawn(record(1, 1)).unwrap();
    west.spawn(record(2, 1)).unwrap();
    let wrong = west.transfer(1, EAST, vec![record(1, 2), record(3, 2)]);
    assert_eq!(
        west.ask(Command::Transfer(wrong)),
        Err(Refusal::NotOwner(WorldEntityId(3)))
    );
    let both = west.transfer(2, EAST, vec![record(1, 2), record(2, 2)]);
    assert_eq!(west.ask(Command::Transfer(both.clone())), Ok(Done::Transferred));
    assert_eq!(east.await_inbox(1), from_ref(&both));
    assert_eq!(east.accept(&both), accepted(&both));
    assert_eq!(Zone::claim(carrier, EAST).records, [record(1, 2), record(2, 2)]);
}

pub fn while_a_lease_lasts_only_an_instance_of_the_same_name_takes_a_zone_over(carrier: &dyn Carrier) {
    let old = Zone::claim_as("one", carrier, WEST).unwrap();
    assert_eq!(Zone::claim_as("two", carrier, WEST).err(), Some(Refusal::Taken));
    let mut again = Zone::claim_as("one", carrier, WEST).unwrap();
    assert!(again.instance.lease > old.instance.lease);
    carrier.pass_time(LEASE_TTL);
    let two = Zone::claim_as("two", carrier, WEST).unwrap();
    assert!(two.instance.lease > again.instance.lease);
    assert_eq!(again.renew(), Err(Refusal::Fenced));
    assert_eq!(Zone::claim_as("one", carrier, WEST).err(), Some(Refusal::Taken));
}

/// West has 1, 2 and 3; what the store then loses: 1 went to East, 2 left the world, 4 came into it.
struct LostTail {
    west: Zone,
    east: Zone,
    departed: Transfer,
}

impl LostTail {
    fn new(carrier: &dyn Carrier) -> Self {
        let (mut west, mut east) = (Zone::claim(carrier, WEST), Zone::claim(carrier, EAST));
        for new in [of_player(1, 9), record(2, 1), record(3, 1)] {
            assert_eq!(west.spawn(new), SPAWNED);
        }
        carrier.remember();
        let moved = Record {
            epoch: EntityEpoch(2),
            ..of_player(1, 9)
        };
        let departed = west.transfer(1, EAST, vec![moved]);
        west.ask(Command::Transfer(departed.clone())).unwrap();
        assert_eq!(east.await_inbox(1), from_ref(&departed));
        assert_eq!(east.accept(&departed), accepted(&departed));
        let (by, entities) = (west.instance, vec![(WorldEntityId(2), EntityEpoch(1))]);
        let after = Tick(100);
        assert_eq!(west.ask(Command::Retire { by, entities, after }), Ok(Done::Retired));
        assert_eq!(west.spawn(record(4, 1)), SPAWNED);
        carrier.lose_what_came_after();
        Self { west, east, departed }
    }

    /// What the zones own in the end, by new instances.
    fn owned(carrier: &dyn Carrier) -> [Vec<u64>; 2] {
        [WEST, EAST].map(|zone| {
            let claimed = Zone::claim(carrier, zone);
            let waiting = claimed.inbox.iter().flat_map(|transfer| &transfer.records);
            let mut all: Vec<u64> = claimed
                .records
                .iter()
                .chain(waiting)
                .map(|record| record.entity.0)
                .collect();
            all.sort_unstable();
            all
        })
    }
}

pub fn what_a_restarted_store_has_lost_is_said_again_in_any_order(carrier: &dyn Carrier) {
    for west_is_first in [true, false] {
        let LostTail {
            mut west,
            mut east,
            departed,
        } = LostTail::new(carrier);
        west.bus = carrier.connect(WEST);
        let refused = west.renew();
        assert!(matches!(refused, Err(Refusal::NewGeneration(_))), "{refused:?}");
        let mut assert_west = |carrier: &dyn Carrier| {
            let retired = [(WorldEntityId(2), EntityEpoch(1))];
            let owned = [record(3, 1), record(4, 1)];
            // Twice is once: the first answer may have been lost.
            let before = west.instance;
            assert_eq!(
                west.assert(carrier, &owned, from_ref(&departed), &retired),
                Ok(vec![3, 4])
            );
            west.instance = before;
            assert_eq!(
                west.assert(carrier, &owned, from_ref(&departed), &retired),
                Ok(vec![3, 4])
            );
        };
        if west_is_first {
            assert_west(carrier);
        }
        let arrived = Record {
            epoch: EntityEpoch(2),
            ..of_player(1, 9)
        };
        assert_eq!(east.assert(carrier, &[arrived], &[], &[]), Ok(vec![1]));
        if !west_is_first {
            assert_west(carrier);
        }
        assert!(east.renew().is_ok());
        carrier.pass_time(SETTLING);
        assert_eq!(LostTail::owned(carrier), [vec![3, 4], vec![1]]);
        carrier.forget_everything();
    }
}

pub fn a_handover_that_was_lost_before_it_was_accepted_happens_again(carrier: &dyn Carrier) {
    let LostTail {
        mut west,
        mut east,
        departed,
    } = LostTail::new(carrier);
    // East never accepted it: it has nothing.
    assert_eq!(east.assert(carrier, &[], &[], &[]), Ok(vec![]));
    assert_eq!(
        west.assert(carrier, &[record(3, 1)], from_ref(&departed), &[]),
        Ok(vec![3])
    );
    let told = east.await_inbox(1);
    assert_eq!(told[0].id, departed.id);
    assert_eq!(east.accept(&told[0]), accepted(&departed));
    carrier.pass_time(SETTLING);
    let by = west.instance;
    let Ok(Done::Recalled { records }) = west.ask(Command::Recall { by }) else {
        panic!("the zone is told what it has");
    };
    let recalled: Vec<u64> = records.iter().map(|record| record.entity.0).collect();
    assert_eq!(recalled, [2, 3], "nobody said that 2 has left");
}

pub fn nobody_new_is_let_in_before_the_living_have_spoken_and_who_comes_after_that_is_late(carrier: &dyn Carrier) {
    let LostTail { mut west, mut east, .. } = LostTail::new(carrier);
    assert_eq!(Zone::claim_as("one", carrier, WEST).err(), Some(Refusal::Settling));
    assert_eq!(west.assert(carrier, &[record(3, 1)], &[], &[]), Ok(vec![3]));
    let by = west.instance;
    assert_eq!(west.ask(Command::Recall { by }), Err(Refusal::Settling));
    carrier.pass_time(SETTLING);
    let new = Zone::claim(carrier, EAST);
    assert_eq!(new.records, []);
    let Ok(Done::Recalled { .. }) = west.ask(Command::Recall { by }) else {
        panic!("the zone is told what it has");
    };
    let late = east.assert(carrier, &[record(1, 2)], &[], &[]);
    assert_eq!(late, Err(Refusal::Fenced), "its zone is another's");
}

fn entity_of(what: Happening) -> u64 {
    match what {
        Happening::Joined { entity, .. }
        | Happening::Left { entity }
        | Happening::Died { entity, .. }
        | Happening::HandedOff { entity, .. } => entity.0,
    }
}

/// Waits for so many events, and says which entities they are about.
fn hear(reader: &mut dyn EventReader, count: usize, acknowledge: bool) -> Vec<u64> {
    let gives_up_at = Instant::now() + PATIENCE;
    let mut heard = Vec::new();
    while heard.len() < count {
        if let Some((entry, event)) = reader.try_next() {
            heard.push(entity_of(event.what));
            if acknowledge {
                reader.acknowledge(entry);
            }
        }
        assert!(Instant::now() < gives_up_at, "{heard:?} of {count} events came");
    }
    heard
}

pub fn who_came_died_changed_zones_and_left_is_told_by_the_command_that_makes_it_so_and_once(carrier: &dyn Carrier) {
    let (mut west, mut east) = (Zone::claim(carrier, WEST), Zone::claim(carrier, EAST));
    let mut events = carrier.events("chat");
    let (player, entity) = (PlayerId(9), WorldEntityId(1));
    let came = of_player(1, 9);
    let death = |tick: u64| Death {
        entity,
        player,
        tick: Tick(tick),
    };
    let nobody = Death {
        entity: WorldEntityId(7),
        ..death(103)
    };
    let epoch = EntityEpoch(2);
    let moved = west.transfer(1, EAST, vec![Record { epoch, ..came.clone() }]);
    for _ in 0..2 {
        assert_eq!(west.spawn(came.clone()), SPAWNED);
    }
    // Nobody's, and one of a player who has an entity: nobody came.
    assert_eq!(west.spawn(record(2, 1)), SPAWNED);
    assert!(matches!(west.spawn(of_player(3, 9)), Ok(Done::Exists { .. })));
    for died in [vec![death(101)], vec![death(101), death(102)], vec![death(100), nobody]] {
        assert_eq!(west.checkpoint(vec![came.clone()], &died), Ok(Done::Checkpointed));
    }
    for _ in 0..2 {
        assert_eq!(west.ask(Command::Transfer(moved.clone())), Ok(Done::Transferred));
    }
    assert_eq!(east.await_inbox(1), from_ref(&moved));
    assert_eq!(east.accept(&moved), accepted(&moved));
    let by = east.instance;
    let (entities, after) = (vec![(entity, epoch)], Tick(200));
    let retire = Command::Retire { by, entities, after };
    for _ in 0..2 {
        assert_eq!(east.ask(retire.clone()), Ok(Done::Retired));
    }
    assert_eq!(west.checkpoint(Vec::new(), &[death(300)]), Ok(Done::Checkpointed));
    east.tell(1 << 48);

    let mut told = Vec::new();
    let gives_up_at = Instant::now() + PATIENCE;
    while told.len() < 6 {
        assert!(Instant::now() < gives_up_at, "{told:?}");
        if let Some((_, event)) = events.try_next() {
            told.push((event.zone, event.tick.0, event.what));
        }
    }
    if let Happening::HandedOff { epoch, .. } = &mut told[3].2 {
        *epoch = epoch.in_generation(Generation(0));
    }
    let last = (PlayerId(1 << 48), WorldEntityId(1 << 48));
    let expected = [
        (WEST, 100, Happening::Joined { player, entity }),
        (WEST, 101, Happening::Died { player, entity }),
        (WEST, 102, Happening::Died { player, entity }),
        (
            WEST,
            100,
            Happening::HandedOff {
                entity,
                epoch,
                to: EAST,
            },
        ),
        (EAST, 200, Happening::Left { entity }),
        (
            EAST,
            100,
            Happening::Joined {
                player: last.0,
                entity: last.1,
            },
        ),
    ];
    assert_eq!(told, expected);
}

pub fn each_group_hears_each_event_once_in_order(carrier: &dyn Carrier) {
    let mut zone = Zone::claim(carrier, WEST);
    let (mut chat, mut presence) = (carrier.events("chat"), carrier.events("presence"));
    let mut other_presence = carrier.events("presence");
    (1..=4).for_each(|entity| zone.tell(entity));
    assert_eq!(hear(chat.as_mut(), 4, true), [1, 2, 3, 4]);
    // Two readers of a group share them.
    let mut shared = hear(presence.as_mut(), 1, true);
    shared.extend(hear(other_presence.as_mut(), 2, true));
    shared.extend(hear(presence.as_mut(), 1, true));
    assert_eq!(shared, [1, 2, 3, 4]);
    assert!(chat.try_next().is_none() && presence.try_next().is_none());
}

pub fn what_a_reader_did_not_acknowledge_goes_to_another(carrier: &dyn Carrier) {
    let mut zone = Zone::claim(carrier, WEST);
    let (mut first, mut second) = (carrier.events("store"), carrier.events("store"));
    (1..=3).for_each(|entity| zone.tell(entity));
    assert_eq!(hear(first.as_mut(), 1, true), [1]);
    assert_eq!(hear(first.as_mut(), 1, false), [2]);
    drop(first);
    assert_eq!(hear(second.as_mut(), 2, true), [2, 3]);
    assert!(second.try_next().is_none());
}

/// Waits until the zone has heard whether anybody follows it.
fn await_followed(zone: &Zone, is_followed: bool) {
    let gives_up_at = Instant::now() + PATIENCE;
    while zone.bus.is_followed() != is_followed {
        assert!(
            Instant::now() < gives_up_at,
            "the zone does not hear whether it is followed"
        );
        std::thread::yield_now();
    }
}

/// Waits for the next positions.
fn await_positions(reader: &mut dyn PositionReader) -> u64 {
    let gives_up_at = Instant::now() + PATIENCE;
    loop {
        match reader.try_next() {
            Some(positions) => return positions.tick.0,
            None => assert!(Instant::now() < gives_up_at, "no positions came"),
        }
    }
}

fn positions_of(zone: &Zone, tick: u64) -> Positions {
    Positions {
        zone: WEST,
        lease: zone.instance.lease,
        tick: Tick(tick),
        is_whole: true,
        traced: Vec::new(),
        entities: Vec::new(),
    }
}

pub fn who_does_not_keep_up_misses_the_oldest_positions(carrier: &dyn Carrier) {
    let mut zone = Zone::claim(carrier, WEST);
    assert!(!zone.bus.is_followed());
    let (mut quick, mut slow) = (carrier.positions(WEST), carrier.positions(WEST));
    await_followed(&zone, true);
    let last = POSITIONS_MAX as u64 + 10;
    for tick in 1..=last {
        zone.bus.publish_positions(positions_of(&zone, tick));
        assert_eq!(await_positions(quick.as_mut()), tick);
    }
    let kept: Vec<u64> = std::iter::from_fn(|| slow.try_next())
        .map(|positions| positions.tick.0)
        .collect();
    assert_eq!(kept, (11..=last).collect::<Vec<_>>());
    drop((quick, slow));
    await_followed(&zone, false);
}

/// Has the reader wake who holds the other end.
fn woken(reader: &mut dyn PositionReader) -> Receiver<()> {
    let (wake, waked) = channel();
    reader.wake_with(Arc::new(move || {
        // Who has been dropped is woken for nobody.
        let _ = wake.send(());
    }));
    waked
}

pub fn who_asks_to_be_woken_hears_of_each_position_and_who_has_gone_of_none(carrier: &dyn Carrier) {
    let mut zone = Zone::claim(carrier, WEST);
    let (mut stays, mut goes) = (carrier.positions(WEST), carrier.positions(WEST));
    await_followed(&zone, true);
    let (stays_waked, goes_waked) = (woken(stays.as_mut()), woken(goes.as_mut()));
    for tick in 1..=3 {
        zone.bus.publish_positions(positions_of(&zone, tick));
        stays_waked.recv_timeout(PATIENCE).unwrap();
        // Whoever is woken finds what it was woken for.
        assert_eq!(stays.try_next().map(|positions| positions.tick), Some(Tick(tick)));
        goes_waked.recv_timeout(PATIENCE).unwrap();
        assert_eq!(await_positions(goes.as_mut()), tick);
    }
    drop(goes);
    zone.bus.publish_positions(positions_of(&zone, 4));
    stays_waked.recv_timeout(PATIENCE).unwrap();
    assert_eq!(goes_waked.iter().count(), 0, "its wake is dropped with it");
}
