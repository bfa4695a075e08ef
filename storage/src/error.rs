//! What can go wrong between us and PostgreSQL, told apart by what a caller does about it.

/// The result of a unit of work.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a unit of work failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached or cannot work now: try again later. Whether a statement that was under way
    /// took effect is not known.
    #[error("the database is not available: {0}")]
    Unavailable(#[source] sqlx::Error),

    /// Somebody holds a lock for longer than the unit of work may wait. Nothing was changed.
    #[error("a lock in the database is held for too long: {0}")]
    Locked(#[source] sqlx::Error),

    /// The thing to create exists already.
    #[error("it exists already")]
    AlreadyExists,

    /// The thing to work on does not exist.
    #[error("it does not exist")]
    NotFound,

    /// The database may lose what it has acknowledged; the text names the settings.
    #[error("the database is not durable: {0}")]
    NotDurable(String),

    /// The database refuses for a reason that trying again does not mend. Nothing was changed.
    #[error("the database refused: {0}")]
    Refused(#[source] sqlx::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let Some(database) = error.as_database_error() else {
            return match error {
                sqlx::Error::RowNotFound => Self::NotFound,
                sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::Encode(_) => Self::Refused(error),
                _ => Self::Unavailable(error),
            };
        };
        match database.code().as_deref() {
            // lock_not_available: lock_timeout struck.
            Some("55P03") => Self::Locked(error),
            // Class 08 connection, 53 resources, 57 operator intervention, 58 system, 40 serialization and deadlock;
            // 25006 read-only: a standby; 3D000 and 42P01: the database or its schema is still to be made; 28: the
            // server may be switching its authentication over while it is set up.
            Some(code)
                if ["08", "53", "57", "58", "40"].contains(&&code[..2.min(code.len())])
                    || ["25006", "3D000", "42P01"].contains(&code) =>
            {
                Self::Unavailable(error)
            }
            _ => Self::Refused(error),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for Error {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        match error {
            sqlx::migrate::MigrateError::Execute(error) => error.into(),
            other => Self::Refused(sqlx::Error::Migrate(Box::new(other))),
        }
    }
}
