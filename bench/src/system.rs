//! The system that is measured: the one at `--addr`, or a private cluster that ends with this program.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use momclient::MoMClient;
use testkit::{Cluster, Manager};

use crate::options::Options;

/// How often the managers of a private cluster look at all MoMs.
pub(crate) const MANAGER_CYCLE_SECS: u64 = 1;
/// How long its MoMs may take to answer.
pub(crate) const LIFE_PROBE_DEADLINE_MILLIS: u64 = 1000;

/// A running system, and the queues that this program made in it.
pub(crate) struct System {
    addr: String,
    client: MoMClient,
    cluster: Option<Cluster>,
    queues: Mutex<Vec<String>>,
}

impl System {
    /// Finds or starts it.
    pub(crate) async fn open(options: &Options) -> Result<Self> {
        let (addr, cluster) = match (&options.addr, &options.command) {
            (Some(_), command) if command.needs_processes() => {
                bail!("this runs only on a private cluster; leave --addr out")
            }
            (Some(addr), _) => (addr.clone(), None),
            (None, command) => {
                let (moms, managers) = command.cluster();
                let cluster = Cluster::builder()
                    .moms(moms)
                    .managers(managers)
                    // What managers do that are not told otherwise, written out since figures depend on it.
                    .manager_setting("manager_cycle_secs", &MANAGER_CYCLE_SECS.to_string())
                    .manager_setting(
                        "life_probe_deadline_millis",
                        &LIFE_PROBE_DEADLINE_MILLIS.to_string(),
                    )
                    .start()
                    .await
                    .context("starting a private cluster")?;
                let urls: Vec<_> = cluster.managers().map(Manager::url).collect();
                (urls.join(","), Some(cluster))
            }
        };
        let client = client_of(&addr)?;
        client
            .status()
            .await
            .with_context(|| format!("asking the manager at {addr}"))?;
        Ok(Self {
            addr,
            client,
            cluster,
            queues: Mutex::default(),
        })
    }

    pub(crate) fn client(&self) -> &MoMClient {
        &self.client
    }

    /// A client whose pushers share no connection with those of another.
    pub(crate) fn another_client(&self) -> Result<MoMClient> {
        client_of(&self.addr)
    }

    /// Queues with names of their own, so that runs do not meet.
    pub(crate) async fn create_queues(&self, count: usize) -> Result<Vec<String>> {
        let run = uuid::Uuid::now_v7().simple().to_string();
        let labels: Vec<_> = (0..count)
            .map(|index| format!("bench-{run}-{index}"))
            .collect();
        for label in &labels {
            self.client
                .create_queue(label)
                .await
                .with_context(|| format!("creating the queue {label}"))?;
            self.made().push(label.clone());
        }
        Ok(labels)
    }

    /// The PostgreSQL that the system stores in: what was given, or the private cluster's.
    pub(crate) fn database_url(&self, given: Option<&str>) -> Result<String> {
        match (given, &self.cluster) {
            (Some(url), _) => Ok(url.to_owned()),
            (None, Some(cluster)) => Ok(cluster.database_url()),
            (None, None) => bail!(
                "give --database-url as well: the url of the PostgreSQL that the system stores in"
            ),
        }
    }

    /// The private cluster.
    pub(crate) fn cluster(&self) -> Result<&Cluster> {
        self.cluster
            .as_ref()
            .context("only a private cluster has processes to deal with")
    }

    /// Kills the MoM that hosts a queue, with SIGKILL.
    pub(crate) async fn kill_host_of(&self, queue: &str) -> Result<()> {
        let cluster = self.cluster()?;
        let host = self.client.queue(queue).await?;
        let mom = cluster
            .moms()
            .find(|mom| mom.port() == host.port)
            .with_context(|| format!("no MoM of the cluster listens on port {}", host.port))?;
        mom.kill().await;
        Ok(())
    }

    /// Deletes the queues and ends the private cluster.
    pub(crate) async fn close(self) {
        // A private cluster goes with all that it holds.
        if self.cluster.is_some() {
            return;
        }
        let queues = std::mem::take(&mut *self.made());
        for label in queues {
            if let Err(error) = self.client.delete_queue(&label).await {
                eprintln!("rmom-bench: the queue {label} could not be deleted: {error}");
            }
        }
    }

    fn made(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.queues.lock().expect("nobody panics while holding it")
    }
}

fn client_of(addr: &str) -> Result<MoMClient> {
    let client = MoMClient::builder(addr.split(',')).deadline(Duration::from_secs(30));
    Ok(client.build()?)
}
