//! Medians, ratios, and tables of them as text and as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::compare::workload::{Measured, Unit};
use crate::peers::{About, Missing};
use crate::svg::short;

/// Everything that was found out.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) machine: String,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    pub(crate) contenders: Vec<Entrant>,
    pub(crate) missing: Vec<Missing>,
    pub(crate) rows: Vec<Row>,
    pub(crate) remarks: Vec<String>,
    /// Of workloads that a contender did not get through.
    pub(crate) failures: Vec<String>,
}

/// A contender, and what it costs when it has nothing to do.
#[derive(Debug, Serialize)]
pub(crate) struct Entrant {
    #[serde(flatten)]
    pub(crate) about: About,
    /// Of one core.
    pub(crate) idle_cpu_percent: f64,
}

/// One quantity of one workload.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) workload: String,
    pub(crate) quantile: &'static str,
    pub(crate) unit: Unit,
    /// In the order of the contenders; `None` where one has no such thing.
    pub(crate) figures: Vec<Option<Figure>>,
}

/// What several rounds gave.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// In the order of the rounds.
    pub(crate) rounds: Vec<f64>,
    /// Medians of the CPU seconds for a million messages, by process.
    pub(crate) cpu_seconds_per_million: BTreeMap<String, f64>,
}

impl Figure {
    /// Of the value number `index` in each round. `None` without rounds.
    pub(crate) fn of(measured: &[Measured], index: usize) -> Option<Self> {
        let rounds: Vec<f64> = measured
            .iter()
            .filter_map(|measured| measured.values.get(index).copied())
            .collect();
        let mut cpu: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (name, seconds) in measured.iter().flat_map(|measured| &measured.cpu) {
            cpu.entry(name.clone()).or_default().push(*seconds);
        }
        Some(Self {
            median: median(&rounds)?,
            min: rounds.iter().copied().fold(f64::INFINITY, f64::min),
            max: rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            cpu_seconds_per_million: cpu
                .into_iter()
                .filter_map(|(name, seconds)| Some((name, median(&seconds)?)))
                .collect(),
            rounds,
        })
    }

    fn text(&self, unit: Unit) -> String {
        let [median, min, max] = [self.median, self.min, self.max].map(|value| show(value, unit));
        if self.rounds.len() == 1 {
            return median;
        }
        format!("{median} ({min}–{max})")
    }
}

/// The middle one, or the mean of the two in the middle. `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        return Some(sorted[middle]);
    }
    Some(f64::midpoint(
        *sorted.get(middle.checked_sub(1)?)?,
        sorted[middle],
    ))
}

/// How many times as good `own` is as `other`: above 1 it is better, whichever way the unit goes.
pub(crate) fn ratio(own: f64, other: f64, unit: Unit) -> f64 {
    match unit {
        Unit::PerSecond => own / other,
        Unit::Microseconds => other / own,
    }
}

/// A figure with its unit.
pub(crate) fn show(value: f64, unit: Unit) -> String {
    match unit {
        Unit::PerSecond => short(value),
        Unit::Microseconds if value < 999.5 => format!("{} µs", short(value)),
        Unit::Microseconds if value < 999.5e3 => format!("{} ms", short(value / 1e3)),
        Unit::Microseconds => format!("{} s", short(value / 1e6)),
    }
}

impl Comparison {
    /// As text for a terminal, or as Markdown.
    pub(crate) fn tables(&self, markdown: bool) -> String {
        let mut text = format!(
            "{}; medians of {} rounds of {} s (smallest and largest beside them).\n\n",
            self.machine, self.rounds, self.seconds
        );
        let mut add = |title: &str, table: Table| {
            let shown = if markdown {
                table.markdown()
            } else {
                table.text()
            };
            let heading = if markdown { "### " } else { "" };
            write!(text, "{heading}{title}\n\n{shown}\n").expect("a string takes everything");
        };
        add("Messages a second, or time", self.figures());
        if let Some(ratios) = self.ratios() {
            add(
                "rusty-mom : peer (above 1: rusty-mom is that many times as fast)",
                ratios,
            );
        }
        add("CPU seconds for a million messages", self.cpu());
        add("Who took part", self.entrants());
        let mut add_list = |title: &str, items: Vec<String>| {
            if !items.is_empty() {
                let heading = if markdown { "### " } else { "" };
                writeln!(text, "{heading}{title}\n").expect("a string takes everything");
                for item in items {
                    writeln!(text, "- {item}").expect("a string takes everything");
                }
                text.push('\n');
            }
        };
        let missing = |missing: &Missing| format!("{}: {}", missing.name, missing.remedy);
        add_list("Missing", self.missing.iter().map(missing).collect());
        add_list("Remarks", self.remarks.clone());
        add_list("Failures", self.failures.clone());
        text
    }

    fn names(&self, first: &str) -> Vec<String> {
        let names = self.contenders.iter().map(|entrant| entrant.about.name);
        std::iter::once(first)
            .chain(names)
            .map(str::to_owned)
            .collect()
    }

    fn figures(&self) -> Table {
        let rows = self.rows.iter().map(|row| {
            let figure = |figure: &Option<Figure>| {
                figure
                    .as_ref()
                    .map_or("–".to_owned(), |figure| figure.text(row.unit))
            };
            row.cells(row.figures.iter().map(figure))
        });
        Table {
            header: self.names("workload"),
            rows: rows.collect(),
        }
    }

