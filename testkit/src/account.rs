//! The account under which PostgreSQL runs: it refuses to run as root.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Error;

/// An unprivileged account that root steps down to.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// `None` when the caller is not root and so needs no other account; else `postgres`, else `nobody`.
    pub(crate) fn for_postgres() -> Result<Option<Self>, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd")
            .map_err(Error::io("cannot read /etc/passwd".to_owned()))?;
        let account = ["postgres", "nobody"]
            .iter()
            .find_map(|name| Self::parse(&passwd, name));
        account.map(Some).ok_or_else(|| {
            Error::Missing(
                "PostgreSQL refuses to run as root, and /etc/passwd has neither an account `postgres` nor `nobody` \
                 to run it under: add one, or run as an ordinary user"
                    .to_owned(),
            )
        })
    }

    fn parse(passwd: &str, name: &str) -> Option<Self> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next()? != name {
                return None;
            }
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(Self {
                name: name.to_owned(),
                uid,
                gid,
            })
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The options that make `setpriv` step down to this account.
    pub(crate) fn setpriv_options(&self) -> [String; 3] {
        [
            format!("--reuid={}", self.uid),
            format!("--regid={}", self.gid),
            "--clear-groups".to_owned(),
        ]
    }

    /// Hands `path` to the account.
    pub(crate) fn give(&self, path: &Path) -> Result<(), Error> {
        chown(path, Some(self.uid), Some(self.gid)).map_err(Error::io(format!(
            "cannot give {} to the account {}",
            path.display(),
            self.name
        )))
    }

    /// Whether `path` belongs to the account.
    pub(crate) fn owns(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|metadata| metadata.uid() == self.uid)
    }

    /// Whether the account gets to `path`, through every directory on the way. Asked of the kernel, which knows of
    /// access lists and mounts too.
    pub(crate) fn reaches(&self, path: &Path) -> bool {
        command(Some(self), "test")
            .arg("-x")
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

/// `program`, run under `account` if there is one.
pub(crate) fn command(account: Option<&Account>, program: impl AsRef<OsStr>) -> Command {
    let Some(account) = account else {
        return Command::new(program);
    };
    let mut command = Command::new("setpriv");
    command
        .args(account.setpriv_options())
        .arg("--")
        .arg(program);
    // The caller's own directory may be out of the account's reach.
    command.current_dir("/");
    command
}
