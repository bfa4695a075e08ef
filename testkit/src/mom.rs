//! A MoM: a process of `rmom` with its configuration.

use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use protos::HeartbeatRequest;
use protos::message_stream_client::MessageStreamClient;
use serde_yaml::{Mapping, Value};
use tonic::transport::Endpoint;

use crate::folder::write_secret;
use crate::{Error, Postgres, Process, ProcessBuilder, try_wait_until};

/// Restoring many queues takes a while.
const READY_WITHIN: Duration = Duration::from_mins(1);
const HEARTBEAT_WITHIN: Duration = Duration::from_secs(2);

/// The content of a MoM's configuration file.
#[derive(Clone, Debug)]
pub struct MomConfig {
    keys: Mapping,
}

impl MomConfig {
    /// A MoM that listens on `host` and `port`, and is known by them too.
    pub fn new(host: &str, port: u16) -> Self {
        Self {
            keys: Mapping::new(),
        }
        .set("host", host)
        .set("port", port)
        .set("external_host", host)
        .set("external_port", port)
    }

    /// The configuration in `file`.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(file)
            .map_err(Error::io(format!("cannot read {}", file.display())))?;
        let keys = serde_yaml::from_str(&text).map_err(|error| {
            Error::Failed(format!(
                "{} is not a configuration: {error}",
                file.display()
            ))
        })?;
        Ok(Self { keys })
    }

    /// Sets a key; `database.port` is the key `port` in the section `database`.
    ///
    /// # Panics
    ///
    /// When the section is not a section but has a value.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        let mut path: Vec<&str> = key.split('.').collect();
        let last = path.pop().expect("splitting yields one part at least");
        let mut section = &mut self.keys;
        for name in path {
            section = section
                .entry(name.into())
                .or_insert_with(|| Mapping::new().into())
                .as_mapping_mut()
                .unwrap_or_else(|| panic!("`{name}` of the key `{key}` is not a section"));
        }
        section.insert(last.into(), value.into());
        self
    }

    /// Makes it use `database` of `postgres`, by way of `port`.
    #[must_use]
    pub fn database(self, postgres: &Postgres, port: u16, database: &str) -> Self {
        self.set("database.host", "127.0.0.1")
            .set("database.port", port)
            .set("database.user", postgres.user())
            .set("database.password", postgres.password())
            .set("database.dbname", database)
    }

    /// The host and the port to listen on.
    pub fn listens_on(&self) -> Result<(&str, u16), Error> {
        Ok((self.text("host")?, self.port("port")?))
    }

    fn text(&self, key: &str) -> Result<&str, Error> {
        self.keys
            .get(key)
            .and_then(Value::as_str)
            .ok_or_else(|| missing(key, "a string"))
    }

    fn port(&self, key: &str) -> Result<u16, Error> {
        let port = self
            .keys
            .get(key)
            .and_then(Value::as_u64)
            .and_then(|port| u16::try_from(port).ok());
        port.ok_or_else(|| missing(key, "a port"))
    }
}

fn missing(key: &str, kind: &str) -> Error {
    Error::Failed(format!(
        "a MoM's configuration needs the key `{key}` with {kind}"
    ))
}

/// A MoM. What a [`Process`] can do, it can: `kill`, `freeze`, `thaw`, `terminate`, `log`, ...
#[derive(Debug)]
pub struct Mom {
    process: Process,
    host: String,
    port: u16,
    listens_on: String,
}

impl Mom {
    /// A MoM called `name`, not started yet: the binary in `binaries`, configuration and log in `folder`, and
    /// variables of its environment. Variables `RMOM_...` of this process are hidden from it.
    pub fn new(
        name: &str,
        binaries: &Path,
        folder: &Path,
        config: &MomConfig,
        env: &[(String, String)],
    ) -> Result<Self, Error> {
        let file = folder.join(format!("{name}.yaml"));
        let (listens_host, listens_port) = config.listens_on()?;
        let yaml = serde_yaml::to_string(&config.keys).expect("a mapping can always be written");
        write_secret(&file, &yaml)?;
        let mut process = ProcessBuilder::new(
            name,
            binaries.join("rmom"),
            folder.join(format!("{name}.log")),
        )
        .drop_env("RMOM_")
        .env("NO_COLOR", "1")
        .arg(file);
        for (key, value) in env {
            process = process.env(key, value);
        }
        Ok(Self {
            process: process.build(),
            host: config.text("external_host")?.to_owned(),
            port: config.port("external_port")?,
            listens_on: format!("{listens_host}:{listens_port}"),
        })
    }

    /// The host that clients and managers know it by.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port that clients and managers know it by.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What to hand to a gRPC client.
    pub fn url(&self) -> String {
        format!("http://{}:{}", self.host, self.port)
    }

    /// Starts it and waits until it answers heartbeats.
    pub async fn start(&self) -> Result<(), Error> {
        self.process.spawn()?;
        self.ready().await
    }

    /// Kills it if it runs, starts it, and waits until it answers heartbeats.
    pub async fn restart(&self) -> Result<(), Error> {
        self.process.kill().await;
        self.start().await
    }

    /// Waits until it answers heartbeats; an error as soon as it has ended instead.
    pub async fn ready(&self) -> Result<(), Error> {
        let what = format!("a heartbeat of {}", self.process.name());
        try_wait_until(&what, READY_WITHIN, async || {
            match self.process.ensure_running() {
                Ok(()) => self
                    .heartbeat()
                    .await
                    .map(Ok)
                    .map_err(|error| error.to_string()),
                Err(ended) => Ok(Err(ended)),
            }
        })
        .await?
    }

    /// Asks once whether it is alive, at the address where it listens: proxies are left aside.
    pub async fn heartbeat(&self) -> Result<(), Error> {
        let name = self.process.name();
        let silent = |error: &dyn std::fmt::Display| {
            Error::Failed(format!("{name} gives no heartbeat: {error}"))
        };
        let endpoint = Endpoint::from_shared(format!("http://{}", self.listens_on))
            .map_err(|error| silent(&error))?
            .connect_timeout(HEARTBEAT_WITHIN)
            .timeout(HEARTBEAT_WITHIN);
        let channel = endpoint.connect().await.map_err(|error| silent(&error))?;
        let answer = MessageStreamClient::new(channel)
            .get_heartbeat(HeartbeatRequest::default())
            .await;
        answer.map(drop).map_err(|status| silent(&status.message()))
    }
}

impl Deref for Mom {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}
