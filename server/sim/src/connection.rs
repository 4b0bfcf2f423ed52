//! A process's connection to the store: commands in order, answers in order, and everything that can go wrong on the way.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use meridian_bus::Heard;
use meridian_handoff::script::{Command, Done, Refusal, Ticket, Transfer, TransferId};
use meridian_ids::ZoneId;

use crate::checks::{Checks, ProcessId};
use crate::coverage::Occurrence;
use crate::store::Store;

/// An answer that takes longer does not come any more.
const ANSWER_AFTER_MAX: Duration = Duration::from_secs(1);
/// What waits in an inbox and was not accepted is told again after this time.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Sent {
    ticket: Ticket,
    command: Command,
    at: Duration,
    due: Duration,
}

/// Whose connection it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whose {
    pub(crate) process: ProcessId,
    pub(crate) zone: ZoneId,
}

#[derive(Debug)]
pub(crate) struct Connection {
    whose: Whose,
    /// There is none before.
    up_at: Duration,
    commands_take: Duration,
    answers_take: Duration,
    sent: VecDeque<Sent>,
    heard: VecDeque<(Duration, Heard)>,
    told: BTreeMap<TransferId, Duration>,
    last_told: Option<Transfer>,
    lose_answers: u8,
    hold_up: u8,
    hold_up_transfers: u8,
    refuse: u8,
}

impl Connection {
    pub(crate) fn new(whose: Whose) -> Self {
        Self {
            whose,
            up_at: Duration::ZERO,
            commands_take: Duration::ZERO,
            answers_take: Duration::ZERO,
            sent: VecDeque::new(),
            heard: VecDeque::new(),
            told: BTreeMap::new(),
            last_told: None,
            lose_answers: 0,
            hold_up: 0,
            hold_up_transfers: 0,
            refuse: 0,
        }
    }

    pub(crate) fn slow(&mut self, commands_take: Duration, answers_take: Duration) {
        (self.commands_take, self.answers_take) = (commands_take, answers_take);
    }

    pub(crate) fn lose_answer(&mut self) {
        self.lose_answers = self.lose_answers.saturating_add(1);
    }

    /// The next command, or the next handover, is held up.
    pub(crate) fn hold_up(&mut self, transfer: bool) {
        let count = if transfer {
            &mut self.hold_up_transfers
        } else {
            &mut self.hold_up
        };
        *count = count.saturating_add(1);
    }

    fn is_held_up(&mut self, command: &Command) -> bool {
        let counts = [
            (true, &mut self.hold_up),
            (matches!(command, Command::Transfer(_)), &mut self.hold_up_transfers),
        ];
        let meant = counts.into_iter().find(|(is_meant, count)| *is_meant && **count > 0);
        meant.map(|(_, count)| *count -= 1).is_some()
    }

    pub(crate) fn refuse(&mut self) {
        self.refuse = self.refuse.saturating_add(1);
    }

    /// Nothing goes wrong with it any more.
    pub(crate) fn heal(&mut self) {
        *self = Self {
            sent: std::mem::take(&mut self.sent),
            heard: std::mem::take(&mut self.heard),
            ..Self::new(self.whose)
        };
    }

    pub(crate) fn tell_again(&mut self, now: Duration, checks: &mut Checks) {
        if let Some(transfer) = self.last_told.clone() {
            checks.note(Occurrence::ToldAgain);
            self.hears(now, Heard::Inbox(transfer));
        }
    }

    /// It breaks: of what is under way, some comes later, or never. Answers that were on their way are lost as well.
    pub(crate) fn breaks(
        &mut self,
        now: Duration,
        up_at: Duration,
        held_up: u8,
        store: &mut Store,
        checks: &mut Checks,
    ) {
        checks.note(Occurrence::Broken);
        self.up_at = self.up_at.max(up_at);
        self.told.clear();
        for (_, heard) in &mut self.heard {
            if let Heard::Answer(_, answer) = heard {
                *answer = None;
            }
        }
        for (nth, sent) in std::mem::take(&mut self.sent).into_iter().enumerate() {
            self.hears(now, Heard::Answer(sent.ticket, None));
            if held_up & (1 << (nth % 8)) != 0 {
                store.hold_up(self.whose.process, sent.command, checks);
            }
        }
    }

