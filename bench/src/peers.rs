//! What is compared: rusty-mom, other systems of its kind, and PostgreSQL without any of them.
//!
//! Each is a [`Contender`], which is small on purpose: it makes queues, lanes that push to them and inlets that read
//! them. Everything else, which messages are pushed when and what is counted, is the same code for all
//! ([`crate::flow`]), so that no contender is measured by another yardstick.

mod bare;
#[cfg(feature = "peers")]
mod nats;
mod pgmq;
#[cfg(feature = "peers")]
mod rabbit;
#[cfg(feature = "peers")]
mod redis;
mod rusty_mom;
#[cfg(feature = "peers")]
mod server;

use std::convert::Infallible;

use anyhow::Result;
use bytes::Bytes;
use serde::Serialize;

use crate::flow::Sink;
use crate::peers::rusty_mom::RustyMom;

pub(crate) use crate::peers::rusty_mom::RustyMom as System;

/// The key of rusty-mom itself.
pub(crate) const OWN: &str = rusty_mom::KEY;

/// The keys of all contenders.
pub(crate) const KEYS: [&str; 8] = [
    OWN,
    "redis",
    "nats",
    "nats-synced",
    "rabbitmq-quorum",
    "rabbitmq-stream",
    pgmq::KEY,
    bare::KEY,
];

/// Connections of a workload that pushes to one queue.
pub(crate) const CONNECTIONS: usize = 4;

/// What a reader of figures has to know of a contender.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct About {
    /// Short and without blanks, for `--only`.
    pub(crate) key: &'static str,
    pub(crate) name: &'static str,
    pub(crate) version: String,
    /// What is certain once a push was acknowledged.
    pub(crate) promise: &'static str,
    /// Whether that includes a crash of the machine.
    pub(crate) synced: bool,
    pub(crate) settings: String,
}

/// A contender that cannot be started here.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Missing {
    pub(crate) name: &'static str,
    /// What is to be done about it.
    pub(crate) remedy: String,
}

/// A system with one way of using it.
pub(crate) trait Contender {
    type Lane: Lane;
    type Inlet: Inlet;

    fn about(&self) -> &About;

    /// The root of each tree of processes that work for it, and what to call it.
    fn processes(&self) -> Vec<(&'static str, u32)>;

    /// To how many subscribers each message of a queue can go.
    fn most_subscribers(&self) -> usize {
        usize::MAX
    }

    /// A new queue, for so many subscribers.
    async fn create(&self, subscribers: usize) -> Result<String>;

    /// Takes the queue away with all that is in it.
    async fn remove(&self, queue: &str) -> Result<()>;

    /// A connection that pushes to the queue. `in_flight` is the most messages that it will be given at a time; `index`
    /// counts the lanes of a workload, for those whose lanes share connections.
    async fn lane(&self, queue: &str, index: usize, in_flight: usize) -> Result<Self::Lane>;

    /// A connection that reads the queue from its start, as its subscriber number `index`.
    async fn inlet(&self, queue: &str, index: usize) -> Result<Self::Inlet>;
}

/// What pushes.
pub(crate) trait Lane: Send + Sync + 'static {
    /// Pushes these messages, of which there is one at least, as one batch if the contender has such a thing. Returns
    /// when all are acknowledged.
    fn push(&self, contents: Vec<Bytes>) -> impl Future<Output = Result<()>> + Send;

    /// How many of the messages that are independent of each other and wait are best given to one call of `push`, where
    /// `in_flight` may be on their way.
    fn together(&self, _in_flight: usize) -> usize {
        1
    }
}

/// What reads.
pub(crate) trait Inlet: Send + 'static {
    /// Hands everything that comes to `sink`. Ends only with an error: who has enough drops the future.
    fn read(&mut self, sink: &mut Sink) -> impl Future<Output = Result<Infallible>> + Send;
}

/// What [`open`] calls for each contender: a closure could not be generic.
pub(crate) trait Visitor {
    fn add(&mut self, contender: impl Contender + 'static);
    fn miss(&mut self, missing: Missing);
}

/// Starts every contender that can be started and is `wanted`, by its key.
pub(crate) async fn open(wanted: impl Fn(&str) -> bool, visitor: &mut impl Visitor) -> Result<()> {
    let system = RustyMom::start().await?;
    if wanted(rusty_mom::KEY) {
        visitor.add(system.clone());
    }
    #[cfg(feature = "peers")]
    {
        // Who is there and does not start is no reason not to compare with the others.
        let not_started = |name, error: anyhow::Error| Missing {
            name,
            remedy: format!("it did not start: {error:#}"),
        };
        if wanted(redis::KEY)
            && let Err(error) = redis::open(visitor).await
        {
            visitor.miss(not_started(redis::NAME, error));
        }
        if (wanted(nats::KEY) || wanted(nats::SYNCED_KEY))
            && let Err(error) = nats::open(&wanted, visitor).await
        {
            visitor.miss(not_started(nats::NAME, error));
        }
        if (wanted(rabbit::QUORUM) || wanted(rabbit::STREAM))
            && let Err(error) = rabbit::open(&wanted, visitor).await
        {
            visitor.miss(not_started(rabbit::NAME, error));
        }
    }
    #[cfg(not(feature = "peers"))]
    for name in ["Redis Streams", "NATS JetStream", "RabbitMQ"] {
        visitor.miss(Missing {
            name,
            remedy: "build with its client: cargo build --release -p rmom-bench --features peers"
                .to_owned(),
        });
    }
    if wanted(pgmq::KEY) {
        visitor.add(pgmq::Pgmq::connect(system.clone()).await?);
    }
    if wanted(bare::KEY) {
        visitor.add(bare::Bare::connect(system).await?);
    }
    Ok(())
}
