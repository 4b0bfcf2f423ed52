//! The way of a call to the zone that has its player: a desk of this process, or another server.
//!
//! A zone that does not have a player says where it went, and the call follows, a few steps at most. While nobody has it, for it is on its way from one zone
//! to the next, the call waits a little and asks again. A call that another server has passed on is never passed on again.

mod desk;
mod passage;
mod remote;
mod walks;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use meridian_bus::directory::{Directory, Listed, ServiceKind};
use meridian_ids::{LeaseEpoch, PlayerId, ZoneId};
use meridian_rpc::v1::{MoveTiming, Position};
use meridian_rpc::{ErrorWord, owner_elsewhere, refusal};
use tokio::time::timeout_at;
use tonic::Status;

use crate::context::{FrontContext, LocalZone};
use crate::identity::Caller;
use crate::players::Players;

use remote::Remotes;
pub(crate) use walks::{Begun, Ways};

/// How long a call waits for a player that no zone has: a transfer takes milliseconds, and a zone that was asked answers after its tick.
const IN_TRANSIT_MAX: Duration = Duration::from_secs(1);
/// Between two looks for a player that no zone has, growing from the first to the second.
const LOOK_AGAIN_FIRST: Duration = Duration::from_millis(2);
const LOOK_AGAIN_LAST: Duration = Duration::from_millis(16);
/// Zones and servers that one look follows a player through.
const STEPS_MAX: usize = 6;
/// Other servers that are asked for a player of whom nothing is known.
const SERVERS_ASKED_MAX: usize = 64;

/// A walk whose fields are what they may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Walk {
    pub(crate) direction: [f32; 2],
    pub(crate) jump: bool,
    pub(crate) ticks: u32,
}

/// What is wanted for a player.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wish {
    Join,
    Walk(Walk),
    Stay,
    Leave,
}

/// A wish, and whose.
#[derive(Clone, Debug)]
pub(crate) struct Errand {
    pub(crate) caller: Caller,
    pub(crate) wish: Wish,
}

/// What came of a wish.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// Where the player's entity was after the tick that did it; nowhere if it has left.
    pub(crate) position: Option<Position>,
    pub(crate) timing: MoveTiming,
}

/// What one zone or server says.
#[derive(Debug)]
pub(crate) enum Step {
    Done(Outcome),
    /// It does not have the player.
    NotHere,
    /// It cannot say now.
    Away,
    At(Target),
    Refused(Status),
}

/// Whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Zone(ZoneId),
    Server(SocketAddr),
    /// The zones of this process.
    Here,
}

/// What one look for a player found.
enum Look {
    Done(Outcome),
    /// Nobody has it, and nobody has heard of it.
    Unknown,
    /// Somebody has heard of it, and nobody has it now: it is on its way, or has left.
    Gone,
    /// Who may have it cannot say.
    Away,
    Refused(Status),
}

/// Who has a zone.
enum Place<'a> {
    Here(&'a LocalZone),
    There(SocketAddr),
    Nowhere,
}

/// Finds players.
pub(crate) struct Router {
    instance: String,
    local: HashMap<ZoneId, LocalZone>,
    entrances: Vec<ZoneId>,
    directory: Option<Arc<dyn Directory>>,
    remotes: Remotes,
    pub(crate) players: Arc<Players>,
}

impl Router {
    pub(crate) fn new(context: &FrontContext, players: Arc<Players>) -> Self {
        let local = context.local.iter().map(|local| (local.zone, local.clone()));
        Self {
            instance: context.instance.clone(),
            local: local.collect(),
            entrances: context.world.entrances.clone(),
            directory: context.directory.clone(),
            remotes: Remotes::default(),
            players,
        }
    }

    /// Brings a wish to the zone that has the player.
    ///
    /// # Errors
    /// The status for the caller.
    pub(crate) async fn route(&self, errand: &Errand) -> Result<Outcome, Status> {
        let deadline = tokio::time::Instant::from_std(errand.caller.deadline);
        match timeout_at(deadline, self.look_until_found(errand)).await {
            Ok(done) => done,
            Err(_) => Err(too_late()),
        }
    }

