//! Settings: a YAML file, each key overridable by an environment variable.
//!
//! `database.max_connections` is `RMOM_DATABASE_MAX_CONNECTIONS`, and so on. Every key can be left out.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_yaml::{Mapping, Value};
use storage::MomAddress;
use telemetry::logs::Format;

/// The settings of a MoM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Config {
    /// The address to listen on.
    pub host: String,
    /// The port to listen on.
    pub port: u16,
    /// The host that clients and managers connect to; the one in the manager's list. Default: `host`.
    pub external_host: Option<String>,
    /// The port that clients and managers connect to; the one in the manager's list. Default: `port`.
    pub external_port: Option<u16>,
    /// For each queue, how many messages may wait to be committed, and how many committed ones are kept in memory for
    /// subscribers.
    pub queue_buffer_size: usize,
    /// Seconds for which a message is retained.
    pub message_ttl: u64,
    /// Seconds for which a message's id that its pusher has brought is remembered: pushed again within them, it makes no
    /// second message.
    pub duplicate_window_secs: u64,
    /// The most bytes that a message may have.
    pub max_message_bytes: usize,
    /// The most connections at once; further ones are closed as they come.
    pub max_connections: usize,
    /// The most subscriptions at once.
    pub max_subscriptions: usize,
    /// Threads that serve. One MoM's work runs through one committer, and threads that wake each other cost a lone push
    /// more than they give a busy one; who has more cores starts more MoMs, or raises this for a crowd of subscribers.
    pub worker_threads: usize,
    /// What a line of the log looks like: `text` or `json`.
    pub log_format: Format,
    /// How many queues `/metrics` tells of singly; the others it tells of together.
    pub metrics_queues: usize,
    /// Seconds that a stop may take before what is left is cut off.
    pub stop_deadline_secs: u64,
    /// Serve although the database may lose what it has acknowledged: for tests and throw-away data only.
    pub allow_undurable_database: bool,
    /// Where PostgreSQL is.
    pub database: Database,
}

/// Where PostgreSQL is and how many connections to hold, beside the one that commits.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Database {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Name of the database.
    pub dbname: String,
    /// Connections that are kept open.
    pub min_connections: u32,
    /// Connections that are opened at the most.
    pub max_connections: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 50051,
            external_host: None,
            external_port: None,
            queue_buffer_size: 10_000,
            message_ttl: 600,
            duplicate_window_secs: 120,
            max_message_bytes: 1 << 20,
            max_connections: 25_000,
            max_subscriptions: 20_000,
            worker_threads: 1,
            log_format: Format::Text,
            metrics_queues: 200,
            stop_deadline_secs: 10,
            allow_undurable_database: false,
            database: Database::default(),
        }
    }
}

impl Default for Database {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 5432,
            user: "postgres".into(),
            password: String::new(),
            dbname: "rmom_manager".into(),
            min_connections: 2,
            max_connections: 20,
        }
    }
}

impl std::fmt::Debug for Database {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}@{}:{}/{}",
            self.user, self.host, self.port, self.dbname
        )
    }
}

/// Why settings cannot be used. The text names the file, the key and what is legal.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {cause}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The file is not YAML, or not a mapping.
    #[error("the configuration {} is not valid YAML: {cause}", file.display())]
    NotYaml {
        /// The file.
        file: PathBuf,
        /// Where and what.
        cause: String,
    },
    /// A value is of the wrong type or out of range.
    #[error("the configuration {}: {key}: {fault}", file.display())]
    Illegal {
        /// The file.
        file: PathBuf,
        /// The key, and the environment variable where the value came from one.
        key: String,
        /// What was found and what is legal.
        fault: String,
    },
}

