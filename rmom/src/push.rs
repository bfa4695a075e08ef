//! Messages on their way to be committed, and who waits for what becomes of them: a call, or a stream.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use protos::{Outcome, ends};
use storage::{Packed, Run};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::dedup::Origin;
use crate::error::Error;
use crate::queue::lock;

/// A run of messages that were pushed together, to be committed in one batch.
#[derive(Debug)]
pub struct Pushed {
    /// What they have in common.
    pub run: Run,
    /// What identifies the push of the first message; the numbers of the others follow.
    pub origin: Origin,
    /// Who waits for the outcome.
    pub answer: Answer,
    /// Since when it has waited in the inbox.
    pub since: Option<Instant>,
    /// Where each content ends, counted from `start`; of a single message there may be none.
    ends: Bytes,
    start: usize,
    contents: Bytes,
}

impl Pushed {
    /// One message.
    pub fn single(run: Run, content: Bytes, origin: Origin, answer: Answer) -> Self {
        Self {
            run,
            origin,
            answer,
            since: None,
            ends: Bytes::new(),
            start: 0,
            contents: content,
        }
    }

    /// The messages with the indexes `from..from + run.count` of a batch whose `ends` fit its `contents`.
    pub fn slice(
        run: Run,
        from: usize,
        (all_ends, all_contents): (&Bytes, &Bytes),
        origin: Origin,
        answer: Answer,
    ) -> Self {
        let to = from + run.count as usize;
        let start = from
            .checked_sub(1)
            .map_or(0, |before| ends::end(all_ends, before));
        Self {
            ends: all_ends.slice(from * ends::SIZE..to * ends::SIZE),
            contents: all_contents.slice(start..ends::end(all_ends, to - 1)),
            start,
            run,
            origin,
            answer,
            since: None,
        }
    }

    /// How many messages there are.
    pub fn count(&self) -> usize {
        self.run.count as usize
    }

    /// Bytes of their contents and headers.
    pub fn size(&self) -> usize {
        self.contents.len() + self.run.header_bytes()
    }

    /// All contents, one after the other: of a single message, its content.
    pub fn contents(&self) -> &[u8] {
        &self.contents
    }

    /// The ids of the messages.
    pub fn ids(&self) -> impl Iterator<Item = Uuid> + '_ {
        (0..self.run.count)
            .map(|number| Uuid::from_u128(self.run.id.as_u128() + u128::from(number)))
    }

    /// Adds the messages to a batch.
    pub fn add_to(&self, batch: &mut Packed) {
        batch.add(&self.run, &self.ends, self.start, &self.contents);
    }

    /// Leaves the first `count` messages here and returns the others, which must be some.
    #[must_use]
    pub fn split_off(&mut self, count: u32) -> Self {
        let at = count as usize;
        let cut = ends::end(&self.ends, at - 1);
        let run = Run {
            id: Uuid::from_u128(self.run.id.as_u128() + u128::from(count)),
            count: self.run.count - count,
            ..self.run.clone()
        };
        let rest = Self {
            origin: self.origin.advance(count),
            answer: self.answer.split_off(count),
            since: self.since,
            ends: self.ends.split_off(at * ends::SIZE),
            contents: self.contents.split_off(cut - self.start),
            start: cut,
            run,
        };
        self.run.count = count;
        rest
    }
}

/// A committed message's place, and whether it had been committed by an earlier push or attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its sequence; of several messages, the first one's.
    pub seq: i64,
    /// Whether it was there before.
    pub duplicate: bool,
}

/// How those who pushed learn what became of it.
#[derive(Debug)]
pub enum Answer {
    /// A call that waits for its one message.
    Call(oneshot::Sender<Result<Receipt, Error>>),
    /// Consecutive numbers of a stream.
    Stream(Ticket),
    /// Nobody waits any more.
    None,
}

impl Answer {
    /// Tells the outcome, once.
    pub fn give(&mut self, outcome: Result<Receipt, Error>) {
        match std::mem::replace(self, Self::None) {
            // Whoever has given up waiting needs no answer.
            Self::Call(call) => drop(call.send(outcome)),
            Self::Stream(mut ticket) => ticket.give(outcome),
            Self::None => {}
        }
    }