    async fn look_until_found(&self, errand: &Errand) -> Result<Outcome, Status> {
        let player = errand.caller.player;
        let began = Instant::now();
        // Who joins is let in somewhere: that it has no entity is no answer.
        let mut was_known = errand.wish == Wish::Join && errand.caller.hops == 0;
        let mut pause = LOOK_AGAIN_FIRST;
        loop {
            let known = self.players.zone_of(player);
            was_known |= known.is_some();
            let found = self.look(errand, known).await;
            // Who has passed the call on looks again itself: the player may be elsewhere by then.
            let looks_again = errand.caller.hops == 0 && began.elapsed() < IN_TRANSIT_MAX;
            match found {
                Look::Done(outcome) => {
                    self.remember(&errand.caller, &outcome);
                    return Ok(outcome);
                }
                Look::Refused(status) => return Err(status),
                Look::Unknown => return Err(not_joined()),
                Look::Gone | Look::Away if looks_again => {}
                // A zone sent it on, long ago as it seems, and the other does not have it.
                Look::Gone if !was_known => return Err(not_joined()),
                Look::Gone | Look::Away => {
                    // Who calls again is looked for anew, everywhere.
                    if errand.caller.hops == 0 {
                        self.players.forget(player);
                    }
                    let message = "no zone has the player's entity now, or its zone is away: try again";
                    return Err(refusal(ErrorWord::ZoneAway, message));
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_AGAIN_LAST);
        }
    }

    /// Keeps in mind where a player was.
    fn remember(&self, caller: &Caller, outcome: &Outcome) {
        match outcome.position {
            Some(position) => {
                // Zones' ids have 16 bits; what another server says is believed as far as it can be.
                let zone = ZoneId(u16::try_from(position.zone_id).unwrap_or(u16::MAX));
                self.players.seen(caller.player, &caller.name, zone, Instant::now());
            }
            None => self.players.forget(caller.player),
        }
    }

    /// Follows a player through zones, from the one that had it last.
    async fn look(&self, errand: &Errand, known: Option<ZoneId>) -> Look {
        // Who passed the call on believes the player to be here, and knows better than what was so before.
        let (known, before) = match known {
            Some(zone) if errand.caller.hops > 0 && self.here(zone).is_none() => (None, known),
            known => (known, None),
        };
        let is_joining = errand.wish == Wish::Join;
        let mut entrance = is_joining.then(|| self.entrance(&errand.caller)).flatten();
        let mut is_known = known.is_some() || is_joining && (entrance.is_some() || errand.caller.hops == 0);
        let mut target = match known.map(Target::Zone).or_else(|| entrance.take().map(Target::Zone)) {
            Some(target) => target,
            None => match self.search(errand).await {
                Step::At(target) => {
                    is_known = true;
                    target
                }
                found => match before {
                    Some(zone) if matches!(found, Step::NotHere) => Target::Zone(zone),
                    _ => return look_of(found, is_known),
                },
            },
        };
        for _ in 0..STEPS_MAX {
            match self.ask(errand, target).await {
                Step::At(next) => {
                    is_known = true;
                    target = next;
                }
                // It is not where it was; who lets players in knows where it is, or lets it in.
                Step::NotHere if entrance.is_some() => match entrance.take() {
                    Some(zone) => target = Target::Zone(zone),
                    None => return Look::Gone,
                },
                found => return look_of(found, is_known),
            }
        }
        // It went from zone to zone as fast as they were asked.
        Look::Gone
    }

    async fn ask(&self, errand: &Errand, target: Target) -> Step {
        match target {
            Target::Server(address) => self.ask_server(errand, address).await,
            Target::Here => self.search_here(errand).await,
            Target::Zone(zone) => match self.place(zone) {
                Place::Here(local) => desk::ask(local, self.request_at(zone, errand), errand).await,
                Place::There(address) => self.ask_server(errand, address).await,
                Place::Nowhere => Step::Away,
            },
        }
    }

    async fn ask_server(&self, errand: &Errand, address: SocketAddr) -> Step {
        if errand.caller.hops > 0 {
            let message = "another server has the player's entity, and a call is passed on once";
            return Step::Refused(owner_elsewhere(address, message));
        }
        match self.remotes.ask(errand, address).await {
            // Tokens go to other servers of the world alone, whatever an address in an answer says; one that is none of them may be this one's.
            Step::At(Target::Server(next)) if !self.servers().contains(&next) => Step::At(Target::Here),
            step => step,
        }
    }

    /// Asks everybody for a player of whom nothing is known: first the zones of this process, then the other servers.
    async fn search(&self, errand: &Errand) -> Step {
        let mut said = self.search_here(errand).await;
        if !matches!(said, Step::NotHere | Step::Away) || errand.caller.hops > 0 {
            return said;
        }
        for address in self.servers() {
            match self.ask_server(errand, address).await {
                Step::NotHere => {}
                // It may be the one that has the player.
                Step::Refused(status) if ErrorWord::of(&status) == Some(ErrorWord::OwnerElsewhere) => said = Step::Away,
                Step::Away => said = Step::Away,
                found => return found,
            }
        }
        said
    }

    async fn search_here(&self, errand: &Errand) -> Step {
        let serving = self.local.values().filter(|local| (local.status)().is_some());
        let asked = serving.map(|local| desk::ask(local, self.request_at(local.zone, errand), errand));
        let mut said = Step::NotHere;
        for step in join_all(asked).await {
            match (&said, step) {
                (_, found @ Step::Done(_)) => return found,
                (_, Step::NotHere) => {}
                (Step::At(_), Step::Away) => {}
                (_, step) => said = step,
            }
        }
        said
    }

    /// A player is let in by an entrance alone; any other zone is asked whether it has it.
    fn request_at(&self, zone: ZoneId, errand: &Errand) -> Wish {
        match errand.wish {
            Wish::Join if !self.entrances.contains(&zone) => Wish::Stay,
            wish => wish,
        }
    }

    /// Where a player is let in: through this server if it can be, and if the call was passed on, through no other.
    fn entrance(&self, caller: &Caller) -> Option<ZoneId> {
        let nth = |zones: &[ZoneId]| {
            let nth = caller.player.0.checked_rem(zones.len() as u64)?;
            zones.get(nth as usize).copied()
        };
        let here: Vec<ZoneId> = self
            .entrances
            .iter()
            .copied()
            .filter(|zone| matches!(self.place(*zone), Place::Here(_)))
            .collect();
        let there = || {
            let there = self.entrances.iter().copied();
            let there = there.filter(|zone| matches!(self.place(*zone), Place::There(_)));
            nth(&there.collect::<Vec<_>>())
        };
        let through_another = || (caller.hops == 0).then(there).flatten();
        nth(&here).or_else(through_another)
    }

    fn place(&self, zone: ZoneId) -> Place<'_> {
        if let Some(local) = self.local.get(&zone)
            && (local.status)().is_some()
        {
            return Place::Here(local);
        }
        let listed = self.listed();
        let owner = newest(&listed, zone).filter(|owner| owner.service.instance != self.instance);
        match owner.and_then(|owner| owner.service.public) {
            Some(address) => Place::There(address),
            None => Place::Nowhere,
        }
    }

