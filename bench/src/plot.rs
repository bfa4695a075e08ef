//! Curves: what a cost or a rate becomes as something grows, as a table and as a drawing.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::svg::{Svg, short};

/// One diagram.
#[derive(Debug, Serialize)]
pub(crate) struct Curve {
    pub(crate) title: String,
    /// What grows.
    pub(crate) x: &'static str,
    /// What is shown of it.
    pub(crate) y: &'static str,
    /// Whether each step to the right is a factor.
    pub(crate) logarithmic: bool,
    pub(crate) lines: Vec<Line>,
    /// Figures that belong to this, but not onto the drawing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) beside: Vec<Line>,
}

/// Points in the order of their x.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 760.0;
const PANEL: f64 = 260.0;
const HEAD: f64 = 40.0;
/// Around the field of a panel: left of it, right of it, above it, below it.
const INSETS: [f64; 4] = [64.0, 28.0, 40.0, 40.0];

impl Curve {
    /// The numbers, a line for each x.
    pub(crate) fn table(&self) -> String {
        let lines = || self.lines.iter().chain(&self.beside);
        let mut table = format!("{} ({})\n{:>12}", self.title, self.y, self.x);
        for line in lines() {
            write!(table, "  {:>24}", line.name).expect("a string takes everything");
        }
        table.push('\n');
        for x in self.xs() {
            write!(table, "{:>12}", short(x)).expect("a string takes everything");
            for line in lines() {
                let point = line
                    .points
                    .iter()
                    .find(|(at, _)| at.to_bits() == x.to_bits());
                let value = point.map_or("–".to_owned(), |(_, y)| short(*y));
                write!(table, "  {value:>24}").expect("a string takes everything");
            }
            table.push('\n');
        }
        table
    }

    /// All x of all lines, each once.
    fn xs(&self) -> Vec<f64> {
        let lines = self.lines.iter().chain(&self.beside);
        let mut xs: Vec<f64> = lines
            .flat_map(|line| &line.points)
            .map(|(x, _)| *x)
            .collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        xs
    }

    /// Where an x lies on an axis that can be drawn evenly.
    fn place(&self, x: f64) -> f64 {
        if self.logarithmic { (x + 1.0).ln() } else { x }
    }
}

