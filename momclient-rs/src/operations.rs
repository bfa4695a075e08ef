//! What operators see and do, through the manager: how full queues are, how MoMs are, what happened.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::client::MoMClient;
use crate::error::Error;
use crate::manager::{Request, decode};

/// How many queues the manager is asked for at once.
const PAGE: usize = 500;

/// The whole system at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Overview {
    /// When the manager answered.
    pub at: DateTime<Utc>,
    /// The manager's version.
    pub version: String,
    /// The manager that answered.
    pub manager: ManagerState,
    /// How much there is of everything.
    pub totals: Totals,
    /// Of all queues together.
    pub rates: Rates,
    /// Every MoM that the managers know.
    pub moms: Vec<Mom>,
}

/// A manager's own state.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ManagerState {
    /// Whether it is the one that decides.
    pub leads: bool,
    /// The epoch of the lease of the one that does.
    pub lease_epoch: i64,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Totals {
    /// Queues.
    pub queues: u64,
    /// Channels of all queues.
    pub channels: u64,
    /// MoMs that are registered.
    pub moms: u64,
    /// Of these, the ones that are up.
    pub moms_up: u64,
    /// Messages that are retained.
    pub messages: u64,
    /// Bytes of their contents, as far as they are known.
    pub bytes: Option<u64>,
    /// Subscriptions at this moment, as far as they are known.
    pub subscriptions: Option<u64>,
}

/// Messages a second over the last few seconds, where they are known.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rates {
    /// Committed.
    pub pushed: Option<f64>,
    /// Handed to subscriptions, each one counted.
    pub delivered: Option<f64>,
    /// Of the delivered ones, those that were read back from the database.
    pub caught_up: Option<f64>,
}

/// A MoM as the managers know it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Mom {
    /// What commands name it by.
    pub id: Uuid,
    /// Where clients reach it.
    pub host: String,
    /// Where clients reach it.
    pub port: u16,
    /// Whether its last probe was answered.
    pub is_up: bool,
    /// Since when that has been so.
    pub since: DateTime<Utc>,
    /// Whether its queues are to be elsewhere.
    pub draining: bool,
    /// How many queues it owns.
    pub queues: u64,
    /// When it last answered.
    #[serde(default)]
    pub heartbeat_at: Option<DateTime<Utc>>,
    /// The memory that its process has in use.
    #[serde(default)]
    pub resident_bytes: Option<u64>,
    /// Connections of clients and managers.
    #[serde(default)]
    pub connections: Option<u64>,
    /// For how long its process has run.
    #[serde(default)]
    pub uptime_secs: Option<u64>,
    /// Of its queues together.
    #[serde(default)]
    pub rates: Option<Rates>,
}

/// The MoM that owns a queue.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Owner {
    /// What commands name it by.
    pub id: Uuid,
    /// Where clients reach it.
    pub host: String,
    /// Where clients reach it.
    pub port: u16,
}

/// How a queue is at this moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QueueDetails {
    /// Its label.
    pub label: String,
    /// The epoch of its ownership.
    pub epoch: i64,
    /// Who owns it.
    pub mom: Option<Owner>,
    /// How many channels it has.
    pub channels: u64,
    /// Messages that it retains.
    pub messages: u64,
    /// Bytes of their contents, as far as they are known.
    pub bytes: Option<u64>,
    /// When the oldest of them was committed.
    pub oldest_at: Option<DateTime<Utc>>,
    /// How far it is committed.
    pub last_seq: i64,
    /// Subscriptions to its channels, as far as they are known.
    pub subscriptions: Option<u64>,
    /// How many messages the one that is furthest behind has still to get.
    pub largest_lag: Option<u64>,
    /// What goes in and out.
    pub rates: Rates,
    /// Its channels; only of a queue that was asked for by its label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_list: Option<Vec<ChannelTopic>>,
    /// Who subscribes; only of a queue that was asked for by its label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription_list: Option<Vec<Subscription>>,
}

/// A channel of a queue.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChannelTopic {
    /// What to subscribe to.
    pub id: Uuid,
    /// The topic that it sees; `__none__` where it sees every message.
    pub topic: String,
}

/// A subscription that is served at this moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Subscription {
    /// Its channel.
    pub channel_id: Uuid,
    /// The channel's topic.
    pub topic: String,
    /// Where the subscriber connects from.
    pub peer: String,
    /// The last sequence that it was handed or passed over.
    pub seq: i64,
    /// How many messages it has still to get.
    pub lag: u64,
}

/// Messages that were looked at without being consumed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Peeked {
    /// In the order of their sequences.
    pub messages: Vec<PeekedMessage>,
    /// Where to go on, if there is more.
    pub next_after: Option<i64>,
}

