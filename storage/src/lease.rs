//! The lease of the leading manager: its right to decide which MoM owns which queue.
//!
//! It is a row, not a session's lock, since a session outlives the use of its process: a frozen manager would lead for
//! ever. Only the database's clock says whether it is held. Whatever is decided under it proves in the same statement
//! that it is still held, and locks its row `for share`, so that it cannot change hands before the decision is
//! committed. What a manager decided before it was frozen, and sends when it wakes up, changes nothing.

use std::time::Duration;

use uuid::Uuid;

use crate::{Result, Store};

/// A right to decide, as long as the database agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The process that holds it.
    pub holder: Uuid,
    /// The term: it rises whenever the holder changes.
    pub epoch: i64,
}

/// What came of asking for the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// It is held now, for the length that was asked for.
    Held(Lease),
    /// Somebody else holds it, for this long if they do not renew it.
    Elsewhere(Duration),
}

/// What came of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<T> {
    /// It was made, with this result.
    Made(T),
    /// The lease has ended, so nothing was changed.
    LeaseEnded,
}

impl<T> Decision<T> {
    pub(crate) fn new(is_leading: bool, result: T) -> Self {
        if is_leading {
            Self::Made(result)
        } else {
            Self::LeaseEnded
        }
    }
}

impl Store {
    /// Takes the lease for `length` from now on, or renews it, if `holder` has it or nobody else does.
    ///
    /// Locks the row of the lease, unless somebody else holds it: those who wait for it disturb nobody.
    pub async fn lead(&self, holder: Uuid, length: Duration) -> Result<Leadership> {
        let length = length.as_secs_f64();
        let asked = self
            .past_stalled(move |connection, patience| Box::pin(async move {
                Ok(sqlx::query!(
                    r#"with asked as (
                        insert into lease as l (name, holder, epoch, expires_at)
                        select 'manager', $1, 1, clock_timestamp() + make_interval(secs => $2)
                        from set_config('lock_timeout', $3, true)
                        where not exists (
                            select from lease
                            where name = 'manager' and holder <> $1 and expires_at > clock_timestamp()
                        )
                        -- Asked again when the row is locked: another one may have been faster.
                        on conflict on constraint lease_pkey do update set
                            holder = excluded.holder,
                            epoch = l.epoch + (l.holder <> excluded.holder)::integer,
                            expires_at = clock_timestamp() + make_interval(secs => $2)
                        where l.holder = excluded.holder or l.expires_at <= clock_timestamp()
                        returning l.holder, l.epoch
                    ),
                    recorded as (
                        insert into event (kind, subject, text)
                        select 'leader_changed', a.holder::text, 'this manager leads since lease epoch ' || a.epoch
                        from asked a
                        -- Not if it was renewed: this sees the row as it was.
                        where not exists (
                            select from lease where name = 'manager' and holder = a.holder and epoch = a.epoch
                        )
                    )
                    select
                        (select epoch from asked) as epoch,
                        (
                            select extract(epoch from expires_at - clock_timestamp()) from lease where name = 'manager'
                        )::float8 as left_secs"#,
                    holder,
                    length,
                    patience
                )
                .fetch_one(connection)
                .await?)
            }))
            .await?;
        let held = asked.epoch.map(|epoch| Lease { holder, epoch });
        // The row as it was before the statement; none: it was inserted by another one meanwhile.
        let left = asked.left_secs.unwrap_or(0.0).clamp(0.0, length);
        Ok(held.map_or_else(
            || Leadership::Elsewhere(Duration::from_secs_f64(left)),
            Leadership::Held,
        ))
    }

    /// The epoch of the lease, held or ended; 0 before the first. Locks nothing.
    pub async fn lease_epoch(&self) -> Result<i64> {
        let epoch = sqlx::query_scalar!("select epoch from lease where name = 'manager'")
            .fetch_optional(&self.pool)
            .await?;
        Ok(epoch.unwrap_or(0))
    }

    /// Gives the lease back before its time, so that another process can have it at once. Locks its row.
    pub async fn give_back(&self, lease: &Lease) -> Result<()> {
        sqlx::query!(
            "update lease set expires_at = clock_timestamp() where name = 'manager' and holder = $1 and epoch = $2",
            lease.holder,
            lease.epoch
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