/// Prints all as tables or as one line of JSON, and draws them into a file if there is to be one.
pub(crate) fn publish(title: &str, curves: &[Curve], json: bool, svg: Option<&Path>) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(curves)?);
    } else {
        for curve in curves {
            println!("{}", curve.table());
        }
    }
    if let Some(file) = svg {
        let drawing = draw(title, curves);
        fs::write(file, drawing).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

/// Draws all, one below the other.
fn draw(title: &str, curves: &[Curve]) -> String {
    let height = HEAD + PANEL * curves.len() as f64;
    let mut svg = Svg::new(WIDTH, height, title);
    svg.text(16.0, 26.0, "title", title);
    for (index, curve) in curves.iter().enumerate() {
        panel(&mut svg, curve, HEAD + PANEL * index as f64);
    }
    svg.finish()
}

fn panel(svg: &mut Svg, curve: &Curve, y: f64) {
    let [left, right, above, below] = INSETS;
    let (x0, x1) = (left, WIDTH - right);
    let (top, bottom) = (y + above, y + PANEL - below);
    svg.text(16.0, y + 18.0, "group", &curve.title);
    svg.text(16.0, y + 34.0, "quiet", curve.y);

    let xs = curve.xs();
    let (Some(first), Some(last)) = (xs.first(), xs.last()) else {
        return;
    };
    let (from, to) = (curve.place(*first), curve.place(*last));
    let span = if to > from { to - from } else { 1.0 };
    let at_x = |x: f64| x0 + (x1 - x0) * (curve.place(x) - from) / span;
    let values = curve.lines.iter().flat_map(|line| &line.points);
    let (step, most) = ticks(values.map(|(_, y)| *y).fold(0.0, f64::max));
    let at_y = |value: f64| bottom - (bottom - top) * value / most;

    let mut tick = 0.0;
    while tick <= most * 1.001 {
        svg.line(&[(x0, at_y(tick)), (x1, at_y(tick))], "grid");
        svg.text(x0 - 8.0, at_y(tick) + 4.0, "quiet end", &short(tick));
        tick += step;
    }
    svg.line(&[(x0, bottom), (x1, bottom)], "axis");
    let mut free_from = f64::NEG_INFINITY;
    for x in labels(curve, &xs) {
        // Where places lie close together, only some have a label.
        if at_x(x) >= free_from {
            svg.text(at_x(x), bottom + 16.0, "quiet middle", &short(x));
            free_from = at_x(x) + 40.0;
        }
    }
    svg.text(
        f64::midpoint(x0, x1),
        bottom + 32.0,
        "quiet middle",
        curve.x,
    );

    let mut legend = x1;
    for (index, line) in curve.lines.iter().enumerate().rev() {
        let class = format!("c{}", index % 4);
        let points: Vec<_> = line
            .points
            .iter()
            .map(|(x, y)| (at_x(*x), at_y(*y)))
            .collect();
        svg.line(&points, &format!("line {class}"));
        if points.len() <= 20 {
            for (x, y) in &points {
                svg.dot(*x, *y, &class);
            }
        }
        if curve.lines.len() > 1 {
            svg.text(legend, y + 34.0, "quiet end", &line.name);
            // Nobody knows a browser's font; this is what letters take in most.
            legend -= 6.6 * line.name.chars().count() as f64 + 10.0;
            svg.line(
                &[(legend - 18.0, y + 30.0), (legend, y + 30.0)],
                &format!("line {class}"),
            );
            legend -= 32.0;
        }
    }
}

/// The values that are written below the axis: those that were measured, or round ones where there are many.
fn labels(curve: &Curve, xs: &[f64]) -> Vec<f64> {
    if curve.logarithmic || xs.len() <= 12 {
        return xs.to_vec();
    }
    let most = xs.last().copied().unwrap_or(0.0);
    let (step, _) = ticks(most);
    let count = (most / step) as usize;
    (0..=count).map(|index| step * index as f64).collect()
}

/// A round step, and the multiple of it that holds everything.
fn ticks(most: f64) -> (f64, f64) {
    if most <= 0.0 {
        return (1.0, 1.0);
    }
    let rough = most / 4.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(rough);
    (step, step * (most / step).ceil())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svg::is_well_formed;

    fn curve(logarithmic: bool, points: Vec<(f64, f64)>) -> Curve {
        Curve {
            title: "a & b".to_owned(),
            x: "queues",
            y: "messages/s",
            logarithmic,
            lines: vec![
                Line {
                    name: "with".to_owned(),
                    points,
                },
                Line {
                    name: "without".to_owned(),
                    points: vec![(10.0, 7.0)],
                },
            ],
            beside: Vec::new(),
        }
    }

    #[test]
    fn curves_are_well_formed_whatever_the_points() {
        for points in [
            vec![],
            vec![(0.0, 0.0)],
            vec![(0.0, 5.0), (1.0, 3.0), (10_000.0, 123_456.0)],
        ] {
            for logarithmic in [false, true] {
                let document = draw("t", &[curve(logarithmic, points.clone())]);
                assert!(is_well_formed(&document), "{document}");
                assert!(!document.contains("NaN") && !document.contains("inf"));
            }
        }
    }

    #[test]
    fn a_table_has_a_line_for_each_x_and_dashes_where_nothing_is() {
        let table = curve(false, vec![(1.0, 3.0), (10.0, 2000.0)]).table();
        let lines: Vec<_> = table
            .lines()
            .map(str::split_whitespace)
            .map(Vec::from_iter)
            .collect();
        assert_eq!(lines[1], ["queues", "with", "without"]);
        assert_eq!(lines[2], ["1", "3", "–"]);
        assert_eq!(lines[3], ["10", "2k", "7"]);
    }

    #[test]
    fn steps_are_round() {
        assert_eq!(ticks(100.0), (25.0, 100.0));
        assert_eq!(ticks(306_000.0), (100_000.0, 400_000.0));
        assert_eq!(ticks(0.0), (1.0, 1.0));
    }
}
