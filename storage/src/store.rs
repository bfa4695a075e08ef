//! The pool of connections, the schema, and the question whether the database keeps its word.

use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{Migrate, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, PgConnection};
use tokio::time::timeout;

use crate::{Appender, Error, Result};

static MIGRATOR: Migrator = sqlx::migrate!("../migrations/sql");

/// How long a connection of the pool may take to say whether it is still good.
const ASK_DEADLINE: Duration = Duration::from_secs(1);

/// How to reach PostgreSQL and how many connections to hold.
#[derive(Clone, Debug)]
pub struct Connect {
    options: PgConnectOptions,
    /// Connections that are kept open.
    pub min_connections: u32,
    /// Connections that are opened at the most; what needs one more waits for `acquire_timeout`.
    pub max_connections: u32,
    /// How long to wait for a connection before the database counts as unavailable.
    pub acquire_timeout: Duration,
    /// How long a connection beyond `min_connections` may idle.
    pub idle_timeout: Option<Duration>,
    /// Whether appenders refuse a database that may lose what it has acknowledged.
    pub require_durable: bool,
}

impl Connect {
    /// From the parts of an address.
    pub fn from_parts(host: &str, port: u16, user: &str, password: &str, dbname: &str) -> Self {
        Self::new(
            PgConnectOptions::new_without_pgpass()
                .host(host)
                .port(port)
                .username(user)
                .password(password)
                .database(dbname),
        )
    }

    /// From a URL: `postgresql://user:password@host:port/dbname`. The error names what is wrong, not the password.
    pub fn from_url(url: &str) -> Result<Self, String> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err("it must start with postgresql://".into());
        }
        PgConnectOptions::from_str(url)
            .map(Self::new)
            .map_err(|error| error.to_string())
    }

    fn new(options: PgConnectOptions) -> Self {
        Self {
            // Failures are logged by whoever handles them, once. The limits keep a stalled session from holding
            // anything up for ever; a unit of work that they strike changes nothing.
            options: options.disable_statement_logging().options([
                ("lock_timeout", "2s"),
                ("statement_timeout", "60s"),
                ("idle_in_transaction_session_timeout", "10s"),
                // Batches come faster than the server gathers statistics about them. Without any it takes what a
                // subscription has still to read for a few rows, gathers all of them for each page, and sorts them: each
                // page costs as much as the whole backlog.
                ("enable_bitmapscan", "off"),
            ]),
            min_connections: 0,
            max_connections: 10,
            acquire_timeout: Duration::from_secs(5),
            idle_timeout: None,
            require_durable: true,
        }
    }

    /// The name under which the connections show in `pg_stat_activity`.
    #[must_use]
    pub fn application_name(mut self, name: &str) -> Self {
        self.options = self.options.application_name(name);
        self
    }

    /// The address without the secret, for logs: `user@host:port/dbname`.
    pub fn target(&self) -> String {
        let options = &self.options;
        format!(
            "{}@{}:{}/{}",
            options.get_username(),
            options.get_host(),
            options.get_port(),
            options.get_database().unwrap_or_default()
        )
    }
}

/// The database, over a bounded pool of connections. Cloning it is cheap and shares the pool.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) pool: PgPool,
    pub(crate) options: PgConnectOptions,
    require_durable: bool,
}

impl Store {
    /// Makes the pool; connections are opened when they are needed, so this works while the database is away.
    pub fn open(connect: &Connect) -> Self {
        let pool = PgPoolOptions::new()
            .min_connections(connect.min_connections.min(connect.max_connections))
            .max_connections(connect.max_connections)
            .acquire_timeout(connect.acquire_timeout)
            .idle_timeout(connect.idle_timeout)
            // In place of sqlx's own ping, and at the same cost: after a fail-over behind one address, or a change of
            // the server's mind, connections to a server that takes no writes are left for new ones.
            .test_before_acquire(false)
            .before_acquire(|connection, _| {
                Box::pin(async {
                    let asked = timeout(ASK_DEADLINE, takes_writes(connection)).await;
                    Ok(matches!(asked, Ok(Ok(true))))
                })
            })
            .after_connect(|connection, _| {
                Box::pin(async {
                    if takes_writes(connection).await? {
                        Ok(())
                    } else {
                        Err(read_only())
                    }
                })
            })
            .connect_lazy_with(connect.options.clone());
        Self {
            pool,
            options: connect.options.clone(),
            require_durable: connect.require_durable,
        }
    }

    /// A writer of messages, with a connection of its own beside the pool.
    pub fn appender(&self) -> Appender {
        Appender::new(self.options.clone(), self.require_durable)
    }

    /// Brings the schema up to date. Several processes may do so at once: an advisory lock lets one after the other in.
    pub async fn migrate(&self) -> Result<()> {
        Ok(MIGRATOR.run(&self.pool).await?)
    }

    /// Whether the schema is at least as new as this program needs.
    pub async fn schema_is_current(&self) -> Result<bool> {
        let mut connection = self.pool.acquire().await?;
        let table = sqlx::query_scalar!(
            r#"select to_regclass('_sqlx_migrations') is not null as "exists!""#
        )
        .fetch_one(&mut *connection)
        .await?;
        if !table {
            return Ok(false);
        }
        let applied = connection
            .list_applied_migrations("_sqlx_migrations")
            .await?;
        Ok(MIGRATOR.iter().all(|known| {
            applied
                .iter()
                .any(|applied| applied.version == known.version)
        }))
    }

    /// Waits until connections in use are returned, and closes all.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Whether a server takes writes, which a standby does not, and none while it is told not to.
async fn takes_writes(connection: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select current_setting('transaction_read_only') = 'off' as "takes_writes!""#
    )
    .fetch_one(connection)
    .await
}

fn read_only() -> sqlx::Error {
    sqlx::Error::Configuration("the server takes no writes: it is a standby, or read-only".into())
}

/// Errs with [`Error::Unavailable`] if the server takes no writes, and with [`Error::NotDurable`] if it may lose what it
/// has acknowledged and that is `required`.
pub(crate) async fn check_server(connection: &mut PgConnection, required: bool) -> Result<()> {
    let settings = sqlx::query!(
        r#"select
            current_setting('fsync') as "fsync!",
            current_setting('full_page_writes') as "full_page_writes!",
            current_setting('synchronous_commit') as "synchronous_commit!",
            current_setting('transaction_read_only') = 'on' as "read_only!""#
    )
    .fetch_one(connection)
    .await?;
    if settings.read_only {
        return Err(Error::Unavailable(read_only()));
    }
    let off: Vec<&str> = [
        ("fsync = off", settings.fsync),
        ("full_page_writes = off", settings.full_page_writes),
        ("synchronous_commit = off", settings.synchronous_commit),
    ]
    .into_iter()
    .filter(|(_, value)| value == "off")
    .map(|(name, _)| name)
    .collect();
    if required && !off.is_empty() {
        return Err(Error::NotDurable(off.join(", ")));
    }
    Ok(())
}
