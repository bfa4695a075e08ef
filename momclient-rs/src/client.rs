//! [`MoMClient`]: administration through the manager, and the way to pushers and subscribers.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use uuid::Uuid;

use crate::error::{Error, Reason};
use crate::link::{Address, Connections};
use crate::manager::{Managers, decode};
use crate::pusher::PusherBuilder;
use crate::subscriber::{Start, SubscriberBuilder};

/// A client of one system: of its manager for administration, and through it of every MoM.
///
/// Cheap to clone; clones share their connections to managers, and their pushers those to MoMs. Nothing is connected
/// before the first call.
///
/// ```no_run
/// # async fn example() -> Result<(), momclient::Error> {
/// use momclient::MoMClient;
///
/// let client = MoMClient::new(["http://127.0.0.1:8082"])?;
/// client.create_queue("news").await?;
/// let channel = client.create_channel("news", Some("sports")).await?;
/// println!("subscribe to {} at {}:{}", channel.id, channel.host, channel.port);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MoMClient {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    managers: Managers,
    connections: Connections,
    connect_timeout: Duration,
    deadline: Duration,
}

/// Settings of a [`MoMClient`]; see [`MoMClient::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct MoMClientBuilder {
    urls: Vec<String>,
    connect_timeout: Duration,
    request_timeout: Duration,
    deadline: Duration,
}

/// A queue and the MoM that hosts it at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[non_exhaustive]
pub struct MoMInfo {
    /// The queue's label, in lower case.
    pub label: String,
    /// The MoM's host name or address, for clients.
    pub host: String,
    /// The MoM's gRPC port.
    pub port: u16,
}

/// A read end of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[non_exhaustive]
pub struct Channel {
    /// What to subscribe to. It stays the same when the queue moves.
    pub id: Uuid,
    /// The host name or address of the MoM that hosts the channel's queue at the moment.
    pub host: String,
    /// The MoM's gRPC port.
    pub port: u16,
    /// The topic that the channel sees, or a pattern of topics; without one, it sees every message of its queue.
    #[serde(deserialize_with = "topic_or_none")]
    pub topic: Option<String>,
}

impl MoMClient {
    /// A client of the manager, or of several managers of one system, with the default timeouts.
    ///
    /// Managers are tried in the given order; the one that answered last is asked first the next time. What only reads is
    /// asked of the next one as well when no answer has come within a second. A url that is
    /// not `http://HOST:PORT` is an [`Error::InvalidArgument`].
    pub fn new<U: Into<String>>(urls: impl IntoIterator<Item = U>) -> Result<Self, Error> {
        Self::builder(urls).build()
    }

    /// Starts from the default timeouts.
    ///
    /// ```
    /// # fn example() -> Result<(), momclient::Error> {
    /// use std::time::Duration;
    ///
    /// let client = momclient::MoMClient::builder(["http://10.0.0.1:8080", "http://10.0.0.2:8080"])
    ///     .request_timeout(Duration::from_secs(2))
    ///     .deadline(Duration::from_secs(30))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// # example().unwrap();
    /// ```
    pub fn builder<U: Into<String>>(urls: impl IntoIterator<Item = U>) -> MoMClientBuilder {
        MoMClientBuilder {
            urls: urls.into_iter().map(Into::into).collect(),
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
            deadline: Duration::from_secs(10),
        }
    }

    /// Asks whether a manager answers.
    pub async fn status(&self) -> Result<(), Error> {
        self.managers().get(&["status"]).await.map(drop)
    }

    /// Creates a queue on whichever MoM the manager chooses. [`Error::AlreadyExists`] if the label is taken.
    ///
    /// Labels are 1 to 255 letters, digits and any of `.`, `_`, `-`, `:`; upper case is folded to lower case.
    pub async fn create_queue(&self, label: &str) -> Result<(), Error> {
        self.managers()
            .change(Method::POST, &["queues", label])
            .await
            .map(drop)
    }

    /// The labels of all queues.
    pub async fn queues(&self) -> Result<Vec<String>, Error> {
        self.managers().get_json(&["queues"]).await
    }

    /// Where a queue is hosted at the moment.
    pub async fn queue(&self, label: &str) -> Result<MoMInfo, Error> {
        self.managers().get_json(&["queues", label]).await
    }

    /// Deletes a queue with its channels and its messages.
    pub async fn delete_queue(&self, label: &str) -> Result<(), Error> {
        self.managers()
            .change(Method::DELETE, &["queues", label])
            .await
            .map(drop)
    }

    /// The distinct topics of a queue's channels.
    pub async fn topics(&self, label: &str) -> Result<Vec<String>, Error> {
        self.managers().get_json(&["queue", label, "topics"]).await
    }

    /// Creates a channel, a new one at each call. Without a topic it sees every message of the queue.
    ///
    /// The topic may be a pattern: of its parts, which `.` separates, `*` stands for exactly one part of a message's topic,
    /// and `>`, the last one, for one or more. `news.*` sees `news.sports`, `news.>` sees `news.sports.football` too.
    pub async fn create_channel(&self, queue: &str, topic: Option<&str>) -> Result<Channel, Error> {
        let path = [
            "queues",
            queue,
            "channels",
            topic.unwrap_or(protos::NO_TOPIC),
        ];
        decode(&path, &self.managers().change(Method::PUT, &path).await?)
    }

