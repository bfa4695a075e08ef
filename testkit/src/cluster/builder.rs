//! What a cluster is made of, and its start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use uuid::Uuid;

use super::{Cluster, DATABASE, Member, Standby, loopback};
use crate::{
    Error, Folder, Manager, ManagerConfig, Mom, MomConfig, Postgres, Process, Proxy, ensure_built,
    free_port, try_wait_until,
};

/// From the end of the managers' start until they have seen every MoM.
const SEEN_WITHIN: Duration = Duration::from_mins(1);
/// How often everything is started anew on other ports when one was taken in the meantime.
const TRIES: usize = 3;

/// What a [`Cluster`] is to be made of.
#[derive(Clone, Debug)]
#[must_use]
pub struct ClusterBuilder {
    moms: usize,
    managers: usize,
    mom_env: Vec<(String, String)>,
    manager_env: Vec<(String, String)>,
    mom_settings: Vec<(String, serde_yaml::Value)>,
    manager_settings: Vec<(String, String)>,
    postgres_settings: Vec<(String, String)>,
    postgres: Option<Arc<Postgres>>,
    binaries: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    proxy_moms: bool,
    proxy_databases: bool,
    disk_megabytes: Option<u32>,
    standby: bool,
}

impl Default for ClusterBuilder {
    fn default() -> Self {
        Self {
            moms: 1,
            managers: 1,
            mom_env: Vec::new(),
            manager_env: Vec::new(),
            mom_settings: Vec::new(),
            manager_settings: Vec::new(),
            postgres_settings: Vec::new(),
            postgres: None,
            binaries: None,
            data_dir: None,
            proxy_moms: false,
            proxy_databases: false,
            disk_megabytes: None,
            standby: false,
        }
    }
}

impl ClusterBuilder {
    /// How many MoMs; 1 if not set.
    pub fn moms(mut self, number: usize) -> Self {
        self.moms = number;
        self
    }

    /// How many managers; 1 if not set. MoMs need one, which applies the schema; with neither, there is an empty
    /// database only.
    pub fn managers(mut self, number: usize) -> Self {
        self.managers = number;
        self
    }

