//! The database as the manager uses it: with a deadline for each piece of work, and with one voice in the log when it
//! is away.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use storage::Store;
use tokio::time::timeout;
use tracing::{info, warn};

/// How long a piece of work may take once it has a connection.
const DEADLINE: Duration = Duration::from_secs(5);
/// The same for work on many rows, which the server itself bounds at a minute.
const LONG_DEADLINE: Duration = Duration::from_mins(1);
/// How long a client waits: less than the client libraries do by default, so that it is told what is the matter.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);
/// How long a client waits while the database is known to be away: long enough to find it back, not to pile up.
const OUTAGE_DEADLINE: Duration = Duration::from_secs(1);
/// The time between two lines in the log during one outage.
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// Why a piece of work failed.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// No answer came. Whether the work took effect is not known.
    #[error("the database did not answer within {0:?}")]
    Silent(Duration),
    /// An answer came.
    #[error(transparent)]
    Answered(#[from] storage::Error),
}

impl DatabaseError {
    /// Whether trying again later may help.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Silent(_) => true,
            Self::Answered(error) => match error {
                storage::Error::Unavailable(_)
                | storage::Error::Locked(_)
                | storage::Error::NotDurable(_) => true,
                storage::Error::AlreadyExists
                | storage::Error::NotFound
                | storage::Error::Refused(_) => false,
            },
        }
    }

    /// Whether the thing to work on does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Answered(storage::Error::NotFound))
    }
}

/// The database and whether it was there when it was last asked.
pub struct Database {
    store: Store,
    deadline: Duration,
    long_deadline: Duration,
    outage: Mutex<Option<Outage>>,
    answers_since: Mutex<Instant>,
    /// When the last answer came.
    answered_at: Mutex<Instant>,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    logged: Instant,
}

impl std::fmt::Debug for Database {
    /// Without the store, which knows the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("outage", &self.outage())
            .finish_non_exhaustive()
    }
}

impl Database {
    /// Makes the pool; no connection is made yet.
    pub fn open(connect: &storage::Connect) -> Self {
        Self {
            store: Store::open(connect),
            deadline: connect.acquire_timeout + DEADLINE,
            long_deadline: connect.acquire_timeout + LONG_DEADLINE,
            outage: Mutex::new(None),
            answers_since: Mutex::new(Instant::now()),
            answered_at: Mutex::new(Instant::now()),
        }
    }

    /// What work is done with.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Work on a few rows that a client waits for. During an outage it is given up early.
    pub async fn answer<T>(
        &self,
        work: impl Future<Output = storage::Result<T>>,
    ) -> Result<T, DatabaseError> {
        let is_away = self.outage().is_some();
        let deadline = if is_away {
            OUTAGE_DEADLINE
        } else {
            ANSWER_DEADLINE
        };
        self.within(deadline.min(self.deadline), work).await
    }

    /// Work of the control loop, and what a client has to wait for.
    pub async fn run<T>(
        &self,
        work: impl Future<Output = storage::Result<T>>,
    ) -> Result<T, DatabaseError> {
        self.within(self.deadline, work).await
    }

    /// Work on many rows.
    pub async fn run_long<T>(
        &self,
        work: impl Future<Output = storage::Result<T>>,
    ) -> Result<T, DatabaseError> {
        self.within(self.long_deadline, work).await
    }

    /// For how long each piece of work has had its answer, or there was none.
    pub fn answers_for(&self) -> Duration {
        self.answers_since().elapsed()
    }

    /// Whether it answered when it was last asked.
    pub fn is_up(&self) -> bool {
        self.outage().is_none()
    }

    /// Closes the pool when connections in use are returned.
    pub async fn close(&self) {
        self.store.close().await;
    }

    /// Work with a deadline of its own.
    pub async fn within<T>(
        &self,
        deadline: Duration,
        work: impl Future<Output = storage::Result<T>>,
    ) -> Result<T, DatabaseError> {
        let began = Instant::now();
        let result = match timeout(deadline, work).await {
            Ok(result) => result.map_err(DatabaseError::Answered),
            Err(_) => Err(DatabaseError::Silent(deadline)),
        };
        match &result {
            // A lock that is held tells nothing about the database.
            Err(DatabaseError::Answered(storage::Error::Locked(_))) => {}
            Err(error) if error.is_outage() => self.is_away(error, began),
            _ => self.is_back(),
        }
        result
    }

    /// The first failure is logged, and then one every ten seconds, however many fail.
    ///
    /// What began before the last answer came, and failed since, tells nothing: it waited for what is over.
    fn is_away(&self, error: &DatabaseError, began: Instant) {
        if began < *self.answered_at() {
            return;
        }
        let now = Instant::now();
        let mut outage = self.outage();
        match &mut *outage {
            None => {
                *outage = Some(Outage {
                    since: now,
                    logged: now,
                });
                warn!("{error}; trying again until it is back");
            }
            Some(outage) if now - outage.logged >= LOG_PERIOD => {
                outage.logged = now;
                let seconds = (now - outage.since).as_secs();
                warn!("{error}; this has lasted for {seconds} s");
            }
            Some(_) => {}
        }
    }

    fn is_back(&self) {
        *self.answered_at() = Instant::now();
        if let Some(outage) = self.outage().take() {
            let seconds = outage.since.elapsed().as_secs();
            info!("the database is available again after {seconds} s");
            *self.answers_since() = Instant::now();
        }
    }

    fn answers_since(&self) -> std::sync::MutexGuard<'_, Instant> {
        let since = self.answers_since.lock();
        since.unwrap_or_else(PoisonError::into_inner)
    }

    fn answered_at(&self) -> std::sync::MutexGuard<'_, Instant> {
        let at = self.answered_at.lock();
        at.unwrap_or_else(PoisonError::into_inner)
    }

    fn outage(&self) -> std::sync::MutexGuard<'_, Option<Outage>> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
