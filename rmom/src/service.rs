//! The gRPC surface: validates what comes in, and turns outcomes into answers.
//!
//! A push comes from a client as [`Push`], goes into the inbox of its [`queue`](crate::queue), and is answered when the
//! [`committer`](crate::committer) says so. A [`subscription`](crate::subscription) goes out from here.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{Stream, StreamExt};
use protos::message_stream_server::MessageStream;
use protos::{
    CreateChannelRequest, CreateChannelResponse, CreateQueueOkResponse, CreateQueueRequest,
    DeleteChannelOkResponse, DeleteChannelRequest, DeleteQueueOkResponse, DeleteQueueRequest,
    Encoded, HeartbeatOkResponse, HeartbeatRequest, HostedQueue, ListChannelsRequest,
    ListChannelsResponse, ListQueuesRequest, ListQueuesResponse, OpenPusherRequest,
    OpenPusherResponse, Push, PushOkResponse, RebuildQueueOkResponse, RebuildQueueRequest,
    ReleaseQueueOkResponse, ReleaseQueueRequest, SubscriptionRequest, names,
};
use storage::chaos::{self, Mutant};
use storage::{NewMessage, Store};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::dedup::{Attempt, Origin, message_id};
use crate::error::Error;
use crate::hosting::Hosting;
use crate::queue::{Admission, Queue, Receipt};
use crate::subscription::{Ends, Subscription};

/// The most pushes that may be under way at once, over all connections and queues. One costs some kilobytes of HTTP/2
/// state beside its message.
const PUSHES_UNDER_WAY: usize = 100_000;

/// See the [module](self).
#[derive(Debug)]
pub struct Service {
    /// What this MoM hosts.
    pub hosting: Arc<Hosting>,
    /// Where channels are looked up and missed messages are read.
    pub store: Store,
    /// False while the database is away.
    pub database_is_up: Arc<AtomicBool>,
    /// The most bytes that a message may have.
    pub max_message_bytes: usize,
    /// One permit for each push that may still come.
    pub pushes: Semaphore,
    /// One permit for each subscription that may still come.
    pub subscriptions: Arc<Semaphore>,
    /// Cancelled when the MoM begins to stop.
    pub stopping: CancellationToken,
}

impl Service {
    /// Room for the pushes that may be under way at once.
    pub fn room_for_pushes() -> Semaphore {
        Semaphore::new(PUSHES_UNDER_WAY)
    }

    /// Refuses while nothing can be accepted.
    fn check_open(&self) -> Result<(), Error> {
        if self.stopping.is_cancelled() {
            return Err(Error::Stopping);
        }
        if !self.database_is_up.load(Ordering::Relaxed) {
            return Err(Error::DatabaseUnavailable);
        }
        Ok(())
    }

    async fn push(&self, push: Push) -> Result<PushOkResponse, Error> {
        let label = names::label(push.queue_label)?;
        let topic = names::topic(push.topic)?;
        let (len, max) = (push.content.len(), self.max_message_bytes);
        if len > max {
            return Err(Error::MessageTooLarge { len, max });
        }
        let claim = Claim::of(push.origin, &push.id)?;
        let _room = self
            .pushes
            .try_acquire()
            .map_err(|_| Error::Overloaded("as many pushes are under way as this MoM allows"))?;
        self.check_open()?;
        let queue = self.hosting.queue(&label).await?;
        let message = NewMessage {
            id: claim.id(),
            is_keyed: matches!(claim, Claim::Key(_)),
            topic,
            content: push.content,
        };
        let id = message.id;
        let Receipt { seq, duplicate } = self.admit(&queue, message, claim).await?;
        Ok(PushOkResponse {
            id: id.to_string(),
            seq,
            duplicate,
        })
    }

