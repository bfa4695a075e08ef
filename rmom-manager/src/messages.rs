//! The messages of a queue as an operator looks at them: read without being consumed, pushed one at a time, purged.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use protos::headers::Headers;
use protos::{Header, NO_TOPIC, Push, codes};
use storage::StoredBatch;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};
use tracing::info;
use uuid::Uuid;

use crate::Manager;
use crate::allocation::missing_queue;
use crate::error::Error;
use crate::moms::{has_code, is_silence};

/// Bytes of contents that one look answers, exceeded by none.
const MAX_ANSWERED: usize = 4 << 20;
/// Bytes that one look reads at the most, rounded up by a page: when a topic is rare.
const MAX_READ: usize = 32 << 20;
/// Bytes and batches that are read at once.
const PAGE: (i64, i64) = (1 << 20, 64);
/// How long a push is repeated until its outcome is known.
const PUSH_PATIENCE: Duration = Duration::from_secs(3);
/// The pause before it is pushed again.
const PUSH_PAUSE: Duration = Duration::from_millis(100);

/// A message that a queue retains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// Its place in the queue.
    pub seq: i64,
    /// Its id.
    pub id: Uuid,
    /// Its topic, if any.
    pub topic: Option<String>,
    /// When it was committed.
    pub at: DateTime<Utc>,
    /// What it says.
    pub content: Vec<u8>,
    /// What it carries beside that.
    pub headers: Option<Arc<Headers>>,
}

/// Some of the messages that a queue retains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peek {
    /// In the order of their sequences.
    pub messages: Vec<Retained>,
    /// The sequence after which to go on; `None` where there was nothing more.
    pub next_after: Option<i64>,
}

/// A message that was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Its id.
    pub id: Uuid,
    /// Its place in the queue.
    pub seq: i64,
}

impl Manager {
    /// Reads at most `limit` messages after the sequence `after`, of one topic if that is given. They stay where they
    /// are.
    pub async fn peek(
        &self,
        label: &str,
        after: i64,
        limit: usize,
        topic: Option<&str>,
    ) -> Result<Peek, Error> {
        let queue = self.queue(label).await?;
        let mut looking = Looking {
            limit,
            topic,
            messages: Vec::new(),
            answered: 0,
            last: after,
        };
        let mut read = 0;
        loop {
            let store = self.database.store();
            let page = store.read_page(queue.id, looking.last, PAGE.1, PAGE.0);
            let page = self.database.answer(page).await?;
            let firsts: Vec<i64> = page.batches.iter().map(|batch| batch.first_seq).collect();
            let times = self
                .database
                .answer(store.committed_at(queue.id, &firsts))
                .await?;
            for batch in &page.batches {
                read += batch.messages.size();
                match times.get(&batch.first_seq) {
                    Some(at) if !looking.take(batch, *at) => return Ok(looking.end(true)),
                    Some(_) => {}
                    // Swept since it was read.
                    None => looking.pass_over(batch),
                }
            }
            if page.is_last || page.batches.is_empty() {
                return Ok(looking.end(false));
            }
            if read >= MAX_READ {
                return Ok(looking.end(true));
            }
        }
    }

    /// One message.
    pub async fn message(&self, label: &str, seq: i64) -> Result<Retained, Error> {
        let found = self.peek(label, seq - 1, 1, None).await?;
        let mut found = found.messages.into_iter();
        found
            .find(|message| message.seq == seq)
            .ok_or_else(|| Error::MessageNotFound(label.to_owned(), seq))
    }

    /// Commits one message at the MoM that owns the queue. It brings an id, so that it can be repeated until its outcome
    /// is known.
    pub async fn push(
        &self,
        label: &str,
        topic: Option<&str>,
        headers: Vec<Header>,
        content: Vec<u8>,
    ) -> Result<Pushed, Error> {
        let id = Uuid::now_v7();
        let push = Push {
            content: content.into(),
            topic: topic.unwrap_or(NO_TOPIC).to_owned(),
            queue_label: label.to_owned(),
            origin: None,
            id: id.to_string(),
            headers,
        };
        let end = Instant::now() + PUSH_PATIENCE;
        let mut is_known = true;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let (error, may_go_on) = match self.place(label).await {
                Ok(place) => match self.moms.push(&place.mom, left, push.clone()).await {
                    Ok(ok) => return Ok(Pushed { id, seq: ok.seq }),
                    Err(status) => {
                        is_known &= !is_unknown(&status);
                        refusal(label, &status)
                    }
                },
                Err(error) => (error, false),
            };
            if !may_go_on || Instant::now() + PUSH_PAUSE >= end {
                // Once it may have been committed, only a success tells.
                return Err(if is_known {
                    error
                } else {
                    Error::OutcomeUnknown(id, label.to_owned())
                });
            }
            sleep(PUSH_PAUSE).await;
        }
    }

    /// Deletes what a queue retains at this moment, and returns how many messages that were.
    pub async fn purge(&self, label: &str) -> Result<i64, Error> {
        let purged = self.database.store().purge(label);
        let purged = self.database.run_long(purged).await;
        let messages = purged.map_err(|error| missing_queue(error, label))?;
        info!(label, messages, "purged a queue");
        Ok(messages)
    }
}

/// Whether a push that came to this may have been committed.
fn is_unknown(status: &Status) -> bool {
    let is_definite = [codes::DATABASE_UNAVAILABLE, codes::STOPPING];
    is_silence(status) && !is_definite.iter().any(|code| has_code(status, code))
}

