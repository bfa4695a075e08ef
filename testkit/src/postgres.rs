//! A private PostgreSQL server.

mod place;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use self::place::{clear_stale_pid, initdb, major_of, password, place, temporary_folder};
use crate::account::Account;
use crate::process::{Process, ProcessBuilder};
use crate::{Disk, Error, Folder, binaries, free_port, try_wait_until};

const USER: &str = "rmom";
/// Recovery after a crash is what takes long.
const READY_WITHIN: Duration = Duration::from_mins(1);
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// How often another port is tried when the chosen one was taken in the meantime.
const TRIES: usize = 3;
/// A socket's path may have 107 bytes; PostgreSQL appends `/.s.PGSQL.<port>`.
const LONGEST_SOCKET_FOLDER: usize = 90;

/// The name of the mount point of a disk of its own.
const DISK: &str = "disk";

/// How to end PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Connections are broken off, transactions rolled back, everything is written out. Nothing to recover afterwards.
    Fast,
    /// PostgreSQL tells its backends to quit at once; the next start recovers from the write-ahead log.
    Immediate,
    /// SIGKILL to the server: its backends find out by themselves. The next start recovers.
    Crash,
}

/// Settings of a [`Postgres`] that is to be started.
#[derive(Debug, Default)]
pub struct PostgresBuilder {
    directory: Option<PathBuf>,
    port: Option<u16>,
    settings: Vec<(String, String)>,
    throw_away: bool,
    disk_megabytes: Option<u32>,
    folder: Option<Folder>,
}

impl PostgresBuilder {
    /// A directory that stays, with data from an earlier time if there are some. Otherwise a temporary one.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// The port to listen on; otherwise a free one, another at each start.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// One more setting of `postgresql.conf`, which prevails over those made here.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Puts the data on a disk of their own of so many megabytes, which can be filled up: [`Postgres::disk`]. Nothing of
    /// them stays. Only root can; for everybody else the start is an error.
    #[must_use]
    pub fn small_disk(mut self, megabytes: u32) -> Self {
        self.disk_megabytes = Some(megabytes);
        self
    }

    /// Settings of another server.
    pub(crate) fn settings(mut self, settings: &[(String, String)]) -> Self {
        self.settings.extend_from_slice(settings);
        self
    }

    /// A temporary folder that holds data and password already.
    pub(crate) fn in_folder(mut self, folder: Folder) -> Self {
        self.folder = Some(folder);
        self
    }

    /// Whether the directory that was given is a temporary one.
    pub(crate) fn throw_away(mut self, throw_away: bool) -> Self {
        self.throw_away = throw_away;
        self
    }

    /// Starts the server and waits until it answers.
    pub async fn start(self) -> Result<Postgres, Error> {
        Postgres::start_with(self).await
    }
}

/// A PostgreSQL server of its own on 127.0.0.1, durable as in production: `fsync`, `full_page_writes` and
/// `synchronous_commit` are on, and passwords are asked for (SCRAM).
///
/// Started by root, it runs under the account `postgres` or else `nobody`. Dropping the value ends it and removes the
/// directory if that is a temporary one.
#[derive(Debug)]
pub struct Postgres {
    // Dropped before `disk` and `folder`, in which it writes.
    process: Process,
    bin: PathBuf,
    port: u16,
    password: String,
    settings: Vec<(String, String)>,
    moved_from: Option<PathBuf>,
    disk: Option<Disk>,
    folder: Folder,
}

impl Postgres {
    /// Starts a server in a temporary directory.
    pub async fn start_temporary() -> Result<Self, Error> {
        Self::builder().start().await
    }

