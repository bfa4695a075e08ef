//! Servers of other systems: found on this machine, started on free ports of the loopback address with their data in a
//! temporary folder, and ended with this program.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use testkit::{Folder, Process, ProcessBuilder, try_wait_until};

/// How long a server may take to answer.
const READY_WITHIN: Duration = Duration::from_mins(2);

/// A running server. Dropping it kills it and removes its data.
pub(crate) struct Server {
    // Dropped in this order.
    process: Process,
    _folder: Folder,
}

/// The program, from the PATH or from where Debian keeps programs that are not for everybody.
pub(crate) fn find(program: &str, elsewhere: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/usr/local/bin"].map(PathBuf::from))
        .chain(elsewhere.iter().cloned())
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// What a program prints.
pub(crate) fn output_of(program: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("running {}", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Server {
    /// Starts the process in its folder and waits until `answers` does not fail any more.
    pub(crate) async fn start(
        process: ProcessBuilder,
        folder: Folder,
        answers: impl AsyncFn() -> Result<()>,
    ) -> Result<Self> {
        let process = process.build();
        process.spawn()?;
        let server = Self {
            process,
            _folder: folder,
        };
        let what = format!("{} to answer", server.process.name());
        try_wait_until(&what, READY_WITHIN, async || {
            if let Err(ended) = server.process.ensure_running() {
                return Ok(Err(ended));
            }
            answers()
                .await
                .map(Ok)
                .map_err(|error| format!("{error:#}"))
        })
        .await??;
        Ok(server)
    }

    /// 0, which is no process, once it has ended.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid().unwrap_or(0)
    }
}

/// An account that root steps down to, for a server that is not to run as root.
pub(crate) struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// `None` if this is not root, or there is no such account.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let number = |option: &str| {
            let output = Command::new("id").args([option, name]).output().ok()?;
            String::from_utf8_lossy(&output.stdout).trim().parse().ok()
        };
        let root = Command::new("id")
            .arg("-u")
            .output()
            .ok()?
            .stdout
            .trim_ascii()
            == b"0";
        root.then_some(())?;
        Some(Self {
            uid: number("-u")?,
            gid: number("-g")?,
        })
    }

    /// Hands it a file or a folder.
    pub(crate) fn give(&self, path: &Path) -> Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("giving {} to another account", path.display()))
    }

    /// What makes `setpriv` step down, and die with this program all the same: the change of account would clear the
    /// signal that testkit has asked for.
    pub(crate) fn setpriv(&self) -> [String; 5] {
        [
            format!("--reuid={}", self.uid),
            format!("--regid={}", self.gid),
            "--clear-groups".to_owned(),
            "--pdeathsig=KILL".to_owned(),
            "--".to_owned(),
        ]
    }
}