/// A message that was looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PeekedMessage {
    /// Place in the queue.
    pub seq: i64,
    /// Unique for ever.
    pub id: Uuid,
    /// The topic; `__none__` where it has none.
    pub topic: String,
    /// When it was committed.
    pub at: DateTime<Utc>,
    /// Bytes of the content.
    pub size: u64,
    /// The content in base64.
    pub content: String,
    /// What it carries beside its content.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// Something that was decided or noticed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// Its place in the log.
    pub id: i64,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// What kind of event it is, such as `queue_moved`.
    pub kind: String,
    /// What it is about: a queue's label, a MoM's address.
    pub subject: String,
    /// For people.
    pub text: String,
}

impl MoMClient {
    /// The whole system at this moment.
    pub async fn overview(&self) -> Result<Overview, Error> {
        self.managers().get_json(&["overview"]).await
    }

    /// Whether a manager can do its work, which needs the database, and not only answer.
    pub async fn ready(&self) -> Result<(), Error> {
        self.managers().get(&["readyz"]).await.map(drop)
    }

    /// The MoMs, in the order of their registration.
    pub async fn moms(&self) -> Result<Vec<Mom>, Error> {
        self.managers().get_json(&["moms"]).await
    }

    /// Registers a MoM by the address that clients reach it by.
    pub async fn add_mom(&self, host: &str, port: u16) -> Result<Mom, Error> {
        let body = serde_json::json!({ "host": host, "port": port });
        let request = Request::new(Method::POST, &["moms"]).json(&body);
        decode(&["moms"], &self.managers().send(request).await?)
    }

    /// Forgets a MoM that owns no queue.
    pub async fn remove_mom(&self, id: &Uuid) -> Result<(), Error> {
        let path = ["moms", &id.to_string()];
        self.managers()
            .change(Method::DELETE, &path)
            .await
            .map(drop)
    }

    /// Has the queues of a MoM moved to others, gently, and gives it no more until [`MoMClient::undrain`].
    pub async fn drain(&self, id: &Uuid) -> Result<Mom, Error> {
        self.post(&["moms", &id.to_string(), "drain"]).await
    }

    /// Lets a MoM have queues again.
    pub async fn undrain(&self, id: &Uuid) -> Result<Mom, Error> {
        self.post(&["moms", &id.to_string(), "undrain"]).await
    }

    /// Has queues spread evenly over the MoMs that are up, soon.
    pub async fn rebalance(&self) -> Result<(), Error> {
        self.managers()
            .change(Method::POST, &["rebalance"])
            .await
            .map(drop)
    }

    /// How all queues are at this moment, sorted by label.
    pub async fn queue_list(&self) -> Result<Vec<QueueDetails>, Error> {
        let mut queues: Vec<QueueDetails> = Vec::new();
        loop {
            let mut request = Request::new(Method::GET, &["queues"])
                .query("details", &"true")
                .query("limit", &PAGE);
            if let Some(last) = queues.last() {
                request = request.query("after", &last.label);
            }
            let page: Vec<QueueDetails> =
                decode(&["queues"], &self.managers().send(request).await?)?;
            let is_last = page.len() < PAGE;
            queues.extend(page);
            if is_last {
                return Ok(queues);
            }
        }
    }

    /// How a queue is at this moment, with its channels and subscriptions.
    pub async fn queue_details(&self, label: &str) -> Result<QueueDetails, Error> {
        self.managers()
            .get_json(&["queues", label, "details"])
            .await
    }

    /// At most `limit` messages (1 to 100) of a queue after a sequence, of one topic or of any. Nothing is consumed.
    pub async fn peek(
        &self,
        label: &str,
        after: i64,
        limit: u32,
        topic: Option<&str>,
    ) -> Result<Peeked, Error> {
        let path = ["queues", label, "messages"];
        let mut request = Request::new(Method::GET, &path)
            .query("after", &after)
            .query("limit", &limit);
        if let Some(topic) = topic {
            request = request.query("topic", &topic);
        }
        decode(&path, &self.managers().send(request).await?)
    }

    /// Deletes every message of a queue that is committed by now; how many there were.
    pub async fn purge(&self, label: &str) -> Result<u64, Error> {
        #[derive(Deserialize)]
        struct Purged {
            messages: u64,
        }
        let path = ["queues", label, "messages"];
        let purged = self.managers().change(Method::DELETE, &path).await?;
        Ok(decode::<Purged>(&path, &purged)?.messages)
    }

    /// The newest `limit` events, the newest first; or those after the event `after`.
    pub async fn events(&self, after: Option<i64>, limit: u32) -> Result<Vec<Event>, Error> {
        let mut request = Request::new(Method::GET, &["events"]).query("limit", &limit);
        if let Some(after) = after {
            request = request.query("after", &after);
        }
        decode(&["events"], &self.managers().send(request).await?)
    }

    async fn post<T: serde::de::DeserializeOwned>(&self, path: &[&str]) -> Result<T, Error> {
        decode(path, &self.managers().change(Method::POST, path).await?)
    }
}
