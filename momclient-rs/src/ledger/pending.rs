//! [`Pending`]: one push of a ledger, from when it enters to when it has its outcome.

use std::sync::Arc;

use bytes::Bytes;
use protos::MAX_PUSH_BYTES;
use protos::headers::Headers;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Outcome, Outcomes};
use crate::error::Reason;

/// What distinguishes pushes beside content and topic.
#[derive(Debug)]
pub(crate) enum Kind {
    /// One message, known by its number.
    Plain,
    /// One message, known by the id that the caller brought.
    Keyed(Uuid),
    /// Several messages, all or none, and where each ends in the contents.
    Together(Box<[u8]>),
}

#[derive(Debug)]
pub(super) struct Pending {
    pub(super) contents: Bytes,
    pub(super) topic: Option<Arc<str>>,
    pub(super) headers: Option<Box<Headers>>,
    pub(super) kind: Kind,
    pub(super) deadline: Instant,
    /// Who waits; nobody any more where the push was given up.
    pub(super) reply: Option<oneshot::Sender<Outcome>>,
    pub(super) stage: Stage,
    /// Whether an earlier attempt may have been accepted.
    pub(super) repeat: bool,
    /// 0 before it is sent for the first time. Messages that are pushed together have this and the next ones.
    pub(super) number: u32,
    /// How many messages. None where it was given up before it had a number.
    pub(super) count: u32,
    /// Bytes of contents and headers, which are let go of when they are not needed any more.
    pub(super) size: usize,
    /// How far the queue was before any attempt.
    pub(super) after: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    /// Sent over the present link, and not answered.
    Flying,
    Done,
}

impl Pending {
    /// Whether to have nothing else under way beside it: a MoM that does not take messages of this size may end the
    /// stream for it, and then it has to be clear for which.
    pub(super) fn travels_alone(&self) -> bool {
        self.size > MAX_PUSH_BYTES
    }

    /// Of the first message.
    pub(super) fn id(&self, pusher: Uuid) -> Uuid {
        match self.kind {
            Kind::Keyed(id) => id,
            Kind::Plain | Kind::Together(_) => {
                Uuid::from_u128(pusher.as_u128() | u128::from(self.number))
            }
        }
    }

    pub(super) fn answer(&mut self, outcome: Outcome, outcomes: &mut Outcomes) {
        if let Some(reply) = self.reply.take() {
            outcomes.push((reply, outcome));
        }
    }

    pub(super) fn conclude(&mut self, outcome: Outcome, outcomes: &mut Outcomes) {
        self.answer(outcome, outcomes);
        self.stage = Stage::Done;
        self.contents = Bytes::new();
        self.headers = None;
    }

    /// One that is under way still gets its outcome, which the order of the others may depend on.
    pub(super) fn give_up(&mut self) {
        self.reply = None;
        self.contents = Bytes::new();
        self.headers = None;
        if self.stage == Stage::Waiting {
            self.stage = Stage::Done;
            if self.number == 0 {
                self.count = 0;
            }
        }
    }

    /// Why its outcome is not known, if it was sent and not definitely refused since.
    pub(super) fn earlier(&self, uncertain: Option<&Reason>) -> Option<Reason> {
        if self.repeat
            && let Some(reason) = uncertain
        {
            return Some(reason.clone());
        }
        (self.stage == Stage::Flying || self.repeat).then(|| {
            let detail = "the MoM did not answer until the deadline";
            Reason::new("outcome_unknown", detail)
        })
    }
}
