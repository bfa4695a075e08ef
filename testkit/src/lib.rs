//! A real rusty-mom cluster in one value: a private PostgreSQL server, MoMs and managers as processes of the real
//! binaries, and TCP proxies that break connections on demand. Integration tests, the demo and the benchmark stand on
//! it.
//!
//! ```no_run
//! # async fn example() -> Result<(), testkit::Error> {
//! let cluster = testkit::Cluster::start(2, 1).await?;
//! cluster.mom(0).kill().await;
//! // ... the queues of the first MoM move to the second ...
//! cluster.mom(0).start().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Everything that a cluster starts ends with it: when the value is dropped, when a test panics, and, by the kernel's
//! parent-death signal, even when the test process itself is killed.

mod account;
mod binaries;
mod cluster;
mod control;
mod disk;
mod error;
mod folder;
mod manager;
mod mom;
mod ports;
mod postgres;
mod process;
mod proxy;
mod standby;
mod wait;

pub use binaries::{build_profile, ensure_built};
pub use cluster::{Cluster, ClusterBuilder};
pub use control::Control;
pub use disk::Disk;
pub use error::Error;
pub use folder::Folder;
pub use manager::{Manager, ManagerConfig};
pub use mom::{Mom, MomConfig};
pub use ports::{free_port, is_free};
pub use postgres::{Postgres, PostgresBuilder, Stop};
pub use process::{Process, ProcessBuilder};
pub use proxy::{Direction, Proxy};
pub use wait::{Condition, try_wait_until, wait_until};