impl Config {
    /// Reads a file and the environment. Returns the settings and the keys of the file that mean nothing.
    pub fn load(file: &Path) -> Result<(Self, Vec<String>), ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|cause| ConfigError::Unreadable {
            file: file.to_owned(),
            cause,
        })?;
        Self::parse(file, &text, |name| std::env::var(name).ok())
    }

    /// As [`load`](Self::load), with the text of the file and a look-up of environment variables.
    pub fn parse(
        file: &Path,
        text: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<(Self, Vec<String>), ConfigError> {
        let not_yaml = |cause: String| ConfigError::NotYaml {
            file: file.to_owned(),
            cause,
        };
        let mut given =
            match serde_yaml::from_str(text).map_err(|error| not_yaml(error.to_string()))? {
                Value::Mapping(mapping) => mapping,
                Value::Null => Mapping::new(),
                _ => return Err(not_yaml("it must be a mapping of keys to values".into())),
            };
        let overridden = override_from(&mut given, &variable);
        let source = |key: &str| match overridden.iter().find(|(path, _)| path == key) {
            Some((_, variable)) => format!("{key} (from the environment variable {variable})"),
            None => key.to_owned(),
        };

        let mut unknown = Vec::new();
        let mut track = serde_path_to_error::Track::new();
        let deserializer =
            serde_path_to_error::Deserializer::new(Value::Mapping(given), &mut track);
        let parsed =
            serde_ignored::deserialize(deserializer, |path| unknown.push(path.to_string()));
        let illegal = |key: &str, fault: String| ConfigError::Illegal {
            file: file.to_owned(),
            key: source(key),
            fault,
        };
        let config: Self = match parsed {
            Ok(config) => config,
            Err(error) => return Err(illegal(&track.path().to_string(), error.to_string())),
        };
        match config.fault() {
            Some((key, fault)) => Err(illegal(key, fault)),
            None => Ok((config, unknown)),
        }
    }

    /// The first value that cannot be.
    fn fault(&self) -> Option<(&'static str, String)> {
        self.out_of_range().or_else(|| self.contradiction())
    }

    fn out_of_range(&self) -> Option<(&'static str, String)> {
        let ranges: [(_, u64, _, _); 10] = [
            (
                "queue_buffer_size",
                self.queue_buffer_size as u64,
                10_000_000,
                " messages",
            ),
            ("message_ttl", self.message_ttl, 3_153_600_000, " seconds"),
            (
                "duplicate_window_secs",
                self.duplicate_window_secs,
                86_400,
                " seconds",
            ),
            (
                "max_message_bytes",
                self.max_message_bytes as u64,
                16 << 20,
                " bytes",
            ),
            (
                "max_connections",
                self.max_connections as u64,
                1_000_000,
                "",
            ),
            (
                "max_subscriptions",
                self.max_subscriptions as u64,
                10_000_000,
                "",
            ),
            ("worker_threads", self.worker_threads as u64, 256, ""),
            ("metrics_queues", self.metrics_queues as u64, 10_000, ""),
            (
                "stop_deadline_secs",
                self.stop_deadline_secs,
                3600,
                " seconds",
            ),
            (
                "database.max_connections",
                self.database.max_connections.into(),
                10_000,
                "",
            ),
        ];
        let (key, _, most, unit) = ranges
            .into_iter()
            .find(|(_, value, most, _)| !(1..=*most).contains(value))?;
        Some((key, format!("is out of range; legal are 1 to {most}{unit}")))
    }

    fn contradiction(&self) -> Option<(&'static str, String)> {
        let database = &self.database;
        let listens_everywhere = ["0.0.0.0", "::", "[::]"].contains(&self.host.as_str());
        let checks = [
            (
                "host",
                !self.host.is_empty(),
                "is empty; give an address to listen on",
            ),
            (
                "external_host",
                self.external_host.as_deref() != Some(""),
                "is empty; give the host that clients use",
            ),
            (
                "external_host",
                self.external_host.is_some() || !listens_everywhere,
                "is needed where host stands for all addresses: the one that clients use and that the manager lists",
            ),
            (
                "external_port",
                self.external_port != Some(0),
                "is 0; legal are 1 to 65535",
            ),
            (
                "external_port",
                self.external_port.is_some() || self.port != 0,
                "is needed where port is 0",
            ),
            (
                "database.host",
                !database.host.is_empty(),
                "is empty; give the host of PostgreSQL",
            ),
            (
                "database.port",
                database.port != 0,
                "is 0; legal are 1 to 65535",
            ),
            (
                "database.user",
                !database.user.is_empty(),
                "is empty; give a role of PostgreSQL",
            ),
            (
                "database.dbname",
                !database.dbname.is_empty(),
                "is empty; give the name of the database",
            ),
            (
                "database.min_connections",
                database.min_connections <= database.max_connections,
                "is greater than database.max_connections",
            ),
        ];
        checks
            .into_iter()
            .find(|(_, legal, _)| !legal)
            .map(|(key, _, fault)| (key, fault.to_owned()))
    }

    /// Where clients and managers reach this MoM; by this the manager's list and the database know it.
    pub fn external_address(&self) -> MomAddress {
        MomAddress {
            host: self
                .external_host
                .clone()
                .unwrap_or_else(|| self.host.clone()),
            port: self.external_port.unwrap_or(self.port),
        }
    }

    /// How long a message is retained.
    pub fn ttl(&self) -> Duration {
        Duration::from_secs(self.message_ttl)
    }

    /// How long an id that a pusher has brought is remembered.
    pub fn duplicate_window(&self) -> Duration {
        Duration::from_secs(self.duplicate_window_secs)
    }

    /// How to reach the database.
    pub fn connect(&self) -> storage::Connect {
        let Database {
            host,
            port,
            user,
            password,
            dbname,
            min_connections,
            max_connections,
        } = &self.database;
        let mut connect = storage::Connect::from_parts(host, *port, user, password, dbname)
            .application_name(&format!("rmom {}", self.external_address()));
        connect.min_connections = *min_connections;
        connect.max_connections = *max_connections;
        connect.require_durable = !self.allow_undurable_database;
        connect
    }
}