/// What a client is told of a push that did not succeed, and whether trying again soon may help.
fn refusal(label: &str, status: &Status) -> (Error, bool) {
    let label = label.to_owned();
    match status.code() {
        _ if has_code(status, codes::MESSAGE_TOO_LARGE) => {
            (Error::MessageTooLarge(status.message().to_owned()), false)
        }
        _ if has_code(status, codes::DATABASE_UNAVAILABLE) => {
            (Error::NoFigures { is_outage: true }, true)
        }
        Code::ResourceExhausted => (Error::Overloaded(label), true),
        Code::NotFound => (Error::QueueNotFound(label), false),
        // The queue moves, or its MoM stops.
        Code::FailedPrecondition => (Error::NoOwner(label), true),
        _ if is_silence(status) => (Error::NoOwner(label), true),
        code => {
            tracing::error!(label, "a MoM refused a push: {code}: {}", status.message());
            (Error::Refused, false)
        }
    }
}

/// What one look has found so far.
struct Looking<'a> {
    limit: usize,
    topic: Option<&'a str>,
    messages: Vec<Retained>,
    answered: usize,
    /// The last sequence that was looked at.
    last: i64,
}

impl Looking<'_> {
    /// Takes what is looked for out of a batch. Returns false when there is enough.
    fn take(&mut self, batch: &StoredBatch, at: DateTime<Utc>) -> bool {
        let packed = &batch.messages;
        let mut index = 0;
        for run in &packed.runs {
            for number in 0..run.count {
                let place = index;
                index += 1;
                let seq = batch.first_seq + place as i64;
                if seq <= self.last {
                    continue;
                }
                if self
                    .topic
                    .is_none_or(|topic| topic == run.topic.as_deref().unwrap_or(NO_TOPIC))
                {
                    let content = &packed.contents[protos::ends::range(&packed.ends, place)];
                    let is_full = self.answered + content.len() > MAX_ANSWERED;
                    if self.messages.len() == self.limit || (is_full && !self.messages.is_empty()) {
                        return false;
                    }
                    self.answered += content.len();
                    self.messages.push(Retained {
                        seq,
                        id: Uuid::from_u128(run.id.as_u128().wrapping_add(number.into())),
                        topic: run.topic.as_deref().map(str::to_owned),
                        at,
                        content: content.to_vec(),
                        headers: run.headers.clone(),
                    });
                }
                self.last = seq;
            }
        }
        true
    }

    fn pass_over(&mut self, batch: &StoredBatch) {
        let last = batch.first_seq + batch.messages.len() as i64 - 1;
        self.last = self.last.max(last);
    }

    fn end(self, is_more: bool) -> Peek {
        Peek {
            messages: self.messages,
            next_after: is_more.then_some(self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use storage::{Packed, Run};

    use super::*;

    fn batch(first_seq: i64, runs: &[(u32, Option<&str>)], size: usize) -> StoredBatch {
        let mut messages = Packed::default();
        for (count, topic) in runs {
            for number in 0..*count {
                let run = Run {
                    id: Uuid::from_u128(u128::from(number) + 256),
                    count: 1,
                    topic: topic.map(Arc::from),
                    is_keyed: false,
                    headers: None,
                };
                messages.add(&run, &[], 0, &vec![b'x'; size]);
            }
        }
        StoredBatch {
            first_seq,
            messages,
        }
    }

    fn looking(limit: usize, topic: Option<&str>, last: i64) -> Looking<'_> {
        Looking {
            limit,
            topic,
            messages: Vec::new(),
            answered: 0,
            last,
        }
    }

    fn seqs(peek: &Peek) -> Vec<i64> {
        peek.messages.iter().map(|message| message.seq).collect()
    }

    #[test]
    fn a_look_begins_and_ends_within_a_batch() {
        let batch = batch(10, &[(3, None), (2, Some("a"))], 1);
        let mut some = looking(2, None, 10);
        assert!(!some.take(&batch, DateTime::default()));
        let some = some.end(true);
        assert_eq!((seqs(&some), some.next_after), (vec![11, 12], Some(12)));
        assert_eq!(some.messages[0].id, Uuid::from_u128(257));
        let mut rest = looking(2, None, 12);
        assert!(rest.take(&batch, DateTime::default()));
        let rest = rest.end(false);
        assert_eq!((seqs(&rest), rest.next_after), (vec![13, 14], None));
    }

    #[test]
    fn a_topic_is_looked_for_and_none_is_one() {
        let batch = batch(1, &[(2, None), (1, Some("a")), (1, None)], 1);
        for (topic, found) in [("a", vec![3]), ("__none__", vec![1, 2, 4]), ("b", vec![])] {
            let mut some = looking(9, Some(topic), 0);
            assert!(some.take(&batch, DateTime::default()));
            let some = some.end(false);
            assert_eq!(seqs(&some), found, "{topic}");
        }
    }

    #[test]
    fn contents_are_bounded_but_for_a_single_message() {
        let large = batch(1, &[(3, None)], MAX_ANSWERED / 2);
        let mut some = looking(9, None, 0);
        assert!(!some.take(&large, DateTime::default()));
        assert_eq!(some.end(true).next_after, Some(2));
        let larger = batch(1, &[(2, None)], MAX_ANSWERED + 1);
        let mut some = looking(9, None, 0);
        assert!(!some.take(&larger, DateTime::default()));
        assert_eq!(some.end(true).next_after, Some(1));
    }
}
