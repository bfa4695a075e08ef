//! The folder of a private PostgreSQL server: where it may be, and what is made in it before the server starts.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use uuid::Uuid;

use super::USER;
use crate::account::{self, Account};
use crate::{Error, Folder, try_wait_until};

/// A directory for data that everybody gets to and that stays.
const ELSEWHERE: &str = "/var/tmp";

/// The folder for a server: `wanted` or a temporary one, elsewhere if `account` cannot get there. With what was wanted
/// instead in that case.
pub(super) fn place(
    wanted: Option<&Path>,
    account: Option<&Account>,
) -> Result<(Folder, Option<PathBuf>), Error> {
    let mut folder = match wanted {
        Some(path) => Folder::persistent(path)?,
        None => temporary_folder(account)?,
    };
    let Some(account) = account else {
        return Ok((folder, None));
    };
    let mut moved_from = None;
    if !account.reaches(folder.path()) {
        moved_from = Some(folder.path().to_path_buf());
        // The same place at each start, so that the data are found again.
        let name = folder.path().to_string_lossy().replace('/', "-");
        folder = Folder::persistent(Path::new(ELSEWHERE).join(format!("rmom{name}")))?;
    }
    if !account.owns(folder.path()) {
        // Everybody may write to /var/tmp: a folder there that somebody else has made is not to be trusted.
        let ours = fs::metadata(folder.path()).is_ok_and(|metadata| metadata.uid() == 0);
        if !ours || !account.reaches(folder.path()) {
            return Err(Error::Failed(format!(
                "PostgreSQL's account `{}` cannot use the directory {}: choose one that every account can reach",
                account.name(),
                folder.path().display()
            )));
        }
        account.give(folder.path())?;
    }
    Ok((folder, moved_from))
}

pub(super) fn temporary_folder(account: Option<&Account>) -> Result<Folder, Error> {
    let folder = Folder::temporary()?;
    match account {
        Some(account) if !account.reaches(folder.path()) => {
            Folder::temporary_in(Path::new(ELSEWHERE))
        }
        _ => Ok(folder),
    }
}

/// The major version that wrote `data`, if there are data.
pub(super) fn major_of(data: &Path) -> Result<Option<u32>, Error> {
    let file = data.join("PG_VERSION");
    if !file.exists() {
        return Ok(None);
    }
    let version =
        fs::read_to_string(&file).map_err(Error::io(format!("cannot read {}", file.display())))?;
    let major = version.trim().parse();
    major
        .map(Some)
        .map_err(|_| Error::Failed(format!("{} does not hold a version", file.display())))
}

/// The password kept in `folder`, made up when there is none.
pub(super) fn password(folder: &Path, account: Option<&Account>) -> Result<String, Error> {
    let file = folder.join("password");
    if file.exists() {
        let kept = fs::read_to_string(&file)
            .map_err(Error::io(format!("cannot read {}", file.display())))?;
        return Ok(kept.trim().to_owned());
    }
    let made = Uuid::now_v7().simple().to_string();
    OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&file)
        .and_then(|mut open| open.write_all(made.as_bytes()))
        .map_err(Error::io(format!("cannot write {}", file.display())))?;
    if let Some(account) = account {
        account.give(&file)?;
    }
    Ok(made)
}

pub(super) async fn initdb(
    bin: &Path,
    folder: &Path,
    home: &Path,
    account: Option<&Account>,
    temporary: bool,
) -> Result<(), Error> {
    // Made under another name first, so that a run that was broken off is not taken for a finished one.
    let unfinished = home.join("data.unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)
            .map_err(Error::io(format!("cannot remove {}", unfinished.display())))?;
    }
    let mut command = tokio::process::Command::from(account::command(account, bin.join("initdb")));
    command
        .args([
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
            "--auth=scram-sha-256",
        ])
        .args(["--username", USER, "--pwfile"])
        .arg(folder.join("password"))
        .arg("--pgdata")
        .arg(&unfinished);
    if temporary {
        // Nobody needs what a power cut leaves of a temporary directory. The server itself syncs nevertheless.
        command.arg("--no-sync");
    }
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(Error::io("cannot run initdb"))?;
    if !output.status.success() {
        return Err(Error::Failed(format!(
            "initdb in {} ended ({}):\n{}{}",
            home.display(),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    let data = home.join("data");
    fs::rename(&unfinished, &data)
        .map_err(Error::io(format!("cannot rename {}", unfinished.display())))
}

/// Removes the pid file of a server that was killed, where its number belongs to some other process by now. PostgreSQL
/// itself would take that for a running server and refuse to start.
pub(super) async fn clear_stale_pid(data: &Path) -> Result<(), Error> {
    let file = data.join("postmaster.pid");
    let what = format!(
        "the PostgreSQL server that uses {} to end (is another demo running?)",
        data.display()
    );
    // One whose parent was killed a moment ago is still shutting down.
    try_wait_until(&what, Duration::from_secs(10), async || {
        let Ok(note) = fs::read_to_string(&file) else {
            return Ok(());
        };
        let pid = note.lines().next().unwrap_or_default().trim();
        // Its command line names the data directory, absolute as it was given above.
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let ours = command
            .split(|byte| *byte == 0)
            .any(|arg| arg == data.as_os_str().as_encoded_bytes());
        if ours {
            Err(format!("it runs with pid {pid}"))
        } else {
            Ok(())
        }
    })
    .await?;
    match fs::remove_file(&file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::Io(
            format!("cannot remove {}", file.display()),
            error,
        )),
        _ => Ok(()),
    }
}
