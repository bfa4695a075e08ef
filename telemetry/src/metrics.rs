//! The text format of Prometheus, version 0.0.4, and histograms that cost two additions.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What an answer in this format says that it is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, and starts at 0 with the process.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// Metrics as text. Each name is written once, with all its series.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A metric without labels.
    pub fn single(&mut self, name: &str, kind: Kind, help: &str, value: f64) {
        self.family(name, kind, help, [(&[], value)]);
    }

    /// A metric with one series for each set of labels. Without any nothing is written.
    pub fn family<'a, L>(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        series: impl IntoIterator<Item = (L, f64)>,
    ) where
        L: AsRef<[(&'a str, &'a str)]>,
    {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return;
        }
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.head(name, kind, help);
        for (labels, value) in series {
            self.line(name, labels.as_ref(), value);
        }
    }

    /// A histogram without labels.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let mut below = 0;
        for (bound, bucket) in histogram.bounds.iter().zip(&histogram.buckets) {
            below += bucket.load(Ordering::Relaxed);
            let bound = bound.to_string();
            self.line(&format!("{name}_bucket"), &[("le", &bound)], below as f64);
        }
        below += histogram.beyond.load(Ordering::Relaxed);
        self.line(&format!("{name}_bucket"), &[("le", "+Inf")], below as f64);
        self.line(&format!("{name}_sum"), &[], histogram.sum());
        self.line(&format!("{name}_count"), &[], below as f64);
    }

    /// All of it.
    pub fn into_string(self) -> String {
        self.0
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"");
            for letter in value.chars() {
                match letter {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }
}

/// How often something lay below each of some bounds. Noting it takes no lock.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// What lay at or below each bound and above the one before.
    buckets: Vec<AtomicU64>,
    beyond: AtomicU64,
    /// In millionths.
    sum: AtomicU64,
}

impl Histogram {
    /// With these bounds, in ascending order.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            buckets: bounds.iter().map(|_| AtomicU64::new(0)).collect(),
            beyond: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    /// From a tenth of a millisecond, which nothing that is synced to a disk beats, to ten seconds, where clients have
    /// given up.
    pub fn of_seconds() -> Self {
        Self::new(&[
            0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
            2.5, 5.0, 10.0,
        ])
    }

    /// Notes a number that is not negative.
    pub fn note(&self, value: f64) {
        self.add(value, (value * 1e6) as u64);
    }

    /// Notes a time, in seconds.
    pub fn note_time(&self, time: Duration) {
        self.add(time.as_secs_f64(), time.as_micros() as u64);
    }

    fn add(&self, value: f64, millionths: u64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        let bucket = self.buckets.get(index).unwrap_or(&self.beyond);
        bucket.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(millionths, Ordering::Relaxed);
    }

    fn sum(&self) -> f64 {
        self.sum.load(Ordering::Relaxed) as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_at_a_bound_lies_below_it_and_buckets_add_up() {
        let histogram = Histogram::new(&[1.0, 10.0]);
        for value in [0.5, 1.0, 1.5, 11.0] {
            histogram.note(value);
        }
        let mut text = Text::new();
        text.histogram("h", "Some.", &histogram);
        assert_eq!(
            text.into_string(),
            "# HELP h Some.\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"10\"} 3\n\
             h_bucket{le=\"+Inf\"} 4\nh_sum 14\nh_count 4\n"
        );
    }

    #[test]
    fn what_would_break_a_line_is_escaped_and_a_family_without_series_is_left_out() {
        let mut text = Text::new();
        text.family("g", Kind::Gauge, "a\nb", [([("x", "q\"\\\n")], 1.5)]);
        text.family(
            "none",
            Kind::Gauge,
            "",
            Vec::<([(&str, &str); 1], f64)>::new(),
        );
        assert_eq!(
            text.into_string(),
            "# HELP g a\\nb\n# TYPE g gauge\ng{x=\"q\\\"\\\\\\n\"} 1.5\n"
        );
    }
}
