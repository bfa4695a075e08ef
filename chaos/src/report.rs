//! What is said at the end of a run, and whether the run was worth anything.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::checker::{Anomaly, Verdict};
use crate::run::{Options, Outcome};

/// What a run amounts to.
#[derive(Debug, Serialize)]
pub struct Report {
    seed: u64,
    secs: u64,
    acknowledged: u64,
    refused: u64,
    unknown: u64,
    stored: u64,
    subscriptions: u64,
    delivered: u64,
    takeovers: u64,
    leaders: u64,
    fenced: u64,
    retried: u64,
    catch_ups: u64,
    duplicates: u64,
    recognised: u64,
    ended_by_themselves: u32,
    skipped: u32,
    failed: u32,
    survived: BTreeMap<String, u32>,
    anomalies: BTreeMap<String, u64>,
    vacuous: Vec<String>,
}

/// What each minute of a run must have brought at least, or it proves nothing. A third of what is usual: a machine may
/// be slow, and a seed unlucky.
struct Minimum {
    takeovers: u64,
    fenced: u64,
    unknown: u64,
    catch_ups: u64,
    duplicates: u64,
}

const EACH_MINUTE: Minimum = Minimum {
    takeovers: 5,
    fenced: 1,
    unknown: 20,
    catch_ups: 5,
    duplicates: 100,
};

impl Report {
    /// Of a run.
    pub fn new(options: &Options, outcome: &Outcome) -> Self {
        let verdict = &outcome.verdict;
        let traces = outcome.traces;
        let mut report = Self {
            seed: options.seed,
            secs: options.duration.as_secs(),
            acknowledged: verdict.acknowledged,
            refused: verdict.refused,
            unknown: verdict.unknown,
            stored: verdict.stored,
            subscriptions: verdict.subscriptions,
            delivered: verdict.delivered,
            takeovers: verdict.takeovers,
            leaders: traces.leaders,
            fenced: traces.fenced,
            retried: traces.retried,
            catch_ups: traces.lagged,
            duplicates: verdict.duplicates,
            recognised: traces.recognised,
            ended_by_themselves: outcome.tally.ended,
            skipped: outcome.tally.skipped,
            failed: outcome.tally.failed,
            survived: outcome.tally.survived.clone(),
            anomalies: counts(verdict),
            vacuous: Vec::new(),
        };
        if options.demanding {
            report.vacuous = report.too_little(options.duration);
        }
        report
    }

    /// Whether nothing was found, and there was something to find.
    pub fn has_passed(&self) -> bool {
        self.vacuous.is_empty() && self.anomalies.values().all(|count| *count == 0)
    }

    fn too_little(&self, duration: Duration) -> Vec<String> {
        let least = |each_minute: u64| each_minute * duration.as_secs() / 60;
        let minimum = EACH_MINUTE;
        [
            ("takeovers", self.takeovers, minimum.takeovers),
            ("fenced appends", self.fenced, minimum.fenced),
            ("unknown outcomes", self.unknown, minimum.unknown),
            ("catch-ups", self.catch_ups, minimum.catch_ups),
            ("repeated pushes", self.duplicates, minimum.duplicates),
        ]
        .into_iter()
        .filter(|(_, found, each_minute)| *found < least(*each_minute))
        .map(|(what, found, each_minute)| {
            format!(
                "vacuous: {found} {what}, at least {} were expected",
                least(each_minute)
            )
        })
        .collect()
    }

    /// Prints it: a table, or JSON.
    pub fn print(&self, json: bool) {
        if json {
            let text = serde_json::to_string(self).expect("numbers and strings can be written");
            println!("{text}");
            return;
        }
        let line = |name: &str, count: &dyn std::fmt::Display| println!("  {name:<44}{count:>9}");
        println!("what the clients saw");
        line("messages acknowledged", &self.acknowledged);
        line("messages in the tables", &self.stored);
        line("messages delivered", &self.delivered);
        line("subscriptions", &self.subscriptions);
        line("pushes refused", &self.refused);
        line("pushes with an unknown outcome", &self.unknown);
        line("pushes answered as repeated", &self.duplicates);
        println!("what the system went through");
        line("takeovers", &self.takeovers);
        line("managers that began to lead", &self.leaders);
        line("appends fenced", &self.fenced);
        line("commits repeated until definite", &self.retried);
        line("subscriptions that fell behind", &self.catch_ups);
        line("repeated pushes recognised", &self.recognised);
        line(
            "processes that ended by themselves",
            &self.ended_by_themselves,
        );
        println!(
            "faults survived ({} skipped since their victim was down, {} failed)",
            self.skipped, self.failed
        );
        for (fault, count) in &self.survived {
            line(fault, count);
        }
        println!("anomalies");
        for anomaly in Anomaly::ALL.map(|anomaly| anomaly.to_string()) {
            line(&anomaly, &self.anomalies[&anomaly]);
        }
        for vacuous in &self.vacuous {
            println!("{vacuous}");
        }
    }
}

/// The anomalies in words.
pub fn explain(verdict: &Verdict) {
    for (anomaly, findings) in &verdict.anomalies {
        println!("{anomaly}: {}", findings.count);
        for example in &findings.examples {
            println!("  {example}");
        }
    }
}

fn counts(verdict: &Verdict) -> BTreeMap<String, u64> {
    let count = |anomaly| {
        verdict
            .anomalies
            .get(anomaly)
            .map_or(0, |found| found.count)
    };
    let all = Anomaly::ALL.iter();
    all.map(|anomaly| (anomaly.to_string(), count(anomaly)))
        .collect()
}