    /// Gives a message to its queue, after a look into the database where only that knows whether it is a repeat.
    async fn admit(
        &self,
        queue: &Arc<Queue>,
        mut message: NewMessage,
        claim: Claim,
    ) -> Result<Receipt, Error> {
        let id = message.id;
        let origin = match claim {
            Claim::None(_) => Origin::Anonymous,
            Claim::Pusher(attempt, _) => Origin::Pusher(attempt),
            Claim::Key(_) => {
                Origin::Key(queue.key_hash(message.topic.as_deref(), &message.content))
            }
        };
        let mut looked_up = false;
        loop {
            let (acknowledgement, outcome) = oneshot::channel();
            match queue.push(message, origin, looked_up, acknowledgement)? {
                // Without an answer the committer has gone, with the message or without.
                Admission::Waiting => {
                    return outcome.await.unwrap_or(Err(Error::OutcomeUnknown));
                }
                Admission::Committed(receipt) => return Ok(receipt),
                Admission::LookUp(back) => message = back,
            }
            match claim {
                Claim::Pusher(_, after) => queue.look_up(&self.store, id, after).await?,
                Claim::Key(_) | Claim::None(_) => queue.look_up_keys(&self.store).await?,
            }
            looked_up = true;
        }
    }

    async fn subscribe(
        &self,
        request: SubscriptionRequest,
    ) -> Result<(Subscription, Option<String>), Error> {
        let id = channel_id(&request.channel_id)?;
        let after = request.after_seq.unwrap_or(0);
        if after < 0 {
            return Err(Error::OutOfRange {
                field: "after_seq",
                given: after,
                legal: "0 or more",
            });
        }
        if self.stopping.is_cancelled() {
            return Err(Error::Stopping);
        }
        let permit = self.subscriptions.clone().try_acquire_owned();
        let permit = permit
            .map_err(|_| Error::Overloaded("this MoM has as many subscriptions as it allows"))?;
        // Counted in before the look-up: a deletion after it finds the subscription.
        let subscribed = self.hosting.subscribed(id);
        let channel = self.channel(id).await?;
        let queue = self.hosting.queue(&channel.queue_label).await?;
        let ends = Ends {
            subscribed,
            stopping: self.stopping.clone(),
            permit,
        };
        Ok((
            Subscription::new(queue, self.store.clone(), after, ends),
            channel.topic,
        ))
    }

    async fn channel(&self, id: Uuid) -> Result<storage::Channel, Error> {
        self.store.channel(id).await.map_err(|error| match error {
            storage::Error::NotFound => Error::ChannelNotFound(id),
            other => other.into(),
        })
    }
}

/// What a push says of its identity.
#[derive(Clone, Copy, Debug)]
enum Claim {
    /// Nothing: the message gets this id.
    None(Uuid),
    /// A pusher's attempt, and behind which sequence the message of an earlier one would be.
    Pusher(Attempt, i64),
    /// The message's id.
    Key(Uuid),
}

impl Claim {
    fn of(origin: Option<protos::Origin>, id: &str) -> Result<Self, Error> {
        let malformed = |field, fault| Err(Error::Malformed { field, fault });
        let Some(origin) = origin.filter(|_| !chaos::is(Mutant::RetryWithoutId)) else {
            return match id {
                "" => Ok(Self::None(Uuid::now_v7())),
                id => match Uuid::try_parse(id) {
                    Ok(id) => Ok(Self::Key(id)),
                    Err(_) => malformed("id", "is not a UUID"),
                },
            };
        };
        if !id.is_empty() {
            return malformed(
                "id",
                "is given together with origin; legal is one of the two",
            );
        }
        let pusher = pusher_id(&origin.pusher, "origin.pusher")?;
        if origin.number == 0 {
            return malformed("origin.number", "is 0; legal is 1 or more");
        }
        let attempt = Attempt {
            pusher,
            number: origin.number,
            settled: origin.settled,
            term: origin.term,
            is_repeat: origin.after_seq.is_some(),
        };
        Ok(Self::Pusher(attempt, origin.after_seq.unwrap_or(0).max(0)))
    }

    fn id(self) -> Uuid {
        match self {
            Self::None(id) | Self::Key(id) => id,
            Self::Pusher(attempt, _) => message_id(attempt.pusher, attempt.number),
        }
    }
}

fn pusher_id(bytes: &[u8], field: &'static str) -> Result<Uuid, Error> {
    let pusher = Uuid::from_slice(bytes)
        .ok()
        .filter(|id| id.as_u128() as u32 == 0);
    pusher.filter(|id| !id.is_nil()).ok_or(Error::Malformed {
        field,
        fault: "is not a UUID in 16 bytes of which the last 4, and only they, are zero",
    })
}

