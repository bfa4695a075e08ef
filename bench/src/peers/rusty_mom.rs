//! rusty-mom itself: a private cluster of one MoM and one manager, pushed to and read by the client library.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use momclient::{MoMClient, Pusher, Subscriber};
use testkit::Cluster;

use crate::flow::Sink;
use crate::peers::{About, Contender, Inlet, Lane};

pub(crate) const KEY: &str = "rusty-mom";

/// A running cluster; clones are the same one.
#[derive(Clone)]
pub(crate) struct RustyMom {
    cluster: Arc<Cluster>,
    /// One for each connection: pushers of one client share theirs.
    clients: [MoMClient; CONNECTIONS],
    about: About,
}

/// As many connections as the others have.
const CONNECTIONS: usize = 4;

/// As in `docker/docker-compose.yaml`.
const MAX_WAL_SIZE: &str = "2GB";

/// Files of the log that are kept to be written anew. PostgreSQL keeps as many as it used of late, which is little while
/// others are measured, and then has to fill each file with zeros before its first use: what a server that is as busy all
/// the time does once.
const MIN_WAL_SIZE: &str = "1GB";

/// Uses as many files of the log as [`MIN_WAL_SIZE`] are.
const FILL_LOG: &str = "
    do $$
    begin
        for file in 1..64 loop
            perform pg_logical_emit_message(false, 'rmom-bench', '');
            perform pg_switch_wal();
        end loop;
    end
    $$;
    checkpoint";

impl RustyMom {
    pub(crate) async fn start() -> Result<Self> {
        Self::of(Cluster::builder()).await
    }

    /// With settings of its own.
    pub(crate) async fn of(builder: testkit::ClusterBuilder) -> Result<Self> {
        let cluster = builder
            .postgres_setting("max_wal_size", MAX_WAL_SIZE)
            .postgres_setting("min_wal_size", MIN_WAL_SIZE)
            .moms(1)
            .managers(1)
            .start()
            .await
            .context("starting a private cluster")?;
        let client = || {
            let client = MoMClient::builder([cluster.manager_url(0)]);
            client.deadline(Duration::from_mins(1)).build()
        };
        let clients = [client()?, client()?, client()?, client()?];
        let postgres = cluster.psql("show server_version").await?;
        cluster
            .psql(FILL_LOG)
            .await
            .context("filling the log of PostgreSQL")?;
        let about = About {
            key: KEY,
            name: "rusty-mom",
            version: format!("{} on PostgreSQL {postgres}", env!("CARGO_PKG_VERSION")),
            promise: "committed by PostgreSQL: in its log, and that synced to disk",
            synced: true,
            settings: format!(
                "one MoM, one manager, four connections; PostgreSQL as it is installed, but for max_wal_size {MAX_WAL_SIZE} \
                and min_wal_size {MIN_WAL_SIZE}"
            ),
        };
        Ok(Self {
            cluster: Arc::new(cluster),
            clients,
            about,
        })
    }

    pub(crate) fn client(&self) -> &MoMClient {
        &self.clients[0]
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(crate) fn mom_pid(&self) -> Result<u32> {
        self.cluster.mom(0).pid().context("the MoM has ended")
    }

    pub(crate) fn postgres_pid(&self) -> u32 {
        // One that has ended has used nothing since.
        self.cluster.postgres().process().pid().unwrap_or(0)
    }

    /// Has PostgreSQL do now what it would else do while somebody else is measured: clear away deleted rows, and write
    /// out what it holds.
    pub(crate) async fn tidy(&self) -> Result<()> {
        self.cluster.psql("vacuum").await?;
        self.cluster.psql("checkpoint").await?;
        Ok(())
    }
}

impl Contender for RustyMom {
    type Lane = Pushing;
    type Inlet = Receiving;

    fn about(&self) -> &About {
        &self.about
    }

    fn processes(&self) -> Vec<(&'static str, u32)> {
        let pid = |process: &testkit::Process| process.pid().unwrap_or(0);
        vec![
            ("rmom", pid(self.cluster.mom(0))),
            ("rmom-manager", pid(self.cluster.manager(0))),
            ("postgres", self.postgres_pid()),
        ]
    }

    async fn create(&self, _subscribers: usize) -> Result<String> {
        let label = format!("compare-{}", uuid::Uuid::now_v7().simple());
        self.client().create_queue(&label).await?;
        Ok(label)
    }

    async fn remove(&self, queue: &str) -> Result<()> {
        self.client().delete_queue(queue).await?;
        self.tidy().await
    }

    async fn lane(&self, queue: &str, index: usize, in_flight: usize) -> Result<Pushing> {
        let client = &self.clients[index % CONNECTIONS];
        let pusher = client.pusher(queue).in_flight(in_flight).await?;
        Ok(Pushing(pusher))
    }

    async fn inlet(&self, queue: &str, _index: usize) -> Result<Receiving> {
        let channel = self.client().create_channel(queue, None).await?;
        Ok(Receiving(self.client().subscribe(&channel.id).await?))
    }
}

pub(crate) struct Pushing(Pusher);

impl Lane for Pushing {
    async fn push(&self, mut contents: Vec<Bytes>) -> Result<()> {
        if contents.len() == 1
            && let Some(content) = contents.pop()
        {
            self.0.push(content, None).await?;
            return Ok(());
        }
        self.0.push_many(contents, None).await?;
        Ok(())
    }
}

pub(crate) struct Receiving(Subscriber);

impl Inlet for Receiving {
    async fn read(&mut self, sink: &mut Sink) -> Result<Infallible> {
        while let Some(batch) = self.0.next_batch().await {
            for message in &batch? {
                sink.take(message.content);
            }
        }
        bail!("the subscription has ended")
    }
}
