//! The gRPC surface: turns requests into calls of what does the work, and outcomes into answers.
//!
//! Pushes go to [`pushes`](crate::pushes), a [`subscription`](crate::subscription) goes out from here, and what managers
//! command is done by [`hosting`](crate::hosting).

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use protos::message_stream_server::MessageStream;
use protos::{
    BatchSubscription, CreateChannelRequest, CreateChannelResponse, CreateQueueOkResponse,
    CreateQueueRequest, DeleteChannelOkResponse, DeleteChannelRequest, DeleteQueueOkResponse,
    DeleteQueueRequest, Encoded, HeartbeatOkResponse, HeartbeatRequest, HostedQueue,
    ListChannelsRequest, ListChannelsResponse, ListQueuesRequest, ListQueuesResponse,
    OpenPusherRequest, OpenPusherResponse, PushAnswer, PushOkResponse, RebuildQueueOkResponse,
    RebuildQueueRequest, Received, ReceivedBatch, ReceivedPush, ReleaseQueueOkResponse,
    ReleaseQueueRequest, StatisticsRequest, StatisticsResponse, SubscriptionRequest, headers,
    names,
};
use storage::Store;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use crate::batch::Credit;
use crate::connections::Connections;
use crate::error::Error;
use crate::hosting::Hosting;
use crate::pushes::Pushes;
use crate::statistics;
use crate::subscription::{Ends, Subscription};
use crate::topics::Topics;

/// See the [module](self).
#[derive(Debug)]
pub struct Service {
    /// What this MoM hosts.
    pub hosting: Arc<Hosting>,
    /// Where channels are looked up and missed messages are read.
    pub store: Store,
    /// Where pushes go.
    pub pushes: Arc<Pushes>,
    /// One permit for each subscription that may still come.
    pub subscriptions: Arc<Semaphore>,
    /// Those of clients and managers.
    pub connections: Connections,
    /// Cancelled when the MoM begins to stop.
    pub stopping: CancellationToken,
}

/// Where a subscription starts.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// After this sequence.
    After(i64),
    /// With what is committed from now on.
    Latest,
    /// With the first message of this time or later, in microseconds since 1970.
    Since(i64),
}

/// A subscription that is about to be served.
struct Subscribing {
    subscription: Subscription,
    /// What the channel sees; `None`: everything.
    topics: Option<Arc<Topics>>,
    /// The sequence after which it starts.
    after: i64,
}

impl Start {
    fn of(request: &SubscriptionRequest) -> Result<Self, Error> {
        let contradiction = |field, fault| Err(Error::Malformed { field, fault });
        match (request.after_seq, request.latest, request.since_micros) {
            (Some(_), true, _) => contradiction(
                "latest",
                "is given together with after_seq; give one of the two",
            ),
            (Some(_), false, Some(_)) => contradiction(
                "since_micros",
                "is given together with after_seq; give one of the two",
            ),
            (None, true, Some(_)) => contradiction(
                "since_micros",
                "is given together with latest; give one of the two",
            ),
            (None, true, None) => Ok(Self::Latest),
            (None, false, Some(given)) if !(0..=LATEST_TIME).contains(&given) => {
                Err(Error::OutOfRange {
                    field: "since_micros",
                    given,
                    legal: "a time from 1970 to 9999, in microseconds since 1970",
                })
            }
            (None, false, Some(given)) => Ok(Self::Since(given)),
            (after, false, None) => {
                let after = after.unwrap_or(0);
                check_not_negative("after_seq", after)?;
                Ok(Self::After(after))
            }
        }
    }
}

/// The end of the year 9999, in microseconds since 1970.
const LATEST_TIME: i64 = 253_402_300_799_999_999;

impl Service {
    async fn subscribe(
        &self,
        request: SubscriptionRequest,
        peer: Option<SocketAddr>,
    ) -> Result<Subscribing, Error> {
        let id = channel_id(&request.channel_id)?;
        let start = Start::of(&request)?;
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
        // The database is asked, not the feed: a MoM that has lost the queue and does not know it yet would tell a place
        // that is long past. What is committed after the answer lies behind it, however long it takes to attach.
        let after = match start {
            Start::After(seq) => seq,
            Start::Latest => self.store.last_seq(queue.id).await?,
            Start::Since(micros) => self.store.seq_before(queue.id, micros).await?,
        };
        let topics = channel.topic.as_deref().map(Topics::new).map(Arc::new);
        let topic = channel.topic.map(Arc::from);
        let store = self.store.clone();
        Ok(Subscribing {
            subscription: Subscription::new(queue, store, after, ends, topic, peer),
            topics,
            after,
        })
    }

    async fn channel(&self, id: Uuid) -> Result<storage::Channel, Error> {
        self.store.channel(id).await.map_err(|error| match error {
            storage::Error::NotFound => Error::ChannelNotFound(id),
            other => other.into(),
        })
    }
}