    /// Whether an earlier push of the same stream was refused, so that this one has to be refused as well.
    pub fn is_behind_refused(&self) -> bool {
        match self {
            Self::Stream(ticket) => {
                let refused = lock(&ticket.outbox.inner).refused_from;
                refused.is_some_and(|refused| ticket.number > refused)
            }
            Self::Call(_) | Self::None => false,
        }
    }

    fn split_off(&mut self, count: u32) -> Self {
        match self {
            Self::Stream(ticket) => {
                let rest = Ticket {
                    outbox: ticket.outbox.clone(),
                    number: ticket.number + count,
                    count: ticket.count - count,
                };
                ticket.count = count;
                Self::Stream(rest)
            }
            Self::Call(_) | Self::None => Self::None,
        }
    }
}

/// The numbers of a stream that wait for an outcome. Dropped without one, they have an unknown one.
#[derive(Debug)]
pub struct Ticket {
    outbox: Arc<Outbox>,
    number: u32,
    count: u32,
}

impl Ticket {
    fn give(&mut self, outcome: Result<Receipt, Error>) {
        let count = std::mem::take(&mut self.count);
        if count > 0 {
            self.outbox.add(self.number, count, outcome);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.give(Err(Error::OutcomeUnknown));
    }
}

/// Where the outcomes of a stream's pushes gather until they are sent.
#[derive(Debug, Default)]
pub struct Outbox {
    inner: Mutex<Gathered>,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct Gathered {
    outcomes: Vec<Outcome>,
    /// Messages that wait for an outcome.
    unanswered: u64,
    /// The lowest number that was refused for now. Higher ones are refused too until it comes again.
    refused_from: Option<u32>,
    /// Why the stream cannot go on.
    end: Option<Error>,
}

impl Outbox {
    /// Notes that messages wait, the first of which has this number.
    pub fn expect(self: &Arc<Self>, number: u32, count: u32) -> Answer {
        lock(&self.inner).unanswered += u64::from(count);
        Answer::Stream(Ticket {
            outbox: self.clone(),
            number,
            count,
        })
    }

    /// A batch that begins with this number has come, of a pusher that has settled what is below `settled`.
    pub fn resume(&self, number: u32, settled: u32) {
        let mut inner = lock(&self.inner);
        if inner
            .refused_from
            .is_some_and(|refused| number <= refused || settled > refused)
        {
            inner.refused_from = None;
        }
    }

    /// The stream ends when what waits has its outcome.
    pub fn end(&self, error: Error) {
        lock(&self.inner).end.get_or_insert(error);
        self.waker.wake();
    }

    fn add(&self, number: u32, count: u32, outcome: Result<Receipt, Error>) {
        let mut inner = lock(&self.inner);
        inner.unanswered -= u64::from(count);
        match outcome {
            Ok(receipt) => inner.add_committed(number, count, receipt),
            Err(error) if error.ends_streams() => {
                inner.end.get_or_insert(error);
            }
            Err(error) => {
                if error.is_transient() {
                    let refused = inner.refused_from.unwrap_or(number);
                    inner.refused_from = Some(refused.min(number));
                }
                inner.outcomes.push(Outcome {
                    number,
                    count,
                    refusal: Some(error.into()),
                    ..Outcome::default()
                });
            }
        }
        drop(inner);
        self.waker.wake();
    }

    /// Waits for outcomes. An error once the stream has to end and nothing waits any more; with `is_finished`, none once
    /// nothing does.
    pub async fn outcomes(&self, is_finished: bool) -> Result<Vec<Outcome>, Error> {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            let mut inner = lock(&self.inner);
            if !inner.outcomes.is_empty() {
                return Poll::Ready(Ok(std::mem::take(&mut inner.outcomes)));
            }
            if inner.unanswered > 0 {
                return Poll::Pending;
            }
            match inner.end.take() {
                Some(error) => Poll::Ready(Err(error)),
                None if is_finished => Poll::Ready(Ok(Vec::new())),
                None => Poll::Pending,
            }
        })
        .await
    }
}

impl Gathered {
    fn add_committed(&mut self, number: u32, count: u32, receipt: Receipt) {
        if let Some(last) = self.outcomes.last_mut()
            && last.refusal.is_none()
            && last.duplicate == receipt.duplicate
            && last.number + last.count == number
            && last.seq + i64::from(last.count) == receipt.seq
        {
            last.count += count;
            return;
        }
        self.outcomes.push(Outcome {
            number,
            count,
            seq: receipt.seq,
            duplicate: receipt.duplicate,
            refusal: None,
        });
    }
}
