//! What happened in a run, in a file of JSON lines that is written while it happens.
//!
//! Times are microseconds of one monotonic clock, since every client runs in this process. The file alone is what the
//! [`checker`](crate::checker) judges by: at the end of a run the content of the tables is appended to it.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use uuid::Uuid;

/// Events that wait to be written. Whoever records more waits with them.
const WAITING: usize = 4096;

/// What stands for a content: the first eight bytes of its SHA-256. Every content that is pushed is unique, so it names
/// the message too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest(u64);

/// Something that happened, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Microseconds since the run began.
    pub at: u64,
    /// What happened.
    pub event: Event,
}

/// Something that happened to a client, or was done to the system, or stands in its tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// An attempt to push begins.
    Invoke {
        /// Its number.
        op: u64,
        /// Who pushes.
        pusher: u32,
        /// Whether the pusher never tries anything again, so that no answer can be that of an earlier attempt.
        once: bool,
        /// Where to.
        queue: usize,
        /// The topic, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        topic: Option<String>,
        /// The id that the pusher has brought.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Uuid>,
        /// The content.
        digest: Digest,
    },
    /// The attempt was acknowledged.
    Ok {
        /// The attempt.
        op: u64,
        /// The message's id.
        id: Uuid,
        /// The message's sequence.
        seq: i64,
        /// Whether it was told that the message had been there before.
        duplicate: bool,
    },
    /// The attempt was definitely refused: nothing of it may ever appear.
    Fail {
        /// The attempt.
        op: u64,
        /// The stable code.
        why: String,
    },
    /// Nobody knows what became of the attempt.
    Unknown {
        /// The attempt.
        op: u64,
        /// What was heard instead of an answer.
        why: String,
    },
    /// A subscription begins. It is one for all streams that its subscriber resumes with.
    Subscribe {
        /// Its number.
        subscription: u32,
        /// What kind of subscriber it is.
        kind: String,
        /// The queue of its channel.
        queue: usize,
        /// The topic of its channel.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        topic: Option<String>,
        /// The sequence that it starts after.
        after: i64,
    },
    /// A message came.
    Deliver {
        /// The subscription.
        subscription: u32,
        /// The message's id.
        id: Uuid,
        /// The message's sequence.
        seq: i64,
        /// The message's content.
        digest: Digest,
    },
    /// A stream was ended as if there were nothing more to come, or the library gave up.
    End {
        /// The subscription.
        subscription: u32,
        /// What was said.
        why: String,
    },
    /// The nemesis has done something.
    Fault {
        /// What, and to whom.
        what: String,
    },
    /// From the tables: that was all of them, and the history is complete.
    Told,
    /// Everything is mended and stays so.
    Healed,
    /// Something did not happen within its bound after everything was mended.
    Stuck {
        /// What.
        what: String,
    },
    /// A process has panicked.
    Panicked {
        /// Which, and what it said.
        what: String,
    },
    /// From the tables: a message.
    Row {
        /// The queue.
        queue: usize,
        /// The message's sequence.
        seq: i64,
        /// The message's id.
        id: Uuid,
        /// The message's topic.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        topic: Option<String>,
        /// The message's content.
        digest: Digest,
    },
    /// From the tables: a batch.
    Batch {
        /// The queue.
        queue: usize,
        /// The sequence of its first message.
        first_seq: i64,
        /// How many messages.
        count: i64,
        /// The epoch that it was committed under.
        epoch: i64,
        /// When, by the database's clock, in microseconds.
        committed: i64,
    },
    /// From the tables: the owner or the epoch of a queue was changed.
    Takeover {
        /// The queue.
        queue: usize,
        /// Whether the owner is another one now.
        moved: bool,
        /// The epoch before.
        old_epoch: i64,
        /// The epoch since.
        new_epoch: i64,
        /// When, by the database's clock, in microseconds.
        committed: i64,
    },
}

/// Where to record. Clones write to the same file.
#[derive(Clone, Debug)]
pub struct History {
    began: Instant,
    records: mpsc::Sender<Record>,
    ops: Arc<AtomicU64>,
    seen: Arc<Seen>,
}

/// The file behind a [`History`].
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    thread: JoinHandle<io::Result<()>>,
}

/// Counters of what was recorded, for those who watch.
#[derive(Debug, Default)]
pub struct Seen {
    acked: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
    delivered: AtomicU64,
}

impl Digest {
    /// Of this content.
    pub fn of(content: &[u8]) -> Self {
        let hash = Sha256::digest(content);
        let first = hash[..8].try_into().expect("a SHA-256 has 32 bytes");
        Self(u64::from_be_bytes(first))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl History {
    /// Begins a history in a new file. The writer is to be [finished](Writer::finish) when all clones are dropped.
    pub fn create(path: &Path) -> io::Result<(Self, Writer)> {
        let file = BufWriter::new(File::create(path)?);
        let (records, waiting) = mpsc::channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || write(file, waiting))?;
        let history = Self {
            began: Instant::now(),
            records,
            ops: Arc::default(),
            seen: Arc::default(),
        };
        let writer = Writer {
            path: path.to_owned(),
            thread,
        };
        Ok((history, writer))
    }

    /// The number of the next attempt to push.
    pub fn next_op(&self) -> u64 {
        self.ops.fetch_add(1, Ordering::Relaxed)
    }

    /// Records what happens now.
    pub async fn record(&self, event: Event) {
        let counter = match &event {
            Event::Ok { .. } => Some(&self.seen.acked),
            Event::Fail { .. } => Some(&self.seen.refused),
            Event::Unknown { .. } => Some(&self.seen.unknown),
            Event::Deliver { .. } => Some(&self.seen.delivered),
            _ => None,
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let at = self.began.elapsed().as_micros() as u64;
        // Without a writer the disk is full, which the writer tells at the end.
        let _ = self.records.send(Record { at, event }).await;
    }

    /// What was recorded so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }
}

impl Writer {
    /// Waits until everything is written.
    pub fn finish(self) -> io::Result<PathBuf> {
        self.thread.join().expect("writing does not panic")?;
        Ok(self.path)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        write!(
            f,
            "acknowledged {}  delivered {}  refused {}  unknown {}",
            value(&self.acked),
            value(&self.delivered),
            value(&self.refused),
            value(&self.unknown)
        )
    }
}

/// The records of a file. That its last line is cut short does not count: the process may have been killed.
pub fn read(path: &Path) -> io::Result<impl Iterator<Item = io::Result<Record>>> {
    let mut lines = BufReader::new(File::open(path)?).lines().peekable();
    Ok(std::iter::from_fn(move || {
        let line = match lines.next()? {
            Ok(line) => line,
            Err(error) => return Some(Err(error)),
        };
        match serde_json::from_str(&line) {
            Err(_) if lines.peek().is_none() => None,
            record => Some(record.map_err(io::Error::from)),
        }
    }))
}

fn write(mut file: BufWriter<File>, mut waiting: mpsc::Receiver<Record>) -> io::Result<()> {
    while let Some(record) = waiting.blocking_recv() {
        serde_json::to_writer(&mut file, &record)?;
        file.write_all(b"\n")?;
        if waiting.is_empty() {
            file.flush()?;
        }
    }
    file.flush()
}