    /// A variable of every MoM's environment.
    pub fn mom_env(mut self, key: &str, value: &str) -> Self {
        self.mom_env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// A variable of every manager's environment.
    pub fn manager_env(mut self, key: &str, value: &str) -> Self {
        self.manager_env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// A key of every MoM's configuration; see [`MomConfig::set`].
    pub fn mom_setting(mut self, key: &str, value: impl Into<serde_yaml::Value>) -> Self {
        self.mom_settings.push((key.to_owned(), value.into()));
        self
    }

    /// A key of every manager's `Rocket.toml`; see [`ManagerConfig::set`].
    pub fn manager_setting(mut self, key: &str, value: &str) -> Self {
        self.manager_settings
            .push((key.to_owned(), value.to_owned()));
        self
    }

    /// A setting of PostgreSQL.
    pub fn postgres_setting(mut self, name: &str, value: &str) -> Self {
        self.postgres_settings
            .push((name.to_owned(), value.to_owned()));
        self
    }

    /// For how many seconds messages are retained.
    pub fn message_ttl(self, seconds: u64) -> Self {
        self.mom_setting("message_ttl", seconds)
    }

    /// Uses a new database on a server that runs already, in place of a server of its own.
    pub fn postgres(mut self, postgres: Arc<Postgres>) -> Self {
        self.postgres = Some(postgres);
        self
    }

    /// The directory with the binaries to run, in place of those that [`ensure_built`] finds.
    pub fn binaries(mut self, directory: impl Into<PathBuf>) -> Self {
        self.binaries = Some(directory.into());
        self
    }

    /// A directory that stays, with the data of an earlier cluster if there are some.
    pub fn data_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(directory.into());
        self
    }

    /// Puts a [`Proxy`] before each MoM, by whose address clients and managers know it: [`Cluster::mom_proxy`].
    pub fn proxy_moms(mut self) -> Self {
        self.proxy_moms = true;
        self
    }

    /// Puts a [`Proxy`] between each process and PostgreSQL: [`Cluster::mom_database_proxy`] and
    /// [`Cluster::manager_database_proxy`].
    pub fn proxy_databases(mut self) -> Self {
        self.proxy_databases = true;
        self
    }

    /// Puts PostgreSQL's data on a small disk; see [`PostgresBuilder::small_disk`](crate::PostgresBuilder::small_disk).
    pub fn small_disk(mut self, megabytes: u32) -> Self {
        self.disk_megabytes = Some(megabytes);
        self
    }

    /// Gives PostgreSQL a synchronous standby, and one address, that of a proxy, before both: [`Cluster::fail_over`].
    pub fn standby(mut self) -> Self {
        self.standby = true;
        self
    }

    /// Starts everything and waits until the managers consider every MoM to be up.
    pub async fn start(self) -> Result<Cluster, Error> {
        if self.managers == 0 && self.moms > 0 {
            return Err(Error::Failed(
                "MoMs need a manager, which applies the schema".to_owned(),
            ));
        }
        let (foundation, binaries) = tokio::join!(self.foundation(), async {
            match &self.binaries {
                Some(directory) => Ok(directory.clone()),
                // A database alone is what the programs' queries are checked against, before they can be built.
                None if self.managers == 0 => Ok(PathBuf::new()),
                None => ensure_built().await,
            }
        });
        let ((folder, postgres), binaries) = (foundation?, binaries?);

        let database = match &self.postgres {
            Some(_) => format!("{DATABASE}_{}", Uuid::now_v7().simple()),
            None => DATABASE.to_owned(),
        };
        if !postgres.has_database(&database).await? {
            postgres.create_database(&database).await?;
        }

        let standby = if self.standby {
            Some(Standby {
                address: Proxy::start(loopback(postgres.port())).await?,
                server: postgres.start_standby().await?,
                leads: AtomicBool::new(false),
            })
        } else {
            None
        };

        let database_port = standby
            .as_ref()
            .map_or(postgres.port(), |standby| standby.address.port());
        let mut tries = 0;
        loop {
            tries += 1;
            let place = Place {
                binaries: &binaries,
                folder: folder.path(),
                postgres: &postgres,
                database_port,
                database: &database,
            };
            let started = self.start_processes(&place).await;
            match started {
                Ok((moms, managers)) => {
                    return Ok(Cluster {
                        managers,
                        moms,
                        standby,
                        postgres,
                        database,
                        folder,
                    });
                }
                Err(Error::PortTaken(_)) if tries < TRIES => {}
                Err(error) => {
                    folder.keep();
                    return Err(error);
                }
            }
        }
    }

    /// The folder and PostgreSQL.
    async fn foundation(&self) -> Result<(Folder, Arc<Postgres>), Error> {
        let folder = match &self.data_dir {
            Some(directory) => Folder::persistent(directory)?,
            None => Postgres::temporary_folder()?,
        };
        if let Some(postgres) = &self.postgres {
            return Ok((folder, Arc::clone(postgres)));
        }
        let mut builder = Postgres::builder()
            .directory(folder.path().join("postgres"))
            .throw_away(folder.is_temporary());
        for (name, value) in &self.postgres_settings {
            builder = builder.setting(name, value);
        }
        if let Some(megabytes) = self.disk_megabytes {
            builder = builder.small_disk(megabytes);
        }
        let postgres = builder.start().await?;
        Ok((folder, Arc::new(postgres)))
    }

    async fn start_processes(
        &self,
        place: &Place<'_>,
    ) -> Result<(Vec<Member<Mom>>, Vec<Member<Manager>>), Error> {
        let mut moms = Vec::new();
        for index in 0..self.moms {
            moms.push(self.mom(index, place).await?);
        }
        let addresses: Vec<_> = moms
            .iter()
            .map(|mom| (mom.process.host().to_owned(), mom.process.port()))
            .collect();
        let mut managers = Vec::new();
        for index in 0..self.managers {
            managers.push(self.manager(index, place, &addresses).await?);
        }

        // In this order no one waits for another's next try: a manager finds every MoM up in its first turn. That any
        // other order ends well too is for tests to show.
        if let Some(manager) = managers.first() {
            manager.process.migrate().await?;
        }
        for mom in &moms {
            mom.process.spawn()?;
        }
        for mom in &moms {
            mom.process.ready().await?;
        }
        for manager in &managers {
            manager.process.spawn()?;
        }
        for manager in &managers {
            manager.process.ready().await?;
        }
        if !addresses.is_empty() {
            let known: Vec<_> = addresses
                .iter()
                .map(|(host, port)| format!("('{host}', {port})"))
                .collect();
            let sql = format!(
                "select count(*) from mom where is_up and (host, port) in ({})",
                known.join(", ")
            );
            let processes: Vec<&Process> = moms
                .iter()
                .map(|mom| &**mom)
                .chain(managers.iter().map(|manager| &**manager))
                .collect();
            try_wait_until("a manager to see every MoM up", SEEN_WITHIN, async || {
                if let Err(ended) = processes
                    .iter()
                    .try_for_each(|process| process.ensure_running())
                {
                    return Ok(Err(ended));
                }
                match place.postgres.psql(place.database, &sql).await {
                    Ok(up) if up == known.len().to_string() => Ok(Ok(())),
                    Ok(up) => Err(format!("{up} of {} are up", known.len())),
                    Err(error) => Err(error.to_string()),
                }
            })
            .await??;
        }
        Ok((moms, managers))
    }

    async fn mom(&self, index: usize, place: &Place<'_>) -> Result<Member<Mom>, Error> {
        let port = free_port()?;
        let database_proxy = self.database_proxy(place.database_port).await?;
        let mut config = MomConfig::new("127.0.0.1", port)
            .set("queue_buffer_size", 10_000)
            .set("message_ttl", 600)
            .database(
                place.postgres,
                database_proxy
                    .as_ref()
                    .map_or(place.database_port, Proxy::port),
                place.database,
            )
            .set("database.min_connections", 1)
            .set("database.max_connections", 10);
        let proxy = if self.proxy_moms {
            let proxy = Proxy::start(loopback(port)).await?;
            config = config.set("external_port", proxy.port());
            Some(proxy)
        } else {
            None
        };
        for (key, value) in &self.mom_settings {
            config = config.set(key, value.clone());
        }
        let process = Mom::new(
            &format!("mom{index}"),
            place.binaries,
            place.folder,
            &config,
            &self.mom_env,
        )?;
        Ok(Member {
            process,
            proxy,
            database_proxy,
        })
    }

    async fn manager(
        &self,
        index: usize,
        place: &Place<'_>,
        moms: &[(String, u16)],
    ) -> Result<Member<Manager>, Error> {
        let database_proxy = self.database_proxy(place.database_port).await?;
        let port = database_proxy
            .as_ref()
            .map_or(place.database_port, Proxy::port);
        let url = place.postgres.url_through(port, place.database);
        let mut config = ManagerConfig::new(free_port()?, moms, &url);
        for (key, value) in &self.manager_settings {
            config = config.set(key, value);
        }
        let name = format!("manager{index}");
        let process = Manager::new(
            &name,
            place.binaries,
            place.folder,
            &config,
            &self.manager_env,
        )?;
        Ok(Member {
            process,
            proxy: None,
            database_proxy,
        })
    }

    async fn database_proxy(&self, port: u16) -> Result<Option<Proxy>, Error> {
        if !self.proxy_databases {
            return Ok(None);
        }
        Proxy::start(loopback(port)).await.map(Some)
    }
}

/// What processes are started with.
struct Place<'a> {
    binaries: &'a Path,
    folder: &'a Path,
    postgres: &'a Postgres,
    database_port: u16,
    database: &'a str,
}