    /// The ids of all channels.
    pub async fn channels(&self) -> Result<Vec<Uuid>, Error> {
        self.managers().get_json(&["channels"]).await
    }

    /// A channel, and where it is hosted at the moment.
    pub async fn channel(&self, id: &Uuid) -> Result<Channel, Error> {
        self.managers()
            .get_json(&["channels", &id.to_string()])
            .await
    }

    /// Deletes a channel and ends its subscriptions.
    pub async fn delete_channel(&self, id: &Uuid) -> Result<(), Error> {
        self.managers()
            .change(Method::DELETE, &["channels", &id.to_string()])
            .await
            .map(drop)
    }

    /// A pusher to one queue: await the builder as it is, or set options first.
    ///
    /// ```no_run
    /// # async fn example(client: momclient::MoMClient) -> Result<(), momclient::Error> {
    /// use std::time::Duration;
    ///
    /// let pusher = client.pusher("news").await?;
    /// let receipt = pusher.push("1:0", Some("sports")).await?;
    /// println!("committed as {} at {}", receipt.id, receipt.seq);
    ///
    /// let patient = client.pusher("news").connections(2).deadline(Duration::from_secs(60)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn pusher(&self, queue: &str) -> PusherBuilder {
        PusherBuilder::new(self.clone(), queue)
    }

    /// A subscriber to one channel, starting with the oldest message that its queue retains, or
    /// [elsewhere](SubscriberBuilder::start).
    ///
    /// ```no_run
    /// # async fn example(client: momclient::MoMClient, id: momclient::Uuid) -> Result<(), momclient::Error> {
    /// let mut subscriber = client.subscribe(&id).await?;
    /// while let Some(message) = subscriber.next().await {
    ///     let message = message?;
    ///     println!("{}: {} bytes", message.seq, message.content.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscribe(&self, channel: &Uuid) -> SubscriberBuilder {
        SubscriberBuilder::new(self.clone(), *channel, Start::default())
    }

    /// A subscriber to one channel, starting after a sequence: give the last one that was dealt with.
    pub fn subscribe_after(&self, channel: &Uuid, seq: i64) -> SubscriberBuilder {
        SubscriberBuilder::new(self.clone(), *channel, Start::After(seq))
    }

    /// To MoMs, for pushers.
    pub(crate) fn connections(&self) -> &Connections {
        &self.shared.connections
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.shared.connect_timeout
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.shared.deadline
    }

    pub(crate) async fn address_of_queue(&self, label: &str) -> Result<Address, Error> {
        let MoMInfo { host, port, .. } = self.queue(label).await?;
        Ok(Address { host, port })
    }

    pub(crate) async fn address_of_channel(&self, id: &Uuid) -> Result<Address, Error> {
        let Channel { host, port, .. } = self.channel(id).await?;
        Ok(Address { host, port })
    }

    pub(crate) fn managers(&self) -> &Managers {
        &self.shared.managers
    }
}

impl MoMClientBuilder {
    /// How long a TCP connection, to a manager or to a MoM, may take to come about. Default: 2 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one manager may take to answer before the next is asked. Default: 5 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long a push is tried again, and how long a pusher or a subscriber may take to come about. Default: 10 s.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Checks the settings. Nothing is connected yet.
    pub fn build(self) -> Result<MoMClient, Error> {
        for (name, value) in [
            ("connect_timeout", self.connect_timeout),
            ("request_timeout", self.request_timeout),
            ("deadline", self.deadline),
        ] {
            if value.is_zero() {
                let detail = format!("{name} is zero; give a positive duration");
                return Err(Error::InvalidArgument(Reason::new(
                    "invalid_setting",
                    detail,
                )));
            }
        }
        let managers = Managers::new(&self.urls, self.connect_timeout, self.request_timeout)?;
        let shared = Shared {
            managers,
            connections: Connections::default(),
            connect_timeout: self.connect_timeout,
            deadline: self.deadline,
        };
        Ok(MoMClient {
            shared: Arc::new(shared),
        })
    }
}

/// The protocol's word for no topic, or nothing at all, becomes `None`.
fn topic_or_none<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let topic = Option::<String>::deserialize(deserializer)?;
    Ok(topic.filter(|topic| !topic.is_empty() && topic != protos::NO_TOPIC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocols_word_for_no_topic_is_none() {
        for (topic, expected) in [
            ("\"__none__\"", None),
            ("null", None),
            ("\"sports\"", Some("sports")),
        ] {
            let json = format!(
                r#"{{"id":"01890a5d-ac96-774b-bcce-b302099a8057","host":"127.0.0.1","port":50051,"topic":{topic}}}"#
            );
            let channel: Channel = serde_json::from_str(&json).unwrap();
            assert_eq!(channel.topic.as_deref(), expected);
        }
    }

    #[test]
    fn a_zero_timeout_is_named() {
        let error = MoMClient::builder(["http://127.0.0.1:1"])
            .deadline(Duration::ZERO)
            .build()
            .unwrap_err();
        assert!(error.detail().contains("deadline"), "{error}");
    }
}
