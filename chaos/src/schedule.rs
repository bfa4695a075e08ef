//! What is to be broken, and when: a pure function of a seed and a duration.
//!
//! Faults are dealt from a shuffled deck, so that a run that is long enough meets every kind, in an order of its seed. A
//! fault names its victim by a queue, since who owns that at the time is not known beforehand and a MoM without queues
//! would hardly notice.

use std::fmt;
use std::time::Duration;

use storage::chaos::Point;
use testkit::{Direction, Stop};

/// A small generator of pseudo-random numbers (SplitMix64), the same on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

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

/// A fault with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// When it begins, from the beginning of the load.
    pub at: Duration,
    /// After which time it is mended.
    pub lasts: Duration,
    /// What it is.
    pub fault: Fault,
}

/// A kind of fault, as dealt from the deck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// See [`Fault::KillMom`].
    KillMom,
    /// See [`Fault::Failpoint`].
    Failpoint(Point),
    /// See [`Fault::FreezeMom`].
    FreezeMom,
    /// See [`Fault::Move`].
    Move,
    /// See [`Fault::KillManager`].
    KillManager,
    /// See [`Fault::FreezeManager`].
    FreezeManager,
    /// See [`Fault::KillManagers`] and [`Fault::FreezeManagers`].
    AllManagers,
    /// See [`Fault::ClientLine`].
    ClientLine,
    /// Like the former, but it only ever breaks connections.
    ClientCut,
    /// See [`Fault::MomDatabaseLine`].
    MomDatabaseLine,
    /// See [`Fault::ManagerDatabaseLine`].
    ManagerDatabaseLine,
    /// See [`Fault::Postgres`].
    Postgres(Stop),
    /// See [`Fault::RollMoms`].
    RollMoms,
    /// See [`Fault::RollManagers`].
    RollManagers,
    /// See [`Fault::MomClocks`] and [`Fault::ManagerClocks`].
    Clock,
}

/// What there is to be broken, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many MoMs.
    pub moms: usize,
    /// How many managers.
    pub managers: usize,
    /// How many queues.
    pub queues: usize,
    /// The deck.
    pub deck: Vec<Kind>,
    /// Whether some faults begin before the former is mended.
    pub overlaps: bool,
    /// Whether there is a standby to fail over to, once.
    pub standby: bool,
    /// Whether there is a disk to be filled, once.
    pub disk: bool,
}

/// Everything that a run without an emphasis meets.
pub const EVERYTHING: &[Kind] = &[
    Kind::KillMom,
    Kind::KillMom,
    Kind::Failpoint(Point::BeforeStatement),
    Kind::Failpoint(Point::AfterCommit),
    Kind::Failpoint(Point::BeforeAcknowledgement),
    Kind::FreezeMom,
    Kind::FreezeMom,
    Kind::Move,
    Kind::Move,
    Kind::Move,
    Kind::KillManager,
    Kind::FreezeManager,
    Kind::AllManagers,
    Kind::ClientLine,
    Kind::ClientLine,
    Kind::ClientLine,
    Kind::ClientCut,
    Kind::MomDatabaseLine,
    Kind::MomDatabaseLine,
    Kind::ManagerDatabaseLine,
    Kind::Postgres(Stop::Fast),
    Kind::Postgres(Stop::Immediate),
    Kind::Postgres(Stop::Crash),
    Kind::RollMoms,
    Kind::RollManagers,
];

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 19] = [
        Self::KillMom,
        Self::Failpoint(Point::BeforeStatement),
        Self::Failpoint(Point::AfterCommit),
        Self::Failpoint(Point::BeforeAcknowledgement),
        Self::FreezeMom,
        Self::Move,
        Self::KillManager,
        Self::FreezeManager,
        Self::AllManagers,
        Self::ClientLine,
        Self::ClientCut,
        Self::MomDatabaseLine,
        Self::ManagerDatabaseLine,
        Self::Postgres(Stop::Fast),
        Self::Postgres(Stop::Immediate),
        Self::Postgres(Stop::Crash),
        Self::RollMoms,
        Self::RollManagers,
        Self::Clock,
    ];

    /// What it is called on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KillMom => "kill-mom",
            Self::Failpoint(Point::BeforeStatement) => "die-before-statement",
            Self::Failpoint(Point::AfterCommit) => "die-after-commit",
            Self::Failpoint(Point::BeforeAcknowledgement) => "die-before-acknowledgement",
            Self::FreezeMom => "freeze-mom",
            Self::Move => "move",
            Self::KillManager => "kill-manager",
            Self::FreezeManager => "freeze-manager",
            Self::AllManagers => "all-managers",
            Self::ClientLine => "client-line",
            Self::ClientCut => "client-cut",
            Self::MomDatabaseLine => "mom-database-line",
            Self::ManagerDatabaseLine => "manager-database-line",
            Self::Postgres(Stop::Fast) => "postgres-fast",
            Self::Postgres(Stop::Immediate) => "postgres-immediate",
            Self::Postgres(Stop::Crash) => "postgres-crash",
            Self::RollMoms => "roll-moms",
            Self::RollManagers => "roll-managers",
            Self::Clock => "clock",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Plan {
    /// Nothing but these kinds of faults.
    pub fn only(&mut self, kinds: &[Kind]) {
        self.deck.retain(|kind| kinds.contains(kind));
        self.standby = false;
        self.disk = false;
    }
}