/// The answer to a subscription, which tells where it starts before anything else.
fn started<T>(stream: T, after: i64) -> Response<T> {
    let mut response = Response::new(stream);
    let metadata = response.metadata_mut();
    metadata.insert(protos::START_METADATA, after.into());
    response
}

/// Accepts any spelling of a UUID, and gives back the one that is kept.
fn channel_id(given: &str) -> Result<Uuid, Error> {
    // What a client sent is shown to it again, but not at any length.
    Uuid::try_parse(given).map_err(|_| Error::InvalidChannelId(given.chars().take(64).collect()))
}

fn check_not_negative(field: &'static str, given: i64) -> Result<(), Error> {
    if given < 0 {
        Err(Error::OutOfRange {
            field,
            given,
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
        let peer = request.remote_addr();
        let subscribing = self.subscribe(request.into_inner(), peer).await?;
        let messages = subscribing
            .subscription
            .messages(subscribing.topics)
            .map(|message| message.map_err(Status::from));
        let messages: Self::SubscribeToChannelStream = Box::pin(messages);
        Ok(started(messages, subscribing.after))
    }

    type SubscribeToBatchesStream = Pin<Box<dyn Stream<Item = Result<Encoded, Status>> + Send>>;

    async fn subscribe_to_batches(
        &self,
        request: Request<Streaming<BatchSubscription>>,
    ) -> Result<Response<Self::SubscribeToBatchesStream>, Status> {
        let peer = request.remote_addr();
        let mut grants = request.into_inner();
        let first = grants.message().await?.unwrap_or_default();
        let subscribe = first.subscribe.ok_or(Error::Malformed {
            field: "subscribe",
            fault: "is missing in the first message of the stream",
        })?;
        let credit = Credit::default() + (first.messages, first.bytes);
        let subscribing = self.subscribe(subscribe, peer).await?;
        let batches = subscribing
            .subscription
            .batches(subscribing.topics, credit, grants)
            .map(|batch| batch.map_err(Status::from));
        let batches: Self::SubscribeToBatchesStream = Box::pin(batches);
        Ok(started(batches, subscribing.after))
    }

    type StreamPushesStream = Pin<Box<dyn Stream<Item = Result<PushAnswer, Status>> + Send>>;

    async fn stream_pushes(
        &self,
        request: Request<Streaming<ReceivedBatch>>,
    ) -> Result<Response<Self::StreamPushesStream>, Status> {
        let answers = self.pushes.stream(request.into_inner()).await?;
        Ok(Response::new(Box::pin(answers)))
    }

    async fn push_to_queue(
        &self,
        request: Request<ReceivedPush>,
    ) -> Result<Response<PushOkResponse>, Status> {
        let (metadata, _, Received(mut push)) = request.into_parts();
        for name in headers::TRACE_CONTEXT {
            let value = metadata.get(name).and_then(|value| value.to_str().ok());
            if let Some(value) = value {
                headers::adopt(&mut push.headers, name, value);
            }
        }
        Ok(Response::new(self.pushes.push(push).await?))
    }

    async fn create_queue(
        &self,
        request: Request<CreateQueueRequest>,
    ) -> Result<Response<CreateQueueOkResponse>, Status> {
        let CreateQueueRequest { queue_label, epoch } = request.into_inner();
        let label = names::label(queue_label).map_err(Error::from)?;
        check_not_negative("epoch", epoch)?;
        self.pushes.check_open()?;
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
        check_not_negative("epoch", epoch)?;
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
        check_not_negative("epoch", epoch)?;
        self.hosting.obey(lease_epoch)?;
        self.pushes.check_open()?;
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
        Ok(Response::new(self.pushes.open(request.into_inner()).await?))
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
        check_not_negative("epoch", epoch)?;
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
        let topic = names::channel_topic(topic).map_err(Error::from)?;
        self.pushes.check_open()?;
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

    async fn get_statistics(
        &self,
        request: Request<StatisticsRequest>,
    ) -> Result<Response<StatisticsResponse>, Status> {
        let told_of = match request.into_inner().queue_label {
            label if label.is_empty() => None,
            label => {
                let label = names::label(label).map_err(Error::from)?;
                self.hosting.find(&label)
            }
        };
        let subscriptions = told_of.map(|queue| queue.subscribers.tell(queue.feed.committed()));
        let queues = self.hosting.hosted();
        let told = queues.iter().take(statistics::MOST_QUEUES);
        Ok(Response::new(StatisticsResponse {
            instance: self.hosting.instance().to_string(),
            uptime_millis: self.hosting.uptime().as_millis() as u64,
            resident_bytes: telemetry::process::resident_bytes(),
            connections: self.connections.open() as u32,
            queues: told.map(|queue| statistics::of_queue(queue)).collect(),
            subscriptions: subscriptions.unwrap_or_default(),
        }))
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
