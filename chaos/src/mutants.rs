//! Systems with a known defect, each under the faults that should bring it to light.
//!
//! A checker that never finds anything has never been seen to work. So each defect that the programs can be built with
//! is switched on in turn, and the [`checker`](crate::checker) has to find something.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use storage::chaos::{Mutant, Point};
use testkit::Stop;

use crate::checker::{Anomaly, Verdict};
use crate::run::{Options, run};
use crate::schedule::{Kind, Plan};
use crate::workload::Shape;

/// How long one round causes faults. Rounds go on until something is found or the time is over.
const ROUND: Duration = Duration::from_secs(20);

/// What became of a mutant.
#[derive(Debug)]
pub struct Fate {
    /// The defect.
    pub mutant: Mutant,
    /// What gave it away, if anything did.
    pub caught_by: Vec<Anomaly>,
    /// An example in words.
    pub example: String,
    /// How long it took.
    pub after: Duration,
    /// What the same faults and load brought to light without the defect: nothing, if it was the defect that was found.
    pub otherwise: Vec<Anomaly>,
}

/// Tries one defect until it is found or `limit` has passed; if it is found, then once more without it.
pub async fn hunt(mutant: Mutant, seed: u64, limit: Duration) -> Result<Fate> {
    let began = Instant::now();
    let mut round = 0;
    loop {
        let mut options = options(mutant, seed + round);
        let verdict = run(&options).await?.verdict;
        let after = began.elapsed();
        if verdict.is_clean() && after < limit {
            round += 1;
            continue;
        }
        let mut fate = Fate {
            mutant,
            example: example(&verdict),
            caught_by: verdict.anomalies.into_keys().collect(),
            after,
            otherwise: Vec::new(),
        };
        if !fate.caught_by.is_empty() {
            options.mutant = None;
            let control = run(&options).await?.verdict;
            fate.otherwise = control.anomalies.into_keys().collect();
        }
        return Ok(fate);
    }
}

impl Fate {
    /// Whether the defect was found, and nothing without it.
    pub fn is_found(&self) -> bool {
        !self.caught_by.is_empty() && self.otherwise.is_empty()
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, after) = (self.mutant.name(), self.after.as_secs());
        write!(f, "{name:<28}{after:>5} s  ")?;
        if self.caught_by.is_empty() {
            return f.write_str("NOT FOUND");
        }
        f.write_str(&names(&self.caught_by))?;
        if self.otherwise.is_empty() {
            f.write_str("; nothing without it")?;
        } else {
            write!(f, "; BUT WITHOUT IT {}", names(&self.otherwise))?;
        }
        write!(f, "\n{:<37}{}", "", self.example)
    }
}

fn names(anomalies: &[Anomaly]) -> String {
    let names: Vec<String> = anomalies.iter().map(ToString::to_string).collect();
    names.join(", ")
}

fn example(verdict: &Verdict) -> String {
    let mut findings = verdict.anomalies.values();
    let first = findings.find_map(|findings| findings.examples.first());
    first.cloned().unwrap_or_default()
}

/// A run with an emphasis on what the defect is about.
pub fn options(mutant: Mutant, seed: u64) -> Options {
    let queues = 2;
    let mut shape = Shape {
        keyed: 0,
        late: false,
        ..Shape::full(queues)
    };
    let deck = match mutant {
        // The old owner has to commit before the new one does. So all pushes wait at the frozen one, which has them in
        // its sockets when it wakes up, and nobody looks for another owner meanwhile.
        Mutant::NoEpochCheck => {
            shape.library = 0;
            shape.bare = 6;
            shape.patience = Duration::from_secs(20);
            vec![Kind::FreezeMom]
        }
        Mutant::AcknowledgeBeforeCommit => vec![
            Kind::KillMom,
            Kind::Failpoint(Point::BeforeStatement),
            Kind::Postgres(Stop::Crash),
            Kind::Postgres(Stop::Immediate),
        ],
        // Bursts and slow subscribers are all it takes; a move would begin a stream anew before it lags.
        Mutant::LagIsEnd => vec![Kind::KillManager],
        Mutant::RetryWithoutId => {
            shape.library = 2;
            shape.keyed = 1;
            vec![Kind::ClientCut]
        }
        Mutant::TakeoverWithoutBump => vec![Kind::FreezeMom, Kind::KillMom],
    };
    Options {
        duration: ROUND,
        seed,
        plan: Plan {
            moms: 3,
            managers: 1,
            queues,
            deck,
            overlaps: false,
            standby: false,
            disk: false,
        },
        shape,
        demanding: false,
        mutant: Some(mutant),
        talks: false,
    }
}
