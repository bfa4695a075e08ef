//! Queues with all that is known of them, over REST.

use chrono::{DateTime, Utc};
use rocket::serde::json::Json;
use rocket::{Route, get, routes};
use serde::Serialize;
use storage::Depth;
use utoipa::ToSchema;
use uuid::Uuid;

use protos::NO_TOPIC;

use super::overview::Rates;
use super::params::Label;
use super::{Answer, Caller, Shared};
use crate::Manager;
use crate::allocation::missing_queue;
use crate::error::Error;
use crate::figures::Figures;

/// Channels, and subscriptions, that are told of a queue at the most.
const MAX_LISTED: usize = 1000;

pub(super) fn routes() -> Vec<Route> {
    routes![show]
}

/// A queue and what it holds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QueueDetails {
    pub(super) label: String,
    /// The term of its ownership; it rises at every move.
    #[schema(minimum = 1)]
    epoch: i64,
    /// The MoM that owns it, if any.
    mom: Option<MomPlace>,
    /// How many there are.
    #[schema(minimum = 0)]
    channels: i64,
    /// Retained now.
    #[schema(minimum = 0)]
    messages: i64,
    /// Of their contents; of a long queue taken from the size of its newest messages.
    #[schema(minimum = 0)]
    bytes: i64,
    /// When the oldest of them was committed.
    oldest_at: Option<DateTime<Utc>>,
    /// The sequence of the newest message, retained or not; 0 before the first.
    #[schema(minimum = 0)]
    last_seq: i64,
    /// Null, as the rest, where its MoM does not tell.
    subscriptions: Option<u32>,
    /// How many messages the subscription that is furthest behind has still to get.
    largest_lag: Option<u64>,
    rates: Rates,
}

#[derive(Debug, Serialize, ToSchema)]
struct MomPlace {
    id: Uuid,
    host: String,
    port: u16,
}

/// A queue, its channels and its subscriptions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QueueInFull {
    #[serde(flatten)]
    details: QueueDetails,
    /// At most a thousand, sorted by id.
    channel_list: Vec<ChannelEntry>,
    /// At most a thousand; empty where its MoM does not tell.
    subscription_list: Vec<SubscriptionEntry>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ChannelEntry {
    id: Uuid,
    /// `__none__` where it has none.
    topic: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct SubscriptionEntry {
    channel_id: String,
    topic: String,
    /// Where the subscriber connects from.
    peer: String,
    /// The last sequence that it was handed or passed over.
    #[schema(minimum = 0)]
    seq: i64,
    /// How many messages it has still to get.
    lag: u64,
}

impl QueueDetails {
    pub(super) fn new(depth: &Depth, figures: Option<&Figures>) -> Self {
        let figures = figures.and_then(|figures| figures.of_queues.get(&depth.label));
        // What a former owner says is of no interest.
        let figures = figures.filter(|figures| figures.epoch == depth.epoch);
        Self {
            label: depth.label.clone(),
            epoch: depth.epoch,
            mom: depth.owner.as_ref().map(|(id, address)| MomPlace {
                id: *id,
                host: address.host.clone(),
                port: address.port,
            }),
            channels: depth.channels,
            messages: depth.messages,
            bytes: depth.bytes,
            oldest_at: depth.oldest_at,
            last_seq: depth.last_seq,
            subscriptions: figures.map(|figures| figures.subscriptions),
            largest_lag: figures.map(|figures| figures.largest_lag),
            rates: figures.and_then(|figures| figures.rates).into(),
        }
    }

    /// The busiest `limit` queues, the busiest first; where they are alike, by label.
    pub(super) fn busiest(figures: &Figures, limit: usize) -> Vec<Self> {
        let work = |depth: &Depth| {
            let figures = figures.of_queues.get(&depth.label);
            let rates = figures.and_then(|figures| figures.rates);
            rates.map_or(0.0, |rates| rates.pushed + rates.delivered)
        };
        let mut busiest: Vec<_> = figures
            .queues
            .iter()
            .map(|depth| (work(depth), depth))
            .collect();
        busiest.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        let busiest = busiest.into_iter().take(limit);
        busiest
            .map(|(_, depth)| Self::new(depth, Some(figures)))
            .collect()
    }
}

impl QueueInFull {
    pub(super) async fn find(manager: &Manager, label: &str) -> Result<Self, Error> {
        let database = &manager.database;
        let store = database.store();
        let depth = database.answer(store.depth(label)).await;
        let depth = depth.map_err(|error| missing_queue(error, label))?;
        let owner = depth.owner.as_ref().map(|(_, address)| address);
        let ask = async {
            let answer = manager.moms.statistics(owner?, label).await?;
            Some(answer.subscriptions)
        };
        let channels = store.channels_of(depth.id, MAX_LISTED as i64);
        let (channels, subscriptions) = tokio::join!(database.answer(channels), ask);
        let channels = channels?.into_iter().map(|(id, topic)| ChannelEntry {
            id,
            topic: topic.unwrap_or_else(|| NO_TOPIC.to_owned()),
        });
        let subscriptions = subscriptions.into_iter().flatten().take(MAX_LISTED);
        let subscriptions = subscriptions.map(|subscription| SubscriptionEntry {
            channel_id: subscription.channel_id,
            topic: subscription.topic,
            peer: subscription.peer,
            seq: subscription.seq,
            lag: subscription.lag,
        });
        let look = manager.watching.known();
        let figures = look.as_deref().and_then(|look| look.figures());
        Ok(Self {
            details: QueueDetails::new(&depth, figures),
            channel_list: channels.collect(),
            subscription_list: subscriptions.collect(),
        })
    }
}

/// A queue with all that is known of it.
#[utoipa::path(
    get,
    path = "/queues/{label}/details",
    operation_id = "showQueueDetails",
    tag = "queues",
    params(Label),
    responses((status = 200, description = "the queue", body = QueueInFull)),
    extensions(("x-codes" = json!(["invalid_label", "queue_not_found", "database_unavailable"])))
)]
#[get("/queues/<label>/details")]
pub(super) async fn show(
    _caller: Caller,
    manager: &Shared,
    label: Result<Label, Error>,
) -> Answer<Json<QueueInFull>> {
    Ok(Json(QueueInFull::find(manager, &label?.0).await?))
}
