//! Judges a history: does what the clients have seen agree with what the tables hold, and with itself?
//!
//! Nothing here knows how the system works inside, except for the two things that nobody sees from outside because the
//! primary key of the table heals most of their consequences: that no batch of an older epoch commits after a takeover,
//! and that each change of owner raises the epoch.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::ops::Bound;

use uuid::Uuid;

use crate::facts::{Ack, Facts, Takeover};
use crate::history::{Digest, Record};

/// A kind of what must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anomaly {
    /// Acknowledged, and not in the table or not delivered to a subscription that covers it.
    Lost,
    /// In the table or delivered, and never pushed, definitely refused, not committed, or not for this subscription.
    Phantom,
    /// One message twice: two sequences for one id or one content.
    Duplicate,
    /// A subscription's sequences do not rise, or a message that was pushed after another one was acknowledged comes
    /// before it.
    Reordered,
    /// A subscription left out what it should have had between two messages.
    Skipped,
    /// The same sequence or id with two ids, contents or topics.
    Divergent,
    /// A repeat was taken for a new message, or a new message for a repeat.
    FalseDuplicate,
    /// The epoch falls along the sequence.
    EpochWentBack,
    /// Sequences of batches overlap or leave a hole.
    Hole,
    /// A batch of an older epoch was committed after a takeover.
    CommittedAfterTakeover,
    /// The owner changed and the epoch did not rise.
    TakeoverWithoutEpoch,
    /// A stream was ended as if there were nothing more to come.
    Ended,
    /// Something did not go on after everything was mended.
    Stuck,
    /// A process panicked.
    Panicked,
}

/// What a history amounts to.
#[derive(Debug, Default)]
pub struct Verdict {
    /// How often each anomaly was found, and some examples.
    pub anomalies: BTreeMap<Anomaly, Findings>,
    /// Messages that were acknowledged.
    pub acknowledged: u64,
    /// Attempts that were definitely refused.
    pub refused: u64,
    /// Attempts whose outcome nobody knows.
    pub unknown: u64,
    /// Attempts that were told that the message had been there before.
    pub duplicates: u64,
    /// Messages in the table.
    pub stored: u64,
    /// Messages that were delivered, over all subscriptions.
    pub delivered: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Changes of the owner of a queue.
    pub takeovers: u64,
}

/// One kind of anomaly.
#[derive(Debug, Default)]
pub struct Findings {
    /// How many.
    pub count: u64,
    /// The first few in words.
    pub examples: Vec<String>,
}

/// How many examples are kept.
const EXAMPLES: usize = 5;

impl Anomaly {
    /// All anomalies.
    pub const ALL: [Self; 14] = [
        Self::Lost,
        Self::Phantom,
        Self::Duplicate,
        Self::Reordered,
        Self::Skipped,
        Self::Divergent,
        Self::FalseDuplicate,
        Self::EpochWentBack,
        Self::Hole,
        Self::CommittedAfterTakeover,
        Self::TakeoverWithoutEpoch,
        Self::Ended,
        Self::Stuck,
        Self::Panicked,
    ];
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Lost => "lost",
            Self::Phantom => "phantom",
            Self::Duplicate => "duplicate",
            Self::Reordered => "reordered",
            Self::Skipped => "skipped",
            Self::Divergent => "divergent",
            Self::FalseDuplicate => "false duplicate",
            Self::EpochWentBack => "epoch went back",
            Self::Hole => "hole",
            Self::CommittedAfterTakeover => "committed after takeover",
            Self::TakeoverWithoutEpoch => "takeover without epoch",
            Self::Ended => "ended",
            Self::Stuck => "stuck",
            Self::Panicked => "panicked",
        })
    }
}

impl Verdict {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.anomalies.is_empty()
    }

    fn find(&mut self, anomaly: Anomaly, words: impl FnOnce() -> String) {
        let findings = self.anomalies.entry(anomaly).or_default();
        findings.count += 1;
        if findings.examples.len() < EXAMPLES {
            findings.examples.push(words());
        }
    }
}

/// Judges what is recorded. A history that ends before the tables were told proves nothing, and is an error, as is one
/// that cannot be read.
pub fn check(history: impl IntoIterator<Item = io::Result<Record>>) -> io::Result<Verdict> {
    let mut verdict = Verdict::default();
    let mut facts = Facts::default();
    for record in history {
        if let Some((anomaly, words)) = facts.take(record?) {
            verdict.find(anomaly, || words);
        }
    }
    if !facts.is_complete {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the history ends before the content of the tables: the run was broken off",
        ));
    }
    facts.count(&mut verdict);
    facts.check_acknowledgements(&mut verdict);
    facts.check_rows(&mut verdict);
    facts.check_order(&mut verdict);
    facts.check_subscriptions(&mut verdict);
    facts.check_epochs(&mut verdict);
    Ok(verdict)
}