/// The first fault comes when the load has begun.
const FIRST: Duration = Duration::from_millis(1500);

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of 0 to `limit` - 1.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit.max(1) as u64) as usize
    }

    /// True so many times of a hundred.
    pub fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }

    /// A duration between two numbers of milliseconds.
    pub fn millis(&mut self, from: usize, to: usize) -> Duration {
        Duration::from_millis((from + self.below(to - from + 1)) as u64)
    }

    /// One of several.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// The steps of a run in the order of their time. The last one is mended before `duration` has passed.
pub fn schedule(seed: u64, duration: Duration, plan: &Plan) -> Vec<Step> {
    let mut random = Random::new(seed);
    let mut steps = Vec::new();
    let mut once = Vec::new();
    // In this order: the disk of a server that is lost cannot be filled.
    if plan.disk {
        once.push((duration.mul_f32(0.25), Fault::FullDisk));
    }
    if plan.standby {
        once.push((duration.mul_f32(0.6), Fault::FailOver));
    }
    once.reverse();
    let mut deck = Vec::new();
    let mut at = FIRST;
    loop {
        let (lasts, fault) = if once.last().is_some_and(|(from, _)| *from <= at) {
            let (_, fault) = once.pop().expect("it was seen a moment ago");
            (random.millis(2000, 4000), fault)
        } else {
            if deck.is_empty() {
                deck.clone_from(&plan.deck);
                random.shuffle(&mut deck);
                // On top in any case: it is what a run must have met that is too short for much else.
                if let Some(place) = deck.iter().position(|kind| *kind == Kind::Move) {
                    let last = deck.len() - 1;
                    deck.swap(place, last);
                }
            }
            let Some(kind) = deck.pop() else {
                return steps;
            };
            deal(&mut random, kind, plan)
        };
        if at + lasts > duration {
            return steps;
        }
        steps.push(Step { at, lasts, fault });
        at += if plan.overlaps && random.percent(30) {
            random.millis(300, 1200)
        } else {
            lasts + random.millis(300, 1500)
        };
    }
}

