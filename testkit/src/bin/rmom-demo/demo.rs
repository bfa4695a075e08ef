//! The parts of the demo, in the order of their start; they end in the reverse order.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use testkit::{
    Folder, Manager, ManagerConfig, Mom, Postgres, Process, ProcessBuilder, Stop, ensure_built,
    try_wait_until,
};

use crate::news;
use crate::options::{Options, project, python};
use crate::steps::Steps;

const DATABASE: &str = "rmom_manager";
const WITHIN: Duration = Duration::from_mins(1);

/// What runs so far.
#[derive(Default)]
pub(crate) struct Demo {
    // Dropped in this order: who uses another part goes first.
    pub(crate) servers: Vec<Process>,
    pub(crate) manager: Option<Manager>,
    pub(crate) moms: Vec<Mom>,
    pub(crate) postgres: Option<Arc<Postgres>>,
}

impl Demo {
    /// Starts everything and returns when the first news were delivered.
    pub(crate) async fn start(&mut self, options: &Options, steps: &Steps) -> anyhow::Result<()> {
        let folder = Folder::persistent(options.directory())?;
        let binaries = steps
            .step(
                "Looking for the programs, building them if need be",
                ensure_built(),
                |_| "The programs are built".to_owned(),
            )
            .await?;
        let postgres = self.start_postgres(folder.path(), steps).await?;

        let moms = options.moms()?;
        let addresses: Vec<_> = moms
            .iter()
            .map(|mom| (mom.host.clone(), mom.port))
            .collect();
        let config = ManagerConfig::new(options.manager_port, &addresses, &postgres.url(DATABASE));
        let manager = Manager::new("manager", &binaries, folder.path(), &config, &[])?;
        let manager = self.manager.insert(manager);
        steps
            .step("Starting the manager", manager.start(), |()| {
                format!("The manager answers on {}", options.manager_url())
            })
            .await?;

        for plan in moms {
            let config = plan.config.database(&postgres, postgres.port(), DATABASE);
            let mom = Mom::new(plan.name, &binaries, folder.path(), &config, &[])?;
            let (name, address) = (plan.name, format!("{}:{}", plan.host, plan.port));
            self.moms.push(mom);
            let mom = self.moms.last().expect("it was pushed a line ago");
            steps
                .step(&format!("Starting the MoM {name}"), mom.start(), |()| {
                    format!("The MoM {name} answers on {address}")
                })
                .await?;
        }
        steps
            .step(
                "Waiting until the manager has seen all MoMs",
                seen(&postgres, &addresses),
                |()| "The manager has seen all MoMs".to_owned(),
            )
            .await?;
        self.start_servers(options, folder.path(), steps).await
    }

    async fn start_postgres(
        &mut self,
        folder: &Path,
        steps: &Steps,
    ) -> anyhow::Result<Arc<Postgres>> {
        let data = folder.join("postgres");
        let start = async {
            let postgres = Postgres::builder().directory(&data).start().await?;
            if !postgres.has_database(DATABASE).await? {
                postgres.create_database(DATABASE).await?;
            }
            Ok::<_, testkit::Error>(Arc::new(postgres))
        };
        let postgres = steps
            .step("Starting PostgreSQL", start, |postgres| {
                format!("PostgreSQL answers on 127.0.0.1:{}", postgres.port())
            })
            .await?;
        if let Some(wanted) = postgres.moved_from() {
            steps.event(&format!(
                "PostgreSQL does not run as root, and its account cannot get to {}: the data are in {}",
                wanted.display(),
                postgres.directory().display()
            ));
        }
        self.postgres = Some(Arc::clone(&postgres));
        Ok(postgres)
    }

    async fn start_servers(
        &mut self,
        options: &Options,
        folder: &Path,
        steps: &Steps,
    ) -> anyhow::Result<()> {
        let server = |name: &str, port: u16, peer: String| {
            ProcessBuilder::new(name, python(), folder.join(format!("{name}.log")))
                .drop_env("NEWS_")
                .env("NEWS_MANAGER_URL", options.manager_url())
                .env("NEWS_HOST", "127.0.0.1")
                .env("NEWS_PORT", port.to_string())
                .env("NEWS_PEER_URL", peer)
                .env("PYTHONUNBUFFERED", "1")
                .arg(project().join("momclient-py").join(name))
                .build()
        };
        self.servers.push(server(
            "news-pusher",
            options.pusher_port,
            options.news_url(),
        ));
        self.servers.push(server(
            "news-consumer",
            options.consumer_port,
            options.comments_url(),
        ));
        for server in &self.servers {
            server.spawn()?;
        }
        let alive = || self.servers.iter().try_for_each(Process::ensure_running);
        let pushed = news::until(options.pusher_port, &alive, "published");
        steps
            .step("Waiting for the first news to be pushed", pushed, |()| {
                "News are pushed".to_owned()
            })
            .await?;
        let delivered = news::until(options.consumer_port, &alive, "received");
        steps
            .step(
                "Waiting for the first news to be delivered",
                delivered,
                |()| "News are delivered".to_owned(),
            )
            .await
    }

    /// Ends what was started, in good order.
    pub(crate) async fn stop(&mut self, steps: &Steps) -> anyhow::Result<()> {
        let servers = self
            .servers
            .iter()
            .map(|server| ("The example servers have ended", server));
        let manager = self
            .manager
            .iter()
            .map(|manager| ("The manager has ended", &**manager));
        let moms = self.moms.iter().map(|mom| ("The MoMs have ended", &**mom));
        let mut groups: Vec<(&str, Vec<&Process>)> = Vec::new();
        for (done, process) in servers
            .chain(manager)
            .chain(moms)
            .filter(|(_, process)| process.is_running())
        {
            match groups.last_mut() {
                Some((last, processes)) if *last == done => processes.push(process),
                _ => groups.push((done, vec![process])),
            }
        }
        for (done, processes) in groups {
            steps
                .step("Ending", end(&processes), |()| done.to_owned())
                .await?;
        }
        if let Some(postgres) = &self.postgres {
            steps
                .step("Ending PostgreSQL", postgres.stop(Stop::Fast), |()| {
                    "PostgreSQL has ended".to_owned()
                })
                .await?;
        }
        Ok(())
    }
}

async fn end(processes: &[&Process]) -> anyhow::Result<()> {
    for process in processes {
        // Somebody may have frozen it, or killed it just now.
        let _ = process.thaw().await;
        if process.is_running() {
            process
                .terminate()
                .await
                .with_context(|| format!("{} does not end", process.name()))?;
        }
    }
    Ok(())
}

async fn seen(postgres: &Postgres, addresses: &[(String, u16)]) -> anyhow::Result<()> {
    let list: Vec<_> = addresses
        .iter()
        .map(|(host, port)| format!("('{host}', {port})"))
        .collect();
    let sql = format!(
        "select count(*) from mom where is_up and (host, port) in ({})",
        list.join(", ")
    );
    try_wait_until(
        "the manager to see every MoM up",
        WITHIN,
        async || match postgres.psql(DATABASE, &sql).await {
            Ok(up) if up == list.len().to_string() => Ok(()),
            Ok(up) => Err(format!("{up} of {} are up", list.len())),
            Err(error) => Err(error.to_string()),
        },
    )
    .await?;
    Ok(())
}
