//! The comparison as bars: a group for each quantity, a bar for each contender.

use crate::compare::table::{Comparison, Row, show};
use crate::compare::workload::Unit;
use crate::peers::OWN;
use crate::svg::Svg;

const COLUMNS: usize = 2;
const PANEL_WIDTH: f64 = 470.0;
const MARGIN: f64 = 16.0;
const HEAD: f64 = 66.0;
const LINE: f64 = 17.0;
const NAME_WIDTH: f64 = 160.0;
/// What the longest bar leaves free for its number.
const VALUE_WIDTH: f64 = 70.0;

/// Draws it. Tails beyond p99 are left to the tables.
pub(crate) fn draw(comparison: &Comparison) -> String {
    let rows: Vec<&Row> = comparison
        .rows
        .iter()
        .filter(|row| !["p99.9", "max"].contains(&row.quantile))
        .collect();
    let bars = comparison.contenders.len() as f64;
    let panel_height = LINE * (bars + 1.0) + 24.0;
    let width = MARGIN + (PANEL_WIDTH + MARGIN) * COLUMNS as f64;
    let height = HEAD + panel_height * rows.len().div_ceil(COLUMNS) as f64 + MARGIN;
    let title = "rusty-mom and its peers on one machine";
    let mut svg = Svg::new(width, height, title);
    svg.text(MARGIN, 26.0, "title", title);
    let legend = format!(
        "{}; medians of {} rounds. Dashed: acknowledges before it has synced to disk.",
        comparison.machine, comparison.rounds
    );
    svg.text(MARGIN, 46.0, "quiet", &legend);
    for (index, row) in rows.iter().enumerate() {
        let x = MARGIN + (index % COLUMNS) as f64 * (PANEL_WIDTH + MARGIN);
        let y = HEAD + (index / COLUMNS) as f64 * panel_height;
        panel(&mut svg, comparison, row, x, y);
    }
    svg.finish()
}

fn panel(svg: &mut Svg, comparison: &Comparison, row: &Row, x: f64, y: f64) {
    let better = match row.unit {
        Unit::PerSecond => "messages/s",
        Unit::Microseconds => "shorter is better",
    };
    svg.text(x, y + 14.0, "group", &row.title());
    svg.text(x + PANEL_WIDTH, y + 14.0, "quiet end", better);
    let medians = row.figures.iter().flatten().map(|figure| figure.median);
    let most = medians.fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    for (index, (entrant, figure)) in comparison.contenders.iter().zip(&row.figures).enumerate() {
        let top = y + 22.0 + LINE * index as f64;
        let base = top + LINE - 5.0;
        let bar = x + NAME_WIDTH + 8.0;
        svg.text(x + NAME_WIDTH, base, "end", entrant.about.name);
        let Some(figure) = figure else {
            svg.text(bar, base, "quiet", "–");
            continue;
        };
        let class = match entrant.about.key {
            OWN => "own",
            _ if entrant.about.synced => "synced",
            _ => "unsynced",
        };
        let length = (PANEL_WIDTH - NAME_WIDTH - 8.0 - VALUE_WIDTH) * figure.median / most;
        svg.bar(bar, top + 1.5, length.max(1.0), LINE - 4.0, class);
        let value = show(figure.median, row.unit);
        svg.text(bar + length.max(1.0) + 6.0, base, "quiet", &value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::table::{Entrant, Figure};
    use crate::compare::workload::Measured;
    use crate::peers::About;
    use crate::svg::is_well_formed;

    #[test]
    fn every_contender_has_its_bar_or_a_dash() {
        let entrant = |key, name, synced| Entrant {
            about: About {
                key,
                name,
                version: String::new(),
                promise: "",
                synced,
                settings: String::new(),
            },
            idle_cpu_percent: 0.0,
        };
        let figure = |value| {
            let measured = Measured {
                values: vec![value],
                ..Measured::default()
            };
            Figure::of(&[measured], 0)
        };
        let row = |quantile| Row {
            workload: "push < 1 KiB".to_owned(),
            quantile,
            unit: Unit::Microseconds,
            figures: vec![figure(10.0), figure(0.0), None],
        };
        let comparison = Comparison {
            machine: "2 cores & more".to_owned(),
            rounds: 1,
            seconds: 1.0,
            contenders: vec![
                entrant(OWN, "rusty-mom", true),
                entrant("a", "A", false),
                entrant("b", "B", true),
            ],
            missing: Vec::new(),
            rows: vec![row("p50"), row("max")],
            remarks: Vec::new(),
            failures: Vec::new(),
        };
        let document = draw(&comparison);
        assert!(is_well_formed(&document), "{document}");
        assert_eq!(document.matches("<rect").count(), 2);
        assert_eq!(document.matches(">–</text>").count(), 1);
        assert!(!document.contains("NaN"));
    }
}