impl Facts {
    fn count(&self, verdict: &mut Verdict) {
        let messages = self.messages.values();
        verdict.acknowledged = messages.filter(|message| !message.acks.is_empty()).count() as u64;
        let acks = self.messages.values().flat_map(|message| &message.acks);
        verdict.duplicates = acks.filter(|ack| ack.duplicate).count() as u64;
        verdict.refused = self
            .messages
            .values()
            .map(|message| u64::from(message.refused))
            .sum();
        verdict.unknown = self.unknown;
        verdict.stored = self.rows.values().map(|rows| rows.len() as u64).sum();
        let subscriptions = self.subscriptions.values();
        verdict.delivered = subscriptions
            .map(|subscription| subscription.delivered.len() as u64)
            .sum();
        verdict.subscriptions = self.subscriptions.len() as u64;
        let takeovers = self.takeovers.values().flatten();
        verdict.takeovers = takeovers.filter(|takeover| takeover.moved).count() as u64;
    }

    /// Each acknowledgement against the table, and those of one message against each other.
    fn check_acknowledgements(&self, verdict: &mut Verdict) {
        for (digest, message) in &self.messages {
            let Some(first) = message.acks.iter().min_by_key(|ack| ack.at) else {
                continue;
            };
            let queue = message.queue;
            for ack in &message.acks {
                let Ack { id, seq, .. } = *ack;
                match self.row(queue, seq) {
                    None => verdict.find(Anomaly::Lost, || {
                        format!(
                            "{digest} was acknowledged at {seq} of queue {queue}; nothing is there"
                        )
                    }),
                    Some(row) if row.digest != *digest => {
                        let anomaly = if ack.duplicate {
                            Anomaly::FalseDuplicate
                        } else {
                            Anomaly::Lost
                        };
                        verdict.find(anomaly, || {
                            let other = row.digest;
                            format!("{digest} was acknowledged at {seq} of queue {queue}; {other} is there")
                        });
                    }
                    Some(row) if row.id != id || message.id.is_some_and(|own| own != id) => {
                        verdict.find(Anomaly::Divergent, || {
                            format!("{digest} was acknowledged as {id}, is stored as {}", row.id)
                        });
                    }
                    Some(_) => {}
                }
                let repeated = ack.invoked > first.at;
                if ack.duplicate && message.once {
                    verdict.find(Anomaly::FalseDuplicate, || {
                        format!("{digest} was pushed once and called a duplicate of {id} at {seq}")
                    });
                } else if repeated && (!ack.duplicate || ack.seq != first.seq || ack.id != first.id)
                {
                    verdict.find(Anomaly::FalseDuplicate, || {
                        format!("{digest} was acknowledged at {} and, pushed again, at {seq} as new or as another", first.seq)
                    });
                }
            }
        }
    }

    /// Each message of the table: pushed, not refused, there once.
    fn check_rows(&self, verdict: &mut Verdict) {
        let mut ids: HashMap<Uuid, (usize, i64)> = HashMap::new();
        let mut digests: HashMap<Digest, (usize, i64)> = HashMap::new();
        for (queue, rows) in &self.rows {
            for (seq, row) in rows {
                let place = (*queue, *seq);
                for other in [ids.insert(row.id, place), digests.insert(row.digest, place)]
                    .into_iter()
                    .flatten()
                {
                    verdict.find(Anomaly::Duplicate, || {
                        format!(
                            "{} ({}) is at {other:?} and at {place:?}",
                            row.digest, row.id
                        )
                    });
                }
                match self.messages.get(&row.digest) {
                    None => verdict.find(Anomaly::Phantom, || {
                        format!("{} at {place:?} was never pushed", row.digest)
                    }),
                    Some(message) if message.refused == message.attempts => {
                        verdict.find(Anomaly::Phantom, || {
                            format!("{} at {place:?} was definitely refused", row.digest)
                        });
                    }
                    Some(message) if message.queue != *queue || message.topic != row.topic => {
                        verdict.find(Anomaly::Divergent, || {
                            let (queue, topic) = (message.queue, &message.topic);
                            format!(
                                "{} at {place:?} was pushed to queue {queue} with topic {topic:?}",
                                row.digest
                            )
                        });
                    }
                    Some(_) => {}
                }
            }
        }
    }

