//! Channels: read ends of queues, with the ids that clients hold on to across every move.

use uuid::Uuid;

use crate::queues::owner;
use crate::{Error, MomAddress, Result, Store};

/// A channel and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// What clients subscribe with.
    pub id: Uuid,
    /// Only messages with this topic are seen; `None`: all.
    pub topic: Option<String>,
    /// The queue that it reads.
    pub queue_id: Uuid,
    /// The queue's name.
    pub queue_label: String,
    /// The MoM that owns the queue, if any: its row and its address.
    pub owner: Option<(Uuid, MomAddress)>,
}

impl Store {
    /// Creates a channel on a queue; a new one at each call. [`Error::NotFound`] if there is no such queue.
    ///
    /// Locks the queue row against deletion.
    pub async fn create_channel(&self, queue_label: &str, topic: Option<&str>) -> Result<Channel> {
        let id = Uuid::now_v7();
        sqlx::query!(
            "insert into channel (id, queue_id, topic) select $1, q.id, $3 from queue q where q.label = $2 for key share",
            id,
            queue_label,
            topic
        )
        .execute(&self.pool)
        .await?;
        self.channel(id).await
    }

    /// A channel by its id. [`Error::NotFound`] if there is none. Locks nothing.
    pub async fn channel(&self, id: Uuid) -> Result<Channel> {
        let row = sqlx::query!(
            r#"select c.id, c.topic, c.queue_id, q.label, m.id as "mom_id?", m.host as "host?", m.port as "port?"
            from channel c join queue q on q.id = c.queue_id left join mom m on m.id = q.mom_id
            where c.id = $1"#,
            id
        )
        .fetch_one(&self.pool)
        .await?;
        let owner = owner(row.mom_id, row.host, row.port);
        Ok(Channel {
            id: row.id,
            topic: row.topic,
            queue_id: row.queue_id,
            queue_label: row.label,
            owner,
        })
    }

    /// The ids of all channels, sorted. Locks nothing.
    pub async fn channel_ids(&self) -> Result<Vec<Uuid>> {
        Ok(sqlx::query_scalar!("select id from channel order by id")
            .fetch_all(&self.pool)
            .await?)
    }

    /// At most `limit` ids of channels, sorted, from the one after `after` on. Locks nothing.
    pub async fn channel_ids_after(&self, after: Uuid, limit: i64) -> Result<Vec<Uuid>> {
        Ok(sqlx::query_scalar!(
            "select id from channel where id > $1 order by id limit $2",
            after,
            limit
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// The channels of a queue, sorted by id, at most `limit`: ids and topics. Locks nothing.
    pub async fn channels_of(
        &self,
        queue_id: Uuid,
        limit: i64,
    ) -> Result<Vec<(Uuid, Option<String>)>> {
        let rows = sqlx::query!(
            "select id, topic from channel where queue_id = $1 order by id limit $2",
            queue_id,
            limit
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.id, row.topic)).collect())
    }

    /// The ids of the channels on the queues of one MoM, sorted. Locks nothing.
    pub async fn channel_ids_of(&self, mom_id: Uuid) -> Result<Vec<Uuid>> {
        Ok(sqlx::query_scalar!(
            "select c.id from channel c join queue q on q.id = c.queue_id where q.mom_id = $1 order by c.id",
            mom_id
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Those of `ids` that exist. Locks nothing.
    pub async fn existing_channels(&self, ids: &[Uuid]) -> Result<Vec<Uuid>> {
        Ok(
            sqlx::query_scalar!("select id from channel where id = any($1)", ids)
                .fetch_all(&self.pool)
                .await?,
        )
    }

    /// The distinct topics of a queue's channels, sorted. [`Error::NotFound`] if there is no such queue. Locks nothing.
    pub async fn topics(&self, queue_label: &str) -> Result<Vec<String>> {
        let topics = sqlx::query_scalar!(
            r#"select c.topic from queue q left join channel c on c.queue_id = q.id where q.label = $1
            group by c.topic order by c.topic"#,
            queue_label
        )
        .fetch_all(&self.pool)
        .await?;
        // A queue without channels gives one row with no topic, a queue that is not there gives no row.
        if topics.is_empty() {
            Err(Error::NotFound)
        } else {
            Ok(topics.into_iter().flatten().collect())
        }
    }

    /// Deletes a channel. [`Error::NotFound`] if there is none. Locks its row.
    pub async fn delete_channel(&self, id: Uuid) -> Result<()> {
        let deleted = sqlx::query!("delete from channel where id = $1", id)
            .execute(&self.pool)
            .await?;
        if deleted.rows_affected() == 0 {
            Err(Error::NotFound)
        } else {
            Ok(())
        }
    }
}
