//! Pushers: by the library, and by hand with the least that the contract allows.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use momclient::{Error, Uuid};
use protos::codes;
use tokio::time::timeout;
use tonic::{Code, ConnectError, Status};

use crate::history::{Digest, Event};
use crate::random::Random;
use crate::workload::{Context, Phase, Stub, TOPICS, connect, label};

/// After a failure, before the next look-up.
const PAUSE: Duration = Duration::from_millis(100);
/// How often somebody who must know tries, until there is no hope.
const TRIES: usize = 300;

/// See the [module](self).
pub(crate) struct Pusher {
    pub(crate) context: Context,
    pub(crate) number: u32,
    pub(crate) queue: usize,
    pub(crate) random: Random,
    pub(crate) acks: Arc<AtomicU64>,
}

/// What is pushed in one attempt or more.
#[derive(Clone)]
struct Message {
    content: Bytes,
    topic: Option<&'static str>,
    id: Option<Uuid>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Acknowledged,
    Refused,
    Full,
    Unknown,
}

impl Pusher {
    /// Pushes several messages at once, now and then so many that the queue's feed goes over every subscription.
    pub(crate) async fn run_library(mut self) {
        let Some(pusher) = self.open().await else {
            return;
        };
        while self.context.is(Phase::Pushing) {
            let burst = self.random.percent(4);
            let count = if burst { 200 } else { 16 };
            let count = 1 + self.random.below(count);
            let messages: Vec<_> = (0..count)
                .map(|_| {
                    let id = self.random.percent(10).then(|| self.id());
                    self.message(id)
                })
                .collect();
            let all = messages.iter();
            join_all(all.map(|message| self.push_by_library(&pusher, message))).await;
            let pause = self.random.millis(20, 150);
            self.context.pause(pause).await;
        }
    }

    async fn open(&mut self) -> Option<momclient::Pusher> {
        loop {
            let builder = self.context.client.pusher(&label(self.queue));
            match builder.connections(2).await {
                Ok(pusher) => return Some(pusher),
                Err(_) if self.context.is(Phase::Pushing) => self.context.pause(PAUSE).await,
                Err(_) => return None,
            }
        }
    }

    async fn push_by_library(&self, pusher: &momclient::Pusher, message: &Message) {
        let op = self.invoke(message, false).await;
        let content = message.content.clone();
        let outcome = match message.id {
            Some(id) => pusher.push_with_id(id, content, message.topic).await,
            None => pusher.push(content, message.topic).await,
        };
        let event = match outcome {
            Ok(receipt) => {
                self.acks.fetch_add(1, Ordering::Relaxed);
                Event::Ok {
                    op,
                    id: receipt.id,
                    seq: receipt.seq,
                    duplicate: receipt.duplicate,
                }
            }
            Err(Error::OutcomeUnknown(reason)) => Event::Unknown {
                op,
                why: reason.code().to_owned(),
            },
            Err(error) => Event::Fail {
                op,
                why: error.code().to_owned(),
            },
        };
        self.context.history.record(event).await;
    }

    /// Pushes one message after the other and never one again.
    pub(crate) async fn run_bare(mut self) {
        let mut stub = None;
        while self.context.is(Phase::Pushing) {
            let message = self.message(None);
            if self.ensure_connected(&mut stub).await {
                self.attempt(&mut stub, &message, true).await;
            }
            let pause = self.random.millis(1, 20);
            self.context.pause(pause).await;
        }
    }

    /// Pushes one message after the other under ids of its own, each until it knows what became of it. Sometimes it
    /// pushes one again that it knows to be there, and sometimes another one under the same id.
    pub(crate) async fn run_keyed(mut self) {
        let mut stub = None;
        while self.context.is(Phase::Pushing) {
            let id = self.id();
            let message = self.message(Some(id));
            let known = self.push_until_known(&mut stub, &message).await;
            if known && self.random.percent(15) {
                self.push_until_known(&mut stub, &message).await;
            }
            if known && self.random.percent(5) && self.ensure_connected(&mut stub).await {
                let other = self.message(Some(id));
                self.attempt(&mut stub, &other, false).await;
            }
            let pause = self.random.millis(1, 20);
            self.context.pause(pause).await;
        }
    }

