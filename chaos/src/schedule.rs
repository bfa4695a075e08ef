//! What is to be broken, and when: a pure function of a seed and a duration.
//!
//! Faults are dealt from a shuffled deck, so that a run that is long enough meets every kind, in an order of its seed.

use std::fmt;
use std::time::Duration;

use storage::chaos::Point;
use testkit::{Direction, Stop};

use crate::fault::{Fault, Trouble};
use crate::random::Random;

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
    /// See [`Fault::HoldQueue`].
    HoldQueue,
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
    Kind::HoldQueue,
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
    pub const ALL: [Self; 20] = [
        Self::KillMom,
        Self::Failpoint(Point::BeforeStatement),
        Self::Failpoint(Point::AfterCommit),
        Self::Failpoint(Point::BeforeAcknowledgement),
        Self::FreezeMom,
        Self::Move,
        Self::HoldQueue,
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
            Self::HoldQueue => "hold-queue",
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
        Kind::HoldQueue => (lasts, Fault::HoldQueue(queue)),
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