/// Accepts any spelling of a UUID, and gives back the one that is kept.
fn channel_id(given: &str) -> Result<Uuid, Error> {
    // What a client sent is shown to it again, but not at any length.
    Uuid::try_parse(given).map_err(|_| Error::InvalidChannelId(given.chars().take(64).collect()))
}

fn check_epoch(field: &'static str, epoch: i64) -> Result<(), Error> {
    if epoch < 0 {
        Err(Error::OutOfRange {
            field,
            given: epoch,
            legal: "0 or more",
        })
    } else {
        Ok(())
    }
}

#[tonic::async_trait]
impl MessageStream for Service {
    type SubscribeToChannelStream = Pin<Box<dyn Stream<Item = Result<Encoded, Status>> + Send>>;

    async fn subscribe_to_channel(
        &self,
        request: Request<SubscriptionRequest>,
    ) -> Result<Response<Self::SubscribeToChannelStream>, Status> {
        let (subscription, topic) = self.subscribe(request.into_inner()).await?;
        let messages = subscription
            .messages(topic)
            .map(|message| message.map_err(Status::from));
        Ok(Response::new(Box::pin(messages)))
    }

    type SubscribeToBatchesStream = Pin<Box<dyn Stream<Item = Result<Encoded, Status>> + Send>>;

    async fn subscribe_to_batches(
        &self,
        _: Request<tonic::Streaming<protos::BatchSubscription>>,
    ) -> Result<Response<Self::SubscribeToBatchesStream>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    type StreamPushesStream =
        Pin<Box<dyn Stream<Item = Result<protos::PushAnswer, Status>> + Send>>;

    async fn stream_pushes(
        &self,
        _: Request<tonic::Streaming<protos::PushBatch>>,
    ) -> Result<Response<Self::StreamPushesStream>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn push_to_queue(
        &self,
        request: Request<Push>,
    ) -> Result<Response<PushOkResponse>, Status> {
        Ok(Response::new(self.push(request.into_inner()).await?))
    }

    async fn create_queue(
        &self,
        request: Request<CreateQueueRequest>,
    ) -> Result<Response<CreateQueueOkResponse>, Status> {
        let CreateQueueRequest { queue_label, epoch } = request.into_inner();
        let label = names::label(queue_label).map_err(Error::from)?;
        check_epoch("epoch", epoch)?;
        self.check_open()?;
        match epoch {
            0 => self.hosting.create(&label).await?,
            epoch => self.hosting.host_at(&label, epoch).await?,
        }
        Ok(Response::new(CreateQueueOkResponse {}))
    }

    async fn delete_queue(
        &self,
        request: Request<DeleteQueueRequest>,
    ) -> Result<Response<DeleteQueueOkResponse>, Status> {
        let DeleteQueueRequest { queue_label, epoch } = request.into_inner();
        let label = names::label(queue_label).map_err(Error::from)?;
        check_epoch("epoch", epoch)?;
        match epoch {
            0 => self.hosting.delete(&label).await?,
            epoch => self.hosting.forget_deleted(&label, epoch).await?,
        }
        Ok(Response::new(DeleteQueueOkResponse {}))
    }

    async fn rebuild_queue(
        &self,
        request: Request<RebuildQueueRequest>,
    ) -> Result<Response<RebuildQueueOkResponse>, Status> {
        let RebuildQueueRequest {
            queue_label,
            epoch,
            lease_epoch,
        } = request.into_inner();
        let label = names::label(queue_label).map_err(Error::from)?;
        check_epoch("epoch", epoch)?;
        self.hosting.obey(lease_epoch)?;
        self.check_open()?;
        match epoch {
            0 => self.hosting.take_over(&label).await?,
            epoch => self.hosting.host_at(&label, epoch).await?,
        }
        Ok(Response::new(RebuildQueueOkResponse {}))
    }

