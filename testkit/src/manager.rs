//! A manager: a process of `rmom-manager` with its working directory.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use crate::folder::write_secret;
use crate::{Error, Process, ProcessBuilder, try_wait_until};

const READY_WITHIN: Duration = Duration::from_mins(1);
const STATUS_WITHIN: Duration = Duration::from_secs(2);

/// The content of a manager's `Rocket.toml`: the profile `default`.
#[derive(Clone, Debug)]
pub struct ManagerConfig {
    port: u16,
    /// By dotted key, the value as TOML writes it.
    keys: BTreeMap<String, String>,
}

impl ManagerConfig {
    /// A manager on `port` of 127.0.0.1 that is in charge of `moms` and uses the database at `database_url`.
    pub fn new(port: u16, moms: &[(String, u16)], database_url: &str) -> Self {
        let moms: Vec<String> = moms
            .iter()
            .map(|(host, port)| format!("{{ host = {}, port = {port} }}", string(host)))
            .collect();
        let config = Self {
            port,
            keys: BTreeMap::new(),
        };
        config
            .set("address", &string("127.0.0.1"))
            .set("port", &port.to_string())
            .set("workers", "2")
            .set("log_level", &string("normal"))
            .set("cli_colors", "false")
            .set("manager_cycle_secs", "1")
            .set("life_probe_retry_delay_millis", "33")
            .set("life_probe_max_retries", "3")
            .set("moms", &format!("[{}]", moms.join(", ")))
            .set("databases.rmom_manager.url", &string(database_url))
            .set("databases.rmom_manager.min_connections", "1")
            .set("databases.rmom_manager.max_connections", "5")
            .set("databases.rmom_manager.idle_timeout", "120")
            .set("databases.rmom_manager.connect_timeout", "7")
    }

    /// Sets a dotted key to a value as TOML writes it: strings in quotation marks.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.keys.insert(key.to_owned(), value.to_owned());
        self
    }

    fn toml(&self) -> String {
        let mut text = "[default]\n".to_owned();
        for (key, value) in &self.keys {
            writeln!(text, "{key} = {value}").expect("a string takes everything");
        }
        text
    }
}

/// Hosts and URLs hold nothing that TOML and Rust escape differently.
fn string(value: &str) -> String {
    format!("{value:?}")
}

/// A manager. What a [`Process`] can do, it can: `kill`, `freeze`, `thaw`, `terminate`, `log`, ...
#[derive(Debug)]
pub struct Manager {
    process: Process,
    migration: Process,
    port: u16,
}

impl Manager {
    /// A manager called `name`, not started yet: the binary in `binaries`, its working directory and its log in
    /// `folder`, and variables of its environment. Variables `ROCKET_...` of this process are hidden from it.
    pub fn new(
        name: &str,
        binaries: &Path,
        folder: &Path,
        config: &ManagerConfig,
        env: &[(String, String)],
    ) -> Result<Self, Error> {
        let directory = folder.join(name);
        fs::create_dir_all(&directory)
            .map_err(Error::io(format!("cannot create {}", directory.display())))?;
        write_secret(&directory.join("Rocket.toml"), &config.toml())?;
        let process = |name: &str| {
            let log = folder.join(format!("{name}.log"));
            let mut process = ProcessBuilder::new(name, binaries.join("rmom-manager"), log)
                .drop_env("RMOM_")
                .drop_env("ROCKET_")
                .env("ROCKET_PROFILE", "default")
                .env("NO_COLOR", "1")
                .directory(&directory);
            for (key, value) in env {
                process = process.env(key, value);
            }
            process
        };
        Ok(Self {
            process: process(name).build(),
            migration: process(&format!("{name}-migrate")).arg("migrate").build(),
            port: config.port,
        })
    }

    /// Has it apply the schema, without starting it to serve.
    pub async fn migrate(&self) -> Result<(), Error> {
        self.migration.spawn()?;
        if self.migration.ended(READY_WITHIN).await?.success() {
            return Ok(());
        }
        self.migration.ensure_running()
    }

    /// The port of its REST surface on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of its REST surface, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts it and waits until `GET /status` answers.
    pub async fn start(&self) -> Result<(), Error> {
        self.process.spawn()?;
        self.ready().await
    }

    /// Kills it if it runs, starts it, and waits until `GET /status` answers.
    pub async fn restart(&self) -> Result<(), Error> {
        self.process.kill().await;
        self.start().await
    }

    /// Waits until `GET /status` answers; an error as soon as it has ended instead.
    pub async fn ready(&self) -> Result<(), Error> {
        let what = format!("GET /status of {}", self.process.name());
        try_wait_until(&what, READY_WITHIN, async || {
            match self.process.ensure_running() {
                Ok(()) => self
                    .status()
                    .await
                    .map(Ok)
                    .map_err(|error| error.to_string()),
                Err(ended) => Ok(Err(ended)),
            }
        })
        .await?
    }

    /// Asks once whether it serves.
    pub async fn status(&self) -> Result<(), Error> {
        let name = self.process.name();
        let silent =
            |error: reqwest::Error| Error::Failed(format!("{name} gives no status: {error}"));
        // A proxy of the environment is not for the loopback address.
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(STATUS_WITHIN)
            .build()
            .map_err(silent)?;
        let answer = client
            .get(format!("{}/status", self.url()))
            .send()
            .await
            .map_err(silent)?;
        answer.error_for_status().map(drop).map_err(silent)
    }
}

impl Deref for Manager {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}