    /// Returns whether it was acknowledged.
    async fn push_until_known(&mut self, stub: &mut Option<Stub>, message: &Message) -> bool {
        let mut is_unknown = false;
        for _ in 0..TRIES {
            if self.ensure_connected(stub).await {
                match self.attempt(stub, message, false).await {
                    Outcome::Acknowledged => return true,
                    Outcome::Unknown => is_unknown = true,
                    Outcome::Full | Outcome::Refused => {}
                }
            }
            if !is_unknown && !self.context.is(Phase::Pushing) {
                return false;
            }
            tokio::time::sleep(PAUSE).await;
        }
        false
    }

    /// One call to the MoM; the connection is given up after everything but an answer about room.
    async fn attempt(&self, stub: &mut Option<Stub>, message: &Message, once: bool) -> Outcome {
        let Some(mom) = stub else {
            return Outcome::Refused;
        };
        let request = protos::Push {
            content: message.content.clone(),
            topic: message.topic.unwrap_or(protos::NO_TOPIC).to_owned(),
            queue_label: label(self.queue),
            id: message.id.map(|id| id.to_string()).unwrap_or_default(),
            ..Default::default()
        };
        let op = self.invoke(message, once).await;
        let (outcome, event) =
            match timeout(self.context.patience, mom.push_to_queue(request)).await {
                Ok(Ok(answer)) => {
                    self.acks.fetch_add(1, Ordering::Relaxed);
                    let answer = answer.into_inner();
                    let event = Event::Ok {
                        op,
                        // An id that is none is not the one in the table.
                        id: answer.id.parse().unwrap_or_default(),
                        seq: answer.seq,
                        duplicate: answer.duplicate,
                    };
                    (Outcome::Acknowledged, event)
                }
                Ok(Err(status)) => {
                    let (outcome, why) = meaning(&status);
                    let event = if outcome == Outcome::Unknown {
                        Event::Unknown { op, why }
                    } else {
                        Event::Fail { op, why }
                    };
                    (outcome, event)
                }
                Err(_) => {
                    let why = "no answer".to_owned();
                    (Outcome::Unknown, Event::Unknown { op, why })
                }
            };
        if !matches!(outcome, Outcome::Acknowledged | Outcome::Full) {
            *stub = None;
        }
        self.context.history.record(event).await;
        outcome
    }

    async fn ensure_connected(&mut self, stub: &mut Option<Stub>) -> bool {
        if stub.is_none()
            && let Ok(place) = self.context.client.queue(&label(self.queue)).await
        {
            *stub = connect(&place.host, place.port).await.ok();
        }
        stub.is_some()
    }

    fn id(&mut self) -> Uuid {
        Uuid::from_u64_pair(self.random.bits(), self.random.bits())
    }

    fn message(&mut self, id: Option<Uuid>) -> Message {
        Message {
            content: self.context.content(&mut self.random),
            topic: self.random.percent(60).then(|| self.random.one_of(&TOPICS)),
            id,
        }
    }

    async fn invoke(&self, message: &Message, once: bool) -> u64 {
        let op = self.context.history.next_op();
        let event = Event::Invoke {
            op,
            pusher: self.number,
            once,
            queue: self.queue,
            topic: message.topic.map(str::to_owned),
            id: message.id,
            digest: Digest::of(&message.content),
        };
        self.context.history.record(event).await;
        op
    }
}

/// What the contract says that an error means: a definite refusal, if it is the MoM that speaks and it says so, or if
/// nothing was sent; otherwise nobody knows.
fn meaning(status: &Status) -> (Outcome, String) {
    let code = status.metadata().get(protos::CODE_METADATA);
    let Some(code) = code.and_then(|code| code.to_str().ok()) else {
        let never_sent = std::iter::successors(status.source(), |error| (*error).source())
            .any(<dyn std::error::Error>::is::<ConnectError>);
        let outcome = if never_sent {
            Outcome::Refused
        } else {
            Outcome::Unknown
        };
        return (outcome, format!("{:?}", status.code()));
    };
    let outcome = match status.code() {
        Code::ResourceExhausted => Outcome::Full,
        Code::Unavailable if matches!(code, codes::DATABASE_UNAVAILABLE | codes::STOPPING) => {
            Outcome::Refused
        }
        Code::Unavailable => Outcome::Unknown,
        _ => Outcome::Refused,
    };
    (outcome, code.to_owned())
}
