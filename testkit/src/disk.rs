//! A small disk that can be filled up: a tmpfs of a bounded size.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;

/// What fills the disk.
const BALLAST: &str = "ballast";
/// The last page is wanted too, and a larger chunk may be refused before that.
const CHUNKS: [usize; 2] = [1 << 20, 4 << 10];

/// A file system of its own, in memory and bounded, so that it can be full. Dropping the value unmounts it.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts a disk of `megabytes` at `path`, which is created. Only root can; for everybody else it is an error.
    pub(crate) fn mount(path: &Path, megabytes: u32) -> Result<Self, Error> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::Missing(
                "a small disk is a tmpfs, and only root can mount one".to_owned(),
            ));
        }
        fs::create_dir_all(path).map_err(Error::io(format!("cannot create {}", path.display())))?;
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={megabytes}m,mode=0711"))
            .arg("rmom-testkit")
            .arg(path)
            .stdin(Stdio::null())
            .output()
            .map_err(Error::io("cannot run mount"))?;
        if !output.status.success() {
            return Err(Error::Missing(format!(
                "this machine lets nobody mount a tmpfs: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )));
        }
        Ok(Self {
            path: path.to_path_buf(),
        })
    }

    /// Whether a small disk can be had here; an error that says why not.
    pub fn is_possible() -> Result<(), Error> {
        let folder = crate::Folder::temporary()?;
        Self::mount(&folder.path().join("disk"), 1).map(drop)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all the room that is left. What others free afterwards is theirs again.
    pub fn fill(&self) -> Result<(), Error> {
        let ballast = self.path.join(BALLAST);
        let write = || -> io::Result<()> {
            let mut file = File::create(&ballast)?;
            for size in CHUNKS {
                let chunk = vec![0; size];
                loop {
                    match file.write_all(&chunk) {
                        Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                        written => written?,
                    }
                }
            }
            Ok(())
        };
        write().map_err(Error::io(format!("cannot write {}", ballast.display())))
    }

    /// Gives the room back that [`Disk::fill`] has taken.
    pub fn free(&self) -> Result<(), Error> {
        let ballast = self.path.join(BALLAST);
        match fs::remove_file(&ballast) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Io(
                format!("cannot remove {}", ballast.display()),
                error,
            )),
            _ => Ok(()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(&self.path);
    }
}

/// Unmounts what a process has left mounted below `folder` that was killed before it could clean up.
pub(crate) fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The mount point is the fifth field; ours hold nothing that would be escaped there.
    let points = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(Path::new);
    for point in points.filter(|point| point.starts_with(folder)) {
        unmount(point);
    }
}

fn unmount(path: &Path) {
    // Lazily: a backend that still ends holds files open for a moment.
    let status = Command::new("umount")
        .arg("--lazy")
        .arg(path)
        .stdin(Stdio::null())
        .status();
    if !status.is_ok_and(|status| status.success()) {
        eprintln!("cannot unmount {}", path.display());
    }
}
