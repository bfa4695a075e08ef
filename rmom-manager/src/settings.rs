//! Settings: `Rocket.toml` in the working directory, each key overridable by a `ROCKET_` variable.
//!
//! Rocket's own keys (`address`, `port`, `workers`, ...) and ours stand side by side in one profile. Every key can be
//! left out, except the URL of the database.

use std::net::IpAddr;
use std::time::Duration;

use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::Value;
use figment::{Figment, Profile};
use rocket::config::Sig;
use storage::{Connect, MomAddress};

use reader::Reader;

mod reader;

/// Where the settings are read from, unless `ROCKET_CONFIG` names another file.
const FILE: &str = "Rocket.toml";
const DATABASE: &str = "databases.rmom_manager";
const EXAMPLE_URL: &str = "postgresql://user:password@127.0.0.1:5432/rmom_manager";

/// The longest name that a host may have.
const MAX_HOST: usize = 253;

/// Keys at the top of a profile that are ours; `config` is what `ROCKET_CONFIG` reads as.
const OWN_KEYS: [&str; 9] = [
    "manager_cycle_secs",
    "lease_secs",
    "life_probe_retry_delay_millis",
    "life_probe_max_retries",
    "life_probe_deadline_millis",
    "message_sweep_secs",
    "moms",
    "databases",
    "config",
];
const DATABASE_KEYS: [&str; 5] = [
    "url",
    "min_connections",
    "max_connections",
    "idle_timeout",
    "connect_timeout",
];
const MOM_KEYS: [&str; 2] = ["host", "port"];

/// The settings of a manager.
#[derive(Clone)]
pub struct Settings {
    /// The profile that they were read from.
    pub profile: String,
    /// The address to listen on.
    pub address: IpAddr,
    /// The port to listen on.
    pub port: u16,
    /// Threads that serve requests.
    pub workers: usize,
    /// Threads for blocking work at the most.
    pub max_blocking: usize,
    /// The time between two turns of the control loop.
    pub manager_cycle: Duration,
    /// How long a manager leads that does not renew its lease.
    pub lease: Duration,
    /// How MoMs are probed and for how long a MoM may leave any call unanswered.
    pub probe: Probe,
    /// The time between two sweeps of expired messages.
    pub message_sweep: Duration,
    /// The MoMs to register, each once.
    pub moms: Vec<MomAddress>,
    /// How to reach the database.
    pub database: Connect,
    /// What is odd but not wrong, one sentence each.
    pub warnings: Vec<String>,
    /// What Rocket itself reads.
    pub(crate) rocket: Figment,
}

/// How MoMs are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// How long a MoM may take to answer, all tries together.
    pub deadline: Duration,
    /// How often to try again after a failure.
    pub max_retries: u32,
    /// How long to wait before that.
    pub retry_delay: Duration,
}

/// Settings that cannot be used. Each fault names the key, where it stands, what was found and what is legal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the settings cannot be used:\n  {}", faults.join("\n  "))]
pub struct InvalidSettings {
    /// One sentence each.
    pub faults: Vec<String>,
}

impl std::fmt::Debug for Settings {
    /// Without the password, which stands in what Rocket reads and in the URL of the database.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("profile", &self.profile)
            .field("address", &self.address)
            .field("port", &self.port)
            .field("moms", &self.moms)
            .field("database", &self.database.target())
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads the file and the variables of the environment.
    pub fn load() -> Result<Self, InvalidSettings> {
        let file = Env::var_or("ROCKET_CONFIG", FILE);
        let sources = Figment::new()
            .merge(Toml::file(&file).nested())
            .merge(Env::prefixed("ROCKET_").ignore(&["PROFILE"]).global());
        // A debug build reads the profile `default`, or `debug` where the file has one as Rocket itself would have it.
        let built_for = if !cfg!(debug_assertions) {
            "release"
        } else if sources.profiles().any(|profile| profile == "debug") {
            "debug"
        } else {
            "default"
        };
        let profile = Profile::from_env_or("ROCKET_PROFILE", built_for);
        Self::read(sources, profile)
    }