    /// A server with settings of its own.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::default()
    }

    /// A temporary folder in which PostgreSQL's account gets to its data.
    pub(crate) fn temporary_folder() -> Result<Folder, Error> {
        temporary_folder(Account::for_postgres()?.as_ref())
    }

    async fn start_with(builder: PostgresBuilder) -> Result<Self, Error> {
        let account = Account::for_postgres()?;
        let (folder, moved_from) = match builder.folder {
            Some(folder) => (folder, None),
            None => place(builder.directory.as_deref(), account.as_ref())?,
        };
        let mut disk = None;
        if let Some(megabytes) = builder.disk_megabytes {
            let mounted = Disk::mount(&folder.path().join(DISK), megabytes)?;
            if let Some(account) = &account {
                account.give(mounted.path())?;
            }
            disk = Some(mounted);
        }
        let root = folder.path().to_owned();
        let home = disk.as_ref().map_or(&*root, Disk::path).to_owned();
        let data = home.join("data");
        let bin = binaries::postgres(major_of(&data)?)?;
        let password = password(&root, account.as_ref())?;
        if !data.exists() {
            let temporary = builder.throw_away || folder.is_temporary() || disk.is_some();
            initdb(&bin, &root, &home, account.as_ref(), temporary).await?;
        }
        clear_stale_pid(&data).await?;

        let at_port = |port| {
            let account = account.clone();
            server(&bin, &root, &data, account, port, &builder.settings)
        };
        let port = builder.port.map_or_else(free_port, Ok)?;
        let mut server = Self {
            process: at_port(port),
            bin: bin.clone(),
            port,
            password,
            settings: builder.settings.clone(),
            moved_from,
            disk,
            folder,
        };
        let mut tries = 1;
        loop {
            match server.start().await {
                Ok(()) => return Ok(server),
                Err(Error::PortTaken(_)) if builder.port.is_none() && tries < TRIES => {
                    tries += 1;
                    server.port = free_port()?;
                    server.process = at_port(server.port);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The account that owns the databases.
    pub fn user(&self) -> &'static str {
        USER
    }

    /// The password of [`Postgres::user`].
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of `database`, password included.
    pub fn url(&self, database: &str) -> String {
        self.url_through(self.port, database)
    }

    /// The URL of `database` by way of another port of 127.0.0.1, that of a [`crate::Proxy`].
    pub fn url_through(&self, port: u16, database: &str) -> String {
        format!(
            "postgresql://{USER}:{}@127.0.0.1:{port}/{database}",
            self.password
        )
    }

    /// The server's process: its log, its pid, and to freeze it. A frozen server's backends stay awake.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The directory that was asked for, if PostgreSQL's account cannot get there and another one is used.
    pub fn moved_from(&self) -> Option<&Path> {
        self.moved_from.as_deref()
    }

    /// The directory that holds data, socket, password and log.
    pub fn directory(&self) -> &Path {
        self.folder.path()
    }

    /// The disk that holds the data, with [`PostgresBuilder::small_disk`].
    pub fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// Where its programs are.
    pub(crate) fn bin(&self) -> &Path {
        &self.bin
    }

    /// The settings that it was given beyond the usual ones.
    pub(crate) fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    fn data(&self) -> PathBuf {
        let home = self.disk.as_ref().map_or(self.folder.path(), Disk::path);
        home.join("data")
    }

    /// Creates an empty database.
    pub async fn create_database(&self, name: &str) -> Result<(), Error> {
        self.psql(
            "postgres",
            &format!("create database \"{}\"", name.replace('"', "\"\"")),
        )
        .await
        .map(drop)
    }

    /// Whether there is a database of that name.
    pub async fn has_database(&self, name: &str) -> Result<bool, Error> {
        let name = name.replace('\'', "''");
        let sql = format!("select count(*) from pg_database where datname = '{name}'");
        Ok(self.psql("postgres", &sql).await? == "1")
    }

    /// Runs `sql` in `database` and returns what it printed: a line for each row, `|` between columns.
    pub async fn psql(&self, database: &str, sql: &str) -> Result<String, Error> {
        let output = tokio::process::Command::new(self.bin.join("psql"))
            .args([
                "--no-psqlrc",
                "--quiet",
                "--no-align",
                "--tuples-only",
                "--set=ON_ERROR_STOP=1",
            ])
            .args([
                "--host=127.0.0.1",
                "--no-password",
                "--dbname",
                database,
                "--username",
                USER,
            ])
            .arg(format!("--port={}", self.port))
            .args(["--command", sql])
            .env("PGPASSWORD", &self.password)
            .env("PGCONNECT_TIMEOUT", "10")
            .env_remove("PGOPTIONS")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(Error::io("cannot run psql"))?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(Error::Failed(format!(
                "psql on {database}: {}: {sql}",
                why.trim()
            )));
        }
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    }

    /// Starts it again after [`Postgres::stop`], on the same port, and waits until it answers.
    pub async fn start(&self) -> Result<(), Error> {
        self.process.spawn()?;
        let pid_file = self.data().join("postmaster.pid");
        try_wait_until(
            "PostgreSQL to accept connections",
            READY_WITHIN,
            async || {
                if let Err(error) = self.process.ensure_running() {
                    return Ok(Err(error));
                }
                // The server notes its state in the last line of this file, as `pg_ctl --wait` knows.
                let note = fs::read_to_string(&pid_file).unwrap_or_default();
                let ready = note.lines().nth(7).map(str::trim) == Some("ready");
                if !ready {
                    return Err(format!(
                        "it says {:?}",
                        note.lines().nth(7).unwrap_or("nothing").trim()
                    ));
                }
                self.psql("postgres", "select 1")
                    .await
                    .map(|_| Ok(()))
                    .map_err(|error| error.to_string())
            },
        )
        .await?
    }

    /// Ends it. Does nothing if it is not running.
    pub async fn stop(&self, how: Stop) -> Result<(), Error> {
        let Some(pid) = self.process.pid() else {
            return Ok(());
        };
        let backends = children_of(pid);
        match how {
            Stop::Fast => self.process.signal(Signal::INT)?,
            Stop::Immediate => self.process.signal(Signal::QUIT)?,
            Stop::Crash => self.process.signal(Signal::KILL)?,
        }
        // One that is frozen would not notice.
        let _ = self.process.signal(Signal::CONT);
        self.process.ended(ENDS_WITHIN).await?;
        // A new server refuses the data directory while a backend of the old one is alive.
        try_wait_until(
            "the backends of PostgreSQL to end",
            ENDS_WITHIN,
            async || {
                let alive: Vec<_> = backends
                    .iter()
                    .filter(|pid| Path::new(&format!("/proc/{pid}")).exists())
                    .collect();
                if alive.is_empty() {
                    Ok(())
                } else {
                    Err(format!("{alive:?} still run"))
                }
            },
        )
        .await
    }

    /// [`Postgres::stop`], then [`Postgres::start`].
    pub async fn restart(&self, how: Stop) -> Result<(), Error> {
        self.stop(how).await?;
        self.start().await
    }

    /// Keeps a temporary directory beyond this value.
    pub fn keep(&self) {
        self.folder.keep();
    }
}

fn server(
    bin: &Path,
    folder: &Path,
    data: &Path,
    account: Option<Account>,
    port: u16,
    settings: &[(String, String)],
) -> Process {
    let socket_folder = folder.to_string_lossy();
    // Without a socket there is still the port.
    let socket_folder = if socket_folder.len() > LONGEST_SOCKET_FOLDER {
        ""
    } else {
        &socket_folder
    };
    let port = port.to_string();
    let own = [
        ("listen_addresses", "127.0.0.1"),
        ("port", &port),
        ("unix_socket_directories", socket_folder),
        ("max_connections", "200"),
        ("shared_buffers", "128MB"),
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("log_line_prefix", "%m [%p] "),
    ];
    let mut process = ProcessBuilder::new(
        "PostgreSQL",
        bin.join("postgres"),
        folder.join("postgres.log"),
    )
    .account(account)
    .directory("/")
    .drop_env("PG")
    // Messages are read here, so they are to be in one language.
    .env("LC_ALL", "C")
    // SIGQUIT is its immediate shutdown: it takes its backends along and leaves no shared memory behind.
    .death_signal("QUIT")
    .end_signal(Signal::QUIT)
    .arg("-D")
    .arg(data);
    let all = own.into_iter().chain(
        settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    for (name, value) in all {
        process = process.arg("-c").arg(format!("{name}={value}"));
    }
    process.build()
}

fn children_of(pid: u32) -> Vec<u32> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}