fn deal(random: &mut Random, kind: Kind, plan: &Plan) -> (Duration, Fault) {
    let queue = random.below(plan.queues);
    let manager = random.below(plan.managers);
    let lasts = random.millis(500, 4000);
    // A frozen one is noticed by the deadline of its probe, and its queues or its lease go to another one.
    let frozen = random.millis(4000, 8000);
    match kind {
        Kind::KillMom => (lasts, Fault::KillMom(queue)),
        Kind::Failpoint(point) => {
            let count = 1 + random.below(120) as u32;
            (
                Duration::from_secs(5),
                Fault::Failpoint {
                    queue,
                    point,
                    count,
                },
            )
        }
        Kind::FreezeMom => (frozen, Fault::FreezeMom(queue)),
        Kind::Move => {
            let further = 1 + random.below(plan.moms - 1);
            (random.millis(100, 500), Fault::Move { queue, further })
        }
        Kind::KillManager => (lasts, Fault::KillManager(manager)),
        Kind::FreezeManager => (frozen, Fault::FreezeManager(manager)),
        Kind::AllManagers if random.percent(50) => (lasts, Fault::KillManagers),
        Kind::AllManagers => (frozen, Fault::FreezeManagers),
        Kind::ClientLine => (lasts, Fault::ClientLine(queue, trouble(random))),
        Kind::ClientCut => (
            random.millis(50, 400),
            Fault::ClientLine(queue, Trouble::Cut),
        ),
        Kind::MomDatabaseLine => (lasts, Fault::MomDatabaseLine(queue, trouble(random))),
        Kind::ManagerDatabaseLine => (lasts, Fault::ManagerDatabaseLine(manager, trouble(random))),
        Kind::Postgres(how) => (random.millis(100, 2500), Fault::Postgres(how)),
        Kind::RollMoms => (random.millis(4000, 6000), Fault::RollMoms),
        Kind::RollManagers => (random.millis(3000, 5000), Fault::RollManagers),
        Kind::Clock => {
            let seconds = random.one_of(&[-3600, -30, 5, 30, 3600, 86_400]);
            if random.percent(50) {
                (lasts, Fault::MomClocks(seconds))
            } else {
                (lasts, Fault::ManagerClocks(seconds))
            }
        }
    }
}

fn trouble(random: &mut Random) -> Trouble {
    match random.below(6) {
        0 => Trouble::Cut,
        1 => Trouble::Blackhole(Direction::ToTarget),
        2 => Trouble::Blackhole(Direction::FromTarget),
        3 => Trouble::Blackhole(Direction::Both),
        4 => Trouble::Delay(random.millis(20, 400)),
        _ => Trouble::Slice(1 + random.below(64)),
    }
}

impl Fault {
    /// What is counted together.
    pub fn class(&self) -> String {
        match self {
            Self::KillMom(_) => "MoM killed".to_owned(),
            Self::Failpoint { point, .. } => format!("MoM died {}", point.name().replace('_', " ")),
            Self::FreezeMom(_) => "MoM frozen and thawed".to_owned(),
            Self::Move { .. } => "queue moved under load".to_owned(),
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

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, lasts) = (self.at.as_secs_f32(), self.lasts.as_secs_f32());
        write!(f, "{at:7.2} s for {lasts:4.1} s: {}", self.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            moms: 3,
            managers: 2,
            queues: 4,
            deck: EVERYTHING.to_vec(),
            overlaps: true,
            standby: true,
            disk: true,
        }
    }

    #[test]
    fn a_seed_gives_the_same_schedule_again_and_another_one_another() {
        let duration = Duration::from_mins(2);
        let steps = schedule(7, duration, &plan());
        assert_eq!(steps, schedule(7, duration, &plan()));
        assert_ne!(steps, schedule(8, duration, &plan()));
        assert!(steps.iter().all(|step| step.at + step.lasts <= duration));
    }

    #[test]
    fn a_long_run_meets_everything_and_the_disk_is_full_before_its_server_is_lost() {
        let steps = schedule(1, Duration::from_mins(10), &plan());
        let place = |fault| {
            let mut places = steps.iter().enumerate();
            let found: Vec<_> = places
                .by_ref()
                .filter(|(_, step)| step.fault == fault)
                .map(|(place, _)| place)
                .collect();
            assert_eq!(found.len(), 1, "{fault}");
            found[0]
        };
        assert!(place(Fault::FullDisk) < place(Fault::FailOver));
        for class in [
            "MoM killed",
            "MoM died after commit",
            "PostgreSQL crashed",
            "MoMs restarted in turn",
        ] {
            assert!(
                steps.iter().any(|step| step.fault.class() == class),
                "{class}"
            );
        }
    }
}