/// Puts what environment variables say over what the file says. Returns the keys that came from a variable.
fn override_from(
    given: &mut Mapping,
    variable: impl Fn(&str) -> Option<String>,
) -> Vec<(String, String)> {
    let Ok(Value::Mapping(defaults)) = serde_yaml::to_value(Config::default()) else {
        unreachable!("settings are a mapping");
    };
    let mut overridden = Vec::new();
    let mut set = |into: &mut Mapping, path: String, key: &str, is_text: bool| {
        let name = format!("RMOM_{}", path.replace('.', "_").to_uppercase());
        if let Some(text) = variable(&name) {
            // A password of digits stays text; everything else is read as the file would be.
            let value = if is_text {
                Value::String(text)
            } else {
                scalar(text)
            };
            into.insert(key.into(), value);
            overridden.push((path, name));
        }
    };
    for (key, default) in &defaults {
        let key = key.as_str().expect("keys of settings are text");
        let Value::Mapping(section) = default else {
            let is_text = default.is_string() || key == "external_host";
            set(given, key.to_owned(), key, is_text);
            continue;
        };
        let nested = given
            .entry(key.into())
            .or_insert_with(|| Value::Mapping(Mapping::new()));
        if nested.is_null() {
            *nested = Value::Mapping(Mapping::new());
        }
        // A section that is not a mapping is left as it is, for the parser to refuse.
        if let Value::Mapping(nested) = nested {
            for (inner, default) in section {
                let inner = inner.as_str().expect("keys of settings are text");
                set(nested, format!("{key}.{inner}"), inner, default.is_string());
            }
        }
    }
    overridden
}

fn scalar(text: String) -> Value {
    serde_yaml::from_str(&text).unwrap_or(Value::String(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, variables: &[(&str, &str)]) -> Result<(Config, Vec<String>), String> {
        let variable = |name: &str| {
            variables
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| (*v).to_owned())
        };
        Config::parse(Path::new("mom.yaml"), text, variable).map_err(|error| error.to_string())
    }

    #[test]
    fn the_development_files_are_legal_and_differ_in_their_address_only() {
        for number in 1..=4 {
            let file = format!("{}/dev-confs/mom{number}.yaml", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(file).unwrap();
            let (config, unknown) = parse(&text, &[]).unwrap();
            assert_eq!(unknown, Vec::<String>::new());
            assert_eq!(
                config.external_address().to_string(),
                format!("127.0.0.{number}:50051")
            );
            assert_eq!(
                (config.queue_buffer_size, config.message_ttl),
                (10_000, 600)
            );
        }
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        assert_eq!(parse("", &[]).unwrap(), (Config::default(), vec![]));
        assert_eq!(
            parse("database:", &[]).unwrap(),
            (Config::default(), vec![])
        );
    }

    #[test]
    fn variables_win_over_the_file() {
        let variables = [
            ("RMOM_PORT", "7"),
            ("RMOM_DATABASE_PASSWORD", "0123"),
            ("RMOM_EXTERNAL_HOST", "mom7"),
        ];
        let (config, _) = parse("port: 5\ndatabase: {user: me}", &variables).unwrap();
        assert_eq!((config.port, config.database.user.as_str()), (7, "me"));
        assert_eq!(config.database.password, "0123");
        assert_eq!(config.external_address().to_string(), "mom7:7");
    }

    #[test]
    fn keys_that_mean_nothing_are_named() {
        let (_, unknown) = parse("colour: red\ndatabase: {pasword: x}", &[]).unwrap();
        assert_eq!(unknown, ["colour", "database.pasword"]);
    }

    #[test]
    fn errors_name_the_file_the_key_and_what_is_legal() {
        for (text, variables, parts) in [
            (
                "port: high",
                &[][..],
                &["mom.yaml", "port", "high", "u16"][..],
            ),
            ("port: 70000", &[], &["port", "70000"]),
            (
                "",
                &[("RMOM_DATABASE_PORT", "x")],
                &["database.port", "RMOM_DATABASE_PORT", "u16"],
            ),
            ("message_ttl: 0", &[], &["message_ttl", "legal are 1 to"]),
            ("queue_buffer_size: -1", &[], &["queue_buffer_size", "-1"]),
            ("host: 0.0.0.0", &[], &["external_host", "is needed"]),
            (
                "database: {min_connections: 30}",
                &[],
                &["database.min_connections", "database.max_connections"],
            ),
            ("database: 7", &[], &["database", "7"]),
            ("- a\n- b", &[], &["mom.yaml", "mapping"]),
            ("a: [", &[], &["mom.yaml", "not valid YAML"]),
        ] {
            let error = parse(text, variables).unwrap_err();
            assert!(
                parts.iter().all(|part| error.contains(part)),
                "{text:?}: {error}"
            );
        }
    }

    #[test]
    fn the_password_is_not_shown() {
        let (config, _) = parse("database: {password: hush}", &[]).unwrap();
        assert!(!format!("{config:?}").contains("hush"));
    }
}
