//! What one lane of a pusher has to push, in order, and what became of it: no input, no output, no clock.
//!
//! A push enters at the end of the [`Ledger`]. It gets its number when it is first sent, which is what a MoM knows it
//! by when it comes again, and leaves when it has its outcome and none before it is without one. What waits at the
//! moment leaves in one `PushBatch`: nothing lingers, and a crowd shares the cost of one message of the stream.
//!
//! What a MoM refuses for now goes again, and with it all that was sent after it, since the MoM refuses that too: so
//! the order of the pushes is that of the queue. What was sent over a link that is lost goes again over the next one
//! as a repeat, with `after_seq`, and only then is its outcome uncertain.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protos::headers::Headers;
use protos::{MAX_PUSH_BYTES, MAX_PUSH_MESSAGES, PushAnswer, PushBatch, ends};
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::{Error, Failure, Reason};
use crate::receipts::Receipt;
pub(crate) use pending::Kind;
use pending::{Pending, Stage};
use writer::Writer;

#[cfg(test)]
mod model;
mod pending;
#[cfg(test)]
mod tests;
mod writer;

/// How far a number may be ahead of the oldest one that is not settled: what a MoM remembers at the most.
const MOST_AHEAD: u64 = (1 << 18) - 1;

pub(crate) type Outcome = Result<Receipt, Error>;

/// Outcomes and who waits for them. They are handed out when no lock is held.
pub(crate) type Outcomes = Vec<(oneshot::Sender<Outcome>, Outcome)>;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Ledger {
    /// How many messages may be under way.
    limit: usize,
    /// By how much a deadline may be later than one that entered after it.
    disorder: Duration,
    /// Who pushes, for the MoMs: the ids of messages are made of it.
    pusher: Uuid,
    /// The number of the next push that has none yet. It ends one above the last.
    next_number: u64,
    last_number: u32,
    /// In the order of the pushes, and so of their numbers. The first is never done.
    pending: VecDeque<Pending>,
    /// How many have left `pending`: what makes a place in it of a ticket.
    left: u64,
    /// The place in `pending` of the first that was not sent over the present link.
    cursor: usize,
    /// What is under way.
    flying: Volume,
    /// How much the MoM wants to have under way.
    window: Volume,
    /// Whether the present link is open.
    open: bool,
    /// How far the queue is known to be committed. Not the lane's but the link's, since a queue that is deleted and
    /// made anew begins with 1 again.
    reached: i64,
    /// Nothing is sent since the MoM refuses for now.
    refused: Option<Refused>,
    /// Why pushes do not get on at the moment.
    setback: Option<Error>,
    /// Why the outcomes are uncertain of those whose are.
    uncertain: Option<Reason>,
    /// Of the latest push with one: most pushes have the topic of the one before.
    topic: Option<Arc<str>>,
}

/// A push that enters.
#[derive(Debug)]
pub(crate) struct Push<'a> {
    pub(crate) contents: Bytes,
    pub(crate) topic: Option<&'a str>,
    pub(crate) headers: Option<Box<Headers>>,
    pub(crate) kind: Kind,
}

