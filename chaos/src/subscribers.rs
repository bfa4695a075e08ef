//! Subscribers: by the library, and by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use momclient::{Error, Uuid};
use tokio::time::Instant;
use tonic::{Status, Streaming};

use crate::history::{Digest, Event};
use crate::random::Random;
use crate::workload::{Context, Phase, connect};

/// After a failure, before the next look-up.
const PAUSE: Duration = Duration::from_millis(100);

/// A slow subscriber stops after so many messages on average, until so many are before it: more than the feed remembers
/// and all buffers on the way hold.
const STOPS_EACH: usize = 300;
const FAR_BEHIND: i64 = 600;
/// No longer than this, since there may be nothing to come.
const STOPS_FOR: Duration = Duration::from_secs(15);

/// See the [module](self).
pub(crate) struct Subscriber {
    pub(crate) context: Context,
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) queue: usize,
    pub(crate) channel: Uuid,
    pub(crate) topic: Option<&'static str>,
    /// Whether it stops reading now and then, for longer than the feed of its queue remembers.
    pub(crate) slow: bool,
    /// When it starts.
    pub(crate) late: Duration,
    pub(crate) random: Random,
    pub(crate) seq: Arc<AtomicI64>,
}

impl Subscriber {
    /// Receives with the library, which resumes by itself.
    pub(crate) async fn run_library(mut self) {
        self.begin().await;
        let context = self.context.clone();
        tokio::select! {
            () = self.receive_by_library() => {}
            () = context.until(Phase::Over) => {}
        }
    }

    async fn receive_by_library(&mut self) {
        let after = self.seq.load(Ordering::Relaxed);
        let mut subscriber = loop {
            let builder = self.context.client.subscribe_after(&self.channel, after);
            match builder.await {
                Ok(subscriber) => break subscriber,
                Err(error) if error.is_transient() => tokio::time::sleep(PAUSE).await,
                Err(error) => return self.give_up(&error).await,
            }
        };
        while let Some(received) = subscriber.next().await {
            match received {
                Ok(message) => {
                    self.deliver(message.id, message.seq, &message.content)
                        .await;
                }
                Err(error) => return self.give_up(&error).await,
            }
        }
    }

    async fn give_up(&self, error: &Error) {
        self.end(format!("the library gave up: {error}")).await;
    }

    /// Receives by gRPC, and resumes after the last sequence where the manager says. A stream that ends without an error
    /// has told everything there is to tell, so this ends with it.
    pub(crate) async fn run_bare(mut self) {
        self.begin().await;
        let context = self.context.clone();
        tokio::select! {
            () = self.receive_bare() => {}
            () = context.until(Phase::Over) => {}
        }
    }

    async fn receive_bare(&mut self) {
        loop {
            if let Ok(stream) = self.open().await {
                let ended = self.follow(stream).await;
                if ended.is_ok() {
                    return self
                        .end("the stream ended without an error".to_owned())
                        .await;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn open(&self) -> Result<Streaming<protos::Message>, String> {
        let place = self.context.client.channel(&self.channel).await;
        let place = place.map_err(|error| error.to_string())?;
        let mut mom = connect(&place.host, place.port)
            .await
            .map_err(|error| error.to_string())?;
        let request = protos::SubscriptionRequest {
            channel_id: self.channel.to_string(),
            after_seq: Some(self.seq.load(Ordering::Relaxed)),
            ..Default::default()
        };
        let answer = tokio::time::timeout(self.context.patience, mom.subscribe_to_channel(request));
        match answer.await {
            Ok(Ok(stream)) => Ok(stream.into_inner()),
            Ok(Err(status)) => Err(status.to_string()),
            Err(_) => Err("no answer".to_owned()),
        }
    }

    async fn follow(&mut self, mut stream: Streaming<protos::Message>) -> Result<(), Status> {
        while let Some(message) = stream.message().await? {
            let id = message.id.parse().unwrap_or_default();
            self.deliver(id, message.seq, &message.content).await;
        }
        Ok(())
    }

    async fn begin(&mut self) {
        if !self.late.is_zero() {
            self.context.pause(self.late).await;
        }
        let event = Event::Subscribe {
            subscription: self.number,
            kind: self.name.clone(),
            queue: self.queue,
            topic: self.topic.map(str::to_owned),
            after: self.seq.load(Ordering::Relaxed),
        };
        self.context.history.record(event).await;
    }

    async fn deliver(&mut self, id: Uuid, seq: i64, content: &[u8]) {
        let event = Event::Deliver {
            subscription: self.number,
            id,
            seq,
            digest: Digest::of(content),
        };
        self.context.history.record(event).await;
        self.seq.fetch_max(seq, Ordering::Relaxed);
        self.context.heads[self.queue].fetch_max(seq, Ordering::Relaxed);
        if self.slow && self.random.below(STOPS_EACH) == 0 {
            self.stop(seq).await;
        }
    }

    /// Reads nothing until the queue is far ahead.
    async fn stop(&self, seq: i64) {
        let until = Instant::now() + STOPS_FOR;
        let head = &self.context.heads[self.queue];
        while head.load(Ordering::Relaxed) < seq + FAR_BEHIND
            && Instant::now() < until
            && self.context.is(Phase::Pushing)
        {
            self.context.pause(PAUSE).await;
        }
    }

    async fn end(&self, why: String) {
        let event = Event::End {
            subscription: self.number,
            why,
        };
        self.context.history.record(event).await;
    }
}
