//! Orders of callers in this process: taken at the beginning of a tick, answered when it was simulated.
//!
//! Whoever orders plays the player as a gateway does, over a port of its own ([`DESK`]) that counts as open while it is heard.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bevy::math::Vec2;
use meridian_events::TRACED_MAX;
use meridian_fabric::desk::{Answer, DeskEnd, Order, Placed, Request};
use meridian_game::{Move, Pose};
use meridian_ids::{PlayerId, Tick, WorldEntityId, ZoneId};
use meridian_telemetry::span_definitions::{ATTRIBUTE_ENTITY, ATTRIBUTE_TICK, ATTRIBUTE_ZONE, ZONE_INPUT, ZONE_TICK};
use meridian_telemetry::{SpanKind, SpanRecord, TraceContext};

use super::Zone;
use super::gateways::ZONE_FULL;
use crate::custody::PortId;
use crate::input_ring::INPUT_LOOKAHEAD_TICKS;

/// Through which a player is played whose moves are ordered. Gateways' ports count from 1.
pub(super) const DESK: PortId = PortId(0);
/// A desk that has not spoken for a player for so long does not play it any more: callers speak for theirs each second.
const SILENT_MAX: Duration = Duration::from_secs(5);
/// Ticks that a walk lasts at most: the one after them, in which it ends, must fit in with the inputs that are taken ahead.
const WALK_TICKS_MAX: u32 = INPUT_LOOKAHEAD_TICKS as u32 - 1;
/// Orders taken in a tick; the rest waits for the next.
const ORDERS_PER_TICK_MAX: usize = 1_024;
/// Players of whom it is remembered where they went.
const DEPARTED_MAX: usize = 4_096;

/// The orders of a zone.
#[derive(Default)]
pub(super) struct Orders {
    end: Option<DeskEnd>,
    /// Done in this tick; answered after it.
    done: Vec<Order>,
    /// Joins of players whose entity is being written down.
    joining: HashMap<PlayerId, Vec<Order>>,
    /// Where players went who were handed over. What is too old is only a detour for who asks.
    departed: HashMap<PlayerId, ZoneId>,
    /// Traced walks that the last tick began: whose, and where the trace goes on.
    shown: Vec<(WorldEntityId, String)>,
}

impl Orders {
    pub(super) fn new(end: Option<DeskEnd>) -> Self {
        Self { end, ..Self::default() }
    }

    /// The traced walks that the last tick began, once.
    pub(super) fn take_shown(&mut self) -> Vec<(WorldEntityId, String)> {
        std::mem::take(&mut self.shown)
    }

    /// A player was sent to another zone.
    pub(super) fn departed(&mut self, player: PlayerId, to: ZoneId) {
        if self.end.is_none() {
            return;
        }
        if self.departed.len() >= DEPARTED_MAX && !self.departed.contains_key(&player) {
            self.departed.clear();
        }
        self.departed.insert(player, to);
    }

    /// A player is here.
    pub(super) fn arrived(&mut self, player: PlayerId) {
        self.departed.remove(&player);
    }

    /// A player's entity is not written down here: who waits for it is told why.
    pub(super) fn not_joined(&mut self, player: PlayerId, answer: &Answer) {
        for order in self.joining.remove(&player).into_iter().flatten() {
            order.answer(answer.clone());
        }
    }
}

/// Whether the desk still speaks for a player of whom it was heard so long ago.
pub(super) fn is_open(heard_ago: Duration) -> bool {
    heard_ago < SILENT_MAX
}

impl Zone {
    /// Does what is ordered, before `tick` is simulated.
    pub(super) fn take_orders(&mut self, tick: Tick) {
        for _ in 0..ORDERS_PER_TICK_MAX {
            let Some(order) = self.orders.end.as_ref().and_then(DeskEnd::take) else {
                return;
            };
            self.rest.disturb();
            self.take_order(order, tick);
        }
    }

    /// The zone may not simulate: nothing that is ordered is done.
    pub(super) fn refuse_orders(&mut self) {
        let Some(end) = &self.orders.end else { return };
        // Dropped unanswered they answer so by themselves.
        while let Some(order) = end.take() {
            order.answer(Answer::Away);
        }
    }