    /// The process hands in a command.
    pub(crate) fn submit(
        &mut self,
        now: Duration,
        ticket: Ticket,
        command: Command,
        store: &mut Store,
        checks: &mut Checks,
    ) {
        if now < self.up_at {
            self.hears(now, Heard::Answer(ticket, None));
            return;
        }
        let due = now + self.commands_take;
        self.sent.push_back(Sent {
            ticket,
            command,
            at: now,
            due,
        });
        self.work(now, store, checks);
    }

    /// The store does what has come to it, whether or not the process runs.
    pub(crate) fn work(&mut self, now: Duration, store: &mut Store, checks: &mut Checks) {
        while let Some(sent) = self.sent.pop_front() {
            if self.is_held_up(&sent.command) {
                store.hold_up(self.whose.process, sent.command, checks);
                self.hears(now, Heard::Answer(sent.ticket, None));
            } else if now.saturating_sub(sent.at) > ANSWER_AFTER_MAX {
                checks.note(Occurrence::TimedOut);
                store.hold_up(self.whose.process, sent.command, checks);
                self.hears(now, Heard::Answer(sent.ticket, None));
            } else if now >= sent.due && store.is_there(now) {
                let answer = self.done(now, &sent.command, store, checks);
                self.hears(now, Heard::Answer(sent.ticket, answer));
            } else {
                self.sent.push_front(sent);
                return;
            }
        }
    }

    fn done(
        &mut self,
        now: Duration,
        command: &Command,
        store: &mut Store,
        checks: &mut Checks,
    ) -> Option<Result<Done, Refusal>> {
        if self.refuse > 0
            && let Command::Transfer(Transfer { id, .. }) = command
            && store.is_newest(id.from)
        {
            self.refuse -= 1;
            checks.note(Occurrence::InboxFull);
            return Some(Err(Refusal::InboxFull));
        }
        let answer = store.execute(now, self.whose.process, command, checks);
        if answer == Err(Refusal::NoReceiver) {
            checks.note(Occurrence::NoReceiver);
        }
        if let (Command::Accept { id, .. }, Ok(Done::Accepted { .. })) = (command, &answer) {
            self.told.remove(id);
        }
        if self.lose_answers > 0 {
            self.lose_answers -= 1;
            checks.note(Occurrence::AnswerLost);
            checks.tell(|| "    its answer is lost".to_owned());
            return None;
        }
        Some(answer)
    }

    /// What has come for the process.
    pub(crate) fn try_receive(&mut self, now: Duration, store: &mut Store, checks: &mut Checks) -> Option<Heard> {
        self.work(now, store, checks);
        let is_due = |(due, _): &mut (Duration, Heard)| now >= *due;
        if let Some((_, heard)) = self.heard.pop_front_if(is_due) {
            return Some(heard);
        }
        if now < self.up_at || !store.is_there(now) {
            return None;
        }
        let is_new = |transfer: &&Transfer| {
            let told = self.told.get(&transfer.id);
            told.is_none_or(|told| now.saturating_sub(*told) >= TOLD_AGAIN_AFTER)
        };
        let transfer = store.model.inbox(self.whose.zone).iter().find(is_new)?.clone();
        self.told.insert(transfer.id, now);
        self.last_told = Some(transfer.clone());
        self.hears(now, Heard::Inbox(transfer));
        let (_, heard) = self.heard.pop_front_if(|(due, _)| now >= *due)?;
        Some(heard)
    }

    /// It ends with its process: of what is under way, some comes later, or never.
    pub(crate) fn ends(mut self, now: Duration, held_up: u8, store: &mut Store, checks: &mut Checks) {
        self.breaks(now, now, held_up, store, checks);
    }

    fn hears(&mut self, now: Duration, heard: Heard) {
        let last = self.heard.back().map_or(Duration::ZERO, |(due, _)| *due);
        self.heard.push_back((last.max(now + self.answers_take), heard));
    }
}
