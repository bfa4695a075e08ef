//! What can be broken.
//!
//! A fault names its victim by a queue, since who owns that at the time is not known beforehand and a MoM without queues
//! would hardly notice.

use std::fmt;
use std::time::Duration;

use storage::chaos::Point;
use testkit::{Direction, Stop};

/// What befalls a line between two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Connections break and new ones are refused.
    Cut,
    /// Bytes vanish in this direction; connections stay.
    Blackhole(Direction),
    /// Every byte is late by so much.
    Delay(Duration),
    /// Bytes come in pieces of at most so many.
    Slice(usize),
}

/// Something to be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL to the MoM that owns the queue.
    KillMom(usize),
    /// The MoM that owns the queue ends at a point of its code when it comes there for the `count`th time.
    Failpoint {
        /// The queue.
        queue: usize,
        /// Where.
        point: Point,
        /// At which time.
        count: u32,
    },
    /// SIGSTOP to the MoM that owns the queue, for longer than its queues stay with it.
    FreezeMom(usize),
    /// A queue is given to another MoM while both work: to the one that is so many further.
    Move {
        /// The queue.
        queue: usize,
        /// How many, 1 at least.
        further: usize,
    },
    /// Somebody holds the row of a queue, as a person at a prompt may.
    HoldQueue(usize),
    /// SIGKILL to the manager that leads, or to this one while nobody does.
    KillManager(usize),
    /// SIGSTOP to the manager that leads, or to this one, for longer than it may lead.
    FreezeManager(usize),
    /// SIGKILL to all managers.
    KillManagers,
    /// SIGSTOP to all managers.
    FreezeManagers,
    /// Between clients and managers and the MoM that owns the queue.
    ClientLine(usize, Trouble),
    /// Between the MoM that owns the queue and PostgreSQL.
    MomDatabaseLine(usize, Trouble),
    /// Between the manager that leads, or this one, and PostgreSQL.
    ManagerDatabaseLine(usize, Trouble),
    /// PostgreSQL ends and starts again.
    Postgres(Stop),
    /// PostgreSQL is lost, and its standby takes its place.
    FailOver,
    /// The disk of PostgreSQL is full.
    FullDisk,
    /// SIGTERM to each MoM, and a start, one after the other.
    RollMoms,
    /// SIGTERM to each manager, and a start, one after the other.
    RollManagers,
    /// The clocks of all MoMs jump by so many seconds.
    MomClocks(i32),
    /// The clocks of all managers jump by so many seconds.
    ManagerClocks(i32),
}

impl Fault {
    /// What is counted together.
    pub fn class(&self) -> String {
        match self {
            Self::KillMom(_) => "MoM killed".to_owned(),
            Self::Failpoint { point, .. } => format!("MoM died {}", point.name().replace('_', " ")),
            Self::FreezeMom(_) => "MoM frozen and thawed".to_owned(),
            Self::Move { .. } => "queue moved under load".to_owned(),
            Self::HoldQueue(_) => "row of a queue held".to_owned(),
            Self::KillManager(_) => "manager killed".to_owned(),
            Self::FreezeManager(_) => "manager frozen and thawed".to_owned(),
            Self::KillManagers => "all managers killed".to_owned(),
            Self::FreezeManagers => "all managers frozen and thawed".to_owned(),
            Self::ClientLine(_, trouble) => format!("clients to MoM {}", trouble.class()),
            Self::MomDatabaseLine(_, trouble) => format!("MoM to database {}", trouble.class()),
            Self::ManagerDatabaseLine(_, trouble) => {
                format!("manager to database {}", trouble.class())
            }
            Self::Postgres(Stop::Fast) => "PostgreSQL restarted".to_owned(),
            Self::Postgres(Stop::Immediate) => "PostgreSQL stopped immediately".to_owned(),
            Self::Postgres(Stop::Crash) => "PostgreSQL crashed".to_owned(),
            Self::FailOver => "standby promoted".to_owned(),
            Self::FullDisk => "disk full".to_owned(),
            Self::RollMoms => "MoMs restarted in turn".to_owned(),
            Self::RollManagers => "managers restarted in turn".to_owned(),
            Self::MomClocks(_) => "clocks of the MoMs jumped".to_owned(),
            Self::ManagerClocks(_) => "clocks of the managers jumped".to_owned(),
        }
    }
}

impl Trouble {
    fn class(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Blackhole(_) => "blackholed",
            Self::Delay(_) => "delayed",
            Self::Slice(_) => "sliced",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.class())?;
        match self {
            Self::KillMom(queue) | Self::FreezeMom(queue) => write!(f, " (owner of {queue})"),
            Self::Failpoint { queue, count, .. } => {
                write!(f, " (owner of {queue}, time {count})")
            }
            Self::Move { queue, further } => write!(f, " ({queue}, {further} further)"),
            Self::HoldQueue(queue) => write!(f, " ({queue})"),
            Self::KillManager(manager) | Self::FreezeManager(manager) => write!(f, " ({manager})"),
            Self::ClientLine(queue, trouble) | Self::MomDatabaseLine(queue, trouble) => {
                write!(f, " (owner of {queue}, {trouble:?})")
            }
            Self::ManagerDatabaseLine(manager, trouble) => write!(f, " ({manager}, {trouble:?})"),
            Self::MomClocks(seconds) | Self::ManagerClocks(seconds) => {
                write!(f, " ({seconds:+} s)")
            }
            _ => Ok(()),
        }
    }
}