/// What becomes of the link after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It goes on.
    GoOn,
    /// Everything has its outcome and the MoM has no room: [`Ledger::resume`] after a pause.
    Pause,
    /// Everything has its outcome and the MoM serves none of it: after a pause, another link.
    Leave,
    /// The numbers of this identity end and everything has its outcome: another link, for another identity.
    Renumber,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Volume {
    messages: usize,
    bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Refused {
    /// For want of room.
    Full,
    /// For whatever another MoM, or the same later, may not.
    Elsewhere,
}

impl Ledger {
    /// `limit` is how many messages may be under way, `disorder` by how much deadlines may be out of order.
    pub(crate) fn new(limit: usize, disorder: Duration) -> Self {
        Self::with_numbers(limit, disorder, u32::MAX)
    }

    fn with_numbers(limit: usize, disorder: Duration, last_number: u32) -> Self {
        Self {
            limit,
            disorder,
            pusher: new_identity(),
            next_number: 1,
            last_number,
            pending: VecDeque::new(),
            left: 0,
            cursor: 0,
            flying: Volume::default(),
            window: Volume::default(),
            open: false,
            reached: 0,
            refused: None,
            setback: None,
            uncertain: None,
            topic: None,
        }
    }

    /// Enters a push. The ticket is for [`abandon`](Self::abandon).
    pub(crate) fn push(
        &mut self,
        push: Push<'_>,
        deadline: Instant,
        reply: oneshot::Sender<Outcome>,
    ) -> u64 {
        let count = match &push.kind {
            Kind::Plain | Kind::Keyed(_) => 1,
            Kind::Together(ends) => ends::count(ends) as u32,
        };
        let topic = push.topic.map(|topic| self.shared(topic));
        let header_bytes = push.headers.as_ref().map_or(0, |headers| headers.bytes());
        self.pending.push_back(Pending {
            topic,
            headers: push.headers,
            size: push.contents.len() + header_bytes,
            contents: push.contents,
            kind: push.kind,
            deadline,
            reply: Some(reply),
            stage: Stage::Waiting,
            repeat: false,
            number: 0,
            count,
            after: i64::MAX,
        });
        self.left + self.pending.len() as u64 - 1
    }

    /// Nobody waits for this push any more: it is not sent from now on.
    pub(crate) fn abandon(&mut self, ticket: u64) {
        let place = ticket.checked_sub(self.left);
        let pending = place.and_then(|place| self.pending.get_mut(place as usize));
        if let Some(pending) = pending {
            pending.give_up();
            self.forget_done();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether a push that enters now may leave at once.
    pub(crate) fn may_send(&self) -> bool {
        self.open
            && self.refused.is_none()
            && !(self.flying.messages == 1 && self.flying.bytes > MAX_PUSH_BYTES)
            && self.flying.messages < self.window.messages.min(self.limit)
            && self.flying.bytes < self.window.bytes
    }

    /// Whether something waits that [`next_batch`](Self::next_batch) may send.
    pub(crate) fn has_to_send(&self) -> bool {
        self.cursor < self.pending.len() && self.may_send()
    }

    /// What a new link opens with: the identity, and the number below which everything is settled.
    pub(crate) fn begin(&mut self) -> (Uuid, u32) {
        if self.numbers_end() && self.none_is_numbered() {
            self.pusher = new_identity();
            self.next_number = 1;
        }
        (self.pusher, self.settled())
    }

    /// The MoM has answered the opening of a new link.
    pub(crate) fn opened(&mut self, answer: &PushAnswer) {
        self.open = true;
        self.reached = answer.seq;
        self.setback = None;
        self.widen(answer);
    }

    /// The link is lost, and with it the answers to what is under way. With `at_fault`, the MoM ended it for what it
    /// received, and can have meant only a push that [travels alone](Pending::travels_alone).
    pub(crate) fn lost(
        &mut self,
        reason: Reason,
        at_fault: Option<&Error>,
        outcomes: &mut Outcomes,
    ) {
        for pending in self.pending.iter_mut().take(self.cursor) {
            if pending.stage != Stage::Flying {
                continue;
            }
            pending.stage = Stage::Waiting;
            match at_fault {
                Some(error) if pending.travels_alone() => {
                    let error = conclude(error.clone(), pending.earlier(self.uncertain.as_ref()));
                    pending.conclude(Err(error), outcomes);
                }
                _ if pending.reply.is_none() => pending.stage = Stage::Done,
                _ => {
                    pending.repeat = true;
                    self.uncertain = Some(reason.clone());
                }
            }
        }
        self.open = false;
        self.flying = Volume::default();
        // A refusal says more.
        self.setback.get_or_insert(Error::Unavailable(reason));
        self.resume();
        self.forget_done();
    }

    /// Why pushes do not get on: what those are told whose deadline comes before anything better.
    pub(crate) fn set_back(&mut self, error: Error) {
        self.setback = Some(error);
    }

    /// Sends from the first push without an outcome again.
    pub(crate) fn resume(&mut self) {
        self.refused = None;
        self.cursor = 0;
    }

    /// What waits, as far as there is room.
    pub(crate) fn next_batch(&mut self) -> Option<PushBatch> {
        if !self.has_to_send() {
            return None;
        }
        let (end, volume) = self.fitting();
        if volume.messages == 0 {
            return None;
        }
        let settled = self.settled();
        let mut batch = Writer::new(volume);
        for pending in self.pending.range_mut(self.cursor..end) {
            if pending.number == 0 {
                // Also one that was given up before: numbers do not fall along `pending`.
                pending.number = self.next_number as u32;
                self.next_number += u64::from(pending.count);
            }
            if pending.stage == Stage::Done {
                continue;
            }
            pending.stage = Stage::Flying;
            pending.after = pending.after.min(self.reached);
            batch.write(pending);
        }
        self.cursor = end;
        self.flying.messages += volume.messages;
        self.flying.bytes += volume.bytes;
        Some(batch.finish(settled))
    }

    /// The place behind the last push that the next batch has room for, and how much that is.
    fn fitting(&self) -> (usize, Volume) {
        let settled = u64::from(self.settled());
        let mut next_number = self.next_number;
        let mut volume = Volume::default();
        let mut repeat = None;
        let mut end = self.cursor;
        for pending in self.pending.range(self.cursor..) {
            if pending.stage == Stage::Done {
                end += 1;
                continue;
            }
            let messages = volume.messages + pending.count as usize;
            let bytes = volume.bytes + pending.size;
            let first = volume.messages == 0;
            let alone = first && self.flying.messages == 0;
            let fits = first || (messages <= MAX_PUSH_MESSAGES && bytes <= MAX_PUSH_BYTES);
            let in_turn = alone
                || (self.flying.messages + messages <= self.limit && !pending.travels_alone());
            if !fits || !in_turn || *repeat.get_or_insert(pending.repeat) != pending.repeat {
                break;
            }
            if pending.number == 0 {
                let last = next_number + u64::from(pending.count) - 1;
                if self.numbers_end_at(next_number) || last - settled > MOST_AHEAD {
                    break;
                }
                next_number = last + 1;
            }
            volume = Volume { messages, bytes };
            end += 1;
        }
        (end, volume)
    }

    /// Enters what became of pushes. An error is the MoM's: what it says cannot be.
    pub(crate) fn answer(
        &mut self,
        answer: PushAnswer,
        outcomes: &mut Outcomes,
    ) -> Result<Step, Reason> {
        self.widen(&answer);
        for outcome in answer.outcomes {
            self.enter(outcome, outcomes)?;
        }
        self.forget_done();
        Ok(match self.refused {
            _ if self.flying.messages > 0 => Step::GoOn,
            Some(Refused::Full) => Step::Pause,
            Some(Refused::Elsewhere) => Step::Leave,
            None if self.numbers_end() && self.none_is_numbered() => Step::Renumber,
            None => Step::GoOn,
        })
    }

    fn enter(&mut self, outcome: protos::Outcome, outcomes: &mut Outcomes) -> Result<(), Reason> {
        let protos::Outcome {
            number: first,
            count,
            seq: first_seq,
            duplicate,
            refusal,
        } = outcome;
        let end = u64::from(first) + u64::from(count);
        let refusal = match refusal {
            Some(refusal) if first_seq == 0 => Some(Failure::from(refusal)),
            None if first_seq > 0 && first_seq.checked_add(count.into()).is_some() => None,
            _ => {
                return Err(unexpected(format!(
                    "an outcome came with sequence {first_seq} and the refusal {refusal:?}"
                )));
            }
        };
        let start = self
            .pending
            .partition_point(|pending| pending.number != 0 && pending.number < first);
        for pending in self.pending.range_mut(start..) {
            if pending.number == 0 || u64::from(pending.number) >= end {
                break;
            }
            if pending.stage != Stage::Flying {
                continue;
            }
            if u64::from(pending.number) + u64::from(pending.count) > end {
                return Err(unexpected(format!(
                    "the {} messages from number {} are one push, and an outcome came for some",
                    pending.count, pending.number
                )));
            }
            self.flying.messages -= pending.count as usize;
            self.flying.bytes -= pending.size;
            pending.stage = Stage::Waiting;
            let Some(refusal) = &refusal else {
                let seq = first_seq + i64::from(pending.number - first);
                let receipt = Receipt {
                    id: pending.id(self.pusher),
                    seq,
                    duplicate,
                };
                self.reached = self.reached.max(seq + i64::from(pending.count) - 1);
                self.setback = None;
                pending.conclude(Ok(receipt), outcomes);
                continue;
            };
            let (refused, error) = match refusal {
                Failure::Final(error) => {
                    let error = conclude(error.clone(), pending.earlier(self.uncertain.as_ref()));
                    pending.conclude(Err(error), outcomes);
                    continue;
                }
                Failure::Full(reason) => (Refused::Full, Error::Overloaded(reason.clone())),
                Failure::Elsewhere(reason) | Failure::Moved(reason, _) => {
                    (Refused::Elsewhere, Error::Unavailable(reason.clone()))
                }
                Failure::Unknown(reason) => {
                    pending.repeat = true;
                    self.uncertain = Some(reason.clone());
                    (Refused::Elsewhere, Error::Unavailable(reason.clone()))
                }
            };
            if pending.reply.is_none() {
                pending.stage = Stage::Done;
            }
            self.refused = self.refused.max(Some(refused));
            self.setback = Some(error);
        }
        Ok(())
    }

    /// Ends the pushes whose deadline has come. The answer is when to come again, if something is left.
    pub(crate) fn expire(&mut self, now: Instant, outcomes: &mut Outcomes) -> Option<Instant> {
        let mut next = None::<Instant>;
        let mut sooner = |at: Instant| next = Some(next.map_or(at, |next| next.min(at)));
        for pending in &mut self.pending {
            if pending.reply.is_none() {
                continue;
            }
            if pending.deadline > now {
                sooner(pending.deadline);
                if pending.deadline > now + self.disorder {
                    // What entered later has its deadline no earlier than this.
                    sooner(pending.deadline - self.disorder);
                    break;
                }
                continue;
            }
            let setback = self.setback.clone();
            let error = match pending.earlier(self.uncertain.as_ref()) {
                Some(earlier) => match setback {
                    Some(error) => conclude(error, Some(earlier)),
                    None => Error::OutcomeUnknown(earlier),
                },
                None => setback.unwrap_or_else(|| {
                    let limit = self.limit;
                    let detail = format!("{limit} messages were in flight until the deadline");
                    Error::Overloaded(Reason::new("in_flight_limit", detail))
                }),
            };
            pending.answer(Err(error), outcomes);
            pending.give_up();
        }
        self.forget_done();
        next
    }

    /// Ends all pushes with an error that nothing will mend.
    pub(crate) fn fail(&mut self, error: &Error, outcomes: &mut Outcomes) {
        for pending in &mut self.pending {
            let earlier = pending.earlier(self.uncertain.as_ref());
            pending.conclude(Err(conclude(error.clone(), earlier)), outcomes);
        }
        self.flying = Volume::default();
        self.forget_done();
    }

    /// The number of the oldest push without an outcome. One that was given up counts as long as it is under way: the MoM
    /// may be refusing what came after it, until it is told that this one is settled.
    fn settled(&self) -> u32 {
        // The first is not done.
        match self.pending.front() {
            Some(pending) if pending.number != 0 => pending.number,
            _ => self.next_number.min(u32::MAX.into()) as u32,
        }
    }

    /// Whether too few numbers are left for the largest push.
    fn numbers_end(&self) -> bool {
        self.numbers_end_at(self.next_number)
    }

    fn numbers_end_at(&self, next_number: u64) -> bool {
        next_number + MAX_PUSH_MESSAGES as u64 > u64::from(self.last_number)
    }

    fn none_is_numbered(&self) -> bool {
        // The first is not done.
        self.pending
            .front()
            .is_none_or(|pending| pending.number == 0)
    }

    fn widen(&mut self, answer: &PushAnswer) {
        if answer.window_messages > 0 {
            self.window = Volume {
                messages: answer.window_messages as usize,
                bytes: usize::try_from(answer.window_bytes).unwrap_or(usize::MAX),
            };
        }
    }

    fn forget_done(&mut self) {
        while let Some(pending) = self.pending.front()
            && pending.stage == Stage::Done
        {
            self.pending.pop_front();
            self.left += 1;
            self.cursor = self.cursor.saturating_sub(1);
        }
    }

    fn shared(&mut self, topic: &str) -> Arc<str> {
        match &self.topic {
            Some(latest) if **latest == *topic => latest.clone(),
            _ => self.topic.insert(topic.into()).clone(),
        }
    }
}

fn new_identity() -> Uuid {
    Uuid::from_u128(Uuid::now_v7().as_u128() & !u128::from(u32::MAX))
}

/// The error of the whole push: one attempt whose outcome is not known makes that of the push unknown, whatever the
/// later ones were told.
fn conclude(last: Error, unknown: Option<Reason>) -> Error {
    match unknown {
        None => last,
        Some(earlier) => Error::OutcomeUnknown(Reason::new(
            earlier.code().to_owned(),
            format!("{}; a later attempt: {}", earlier.detail(), last.detail()),
        )),
    }
}

fn unexpected(detail: String) -> Reason {
    Reason::new("unexpected_answer", detail)
}
