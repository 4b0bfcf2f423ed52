//! Walks of a stream: each is begun at once where its player is taken to be, and brought to it where it is not.

use std::sync::atomic::{AtomicBool, Ordering};

use meridian_fabric::desk::Chain;
use tokio::sync::oneshot;
use tokio::time::timeout_at;
use tonic::Status;

use super::desk::{InDesk, hand_in};
use super::passage::{Passage, Passed};
use super::{Errand, Outcome, Router, Step, Target, remote, too_late};
use crate::identity::Identity;

/// What the walks of a stream go by, in their order.
#[derive(Default)]
pub(crate) struct Ways {
    /// In a desk of this process: behind a walk that was not done none is, until all are answered.
    chain: Chain,
    /// To the server that has the player, if that is another one.
    passage: Option<Passage>,
}

impl Ways {
    /// All walks are answered: those that come now have none before them that is yet to be brought to its player.
    pub(crate) fn begin_anew(&mut self) {
        self.chain = Chain::default();
    }

    /// Nothing is under way: a passage that has ended is of no use any more. While something is, another one would overtake what was lost with it.
    pub(crate) fn drop_ended(&mut self) {
        self.passage.take_if(|passage| passage.has_ended());
    }
}

/// A walk that has begun.
pub(crate) struct Begun {
    errand: Errand,
    way: Way,
}

impl Begun {
    /// Whether it is where its player was taken to be; else it is yet to be brought anywhere.
    pub(crate) fn is_at_its_target(&self) -> bool {
        !matches!(self.way, Way::ToBeRouted)
    }
}

/// How a walk goes to its zone.
enum Way {
    InDesk(InDesk),
    PassedOn(oneshot::Receiver<Passed>),
    ToBeRouted,
}

impl Router {
    /// Begins a walk at `target`, where its player is taken to be, if it can be at once: in a desk of this process, or through a passage, which is opened for
    /// that.
    pub(crate) fn begin(&self, errand: Errand, target: Option<Target>, ways: &mut Ways, identity: &Identity) -> Begun {
        let begun = match target {
            Some(Target::Zone(zone)) => self
                .here(zone)
                .and_then(|local| hand_in(local, errand.wish, &errand, Some(&ways.chain)))
                .map(Way::InDesk),
            // What was passed on once is not passed on again.
            Some(Target::Server(address)) if errand.caller.hops == 0 => {
                if ways.passage.as_ref().is_none_or(|open| open.address != address) {
                    let channel = self.remotes.channel(address);
                    // The token that the stream began with may have expired meanwhile.
                    ways.passage = Some(Passage::open(channel, address, errand.caller.again(identity)));
                }
                let passed = ways.passage.as_mut().and_then(|open| open.pass(&errand));
                passed.map(Way::PassedOn)
            }
            _ => None,
        };
        Begun {
            errand,
            way: begun.unwrap_or(Way::ToBeRouted),
        }
    }

    /// What comes of a walk that has begun. Where it was not done, for its player was not there, `is_astray` says so, and it is brought to where that is.
    ///
    /// # Errors
    /// The status for the caller.
    pub(crate) async fn finish(
        &self,
        begun: Begun,
        identity: &Identity,
        is_astray: &AtomicBool,
    ) -> Result<Outcome, Status> {
        let Begun { errand, way } = begun;
        let deadline = tokio::time::Instant::from_std(errand.caller.deadline);
        let step = match way {
            Way::InDesk(mut order) => timeout_at(deadline, order.answered()).await,
            Way::PassedOn(told) => {
                let asked = errand.caller.arrived;
                let passed = timeout_at(deadline, told).await;
                passed.map(|passed| remote::step_of(passed, &errand, asked))
            }
            Way::ToBeRouted => Ok(Step::NotHere),
        };
        match step.map_err(|_| too_late())? {
            Step::Done(outcome) => {
                self.remember(&errand.caller, &outcome);
                Ok(outcome)
            }
            Step::Refused(status) => Err(status),
            Step::NotHere | Step::Away | Step::At(_) => {
                is_astray.store(true, Ordering::Relaxed);
                // The token that the stream began with may have expired meanwhile.
                let caller = errand.caller.again(identity);
                self.route(&Errand { caller, ..errand }).await
            }
        }
    }
}