    /// What was pushed after an acknowledgement comes after what was acknowledged. That includes the order of a
    /// sequential pusher.
    fn check_order(&self, verdict: &mut Verdict) {
        for (queue, rows) in &self.rows {
            let acks = self.messages.values().filter(|m| m.queue == *queue);
            let mut acks: Vec<(u64, i64)> = acks
                .flat_map(|message| message.acks.iter().map(|ack| (ack.at, ack.seq)))
                .collect();
            acks.sort_unstable();
            let mut highest = 0;
            for (_, seq) in &mut acks {
                highest = highest.max(*seq);
                *seq = highest;
            }
            for (seq, row) in rows {
                let Some(message) = self.messages.get(&row.digest) else {
                    continue;
                };
                let before = acks.partition_point(|(at, _)| *at < message.first_invoked);
                let Some((_, acked)) = before.checked_sub(1).map(|last| acks[last]) else {
                    continue;
                };
                if acked >= *seq {
                    verdict.find(Anomaly::Reordered, || {
                        format!(
                            "{} at {seq} of queue {queue} was pushed when {acked} was acknowledged",
                            row.digest
                        )
                    });
                }
            }
        }
    }

    fn check_subscriptions(&self, verdict: &mut Verdict) {
        let nothing = BTreeMap::new();
        for (number, subscription) in &self.subscriptions {
            let name = || format!("subscription {number} ({})", subscription.kind);
            let rows = self.rows.get(&subscription.queue).unwrap_or(&nothing);
            let is_for = |topic: &Option<String>| {
                subscription.topic.is_none() || subscription.topic == *topic
            };
            let acked = |digest| {
                let message = self.messages.get(digest);
                message.is_some_and(|message| !message.acks.is_empty())
            };
            let mut last = subscription.after;
            for (seq, id, digest) in &subscription.delivered {
                if *seq <= last {
                    verdict.find(Anomaly::Reordered, || {
                        format!("{}: {seq} after {last}", name())
                    });
                    continue;
                }
                let between = (Bound::Excluded(last), Bound::Excluded(*seq));
                let missing = rows.range(between).filter(|(_, row)| is_for(&row.topic));
                for (missed, row) in missing {
                    verdict.find(Anomaly::Skipped, || {
                        format!("{}: {missed} between {last} and {seq}", name())
                    });
                    if acked(&row.digest) {
                        verdict.find(Anomaly::Lost, || {
                            format!("{}: {missed} was acknowledged and not delivered", name())
                        });
                    }
                }
                match rows.get(seq) {
                    None => verdict.find(Anomaly::Phantom, || {
                        format!("{}: {digest} at {seq} is not in the table", name())
                    }),
                    Some(row) if row.id != *id || row.digest != *digest => {
                        verdict.find(Anomaly::Divergent, || {
                            format!(
                                "{}: {digest} ({id}) at {seq}; {} ({}) is there",
                                name(),
                                row.digest,
                                row.id
                            )
                        });
                    }
                    Some(row) if !is_for(&row.topic) => verdict.find(Anomaly::Phantom, || {
                        format!("{}: {seq} has the topic {:?}", name(), row.topic)
                    }),
                    Some(_) => {}
                }
                last = *seq;
            }
            let rest = (Bound::Excluded(last), Bound::Unbounded);
            for (missed, _) in rows.range(rest).filter(|(_, row)| is_for(&row.topic)) {
                verdict.find(Anomaly::Lost, || {
                    format!(
                        "{}: {missed} was not delivered; {last} was the last",
                        name()
                    )
                });
            }
        }
    }

    fn check_epochs(&self, verdict: &mut Verdict) {
        for (queue, batches) in &self.batches {
            let (mut next, mut epoch) = (1, 0);
            for (first, batch) in batches {
                if *first != next {
                    verdict.find(Anomaly::Hole, || {
                        format!("queue {queue} goes on at {first} where {next} follows")
                    });
                }
                if batch.epoch < epoch {
                    verdict.find(Anomaly::EpochWentBack, || {
                        format!(
                            "queue {queue}: epoch {} at {first} after epoch {epoch}",
                            batch.epoch
                        )
                    });
                }
                next = first + batch.count;
                epoch = epoch.max(batch.epoch);
            }
        }
        for (queue, takeovers) in &self.takeovers {
            for takeover in takeovers {
                let Takeover {
                    old_epoch,
                    new_epoch,
                    ..
                } = takeover;
                if takeover.moved && new_epoch <= old_epoch {
                    verdict.find(Anomaly::TakeoverWithoutEpoch, || {
                        format!("queue {queue}: from epoch {old_epoch} to {new_epoch}")
                    });
                }
                let batches = self.batches.get(queue).into_iter().flatten();
                for (first, batch) in batches {
                    if batch.committed > takeover.committed && batch.epoch < *new_epoch {
                        verdict.find(Anomaly::CommittedAfterTakeover, || {
                            let late = batch.committed - takeover.committed;
                            format!("queue {queue}: {first} of epoch {} came {late} µs after epoch {new_epoch} began", batch.epoch)
                        });
                    }
                }
            }
        }
    }
}
