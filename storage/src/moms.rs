//! The MoM servers that managers know.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{Decision, Error, Lease, Result, Store};

/// Where clients and managers reach a MoM: its external host and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MomAddress {
    /// A host name or an address.
    pub host: String,
    /// A TCP port.
    pub port: u16,
}

impl std::fmt::Display for MomAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A MoM as the database knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mom {
    /// Its row.
    pub id: Uuid,
    /// Where it is reached.
    pub address: MomAddress,
    /// Whether its last probe was answered.
    pub is_up: bool,
    /// Since when that has been so, by the database's clock.
    pub since: DateTime<Utc>,
    /// Whether an operator wants its queues to be elsewhere.
    pub draining: bool,
    /// How many queues it owns.
    pub queues: i64,
}

/// A port as the database stores it; its constraint keeps it in range.
pub(crate) fn port(stored: i32) -> u16 {
    u16::try_from(stored).expect("mom_port_check keeps ports in range")
}

/// Whether a statement was refused since it would break this constraint.
pub(crate) fn violates(error: &sqlx::Error, constraint: &str) -> bool {
    let error = error.as_database_error();
    error.and_then(|error| error.constraint()) == Some(constraint)
}

impl Store {
    /// Makes sure that each of these MoMs has a row; those that have one keep it. Inserts only.
    pub async fn register_moms(&self, addresses: &[MomAddress]) -> Result<()> {
        let ids: Vec<Uuid> = addresses.iter().map(|_| Uuid::now_v7()).collect();
        let hosts: Vec<String> = addresses
            .iter()
            .map(|address| address.host.clone())
            .collect();
        let ports: Vec<i32> = addresses
            .iter()
            .map(|address| i32::from(address.port))
            .collect();
        sqlx::query!(
            "with added as (
                insert into mom (id, host, port) select * from unnest($1::uuid[], $2::text[], $3::integer[])
                on conflict on constraint mom_host_port_key do nothing
                returning host, port
            )
            insert into event (kind, subject, text)
            select 'mom_added', mom_address(host, port), 'registered, since a manager has it in its list' from added",
            &ids,
            &hosts,
            &ports
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Registers one MoM. [`Error::AlreadyExists`] if there is one of that address.
    pub async fn register_mom(&self, address: &MomAddress) -> Result<Mom> {
        let id = Uuid::now_v7();
        let registered = sqlx::query!(
            "with added as (
                insert into mom (id, host, port) values ($1, $2, $3)
                on conflict on constraint mom_host_port_key do nothing
                returning host, port
            )
            insert into event (kind, subject, text)
            select 'mom_added', mom_address(host, port), 'registered by an operator' from added",
            id,
            address.host,
            i32::from(address.port)
        )
        .execute(&self.pool)
        .await?;
        if registered.rows_affected() == 0 {
            return Err(Error::AlreadyExists);
        }
        self.mom(id).await
    }

    /// Forgets a MoM that owns no queue; `false` if it owns one. [`Error::NotFound`] if there is no such MoM.
    ///
    /// Locks its row against being given queues: what is placed on it meanwhile is placed before, and refuses this, or
    /// after, and is refused.
    pub async fn remove_mom(&self, id: Uuid) -> Result<bool> {
        let removed = sqlx::query!(
            "with removed as (delete from mom where id = $1 returning host, port)
            insert into event (kind, subject, text)
            select 'mom_removed', mom_address(host, port), 'removed by an operator' from removed",
            id
        )
        .execute(&self.pool)
        .await;
        match removed {
            Ok(removed) if removed.rows_affected() == 0 => Err(Error::NotFound),
            Ok(_) => Ok(true),
            Err(error) if violates(&error, "queue_mom_id_fkey") => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Records that the queues of a MoM are to be elsewhere, or not any more. [`Error::NotFound`] if there is no such
    /// MoM. Locks its row.
    pub async fn set_draining(&self, id: Uuid, draining: bool) -> Result<Mom> {
        sqlx::query!(
            "with changed as (
                update mom set draining = $2 where id = $1 and draining <> $2 returning host, port
            )
            insert into event (kind, subject, text)
            select
                case when $2 then 'mom_draining' else 'mom_undrained' end,
                mom_address(host, port),
                case when $2 then 'its queues are to be elsewhere' else 'it may be given queues again' end
            from changed",
            id,
            draining
        )
        .execute(&self.pool)
        .await?;
        self.mom(id).await
    }

    /// All MoMs with the number of queues that each owns, in the order of their registration. Locks nothing.
    pub async fn moms(&self) -> Result<Vec<Mom>> {
        self.moms_where(None).await
    }

    /// One MoM. [`Error::NotFound`] if there is none of this id. Locks nothing.
    pub async fn mom(&self, id: Uuid) -> Result<Mom> {
        let found = self.moms_where(Some(id)).await?;
        found.into_iter().next().ok_or(Error::NotFound)
    }

    async fn moms_where(&self, id: Option<Uuid>) -> Result<Vec<Mom>> {
        let rows = sqlx::query!(
            r#"select m.id, m.host, m.port, m.is_up, m.since, m.draining,
                (select count(*) from queue q where q.mom_id = m.id) as "queues!"
            from mom m
            where $1::uuid is null or m.id = $1
            order by m.registered_at, m.id"#,
            id
        )
        .fetch_all(&self.pool)
        .await?;
        let moms = rows.into_iter().map(|row| Mom {
            id: row.id,
            address: MomAddress {
                host: row.host,
                port: port(row.port),
            },
            is_up: row.is_up,
            since: row.since,
            draining: row.draining,
            queues: row.queues,
        });
        Ok(moms.collect())
    }

    /// Records that a MoM is up or down. Returns whether that is news. Locks the lease for share and the row of the MoM.
    pub async fn set_mom_up(
        &self,
        lease: &Lease,
        mom_id: Uuid,
        is_up: bool,
    ) -> Result<Decision<bool>> {
        let lease = *lease;
        let marked = self
            .past_stalled(move |connection, patience| Box::pin(async move {
                Ok(sqlx::query!(
                    r#"with proven as materialized (
                        select l.name from lease l, set_config('lock_timeout', $5, true)
                        where l.name = 'manager' and l.holder = $3 and l.epoch = $4
                            and l.expires_at > clock_timestamp()
                        for share of l
                    ),
                    changed as (
                        update mom set is_up = $2, since = now() from proven where id = $1 and is_up <> $2
                        returning id, host, port
                    ),
                    recorded as (
                        insert into event (kind, subject, text)
                        select
                            case when $2 then 'mom_up' else 'mom_down' end,
                            mom_address(host, port),
                            case when $2 then 'it answers' else 'it does not answer, or is cut off from the database' end
                        from changed
                    )
                    select
                        exists (select from proven) as "is_leading!",
                        exists (select from changed) as "is_news!""#,
                    mom_id,
                    is_up,
                    lease.holder,
                    lease.epoch,
                    patience
                )
                .fetch_one(connection)
                .await?)
            }))
            .await?;
        Ok(Decision::new(marked.is_leading, marked.is_news))
    }
}
