use super::*;

const A: WorldEntityId = WorldEntityId(1);
const B: WorldEntityId = WorldEntityId(2);
const EAST: ZoneId = ZoneId(1);

fn owning(entities: &[WorldEntityId]) -> Handoff {
    let mut handoff = Handoff::new(TickRate::default());
    for entity in entities {
        handoff.own(*entity, EntityEpoch(4), Allowance::full(Tick(0)));
    }
    handoff
}

fn leave(handoff: &mut Handoff, entity: WorldEntityId, after: Tick) -> Departure {
    match handoff.cross(entity, EAST, after) {
        Verdict::Leave(departure) => departure,
        Verdict::Stay => panic!("{entity} stays"),
    }
}

#[test]
fn an_entity_is_frozen_from_the_asking_until_the_answer_and_then_gone() {
    let mut handoff = owning(&[A]);
    let departure = leave(&mut handoff, A, Tick(10));
    assert_eq!((departure.to, departure.after), (EAST, Tick(10)));
    assert_eq!(departure.entities[0].1, EntityEpoch(5));
    assert_eq!(handoff.standing(A), Some(Standing::Leaving(departure.number)));
    assert_eq!(
        handoff.cross(A, EAST, Tick(11)),
        Verdict::Stay,
        "it is on its way already"
    );
    assert_eq!(handoff.retire(A), None, "and not the zone's to take out");
    let steps = handoff.answered(departure.number, Some(Ok(Done::Transferred)), Tick(11));
    let departed = Step::Departed {
        entity: A,
        epoch: EntityEpoch(5),
        to: EAST,
    };
    assert_eq!(steps, [departed]);
    assert_eq!(handoff.standing(A), None);
    // An answer that comes twice says nothing new.
    assert_eq!(
        handoff.answered(departure.number, Some(Ok(Done::Transferred)), Tick(12)),
        []
    );
}

#[test]
fn a_refused_entity_is_simulated_on_from_where_it_was_frozen_and_tried_again_later() {
    let mut handoff = owning(&[A, B]);
    let departure = leave(&mut handoff, A, Tick(10));
    let steps = handoff.answered(departure.number, Some(Err(Refusal::InboxFull)), Tick(12));
    assert_eq!(
        steps,
        [Step::Resume {
            entity: A,
            after: Tick(10)
        }]
    );
    assert_eq!(
        (handoff.standing(A), handoff.epoch(A)),
        (Some(Standing::Simulated), Some(EntityEpoch(4)))
    );
    assert_eq!(
        handoff.cross(B, EAST, Tick(13)),
        Verdict::Stay,
        "the same zone would refuse it as well"
    );
    assert!(matches!(handoff.cross(B, ZoneId(2), Tick(13)), Verdict::Leave(_)));
    assert_eq!(leave(&mut handoff, A, Tick(12 + RETRY_AFTER_TICKS)).number, 3);
}

#[test]
fn what_is_not_known_is_asked_and_never_guessed() {
    let mut handoff = owning(&[A]);
    let departure = leave(&mut handoff, A, Tick(10));
    for _ in 0..3 {
        assert_eq!(
            handoff.answered(departure.number, None, Tick(20)),
            [Step::Settle(departure.number)]
        );
        assert_eq!(handoff.standing(A), Some(Standing::Leaving(departure.number)));
    }
    let steps = handoff.answered(departure.number, Some(Ok(Done::Kept)), Tick(30));
    assert_eq!(
        steps,
        [Step::Resume {
            entity: A,
            after: Tick(10)
        }]
    );
}

#[test]
fn a_late_answer_does_not_touch_an_entity_that_is_back() {
    for answer in [Ok(Done::Transferred), Ok(Done::Kept), Err(Refusal::NotOwner(B))] {
        let mut handoff = owning(&[A]);
        let departure = leave(&mut handoff, A, Tick(10));
        assert_eq!(
            handoff.answered(departure.number, None, Tick(12)),
            [Step::Settle(departure.number)]
        );
        handoff.own(A, EntityEpoch(6), Allowance::full(Tick(0)));
        let steps = handoff.answered(departure.number, Some(answer), Tick(40));
        assert!(
            !steps
                .iter()
                .any(|step| matches!(step, Step::Departed { .. } | Step::Resume { .. }))
        );
        assert_eq!(
            (handoff.standing(A), handoff.epoch(A)),
            (Some(Standing::Simulated), Some(EntityEpoch(6)))
        );
    }
}

#[test]
fn joined_entities_go_together_or_not_at_all() {
    let mut handoff = owning(&[A, B]);
    handoff.join(B, A);
    let departure = leave(&mut handoff, B, Tick(10));
    assert_eq!(
        departure
            .entities
            .iter()
            .map(|(entity, ..)| *entity)
            .collect::<Vec<_>>(),
        [A, B]
    );
    assert_eq!(
        handoff
            .answered(departure.number, Some(Ok(Done::Transferred)), Tick(10))
            .len(),
        2
    );
    // One that is tied to what the zone does not own cannot go.
    let mut handoff = owning(&[A]);
    handoff.join(A, B);
    assert_eq!(handoff.cross(A, EAST, Tick(10)), Verdict::Stay);
    handoff.part(B);
    assert!(matches!(handoff.cross(A, EAST, Tick(11)), Verdict::Leave(_)));
}

#[test]
fn an_entity_that_somebody_else_owns_is_dropped_and_its_companion_goes_on() {
    let mut handoff = owning(&[A, B]);
    handoff.join(A, B);
    let departure = leave(&mut handoff, A, Tick(10));
    let steps = handoff.answered(departure.number, Some(Err(Refusal::NotOwner(A))), Tick(11));
    let resumed = Step::Resume {
        entity: B,
        after: Tick(10),
    };
    assert_eq!(steps, [resumed, Step::Disowned(A)]);
    assert_eq!(
        (handoff.standing(A), handoff.standing(B)),
        (None, Some(Standing::Simulated))
    );
}

#[test]
fn a_fenced_zone_stops_and_keeps_what_it_froze_frozen() {
    let mut handoff = owning(&[A]);
    let departure = leave(&mut handoff, A, Tick(10));
    assert_eq!(
        handoff.answered(departure.number, Some(Err(Refusal::Fenced)), Tick(11)),
        [Step::Stop]
    );
    assert_eq!(handoff.standing(A), Some(Standing::Leaving(departure.number)));
}

#[test]
fn a_group_that_is_held_up_has_spent_no_token() {
    let mut handoff = owning(&[A]);
    let mut spent = Allowance::full(Tick(0));
    while spent.take(Tick(0), TickRate::default()) {}
    handoff.own(B, EntityEpoch(1), spent);
    handoff.join(A, B);
    let before = handoff.allowance(A);
    assert_eq!(handoff.cross(A, EAST, Tick(1)), Verdict::Stay);
    assert_eq!(handoff.allowance(A), before);
}

#[test]
fn who_is_refused_again_and_again_still_has_its_tokens_when_the_neighbour_is_back() {
    let mut handoff = owning(&[A]);
    let mut tick = Tick(1_000);
    for _ in 0..20 {
        let departure = leave(&mut handoff, A, tick);
        handoff.answered(departure.number, Some(Err(Refusal::NoReceiver)), tick);
        tick = tick + RETRY_AFTER_TICKS;
    }
    leave(&mut handoff, A, tick);
}
