//! A whole cluster: PostgreSQL, MoMs and managers, ready to use.

mod builder;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use self::builder::ClusterBuilder;
use crate::{Error, Folder, Manager, Mom, Postgres, Process, Proxy, Stop};

const DATABASE: &str = "rmom_manager";
/// A second server and the one address of both.
#[derive(Debug)]
struct Standby {
    address: Proxy,
    server: Postgres,
    /// Whether it has taken the primary's place.
    leads: AtomicBool,
}

/// A process with the proxies around it.
#[derive(Debug)]
struct Member<P> {
    // Dropped first: what goes through the proxies is not to be broken before that.
    process: P,
    proxy: Option<Proxy>,
    database_proxy: Option<Proxy>,
}

impl<P: std::ops::Deref<Target = Process>> std::ops::Deref for Member<P> {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

/// A running cluster. Dropping it ends everything that it has started.
///
/// MoMs and managers are counted from 0. Their logs are `mom0.log`, `manager0.log` and so on in
/// [`Cluster::folder`].
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order.
    managers: Vec<Member<Manager>>,
    moms: Vec<Member<Mom>>,
    standby: Option<Standby>,
    postgres: Arc<Postgres>,
    database: String,
    folder: Folder,
}

impl Cluster {
    /// Starts a cluster with a PostgreSQL server of its own in a temporary folder.
    pub async fn start(moms: usize, managers: usize) -> Result<Self, Error> {
        Self::builder().moms(moms).managers(managers).start().await
    }

    /// A cluster with settings of its own.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// The MoM number `index`.
    ///
    /// # Panics
    ///
    /// Like all methods that take an index: when there is none of that number.
    pub fn mom(&self, index: usize) -> &Mom {
        &self.moms[index].process
    }

    /// All MoMs.
    pub fn moms(&self) -> impl ExactSizeIterator<Item = &Mom> {
        self.moms.iter().map(|member| &member.process)
    }

    /// The MoM that clients and managers know by this address.
    pub fn mom_at(&self, host: &str, port: u16) -> Option<&Mom> {
        self.moms()
            .find(|mom| mom.host() == host && mom.port() == port)
    }

    /// The manager number `index`.
    pub fn manager(&self, index: usize) -> &Manager {
        &self.managers[index].process
    }

    /// All managers.
    pub fn managers(&self) -> impl ExactSizeIterator<Item = &Manager> {
        self.managers.iter().map(|member| &member.process)
    }

    /// The URL of a manager, without a slash at the end.
    pub fn manager_url(&self, index: usize) -> String {
        self.manager(index).url()
    }

    /// The proxy before a MoM, with [`ClusterBuilder::proxy_moms`].
    pub fn mom_proxy(&self, index: usize) -> &Proxy {
        self.moms[index]
            .proxy
            .as_ref()
            .expect("the cluster was built with `proxy_moms`")
    }

    /// The proxy between a MoM and PostgreSQL, with [`ClusterBuilder::proxy_databases`].
    pub fn mom_database_proxy(&self, index: usize) -> &Proxy {
        self.moms[index]
            .database_proxy
            .as_ref()
            .expect("the cluster was built with `proxy_databases`")
    }

    /// The proxy between a manager and PostgreSQL, with [`ClusterBuilder::proxy_databases`].
    pub fn manager_database_proxy(&self, index: usize) -> &Proxy {
        self.managers[index]
            .database_proxy
            .as_ref()
            .expect("the cluster was built with `proxy_databases`")
    }

    /// The PostgreSQL server: the standby since [`Cluster::fail_over`].
    pub fn postgres(&self) -> &Postgres {
        match &self.standby {
            Some(standby) if standby.leads.load(Ordering::Relaxed) => &standby.server,
            _ => &self.postgres,
        }
    }

    /// The proxy before PostgreSQL and its standby, with [`ClusterBuilder::standby`].
    pub fn database_proxy(&self) -> &Proxy {
        let standby = self.standby.as_ref();
        &standby
            .expect("the cluster was built with `standby`")
            .address
    }

    /// Has PostgreSQL crash for good and its standby take its place, under the address that everybody knows. Returns
    /// when that takes writes.
    ///
    /// # Panics
    ///
    /// When the cluster was built without [`ClusterBuilder::standby`].
    pub async fn fail_over(&self) -> Result<(), Error> {
        let standby = self.standby.as_ref();
        let standby = standby.expect("the cluster was built with `standby`");
        if standby.leads.load(Ordering::Relaxed) {
            return Err(Error::Failed(
                "the standby has taken over before".to_owned(),
            ));
        }
        // Connections to the primary end first: none may be answered by it any more.
        standby.address.cut().await;
        self.postgres.stop(Stop::Crash).await?;
        standby.leads.store(true, Ordering::Relaxed);
        standby.server.promote().await?;
        standby.address.retarget(loopback(standby.server.port()));
        standby.address.restore().await
    }

    /// The name of the cluster's database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The URL of the cluster's database, password included.
    pub fn database_url(&self) -> String {
        self.postgres().url(&self.database)
    }

    /// Runs `sql` in the cluster's database; see [`Postgres::psql`].
    pub async fn psql(&self, sql: &str) -> Result<String, Error> {
        self.postgres().psql(&self.database, sql).await
    }

    /// Keeps temporary folders beyond this value, since their logs explain something.
    pub fn keep(&self) {
        self.folder.keep();
        if let Some(standby) = &self.standby {
            standby.server.keep();
        }
    }

    /// Where configurations and logs are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends everything in good order: managers, MoMs, PostgreSQL. Dropping the cluster kills instead.
    pub async fn stop(&self) -> Result<(), Error> {
        let managers = self.managers.iter().map(|manager| &**manager);
        for process in managers.chain(self.moms.iter().map(|mom| &**mom)) {
            if process.is_running() {
                // A frozen process would not hear of its end.
                process.thaw().await?;
                process.terminate().await?;
            }
        }
        // A server that was handed in may be used by others.
        if Arc::strong_count(&self.postgres) == 1 {
            self.postgres.stop(Stop::Fast).await?;
        }
        if let Some(standby) = &self.standby {
            standby.server.stop(Stop::Fast).await?;
        }
        Ok(())
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
