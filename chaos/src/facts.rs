//! A history by what it is about: messages, rows, subscriptions, batches, takeovers.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use crate::checker::Anomaly;
use crate::history::{Digest, Event, Record};

/// What was pushed: one content, in one attempt or more.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) queue: usize,
    pub(crate) topic: Option<String>,
    pub(crate) id: Option<Uuid>,
    pub(crate) once: bool,
    pub(crate) first_invoked: u64,
    pub(crate) attempts: u32,
    pub(crate) refused: u32,
    pub(crate) acks: Vec<Ack>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    pub(crate) invoked: u64,
    pub(crate) at: u64,
    pub(crate) id: Uuid,
    pub(crate) seq: i64,
    pub(crate) duplicate: bool,
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) id: Uuid,
    pub(crate) topic: Option<String>,
    pub(crate) digest: Digest,
}

#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) kind: String,
    pub(crate) queue: usize,
    pub(crate) topic: Option<String>,
    pub(crate) after: i64,
    pub(crate) delivered: Vec<(i64, Uuid, Digest)>,
}

#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) count: i64,
    pub(crate) epoch: i64,
    pub(crate) committed: i64,
}

#[derive(Debug)]
pub(crate) struct Takeover {
    pub(crate) moved: bool,
    pub(crate) old_epoch: i64,
    pub(crate) new_epoch: i64,
    pub(crate) committed: i64,
}

/// A history by what it is about.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) ops: HashMap<u64, (Digest, u64)>,
    pub(crate) messages: HashMap<Digest, Message>,
    /// By queue, then by sequence.
    pub(crate) rows: HashMap<usize, BTreeMap<i64, Row>>,
    pub(crate) subscriptions: BTreeMap<u32, Subscription>,
    pub(crate) batches: HashMap<usize, BTreeMap<i64, Batch>>,
    pub(crate) takeovers: HashMap<usize, Vec<Takeover>>,
    pub(crate) unknown: u64,
    /// Whether the tables are part of it.
    pub(crate) is_complete: bool,
}

impl Facts {
    /// Puts a record where it belongs. Some are anomalies by themselves.
    pub(crate) fn take(&mut self, Record { at, event }: Record) -> Option<(Anomaly, String)> {
        match event {
            Event::Invoke {
                op,
                once,
                queue,
                topic,
                id,
                digest,
                ..
            } => {
                self.ops.insert(op, (digest, at));
                let message = self.messages.entry(digest).or_insert_with(|| Message {
                    queue,
                    topic,
                    id,
                    once,
                    first_invoked: at,
                    attempts: 0,
                    refused: 0,
                    acks: Vec::new(),
                });
                message.attempts += 1;
            }
            Event::Ok {
                op,
                id,
                seq,
                duplicate,
            } => {
                if let Some((message, invoked)) = self.message_of(op) {
                    message.acks.push(Ack {
                        invoked,
                        at,
                        id,
                        seq,
                        duplicate,
                    });
                }
            }
            Event::Fail { op, .. } => {
                if let Some((message, _)) = self.message_of(op) {
                    message.refused += 1;
                }
            }
            Event::Unknown { .. } => self.unknown += 1,
            Event::Subscribe {
                subscription,
                kind,
                queue,
                topic,
                after,
            } => {
                let begun = Subscription {
                    kind,
                    queue,
                    topic,
                    after,
                    delivered: Vec::new(),
                };
                self.subscriptions.insert(subscription, begun);
            }
            Event::Deliver {
                subscription,
                id,
                seq,
                digest,
            } => {
                if let Some(subscription) = self.subscriptions.get_mut(&subscription) {
                    subscription.delivered.push((seq, id, digest));
                }
            }
            Event::End { subscription, why } => {
                return Some((
                    Anomaly::Ended,
                    format!("subscription {subscription}: {why}"),
                ));
            }
            Event::Stuck { what } => return Some((Anomaly::Stuck, what)),
            Event::Panicked { what } => return Some((Anomaly::Panicked, what)),
            Event::Fault { .. } | Event::Healed => {}
            other => return self.take_from_tables(other),
        }
        None
    }

    fn take_from_tables(&mut self, event: Event) -> Option<(Anomaly, String)> {
        match event {
            Event::Row {
                queue,
                seq,
                id,
                topic,
                digest,
            } => {
                let row = Row { id, topic, digest };
                let other = self.rows.entry(queue).or_default().insert(seq, row)?;
                let words = format!(
                    "queue {queue} has two messages at {seq}: {} and {id}",
                    other.id
                );
                return Some((Anomaly::Divergent, words));
            }
            Event::Batch {
                queue,
                first_seq,
                count,
                epoch,
                committed,
            } => {
                let batch = Batch {
                    count,
                    epoch,
                    committed,
                };
                let batches = self.batches.entry(queue).or_default();
                batches.insert(first_seq, batch);
            }
            Event::Takeover {
                queue,
                moved,
                old_epoch,
                new_epoch,
                committed,
            } => self.takeovers.entry(queue).or_default().push(Takeover {
                moved,
                old_epoch,
                new_epoch,
                committed,
            }),
            Event::Told => self.is_complete = true,
            _ => {}
        }
        None
    }

    /// The message of an attempt, and when the attempt began.
    fn message_of(&mut self, op: u64) -> Option<(&mut Message, u64)> {
        let (digest, invoked) = self.ops.get(&op)?;
        Some((self.messages.get_mut(digest)?, *invoked))
    }

    /// What is stored at a place.
    pub(crate) fn row(&self, queue: usize, seq: i64) -> Option<&Row> {
        self.rows.get(&queue)?.get(&seq)
    }
}