    /// Reads what `sources` say for `profile`, over the defaults.
    pub fn read(sources: Figment, profile: Profile) -> Result<Self, InvalidSettings> {
        let port = if profile == "release" { 8080 } else { 8082 };
        let figment = Figment::from(rocket::Config::default())
            .merge(Serialized::default("port", port))
            .merge(sources)
            // Signals are ours to handle, so that there is one place that stops everything.
            .merge(Serialized::global("shutdown.ctrlc", false))
            .merge(Serialized::global("shutdown.signals", Vec::<Sig>::new()))
            .select(profile);

        let mut reader = Reader::new(&figment);
        let rocket = match rocket::Config::try_from(&figment) {
            Ok(rocket) => rocket,
            Err(errors) => {
                // A file that cannot be parsed fails every look-up, so nothing else is worth saying.
                for error in errors {
                    match (
                        error.path.last().map(String::as_str),
                        reader.find("address"),
                    ) {
                        (Some("address"), Some(found)) => {
                            let legal = "an IP address like 127.0.0.1, or 0.0.0.0 for all of this machine's";
                            reader.fault("address", &found, legal);
                        }
                        _ => reader.complain(error.to_string()),
                    }
                }
                let (_, faults) = reader.finish();
                return Err(InvalidSettings { faults });
            }
        };
        let millis = |number: u64| Duration::from_millis(number);
        let secs = |number: u64| Duration::from_secs(number);
        let workers = reader.number("workers", 1..=1024, rocket.workers as u64);
        let max_blocking = reader.number("max_blocking", 1..=65_536, rocket.max_blocking as u64);
        let manager_cycle = secs(reader.number("manager_cycle_secs", 1..=3600, 1));
        let lease = secs(reader.number("lease_secs", 1..=60, 3));
        let message_sweep = secs(reader.number("message_sweep_secs", 1..=3600, 1));
        let probe = Probe {
            deadline: millis(reader.number("life_probe_deadline_millis", 10..=60_000, 1000)),
            max_retries: reader.number("life_probe_max_retries", 0..=1000, 3) as u32,
            retry_delay: millis(reader.number("life_probe_retry_delay_millis", 0..=60_000, 33)),
        };
        let moms = moms(&mut reader);
        let database = database(&mut reader);
        reader.warn_of_unknown_keys("", |key| {
            OWN_KEYS.contains(&key) || rocket::Config::PARAMETERS.contains(&key)
        });
        reader.warn_of_unknown_keys("databases", |key| key == "rmom_manager");
        reader.warn_of_unknown_keys(DATABASE, |key| DATABASE_KEYS.contains(&key));
        let (warnings, faults) = reader.finish();
        let Some(database) = database.filter(|_| faults.is_empty()) else {
            return Err(InvalidSettings { faults });
        };
        Ok(Self {
            profile: figment.profile().to_string(),
            address: rocket.address,
            port: rocket.port,
            workers: workers as usize,
            max_blocking: max_blocking as usize,
            manager_cycle,
            lease,
            probe,
            message_sweep,
            moms,
            database,
            warnings,
            rocket: figment,
        })
    }
}

/// The list `moms`: what is listed twice counts once.
fn moms(reader: &mut Reader<'_>) -> Vec<MomAddress> {
    const NO_MOM: &str = "lists no MoM: queues are placed only on MoMs that the database knows";
    let Some(list) = reader.find("moms") else {
        reader.warn(format!("`moms` is not set and so {NO_MOM}"));
        return Vec::new();
    };
    let Value::Array(_, entries) = &list else {
        reader.fault(
            "moms",
            &list,
            "a list like [{ host = \"127.0.0.1\", port = 50051 }]",
        );
        return Vec::new();
    };
    if entries.is_empty() {
        reader.warn(format!("`moms` {NO_MOM}"));
    }
    let mut moms = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let Some(address) = mom(reader, &format!("moms[{index}]"), entry) else {
            continue;
        };
        if moms.contains(&address) {
            reader.warn(format!("`moms` lists {address} more than once"));
        } else {
            moms.push(address);
        }
    }
    moms
}

