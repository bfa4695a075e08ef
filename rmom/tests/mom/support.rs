//! What the tests of a MoM share: clusters, and calls that read like sentences.

#![allow(unreachable_pub, dead_code)]

use std::sync::Arc;
use std::time::Duration;

use protos::message_stream_client::MessageStreamClient;
use protos::{
    CreateChannelRequest, CreateQueueRequest, Message, Push, PushOkResponse, SubscriptionRequest,
};
use testkit::{Cluster, ClusterBuilder, Mom};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

/// Far beyond what anything here takes: reached only when something is stuck.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// A connection to a MoM.
#[derive(Clone)]
pub struct Client(pub MessageStreamClient<Channel>);

impl Client {
    pub async fn of(mom: &Mom) -> Self {
        let channel = Endpoint::from_shared(mom.url())
            .unwrap()
            .connect()
            .await
            .unwrap();
        let client = MessageStreamClient::new(channel);
        Self(client.max_decoding_message_size(32 << 20))
    }

    pub async fn create_queue(&mut self, label: &str) -> Result<(), Status> {
        let request = CreateQueueRequest {
            queue_label: label.into(),
            epoch: 0,
        };
        self.0.create_queue(request).await.map(|_| ())
    }

    pub async fn create_channel(&mut self, label: &str, topic: &str) -> Result<String, Status> {
        let request = CreateChannelRequest {
            queue_label: label.into(),
            topic: topic.into(),
        };
        Ok(self
            .0
            .create_channel(request)
            .await?
            .into_inner()
            .channel_id)
    }

    pub async fn push(
        &mut self,
        label: &str,
        topic: &str,
        content: &[u8],
    ) -> Result<PushOkResponse, Status> {
        let push = Push {
            content: content.to_vec().into(),
            topic: topic.into(),
            queue_label: label.into(),
            ..Default::default()
        };
        Ok(self.0.push_to_queue(push).await?.into_inner())
    }

    pub async fn subscribe(
        &mut self,
        channel_id: &str,
        after_seq: Option<i64>,
    ) -> Result<Subscription, Status> {
        let request = SubscriptionRequest {
            channel_id: channel_id.into(),
            after_seq,
            ..Default::default()
        };
        Ok(Subscription(
            self.0.subscribe_to_channel(request).await?.into_inner(),
        ))
    }
}

/// A stream of messages.
pub struct Subscription(Streaming<Message>);

impl Subscription {
    pub async fn next(&mut self) -> Result<Message, Status> {
        let next = timeout(DEADLINE, self.0.message())
            .await
            .expect("a message or an end");
        next.and_then(|message| message.ok_or_else(|| Status::ok("the stream ended")))
    }

    pub async fn take(&mut self, count: usize) -> Vec<Message> {
        let mut taken = Vec::with_capacity(count);
        for _ in 0..count {
            taken.push(self.next().await.unwrap());
        }
        taken
    }

    /// The contents of the next messages as text.
    pub async fn texts(&mut self, count: usize) -> Vec<String> {
        let text = |message: Message| String::from_utf8(message.content.to_vec()).unwrap();
        self.take(count).await.into_iter().map(text).collect()
    }
}

/// A cluster with a database on a server of its own.
pub async fn cluster(moms: usize) -> Arc<Cluster> {
    start(Cluster::builder().moms(moms).managers(1)).await
}

pub async fn start(builder: ClusterBuilder) -> Arc<Cluster> {
    Arc::new(builder.start().await.unwrap())
}

/// The stable code of an error.
pub fn code(status: &Status) -> &str {
    status
        .metadata()
        .get(protos::CODE_METADATA)
        .map_or("", |code| code.to_str().unwrap())
}

#[track_caller]
pub fn assert_refused<T: std::fmt::Debug>(
    outcome: Result<T, Status>,
    status: Code,
    stable: &str,
) -> String {
    let refusal = outcome.expect_err("a refusal");
    assert_eq!(
        (refusal.code(), code(&refusal)),
        (status, stable),
        "{refusal:?}"
    );
    refusal.message().to_owned()
}
