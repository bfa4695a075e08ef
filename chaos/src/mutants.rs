//! Systems with a known defect, each under the faults that should bring it to light.
//!
//! A checker that never finds anything has never been seen to work. So each defect that the programs can be built with
//! is switched on in turn, and the [`checker`](crate::checker) has to find something.

use std::time::{Duration, Instant};

use anyhow::Result;
use storage::chaos::{Mutant, Point};
use testkit::Stop;

use crate::checker::Anomaly;
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
}

/// Tries one defect until it is found or `limit` has passed.
pub async fn hunt(mutant: Mutant, seed: u64, limit: Duration) -> Result<Fate> {
    let began = Instant::now();
    let mut round = 0;
    loop {
        let outcome = run(&options(mutant, seed + round)).await?;
        let (after, anomalies) = (began.elapsed(), &outcome.verdict.anomalies);
        if !anomalies.is_empty() || after > limit {
            let example = anomalies
                .values()
                .find_map(|findings| findings.examples.first());
            return Ok(Fate {
                mutant,
                caught_by: anomalies.keys().copied().collect(),
                example: example.cloned().unwrap_or_default(),
                after,
            });
        }
        round += 1;
    }
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
        // Bursts and slow subscribers are all it takes.
        Mutant::LagIsEnd => vec![Kind::Move],
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
