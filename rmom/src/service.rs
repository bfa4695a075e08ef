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
    EncodedMessage, HeartbeatOkResponse, HeartbeatRequest, HostedQueue, ListChannelsRequest,
    ListChannelsResponse, ListQueuesRequest, ListQueuesResponse, Push, PushOkResponse,
    RebuildQueueOkResponse, RebuildQueueRequest, SubscriptionRequest, names,
};
use storage::{NewMessage, Store};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::error::Error;
use crate::hosting::Hosting;
use crate::subscription::{Ends, Subscription};

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
    /// One permit for each subscription that may still come.
    pub subscriptions: Arc<Semaphore>,
    /// Cancelled when the MoM begins to stop.
    pub stopping: CancellationToken,
}

impl Service {
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
        self.check_open()?;
        let queue = self.hosting.queue(&label).await?;
        let id = Uuid::now_v7();
        let (acknowledgement, outcome) = oneshot::channel();
        queue.push(
            NewMessage {
                id,
                topic,
                content: push.content,
            },
            acknowledgement,
        )?;
        // Without an answer the committer has gone, with the message or without.
        let seq = outcome.await.unwrap_or(Err(Error::OutcomeUnknown))?;
        Ok(PushOkResponse {
            id: id.to_string(),
            seq,
            ..Default::default()
        })
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

/// Accepts any spelling of a UUID, and gives back the one that is kept.
fn channel_id(given: &str) -> Result<Uuid, Error> {
    // What a client sent is shown to it again, but not at any length.
    Uuid::try_parse(given).map_err(|_| Error::InvalidChannelId(given.chars().take(64).collect()))
}

fn check_epoch(epoch: i64) -> Result<(), Error> {
    if epoch < 0 {
        Err(Error::OutOfRange {
            field: "epoch",
            given: epoch,
            legal: "0 or more",
        })
    } else {
        Ok(())
    }
}

#[tonic::async_trait]
impl MessageStream for Service {
    type SubscribeToChannelStream =
        Pin<Box<dyn Stream<Item = Result<EncodedMessage, Status>> + Send>>;

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
        check_epoch(epoch)?;
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
        let label = names::label(request.into_inner().queue_label).map_err(Error::from)?;
        self.hosting.delete(&label).await?;
        Ok(Response::new(DeleteQueueOkResponse {}))
    }

    async fn rebuild_queue(
        &self,
        request: Request<RebuildQueueRequest>,
    ) -> Result<Response<RebuildQueueOkResponse>, Status> {
        let RebuildQueueRequest {
            queue_label, epoch, ..
        } = request.into_inner();
        let label = names::label(queue_label).map_err(Error::from)?;
        check_epoch(epoch)?;
        self.check_open()?;
        match epoch {
            0 => self.hosting.take_over(&label).await?,
            epoch => self.hosting.host_at(&label, epoch).await?,
        }
        Ok(Response::new(RebuildQueueOkResponse {}))
    }

    async fn open_pusher(
        &self,
        _: Request<protos::OpenPusherRequest>,
    ) -> Result<Response<protos::OpenPusherResponse>, Status> {
        todo!()
    }

    async fn release_queue(
        &self,
        _: Request<protos::ReleaseQueueRequest>,
    ) -> Result<Response<protos::ReleaseQueueOkResponse>, Status> {
        todo!()
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
        let hosted = if request.into_inner().with_queues {
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