fn mom(reader: &mut Reader<'_>, key: &str, entry: &Value) -> Option<MomAddress> {
    let Value::Dict(_, fields) = entry else {
        reader.fault(
            key,
            entry,
            "an entry like { host = \"127.0.0.1\", port = 50051 }",
        );
        return None;
    };
    for unknown in fields
        .keys()
        .filter(|key| !MOM_KEYS.contains(&key.as_str()))
    {
        reader.unknown(&format!("{key}.{unknown}"), entry);
    }
    let host_key = format!("{key}.host");
    let host = match fields.get("host") {
        Some(Value::String(_, host)) if is_host(host) => Some(host.clone()),
        found => {
            let legal = "the host name or address that the MoM has as its external_host";
            reader.fault_or_missing(&host_key, found, entry, legal);
            None
        }
    };
    let port_key = format!("{key}.port");
    let port = fields.get("port");
    if port.is_none() {
        reader.fault_or_missing(&port_key, None, entry, "the MoM's external_port");
    }
    let port = reader.number_in(&port_key, port?, 1..=65_535);
    Some(MomAddress {
        host: host?,
        port: port? as u16,
    })
}

/// Whether a gRPC client can be pointed at it.
pub(crate) fn is_host(text: &str) -> bool {
    let address = MomAddress {
        host: text.to_owned(),
        port: 1,
    };
    let uri = format!("http://{address}/").parse::<tonic::transport::Uri>();
    (1..=MAX_HOST).contains(&text.len())
        && uri.is_ok_and(|uri| {
            uri.authority()
                .is_some_and(|found| *found == *address.to_string())
        })
}

fn database(reader: &mut Reader<'_>) -> Option<Connect> {
    let key = |name: &str| format!("{DATABASE}.{name}");
    let max = reader.number(&key("max_connections"), 1..=10_000, 10);
    let min = reader.number(&key("min_connections"), 0..=10_000, 0);
    if min > max {
        reader.complain(format!(
            "`{}` is {min}, which is more than `{}`, {max}",
            key("min_connections"),
            key("max_connections")
        ));
    }
    let acquire = reader.number(&key("connect_timeout"), 1..=300, 5);
    let idle = reader.optional_number(&key("idle_timeout"), 1..=86_400);
    let url = match reader.find(&key("url")) {
        Some(Value::String(_, url)) => url,
        // What was found may hold a password, so it is not shown.
        Some(found) => {
            let place = reader.place(&key("url"), &found);
            reader.complain(format!(
                "{place} is not a string; legal is a URL like \"{EXAMPLE_URL}\""
            ));
            return None;
        }
        None => {
            let file = reader.file().unwrap_or_else(|| {
                let dir = std::env::current_dir().unwrap_or_default();
                format!("a file Rocket.toml (there is none in {})", dir.display())
            });
            reader.complain(format!(
                "`{}` is missing: set it in {file}, in the section [default.{DATABASE}], to a URL like \
                 \"{EXAMPLE_URL}\"; or set the variable ROCKET_DATABASES='{{rmom_manager={{url=\"...\"}}}}'",
                key("url")
            ));
            return None;
        }
    };
    match Connect::from_url(&url) {
        Ok(mut connect) => {
            connect.min_connections = min.min(max) as u32;
            connect.max_connections = max as u32;
            connect.acquire_timeout = Duration::from_secs(acquire);
            connect.idle_timeout = idle.map(Duration::from_secs);
            Some(connect.application_name("rmom-manager"))
        }
        Err(fault) => {
            let found = reader.find(&key("url")).expect("it was just found");
            let place = reader.place(&key("url"), &found);
            reader.complain(format!(
                "{place} is not a usable URL: {fault}; legal is a URL like \"{EXAMPLE_URL}\""
            ));
            None
        }
    }
}

#[cfg(test)]
mod tests;
