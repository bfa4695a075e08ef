//! What a Rust program holds of rusty-mom: [`MoMClient`] administers queues and channels through the manager,
//! [`Pusher`] pushes to a queue, [`Subscriber`] receives what a channel sees.
//!
//! Administration is REST and goes to the manager; pushes and subscriptions are gRPC and go to the MoM that hosts the
//! queue, without the manager. A push that returned `Ok` is committed, and a subscriber receives every committed
//! message that its channel sees, in order and each once, across failures and moves.
//!
//! ```no_run
//! use momclient::{Error, MoMClient};
//!
//! # async fn example() -> Result<(), Error> {
//! let client = MoMClient::new(["http://127.0.0.1:8082"])?;
//! client.create_queue("news").await?;
//! let channel = client.create_channel("news", None).await?;
//!
//! let pusher = client.pusher("news").await?;
//! let receipt = pusher.push("It rains.", Some("weather")).await?;
//!
//! let mut subscriber = client.subscribe(&channel.id).await?;
//! let message = subscriber.next().await.expect("it does not end by itself")?;
//! assert_eq!((message.id, message.seq), (receipt.id, receipt.seq));
//! assert_eq!(message.content, "It rains.");
//! # Ok(())
//! # }
//! ```
//!
//! # Many pushes at once
//!
//! A push waits for a commit, and a MoM commits everything that waits at once: throughput comes from pushes in flight.
//! Clones of a pusher share its connections.
//!
//! ```no_run
//! # async fn example(client: momclient::MoMClient) -> Result<(), momclient::Error> {
//! use futures_util::{StreamExt, TryStreamExt, stream};
//!
//! let pusher = client.pusher("news").await?;
//! let receipts: Vec<_> = stream::iter(0..10_000)
//!     .map(|n| {
//!         let pusher = pusher.clone();
//!         async move { pusher.push(n.to_string(), None).await }
//!     })
//!     .buffered(256)
//!     .try_collect()
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! Whoever has many messages at hand pushes them as one, which is cheaper still, and all or none:
//!
//! ```no_run
//! # async fn example(pusher: momclient::Pusher) -> Result<(), momclient::Error> {
//! let lines = ["It rains.", "It pours."];
//! let receipts = pusher.push_many(lines, Some("weather")).await?;
//! println!("committed from {} on", receipts.first_seq());
//! # Ok(())
//! # }
//! ```
//!
//! # Headers
//!
//! A message may carry headers beside its content. A `traceparent` is the one that most want: the receiver goes on with
//! the trace of the sender. Whatever puts one into a map of texts has the map for headers, and takes it out of them.
//!
//! ```no_run
//! # async fn example(pusher: momclient::Pusher, message: momclient::Message) -> Result<(), momclient::Error> {
//! use momclient::PushOptions;
//! use std::collections::HashMap;
//!
//! let mut carrier: HashMap<String, String> = HashMap::new();
//! // opentelemetry: propagator.inject_context(&context, &mut carrier);
//! pusher.push_with("It rains.", &PushOptions::new().headers(&carrier)).await?;
//!
//! let traceparent = message.headers().get("traceparent");
//! # Ok(())
//! # }
//! ```
//!
//! # Many messages at once
//!
//! Messages are received in batches. [`Subscriber::next`] takes one at a time out of them; [`Subscriber::next_batch`]
//! takes all that have come, and looking at them allocates nothing.
//!
//! ```no_run
//! # async fn example(client: momclient::MoMClient, id: momclient::Uuid) -> Result<(), momclient::Error> {
//! let mut subscriber = client.subscribe(&id).await?;
//! while let Some(batch) = subscriber.next_batch().await {
//!     for message in &batch? {
//!         println!("{}: {} bytes", message.seq, message.content.len());
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Going on where one left off
//!
//! A program that must not miss a message across its own restarts keeps the last sequence that it has dealt with and
//! gives it to [`MoMClient::subscribe_after`]. Messages that the queue no longer retains by then are not received.
//!
//! Without such a sequence one starts with all that is retained, or where [`SubscriberBuilder::start`] says: with what is
//! committed from now on, or since a time. However long it takes until the first message comes and whatever fails
//! meanwhile, nothing after that point is missed.
//!
//! # Streams, and why there is no sink
//!
//! [`Subscriber`] is a [`Stream`](futures_util::Stream), so everything that takes one takes it. There is no `Sink` to push
//! into, on purpose: what a sink has accepted it may still lose, and it has no place for a receipt. A push is a call that
//! ends when its message is committed; a stream of contents becomes a stream of receipts, in the same order:
//!
//! ```no_run
//! # async fn example(pusher: momclient::Pusher) -> Result<(), momclient::Error> {
//! use futures_util::{StreamExt, TryStreamExt, stream};
//!
//! let lines = stream::iter(["It rains.", "It pours.", "It snows."]);
//! // As many as are there at a moment go as one, and up to four such lots are under way.
//! let last = lines
//!     .ready_chunks(1024)
//!     .map(|lines| pusher.push_many(lines, Some("weather")))
//!     .buffered(4)
//!     .try_fold(0, async |_, receipts| Ok(receipts.last_seq()))
//!     .await?;
//! println!("all committed, up to {last}");
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//!
//! [`Error`] has a variant for each thing that a caller may do differently and [`Error::code`] for finer distinctions.
//! There is no TLS yet: urls are `http://`.

mod backoff;
mod batch;
mod client;
mod driver;
mod error;
mod headers;
mod lane;
mod ledger;
mod link;
mod manager;
mod operations;
mod pusher;
mod receipts;
mod route;
mod subscriber;

pub use batch::{Batch, Message, MessageRef, Messages};
pub use bytes::Bytes;
pub use client::{Channel, MoMClient, MoMClientBuilder, MoMInfo};
pub use error::{Error, Reason};
pub use headers::Headers;
pub use operations::{
    ChannelTopic, Event, ManagerState, Mom, Overview, Owner, Peeked, PeekedMessage, QueueDetails,
    Rates, Subscription, Totals,
};
pub use pusher::{PushOptions, Pusher, PusherBuilder};
pub use receipts::{Receipt, Receipts};
pub use subscriber::{Start, Subscriber, SubscriberBuilder};
pub use uuid::Uuid;

/// Compiles the example of the quickstart.
#[cfg(doctest)]
#[doc = include_str!("../../docs/quickstart.md")]
struct Quickstart;
