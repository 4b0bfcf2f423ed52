//! What happens, in words.

use std::fmt;

use super::Choice;

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beat { .. } => write!(f, "a tick passes"),
            Self::Pass { quarters } => write!(f, "{quarters} quarters of a tick pass, and nobody runs"),
            Self::Run { party } => write!(f, "party {party} runs"),
            Self::Walk { .. } => write!(f, "somebody walks"),
            Self::Tie { .. } => write!(f, "two are to be tied"),
            Self::Part { .. } => write!(f, "somebody is tied to none any more"),
            Self::Destroy { .. } => write!(f, "something is to be destroyed"),
            Self::Quit { player } => write!(f, "player {player} quits"),
            Self::Return { player, gateway } => write!(f, "player {player} comes by gateway {gateway}"),
            Self::Slow {
                machine,
                commands,
                answers,
            } => {
                write!(
                    f,
                    "machine {machine} waits {commands} ticks for the store, and {answers} for answers"
                )
            }
            Self::LoseAnswer { machine } => write!(f, "machine {machine} loses its next answer"),
            Self::HoldUp { machine, transfer } => {
                let what = if *transfer { "handover" } else { "command" };
                write!(f, "machine {machine} has its next {what} held up")
            }
            Self::Straggle { .. } => write!(f, "a straggler comes"),
            Self::Vanish { .. } => write!(f, "a straggler vanishes"),
            Self::Refuse { machine } => write!(f, "machine {machine} finds the next inbox full"),
            Self::TellAgain { machine } => write!(f, "machine {machine} is told of its inbox again"),
            Self::Break { machine, ticks, .. } => write!(f, "machine {machine} has no connection for {ticks} ticks"),
            Self::StoreAway { ticks } => write!(f, "the store does nothing for {ticks} ticks"),
            Self::Sync => write!(f, "the store is synced"),
            Self::StoreRestart { loses, ticks } => {
                let lost = if *loses {
                    "has lost its tail"
                } else {
                    "has lost nothing"
                };
                write!(f, "the store ends; {ticks} ticks later it comes back, and {lost}")
            }
            Self::Crash {
                machine,
                elsewhere,
                ticks,
                ..
            } => {
                let place = if *elsewhere { "the other machine" } else { "the same" };
                write!(
                    f,
                    "machine {machine} crashes; {ticks} ticks later the zone is started on {place}"
                )
            }
            Self::Start { machine } => write!(f, "a process is started on machine {machine}"),
            Self::Pause {
                machine,
                mid_tick,
                ticks,
            } => {
                let place = if *mid_tick { "within its tick" } else { "between ticks" };
                write!(f, "machine {machine} is paused {place} for {ticks} ticks")
            }
            Self::Link {
                link,
                fate,
                count,
                ticks,
            } => {
                write!(
                    f,
                    "link {link} has its next {count} messages {fate:?}, by {ticks} ticks"
                )
            }
            Self::GatewayRestart { gateway } => write!(f, "gateway {gateway} starts anew"),
            Self::Skew { machine, quarters } => write!(f, "machine {machine} is {quarters} quarters of a tick off"),
            Self::Sleep { seconds } => write!(f, "everybody sleeps for {seconds} s"),
        }
    }
}
