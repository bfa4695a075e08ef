//! The MoM servers that managers know.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{Result, Store};

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
    /// How many queues it owns.
    pub queues: i64,
}

/// A port as the database stores it; its constraint keeps it in range.
pub(crate) fn port(stored: i32) -> u16 {
    u16::try_from(stored).expect("mom_port_check keeps ports in range")
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
            "insert into mom (id, host, port) select * from unnest($1::uuid[], $2::text[], $3::integer[])
            on conflict on constraint mom_host_port_key do nothing",
            &ids,
            &hosts,
            &ports
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// All MoMs with the number of queues that each owns, in the order of their registration. Locks nothing.
    pub async fn moms(&self) -> Result<Vec<Mom>> {
        let rows = sqlx::query!(
            r#"select m.id, m.host, m.port, m.is_up, m.since,
                (select count(*) from queue q where q.mom_id = m.id) as "queues!"
            from mom m order by m.registered_at, m.id"#
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
            queues: row.queues,
        });
        Ok(moms.collect())
    }

    /// The row of the MoM with this external address, if a manager has registered it. Locks nothing.
    pub async fn find_mom(&self, address: &MomAddress) -> Result<Option<Uuid>> {
        Ok(sqlx::query_scalar!(
            "select id from mom where host = $1 and port = $2",
            address.host,
            i32::from(address.port)
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Records that a MoM is up or down. Returns whether that is news. Locks the row of the MoM.
    pub async fn set_mom_up(&self, mom_id: Uuid, is_up: bool) -> Result<bool> {
        let changed = sqlx::query!(
            "update mom set is_up = $2, since = now() where id = $1 and is_up <> $2",
            mom_id,
            is_up
        )
        .execute(&self.pool)
        .await?;
        Ok(changed.rows_affected() > 0)
    }
}