    /// `None` if rusty-mom did not take part.
    fn ratios(&self) -> Option<Table> {
        let own = self
            .contenders
            .iter()
            .position(|entrant| entrant.about.key == crate::peers::OWN)?;
        let rows = self.rows.iter().map(|row| {
            let cells = row.figures.iter().enumerate().map(|(index, figure)| {
                match (&row.figures[own], figure) {
                    (Some(own), Some(other)) if index != self.own_index() => {
                        format!("{:.2}", ratio(own.median, other.median, row.unit))
                    }
                    _ => "–".to_owned(),
                }
            });
            let mut cells = row.cells(cells);
            cells.remove(own + 1);
            cells
        });
        let mut header = self.names("workload");
        header.remove(own + 1);
        Some(Table {
            header,
            rows: rows.collect(),
        })
    }

    fn own_index(&self) -> usize {
        self.contenders
            .iter()
            .position(|entrant| entrant.about.key == crate::peers::OWN)
            .unwrap_or(usize::MAX)
    }

    fn cpu(&self) -> Table {
        let mut rows = Vec::new();
        let mut before = "";
        for row in &self.rows {
            // The quantiles of a workload have one run in common.
            if row.workload == before {
                continue;
            }
            before = &row.workload;
            let cells = row.figures.iter().map(|figure| {
                let Some(figure) = figure else {
                    return "–".to_owned();
                };
                let cpu = figure.cpu_seconds_per_million.iter();
                let cpu = cpu.filter(|(_, seconds)| **seconds >= 0.005);
                cpu.map(|(name, seconds)| format!("{name} {}", short(*seconds)))
                    .collect::<Vec<_>>()
                    .join(", ")
            });
            rows.push(std::iter::once(row.workload.clone()).chain(cells).collect());
        }
        Table {
            header: self.names("workload"),
            rows,
        }
    }

    fn entrants(&self) -> Table {
        let rows = self.contenders.iter().map(|entrant| {
            let about = &entrant.about;
            let synced = if about.synced { "yes" } else { "no" };
            vec![
                about.name.to_owned(),
                about.version.clone(),
                synced.to_owned(),
                about.promise.to_owned(),
                about.settings.clone(),
                format!("{:.1} %", entrant.idle_cpu_percent),
            ]
        });
        Table {
            header: [
                "name",
                "version",
                "synced before the acknowledgement",
                "what an acknowledgement promises",
                "settings",
                "idle CPU",
            ]
            .map(str::to_owned)
            .into(),
            rows: rows.collect(),
        }
    }
}

impl Row {
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.workload, self.quantile)
            .trim_end()
            .to_owned()
    }

    fn cells(&self, cells: impl Iterator<Item = String>) -> Vec<String> {
        std::iter::once(self.title()).chain(cells).collect()
    }
}

/// Cells, the first of each row being its name.
struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn text(&self) -> String {
        let lines = || std::iter::once(&self.header).chain(&self.rows);
        let width = |column: usize| {
            let widths = lines().map(|line| line[column].chars().count());
            widths.max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.header.len()).map(width).collect();
        let mut text = String::new();
        for line in lines() {
            let cells = line.iter().zip(&widths);
            let padded = cells.map(|(cell, width)| format!("{cell:<width$}"));
            text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | ").replace('\n', " "));
        let mut text = line(&self.header);
        text.push_str(&line(&vec!["---".to_owned(); self.header.len()]));
        self.rows.iter().for_each(|row| text.push_str(&line(row)));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(value: f64, cpu: f64) -> Measured {
        Measured {
            values: vec![value],
            cpu: vec![("client".to_owned(), cpu)],
            remark: None,
        }
    }

    #[test]
    fn a_figure_is_the_median_with_what_lies_around_it() {
        let rounds = [measured(5.0, 1.0), measured(1.0, 9.0), measured(3.0, 2.0)];
        let figure = Figure::of(&rounds, 0).expect("there are rounds");
        assert_eq!((figure.median, figure.min, figure.max), (3.0, 1.0, 5.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        let cpu = [("client".to_owned(), 2.0)].into();
        assert_eq!(figure.cpu_seconds_per_million, cpu);
        assert_eq!(figure.rounds, [5.0, 1.0, 3.0]);
        assert_eq!(Figure::of(&rounds, 1), None);
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_ratio_above_one_is_better_in_either_unit() {
        let ratios = [Unit::PerSecond, Unit::Microseconds].map(|unit| ratio(300.0, 100.0, unit));
        assert_eq!(ratios.map(|ratio| format!("{ratio:.2}")), ["3.00", "0.33"]);
        assert_eq!(show(1234.0, Unit::Microseconds), "1.23 ms");
        assert_eq!(show(1234.0, Unit::PerSecond), "1.23k");
    }

    #[test]
    fn tables_keep_their_columns() {
        let table = Table {
            header: vec!["a".to_owned(), "µs".to_owned()],
            rows: vec![vec!["long name".to_owned(), "1".to_owned()]],
        };
        assert_eq!(table.text(), "a          µs\nlong name  1\n");
        assert_eq!(
            table.markdown(),
            "| a | µs |\n| --- | --- |\n| long name | 1 |\n"
        );
    }
}
