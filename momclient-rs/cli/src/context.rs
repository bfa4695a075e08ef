//! Which system is meant: names for systems, kept in a file of the user's.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use momclient::MoMClient;
use serde::{Deserialize, Serialize};

use crate::arguments::Context;
use crate::output::{Output, Table, print_json};

/// Where a manager is that was started with the defaults.
const DEFAULT: &str = "http://127.0.0.1:8082";

/// `contexts.yaml` in the user's configuration folder.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The name of the one that is used where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    /// The managers of each.
    #[serde(default)]
    systems: BTreeMap<String, Vec<String>>,
}

/// The managers to ask: those that were given, else those of the context that was named, or is current.
pub(crate) fn managers(given: &[String], context: Option<&str>) -> anyhow::Result<Vec<String>> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    let contexts = Contexts::load()?;
    match context.or(contexts.current.as_deref()) {
        Some(name) => Ok(contexts.system(name)?.clone()),
        None => Ok(vec![DEFAULT.to_owned()]),
    }
}

impl Contexts {
    pub(crate) fn run(command: Context, output: Output) -> anyhow::Result<()> {
        let mut contexts = Self::load()?;
        match command {
            Context::Add { name, managers } => {
                // Refuses urls that cannot be.
                MoMClient::new(managers.clone())?;
                contexts.current.get_or_insert_with(|| name.clone());
                contexts.systems.insert(name, managers);
            }
            Context::Ls => return contexts.list(output),
            Context::Use { name } => {
                contexts.system(&name)?;
                contexts.current = Some(name);
            }
            Context::Rm { name } => {
                contexts.system(&name)?;
                contexts.systems.remove(&name);
                contexts.current.take_if(|current| *current == name);
            }
        }
        contexts.save()
    }

    fn list(&self, output: Output) -> anyhow::Result<()> {
        if output.is_json() {
            return print_json(self);
        }
        let mut table = Table::new(&["", "NAME", "MANAGERS"]);
        for (name, managers) in &self.systems {
            let is_current = self.current.as_ref() == Some(name);
            table.row([
                if is_current { "*" } else { "" }.to_owned(),
                name.clone(),
                managers.join(", "),
            ]);
        }
        table.print();
        Ok(())
    }

    fn system(&self, name: &str) -> anyhow::Result<&Vec<String>> {
        let known = || {
            let names: Vec<&str> = self.systems.keys().map(String::as_str).collect();
            names.join(", ")
        };
        match self.systems.get(name) {
            Some(managers) => Ok(managers),
            None if self.systems.is_empty() => {
                bail!("there is no context {name:?}; make it with `mom context add {name} URL`")
            }
            None => bail!("there is no context {name:?}, but there are: {}", known()),
        }
    }

    fn load() -> anyhow::Result<Self> {
        let path = path()?;
        match fs::read_to_string(&path) {
            Ok(text) => serde_yaml::from_str(&text)
                .with_context(|| format!("{} is not what `mom context` writes", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn save(&self) -> anyhow::Result<()> {
        let path = path()?;
        let folder = path.parent().expect("it is a file in a folder");
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // In one step, so that nobody reads half of it.
        let fresh = path.with_extension("yaml.new");
        fs::write(&fresh, serde_yaml::to_string(self)?)
            .and_then(|()| fs::rename(&fresh, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// As the XDG base directory specification has it.
fn path() -> anyhow::Result<PathBuf> {
    let absolute = |name: &str| {
        let value = std::env::var_os(name).map(PathBuf::from);
        value.filter(|path| path.is_absolute())
    };
    let folder = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    ensure!(
        folder.is_some(),
        "contexts are kept in $XDG_CONFIG_HOME or $HOME/.config, but neither variable is set; use --manager URL"
    );
    Ok(folder.unwrap_or_default().join("mom/contexts.yaml"))
}
