//! What can be set, and whether it can be used.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use testkit::{MomConfig, is_free};

/// Starts PostgreSQL, four MoMs, a manager and the two example servers on this machine, with data in .demo.
///
/// Ctrl-C ends everything; the next start goes on with the same data.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Options {
    /// Where data and logs are kept [default: .demo in the project's folder].
    #[arg(long, env = "RMOM_DEMO_DIR", value_name = "DIRECTORY")]
    directory: Option<PathBuf>,

    /// The manager's port.
    #[arg(
        long,
        env = "RMOM_DEMO_MANAGER_PORT",
        value_name = "PORT",
        default_value_t = 8082
    )]
    pub(crate) manager_port: u16,

    /// The MoMs' port; each has an address of its own, from 127.0.0.1 to 127.0.0.4 [default: 50051, as in
    /// rmom/dev-confs].
    #[arg(long, env = "RMOM_DEMO_MOM_PORT", value_name = "PORT")]
    mom_port: Option<u16>,

    /// The port of the page of comments, which the news-pusher serves.
    #[arg(
        long,
        env = "RMOM_DEMO_PUSHER_PORT",
        value_name = "PORT",
        default_value_t = 8080
    )]
    pub(crate) pusher_port: u16,

    /// The port of the page of news, which the news-consumer serves.
    #[arg(
        long,
        env = "RMOM_DEMO_CONSUMER_PORT",
        value_name = "PORT",
        default_value_t = 8081
    )]
    pub(crate) consumer_port: u16,
}

/// One of the four MoMs, as its file in `rmom/dev-confs` describes it.
pub(crate) struct MomPlan {
    pub(crate) name: &'static str,
    pub(crate) config: MomConfig,
    pub(crate) host: String,
    pub(crate) port: u16,
}

const MOMS: [&str; 4] = ["mom1", "mom2", "mom3", "mom4"];

impl Options {
    pub(crate) fn directory(&self) -> PathBuf {
        self.directory
            .clone()
            .unwrap_or_else(|| project().join(".demo"))
    }

    pub(crate) fn manager_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.manager_port)
    }

    pub(crate) fn news_url(&self) -> String {
        format!("http://127.0.0.1:{}/news", self.consumer_port)
    }

    pub(crate) fn comments_url(&self) -> String {
        format!("http://127.0.0.1:{}/comments", self.pusher_port)
    }

    pub(crate) fn moms(&self) -> anyhow::Result<Vec<MomPlan>> {
        let plan = |name: &'static str| {
            let file = project()
                .join("rmom/dev-confs")
                .join(format!("{name}.yaml"));
            let mut config = MomConfig::read(&file)?;
            if let Some(port) = self.mom_port {
                config = config.set("port", port).set("external_port", port);
            }
            let (host, port) = config.listens_on()?;
            anyhow::Ok(MomPlan {
                name,
                host: host.to_owned(),
                port,
                config,
            })
        };
        MOMS.into_iter().map(plan).collect()
    }

    /// Errs with all the ports that others hold, and says how to use other ones.
    pub(crate) fn check_ports(&self) -> anyhow::Result<()> {
        let mut wanted = vec![
            (
                "the manager",
                "127.0.0.1".to_owned(),
                self.manager_port,
                "RMOM_DEMO_MANAGER_PORT",
            ),
            (
                "the news-pusher",
                "127.0.0.1".to_owned(),
                self.pusher_port,
                "RMOM_DEMO_PUSHER_PORT",
            ),
            (
                "the news-consumer",
                "127.0.0.1".to_owned(),
                self.consumer_port,
                "RMOM_DEMO_CONSUMER_PORT",
            ),
        ];
        wanted.extend(
            self.moms()?
                .into_iter()
                .map(|mom| (mom.name, mom.host, mom.port, "RMOM_DEMO_MOM_PORT")),
        );

        let mut faults = String::new();
        for (who, host, port, variable) in wanted {
            let address: SocketAddr = format!("{host}:{port}")
                .parse()
                .with_context(|| format!("{who} cannot listen on {host}:{port}"))?;
            if !is_free(address) {
                write!(
                    faults,
                    "\n  {address}, which {who} needs: choose another port with {variable}=PORT"
                )?;
            }
        }
        ensure!(
            faults.is_empty(),
            "another program (a demo that runs already?) holds these addresses:{faults}\nEnd that program, or use \
             the variables, for example: RMOM_DEMO_MANAGER_PORT=18082 make demo"
        );
        Ok(())
    }
}

/// Errs if the example servers cannot run.
pub(crate) fn check_python() -> anyhow::Result<()> {
    if !python().is_file() {
        bail!(
            "the example servers' Python environment is missing ({}): start the demo with `make demo`, which makes it, \
             or run `make -C momclient-py set-py-venv-with-deps`",
            python().display()
        );
    }
    Ok(())
}

/// The project's folder, which holds the example application and the MoMs' configurations.
pub(crate) fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the project's folder")
}

pub(crate) fn python() -> PathBuf {
    project().join("momclient-py/.venv/bin/python")
}
