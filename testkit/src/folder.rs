//! The folder in which a cluster keeps its files.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;

use crate::{Error, disk};

const PREFIX: &str = "rmom-testkit-";
const LOCK: &str = "lock";
/// Set to `1`, this variable keeps every temporary folder with its logs.
const KEEP: &str = "RMOM_KEEP";

/// A folder that is removed on drop if it is a temporary one.
///
/// It is kept, and its path printed, when the thread that drops it is panicking (the logs are wanted then) or when
/// `RMOM_KEEP=1` is set.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Held while the folder is in use; see [`sweep`]. `None` for a folder that is to stay.
    lock: Option<File>,
    kept: AtomicBool,
}

impl Folder {
    /// A new folder under the system's directory for temporary files.
    pub fn temporary() -> Result<Self, Error> {
        Self::temporary_in(&std::env::temp_dir())
    }

    /// A new folder under `parent`.
    pub(crate) fn temporary_in(parent: &Path) -> Result<Self, Error> {
        sweep(parent);
        let name = Uuid::now_v7().simple().to_string();
        // It gets the name that `sweep` looks for only when the lock is held, so that it is never taken for a
        // forgotten one.
        let unlocked = parent.join(format!("new-{PREFIX}{name}"));
        let path = parent.join(format!("{PREFIX}{name}"));
        make(&unlocked)?;
        let file = unlocked.join(LOCK);
        let lock =
            File::create(&file).map_err(Error::io(format!("cannot create {}", file.display())))?;
        lock.lock()
            .map_err(Error::io(format!("cannot lock {}", file.display())))?;
        fs::rename(&unlocked, &path)
            .map_err(Error::io(format!("cannot rename {}", unlocked.display())))?;
        Ok(Self {
            path,
            lock: Some(lock),
            kept: AtomicBool::new(false),
        })
    }

    /// The folder at `path`, created if it is not there, and left in place on drop.
    pub fn persistent(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        if !path.is_dir() {
            make(&path)?;
        }
        let path = path
            .canonicalize()
            .map_err(Error::io(format!("cannot resolve {}", path.display())))?;
        Ok(Self {
            path,
            lock: None,
            kept: AtomicBool::new(true),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it would be removed on drop.
    pub fn is_temporary(&self) -> bool {
        self.lock.is_some()
    }

    /// Keeps a temporary folder beyond its value, for example because its logs explain a failure.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.lock.is_none() {
            return;
        }
        let wanted = std::env::var(KEEP).is_ok_and(|value| value == "1");
        if wanted || std::thread::panicking() || self.kept.load(Ordering::Relaxed) {
            // Without its lock file no sweep will take it.
            let _ = fs::remove_file(self.path.join(LOCK));
            eprintln!("kept with its logs: {}", self.path.display());
        } else if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Removes what processes have left behind that were killed before they could clean up: folders whose lock nobody
/// holds any more.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(lock) = File::open(entry.path().join(LOCK)) else {
            continue;
        };
        // Failure is fine: another process may be sweeping too, or a server that was left behind is still writing.
        // The lock file marks what remains for the next sweep.
        if lock.try_lock().is_err() {
            continue;
        }
        disk::unmount_below(&entry.path());
        if fs::remove_dir_all(entry.path()).is_err() {
            let _ = File::create(entry.path().join(LOCK));
        }
    }
}

/// Others may pass through (PostgreSQL runs under another account when the caller is root) but not list.
fn make(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .map_err(Error::io(format!(
            "cannot create the folder {}",
            path.display()
        )))
}

/// Writes a file that only its owner may read, in place of an older one: configurations hold passwords.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<(), Error> {
    OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(Error::io(format!("cannot write {}", path.display())))
}
