//! What operators have asked for, kept until the leading manager has done it.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{Decision, Lease, Result, Store};

/// A request to even out the number of queues over the MoMs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebalance {
    /// Its row.
    pub id: Uuid,
    /// When it was made, by the database's clock.
    pub asked_at: DateTime<Utc>,
}

impl Store {
    /// Keeps the request to even out the number of queues.
    pub async fn request_rebalance(&self) -> Result<Rebalance> {
        Ok(sqlx::query_as!(
            Rebalance,
            "insert into operator_request (id, kind) values ($1, 'rebalance') returning id, asked_at",
            Uuid::now_v7()
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// The requests to even out the number of queues that are still to be met. Locks nothing.
    pub async fn rebalances(&self) -> Result<Vec<Uuid>> {
        Ok(
            sqlx::query_scalar!("select id from operator_request where kind = 'rebalance'")
                .fetch_all(&self.pool)
                .await?,
        )
    }

    /// Forgets requests that have been met. One that was made meanwhile has an id of its own and stays. Locks the lease
    /// for share and the rows.
    pub async fn requests_are_met(&self, lease: &Lease, ids: &[Uuid]) -> Result<Decision<()>> {
        let is_leading = sqlx::query_scalar!(
            r#"with proven as materialized (
                select name from lease
                where name = 'manager' and holder = $2 and epoch = $3 and expires_at > clock_timestamp()
                for share
            ),
            met as (delete from operator_request using proven where id = any($1) returning id),
            recorded as (
                insert into event (kind, subject, text)
                select 'rebalanced', 'queues', 'evenly spread over the MoMs, as an operator has asked'
                where exists (select from met)
            )
            select exists (select from proven) as "is_leading!""#,
            ids,
            lease.holder,
            lease.epoch
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Decision::new(is_leading, ()))
    }
}
