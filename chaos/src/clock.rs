//! A clock of processes that can be made to jump: libfaketime, told by a file.

use std::fs;
use std::path::{Path, PathBuf};

use testkit::Error;

/// Where Debian puts the library, whatever the machine's architecture.
const LIBRARY_FOLDERS: &str = "/usr/lib";

/// Where the library keeps two small files for each process, named for its pid. One that was killed leaves them.
const SHARED_MEMORY: &str = "/dev/shm";

/// See the [module](self).
#[derive(Debug)]
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// The library, if it is installed.
    pub fn library() -> Option<PathBuf> {
        let folders = fs::read_dir(LIBRARY_FOLDERS).ok()?.flatten();
        folders
            .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
            .find(|library| library.is_file())
    }

    /// A clock that is told by `file`, and the variables with which a process must be started to go by it.
    pub fn new(library: &Path, file: PathBuf) -> Result<(Self, Vec<(String, String)>), Error> {
        let clock = Self { file };
        clock.jump(0)?;
        let variables = [
            ("LD_PRELOAD", library.to_string_lossy()),
            ("FAKETIME_TIMESTAMP_FILE", clock.file.to_string_lossy()),
            ("FAKETIME_CACHE_DURATION", "1".into()),
            // Timers go by the monotonic clock, which no administrator sets.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ];
        let variables = variables.map(|(key, value)| (key.to_owned(), value.into_owned()));
        Ok((clock, variables.to_vec()))
    }

    /// Sets the clock so many seconds ahead of the machine's, or behind.
    pub fn jump(&self, seconds: i32) -> Result<(), Error> {
        // Another name first: whoever reads sees the one or the other.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{seconds:+}s\n"))
            .and_then(|()| fs::rename(&new, &self.file))
            .map_err(|error| Error::Io(format!("cannot write {}", self.file.display()), error))
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        let files = fs::read_dir(SHARED_MEMORY).into_iter().flatten().flatten();
        for file in files {
            let name = file.file_name();
            let pid = name
                .to_str()
                .filter(|name| name.contains("faketime_"))
                .and_then(|name| name.rsplit('_').next());
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                // Somebody else may have been faster.
                let _ = fs::remove_file(file.path());
            }
        }
    }
}
