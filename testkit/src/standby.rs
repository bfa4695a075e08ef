//! A second PostgreSQL server that has everything that the first one has acknowledged.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use crate::account::{self, Account};
use crate::{Error, Postgres, try_wait_until};

/// The name by which the primary knows its standby.
const NAME: &str = "standby";
const STREAMS_WITHIN: Duration = Duration::from_mins(1);

impl Postgres {
    /// Starts a standby of this server in a temporary directory and waits until it streams. From then on a commit is
    /// acknowledged when the standby has written it to its disk too: while that is away, commits wait.
    ///
    /// [`Postgres::promote`] makes it the server. A primary has one standby.
    pub async fn start_standby(&self) -> Result<Self, Error> {
        let account = Account::for_postgres()?;
        let folder = Self::temporary_folder()?;
        let password = folder.path().join("password");
        fs::copy(self.directory().join("password"), &password)
            .map_err(Error::io(format!("cannot write {}", password.display())))?;
        if let Some(account) = &account {
            account.give(folder.path())?;
            account.give(&password)?;
        }
        let primary = format!(
            "host=127.0.0.1 port={} user={} password={} application_name={NAME}",
            self.port(),
            self.user(),
            self.password()
        );
        let program = self.bin().join("pg_basebackup");
        let mut command =
            tokio::process::Command::from(account::command(account.as_ref(), program));
        let output = command
            // Without the slot the primary could drop what a standby that was away still needs.
            .args(["--create-slot", "--slot", NAME, "--write-recovery-conf"])
            .args(["--wal-method=stream", "--checkpoint=fast", "--no-sync"])
            .args(["--dbname", &primary, "--pgdata"])
            .arg(folder.path().join("data"))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(Error::io("cannot run pg_basebackup"))?;
        if !output.status.success() {
            return Err(Error::Failed(format!(
                "pg_basebackup ended ({}): {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            )));
        }
        let standby = Self::builder()
            .in_folder(folder)
            .settings(self.settings())
            .setting("wal_retrieve_retry_interval", "100ms")
            .start()
            .await?;
        // Not before it is there, or the commit of whoever comes first would wait. The copy does not have this line, so
        // that it waits for nobody when it is promoted.
        self.psql(
            "postgres",
            &format!("alter system set synchronous_standby_names = '{NAME}'"),
        )
        .await?;
        self.psql("postgres", "select pg_reload_conf()").await?;
        let state = "select coalesce(max(sync_state), 'away') from pg_stat_replication";
        try_wait_until("the standby to stream", STREAMS_WITHIN, async || match self
            .psql("postgres", state)
            .await
        {
            Ok(state) if state == "sync" => Ok(()),
            Ok(state) => Err(state),
            Err(error) => Err(error.to_string()),
        })
        .await?;
        Ok(standby)
    }

    /// Makes a standby a server that takes writes, and returns when it does. Its primary must be dead by then and never
    /// start again: nothing else keeps the two apart.
    pub async fn promote(&self) -> Result<(), Error> {
        let promoted = self.psql("postgres", "select pg_promote()").await?;
        if promoted == "t" {
            Ok(())
        } else {
            Err(Error::Failed(
                "the standby was not promoted in time".to_owned(),
            ))
        }
    }
}
