//! Faults at named points and known defects, for the instrument that tries to break the system.
//!
//! Without the feature `chaos` nothing of it is compiled in: [`reach`] does nothing and [`is`] is always false. With it,
//! the environment chooses: `RMOM_FAILPOINT=after_commit@40` ends the process when it comes to that point for the 40th
//! time, as `kill -9` would, and `RMOM_MUTANT=acknowledge_before_commit` switches a defect on.

/// A place on the way of a message where a process may be made to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The committer has taken a batch and not sent anything yet.
    BeforeStatement,
    /// PostgreSQL has committed and nobody has been told.
    AfterCommit,
    /// The batch was given to the subscriptions and its pushes are not acknowledged yet.
    BeforeAcknowledgement,
}

impl Point {
    /// All points.
    pub const ALL: [Self; 3] = [
        Self::BeforeStatement,
        Self::AfterCommit,
        Self::BeforeAcknowledgement,
    ];

    /// How the environment calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeforeStatement => "before_statement",
            Self::AfterCommit => "after_commit",
            Self::BeforeAcknowledgement => "before_acknowledgement",
        }
    }
}

/// A defect that a checker worth its name finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// An append does not prove that the MoM owns the queue at its epoch.
    NoEpochCheck,
    /// Pushes are acknowledged before their batch is committed.
    AcknowledgeBeforeCommit,
    /// A subscription that the feed went on without goes on at the feed's end.
    LagIsEnd,
    /// A repeated push is taken for a new one.
    RetryWithoutId,
    /// A takeover changes the owner of a queue and not its epoch.
    TakeoverWithoutBump,
}

impl Mutant {
    /// All mutants.
    pub const ALL: [Self; 5] = [
        Self::NoEpochCheck,
        Self::AcknowledgeBeforeCommit,
        Self::LagIsEnd,
        Self::RetryWithoutId,
        Self::TakeoverWithoutBump,
    ];

    /// How the environment calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoEpochCheck => "no_epoch_check",
            Self::AcknowledgeBeforeCommit => "acknowledge_before_commit",
            Self::LagIsEnd => "lag_is_end",
            Self::RetryWithoutId => "retry_without_id",
            Self::TakeoverWithoutBump => "takeover_without_bump",
        }
    }
}

#[cfg(not(feature = "chaos"))]
mod switch {
    use super::{Mutant, Point};

    /// The process has come to this point.
    #[inline]
    pub const fn reach(_: Point) {}

    /// Whether this defect is switched on.
    #[inline]
    pub const fn is(_: Mutant) -> bool {
        false
    }
}

#[cfg(feature = "chaos")]
mod switch {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{Mutant, Point};

    static FAILPOINT: LazyLock<Option<(String, AtomicU64)>> = LazyLock::new(|| {
        let wish = std::env::var("RMOM_FAILPOINT").ok()?;
        let (name, count) = wish.split_once('@').unwrap_or((&wish, "1"));
        let count = count.parse().expect("RMOM_FAILPOINT is NAME@COUNT");
        Some((name.to_owned(), AtomicU64::new(count)))
    });

    static MUTANT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("RMOM_MUTANT").ok());

    /// The process has come to this point.
    pub fn reach(point: Point) {
        if let Some((name, left)) = &*FAILPOINT
            && name == point.name()
            && left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            // Nothing is dropped, flushed or said goodbye to.
            std::process::abort();
        }
    }

    /// Whether this defect is switched on.
    pub fn is(mutant: Mutant) -> bool {
        MUTANT.as_deref() == Some(mutant.name())
    }
}

pub use switch::{is, reach};