    async fn open_pusher(
        &self,
        request: Request<OpenPusherRequest>,
    ) -> Result<Response<OpenPusherResponse>, Status> {
        let OpenPusherRequest {
            queue_label,
            pusher,
            settled,
        } = request.into_inner();
        let label = names::label(queue_label).map_err(Error::from)?;
        let pusher = pusher_id(&pusher, "pusher")?;
        self.check_open()?;
        let queue = self.hosting.queue(&label).await?;
        let term = queue.open_pusher(pusher, settled)?;
        let seq = queue.committed();
        Ok(Response::new(OpenPusherResponse { term, seq }))
    }

    async fn release_queue(
        &self,
        request: Request<ReleaseQueueRequest>,
    ) -> Result<Response<ReleaseQueueOkResponse>, Status> {
        let ReleaseQueueRequest {
            queue_label,
            epoch,
            lease_epoch,
            owner,
        } = request.into_inner();
        let label = names::label(queue_label).map_err(Error::from)?;
        check_epoch("epoch", epoch)?;
        self.hosting.obey(lease_epoch)?;
        self.hosting.release(&label, epoch, owner);
        Ok(Response::new(ReleaseQueueOkResponse {}))
    }

    async fn create_channel(
        &self,
        request: Request<CreateChannelRequest>,
    ) -> Result<Response<CreateChannelResponse>, Status> {
        let CreateChannelRequest { queue_label, topic } = request.into_inner();
        let label = names::label(queue_label).map_err(Error::from)?;
        let topic = names::topic(topic).map_err(Error::from)?;
        self.check_open()?;
        self.hosting.queue(&label).await?;
        let channel = self
            .store
            .create_channel(&label, topic.as_deref())
            .await
            .map_err(|error| match error {
                storage::Error::NotFound => Error::QueueNotFound(label),
                other => other.into(),
            })?;
        Ok(Response::new(CreateChannelResponse {
            channel_id: channel.id.to_string(),
        }))
    }

    async fn delete_channel(
        &self,
        request: Request<DeleteChannelRequest>,
    ) -> Result<Response<DeleteChannelOkResponse>, Status> {
        let id = channel_id(&request.into_inner().channel_id)?;
        let deleted = self.store.delete_channel(id).await;
        if matches!(deleted, Ok(()) | Err(storage::Error::NotFound)) {
            self.hosting.end_subscriptions(id);
        }
        deleted.map_err(|error| match error {
            storage::Error::NotFound => Error::ChannelNotFound(id),
            other => other.into(),
        })?;
        Ok(Response::new(DeleteChannelOkResponse {}))
    }

    async fn get_heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatOkResponse>, Status> {
        if self.stopping.is_cancelled() {
            return Err(Error::Stopping.into());
        }
        let HeartbeatRequest {
            with_queues,
            lease_epoch,
        } = request.into_inner();
        self.hosting.obey(lease_epoch)?;
        let hosted = if with_queues {
            self.hosting.hosted()
        } else {
            Vec::new()
        };
        let hosted = hosted.iter().map(|queue| HostedQueue {
            queue_label: queue.label.clone(),
            epoch: queue.epoch,
        });
        let address = self.hosting.address();
        Ok(Response::new(HeartbeatOkResponse {
            hosted: hosted.collect(),
            host: address.host.clone(),
            port: address.port.into(),
            database_silent_millis: self.hosting.database_silence().as_millis() as u64,
        }))
    }

    async fn list_queues(
        &self,
        _: Request<ListQueuesRequest>,
    ) -> Result<Response<ListQueuesResponse>, Status> {
        let queues = self
            .hosting
            .hosted()
            .iter()
            .map(|queue| queue.label.clone())
            .collect();
        Ok(Response::new(ListQueuesResponse { queues }))
    }

    async fn list_channels(
        &self,
        _: Request<ListChannelsRequest>,
    ) -> Result<Response<ListChannelsResponse>, Status> {
        let mom_id = self.hosting.mom_id().await?;
        let ids = self
            .store
            .channel_ids_of(mom_id)
            .await
            .map_err(Error::from)?;
        Ok(Response::new(ListChannelsResponse {
            channels: ids.iter().map(Uuid::to_string).collect(),
        }))
    }
}