    fn take_order(&mut self, order: Order, tick: Tick) {
        let player = order.player();
        if let Request::Join { name } = order.request() {
            let name = name.clone();
            return self.order_join(order, &name);
        }
        let Some(known) = self.population.players.get_mut(&player) else {
            let elsewhere = self.orders.departed.get(&player).copied();
            return order.answer(Answer::Elsewhere(elsewhere));
        };
        known.inputs.expect_none();
        match order.request() {
            Request::Leave => {
                let id = known.id;
                if known.custody.let_go(DESK) {
                    self.retire(id);
                }
                return order.answer(Answer::Left);
            }
            Request::Walk {
                direction, jump, ticks, ..
            } => {
                let facing = direction[0].atan2(direction[1]);
                let (walk, _) = Move::new(Vec2::from_array(*direction), facing, *jump);
                known
                    .inputs
                    .walk(tick, walk, (*ticks).clamp(1, WALK_TICKS_MAX), order.asked());
            }
            Request::Stay | Request::Join { .. } => {}
        }
        known.custody.heard(DESK);
        self.orders.done.push(order);
    }

    fn order_join(&mut self, order: Order, name: &str) {
        let player = order.player();
        if let Some(known) = self.population.players.get_mut(&player) {
            known.inputs.expect_none();
            known.custody.heard(DESK);
            return self.orders.done.push(order);
        }
        // Before it is asked: a durable side of the same process answers at once.
        self.orders.joining.entry(player).or_default().push(order);
        match self.join(DESK, player, name) {
            Ok(()) => {}
            Err(ZONE_FULL) => self.orders.not_joined(player, &Answer::Full),
            Err(reason) => self.orders.not_joined(player, &Answer::Refused(reason)),
        }
    }

    /// `tick` was simulated, from `began` to `finished`: tells who ordered where their players are.
    pub(super) fn answer_orders(&mut self, tick: Tick, began: Instant, finished: Instant) {
        let mut done = std::mem::take(&mut self.orders.done);
        let players = &self.population.players;
        let joined = self
            .orders
            .joining
            .extract_if(|player, _| players.contains_key(player))
            .flat_map(|(_, orders)| orders);
        done.extend(joined);
        for order in done.drain(..) {
            let Some(placed) = self.placed(order.player(), tick, (began, finished)) else {
                // It left, or was parted from its entity, in this very tick.
                order.answer(Answer::Elsewhere(None));
                continue;
            };
            if let Some(shown) = trace(&order, &placed, self.config.world.zone_name(self.config.zone))
                && self.orders.shown.len() < TRACED_MAX
            {
                self.orders.shown.push((placed.entity, shown));
            }
            order.answer(Answer::Done(placed));
        }
        self.orders.done = done;
    }

    fn placed(&self, player: PlayerId, tick: Tick, (began, finished): (Instant, Instant)) -> Option<Placed> {
        let known = self.population.players.get(&player)?;
        let pose = self.app.world().get::<Pose>(known.entity)?;
        Some(Placed {
            entity: known.id,
            zone: self.config.zone,
            epoch: self.facts.epoch(known.id)?,
            tick,
            position: pose.position.to_array(),
            began,
            finished,
        })
    }
}

/// Tells of a traced walk: how long it waited for its tick, and what that took. Returns where its trace goes on.
fn trace(order: &Order, placed: &Placed, zone: &str) -> Option<String> {
    let Request::Walk {
        traceparent: Some(traceparent),
        ..
    } = order.request()
    else {
        return None;
    };
    let asked = TraceContext::parse(traceparent).filter(|context| context.is_sampled)?;
    let (waited, ticked) = (asked.child(), asked.child());
    let span = |context, parent, name, began, ended| SpanRecord {
        context,
        parent: Some(parent),
        name,
        kind: SpanKind::Internal,
        began,
        ended,
        attributes: vec![
            (ATTRIBUTE_ENTITY, placed.entity.to_string().into()),
            (ATTRIBUTE_ZONE, zone.to_owned().into()),
            (ATTRIBUTE_TICK, placed.tick.0.into()),
        ],
        error: None,
    };
    meridian_telemetry::record(span(waited, asked.span, ZONE_INPUT, order.asked(), placed.began));
    meridian_telemetry::record(span(ticked, waited.span, ZONE_TICK, placed.began, placed.finished));
    Some(ticked.to_traceparent())
}