    /// Where the zone is that had a player last; nowhere if that is not known, or nobody has it now.
    pub(crate) fn target_of(&self, player: PlayerId) -> Option<Target> {
        let zone = self.players.zone_of(player)?;
        match self.place(zone) {
            Place::Here(_) => Some(Target::Zone(zone)),
            Place::There(address) => Some(Target::Server(address)),
            Place::Nowhere => None,
        }
    }

    /// A zone of this process that simulates.
    pub(crate) fn here(&self, zone: ZoneId) -> Option<&LocalZone> {
        match self.place(zone) {
            Place::Here(local) => Some(local),
            _ => None,
        }
    }

    /// Tells another server that a player of one of its zones is still there.
    pub(crate) async fn touch(&self, errand: &Errand, zone: ZoneId) {
        let Place::There(address) = self.place(zone) else {
            return;
        };
        if let Step::Done(_) = self.remotes.ask(errand, address).await {
            self.players.touched(errand.caller.player, zone, Instant::now());
        }
    }

    pub(crate) fn listed(&self) -> Arc<Vec<Listed>> {
        self.directory
            .as_ref()
            .map(|directory| directory.snapshot())
            .unwrap_or_default()
    }

    /// The other servers that have zones, each once.
    fn servers(&self) -> Vec<SocketAddr> {
        let listed = self.listed();
        let others = listed.iter().filter(|listed| listed.service.instance != self.instance);
        let zones = others.filter(|listed| matches!(listed.service.kind, ServiceKind::Zone { .. }));
        let mut addresses: Vec<SocketAddr> = zones.filter_map(|listed| listed.service.public).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(SERVERS_ASKED_MAX);
        addresses
    }
}

/// Of the instances of a zone that are listed the one that counts.
pub(crate) fn newest(listed: &[Listed], wanted: ZoneId) -> Option<&Listed> {
    let lease_of = |listed: &Listed| match listed.service.kind {
        ServiceKind::Zone { zone, lease } if zone == wanted => Some(lease),
        _ => None,
    };
    listed
        .iter()
        .filter_map(|listed| lease_of(listed).map(|lease: LeaseEpoch| (lease, listed)))
        .max_by_key(|(lease, _)| *lease)
        .map(|(_, listed)| listed)
}

fn look_of(step: Step, is_known: bool) -> Look {
    match step {
        Step::Done(outcome) => Look::Done(outcome),
        Step::NotHere if !is_known => Look::Unknown,
        Step::NotHere => Look::Gone,
        Step::Away | Step::At(_) => Look::Away,
        Step::Refused(status) => Look::Refused(status),
    }
}

pub(crate) fn not_joined() -> Status {
    refusal(ErrorWord::NotJoined, "the player has no entity: call Join first")
}

pub(crate) fn too_late() -> Status {
    refusal(
        ErrorWord::Deadline,
        "no zone answered in time; what was asked may have been done",
    )
}

#[cfg(test)]
mod tests {
    use meridian_bus::directory::{Service, ServiceDetail};

    use super::*;

    fn listed(zone: u16, lease: u64, instance: &str) -> Listed {
        let kind = ServiceKind::Zone {
            zone: ZoneId(zone),
            lease: LeaseEpoch(lease),
        };
        let service = Service {
            kind,
            instance: instance.to_owned(),
            fabric: None,
            public: None,
            admin: None,
            load: 0,
            detail: ServiceDetail::default(),
        };
        let renewed_ago = Duration::ZERO;
        Listed { service, renewed_ago }
    }

    #[test]
    fn of_the_instances_of_a_zone_the_one_of_the_highest_lease_counts() {
        let all = [
            listed(0, 3, "old"),
            listed(1, 9, "other"),
            listed(0, 4, "new"),
            listed(0, 2, "older"),
        ];
        let counts = |zone| newest(&all, ZoneId(zone)).map(|listed| listed.service.instance.as_str());
        assert_eq!([counts(0), counts(1), counts(2)], [Some("new"), Some("other"), None]);
    }
}
