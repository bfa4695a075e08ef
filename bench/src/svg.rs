//! Drawings for the README: plain SVG, readable on light and on dark ground, without fonts or scripts of their own.

use std::fmt::Write;

/// Colours by class. A browser that prefers dark pages gets light ink, also where the drawing is an `<img>`.
const STYLE: &str = "\
    text { font: 12px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #1f2328; }\
    .title { font-size: 15px; font-weight: 600; }\
    .group { font-weight: 600; }\
    .quiet { fill: #59636e; }\
    .end { text-anchor: end; }\
    .middle { text-anchor: middle; }\
    .axis { stroke: #8c959f; stroke-width: 1; fill: none; }\
    .grid { stroke: #d1d9e0; stroke-width: 1; fill: none; }\
    .own { fill: #d9480f; }\
    .synced { fill: #6e7f91; }\
    .unsynced { fill: #6e7f9133; stroke: #6e7f91; stroke-width: 1; stroke-dasharray: 3 2; }\
    .line { fill: none; stroke-width: 2; stroke-linejoin: round; }\
    .c0 { stroke: #d9480f; } .c1 { stroke: #1971c2; } .c2 { stroke: #2f9e44; } .c3 { stroke: #9c36b5; }\
    circle.c0 { fill: #d9480f; } circle.c1 { fill: #1971c2; } circle.c2 { fill: #2f9e44; } circle.c3 { fill: #9c36b5; }\
    @media (prefers-color-scheme: dark) {\
    text { fill: #f0f6fc; } .quiet { fill: #9198a1; } .axis { stroke: #656c76; } .grid { stroke: #30363d; }\
    .own { fill: #ff7b3a; } .synced { fill: #8b9bb0; } .unsynced { fill: #8b9bb033; stroke: #8b9bb0; }\
    .c0 { stroke: #ff7b3a; } .c1 { stroke: #4dabf7; } .c2 { stroke: #51cf66; } .c3 { stroke: #da77f2; }\
    circle.c0 { fill: #ff7b3a; } circle.c1 { fill: #4dabf7; } circle.c2 { fill: #51cf66; } circle.c3 { fill: #da77f2; }\
    }";

/// A drawing that grows element by element. Lengths are pixels at its natural size.
pub(crate) struct Svg {
    width: f64,
    height: f64,
    title: String,
    body: String,
}

impl Svg {
    /// An empty drawing. The title is for those who cannot see it.
    pub(crate) fn new(width: f64, height: f64, title: &str) -> Self {
        Self {
            width,
            height,
            title: title.to_owned(),
            body: String::new(),
        }
    }

    /// Text whose base line begins, ends (class `end`) or is centred (class `middle`) there.
    pub(crate) fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let text = escape(text);
        self.add(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" class="{class}">{text}</text>"#
        ));
    }

    pub(crate) fn bar(&mut self, x: f64, y: f64, width: f64, height: f64, class: &str) {
        self.add(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="2" class="{class}"/>"#
        ));
    }

    pub(crate) fn dot(&mut self, x: f64, y: f64, class: &str) {
        self.add(format_args!(
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="2.5" class="{class}"/>"#
        ));
    }

    /// A line through the points.
    pub(crate) fn line(&mut self, points: &[(f64, f64)], class: &str) {
        let mut path = String::new();
        for (x, y) in points {
            write!(path, "{x:.1},{y:.1} ").expect("a string takes everything");
        }
        self.add(format_args!(
            r#"<polyline points="{}" class="{class}"/>"#,
            path.trim_end()
        ));
    }

    /// The whole document.
    pub(crate) fn finish(self) -> String {
        let Self {
            width,
            height,
            title,
            body,
        } = self;
        let title = escape(&title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n{body}</svg>\n"
        )
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.body, "{element}").expect("a string takes everything");
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Three significant digits with a prefix: 306k, 4.21k, 1.02M.
pub(crate) fn short(value: f64) -> String {
    let (scaled, prefix) = match value.abs() {
        size if size >= 999.5e6 => (value / 1e9, "G"),
        size if size >= 999.5e3 => (value / 1e6, "M"),
        size if size >= 999.5 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        size if size >= 99.95 || scaled.fract() == 0.0 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    format!("{scaled:.digits$}{prefix}")
}

/// Whether each tag is closed in its turn: what a parser of XML would insist on first.
#[cfg(test)]
pub(crate) fn is_well_formed(document: &str) -> bool {
    let mut open = Vec::new();
    for tag in document.split('<').skip(1) {
        let Some((tag, text)) = tag.split_once('>') else {
            return false;
        };
        let name = tag.split_whitespace().next().unwrap_or_default();
        let quotes = tag.matches('"').count();
        let stray = text.split('&').skip(1).any(|rest| {
            !["amp;", "lt;", "gt;"]
                .iter()
                .any(|known| rest.starts_with(known))
        });
        if quotes % 2 == 1 || stray || text.contains('>') && name != "style" {
            return false;
        }
        if let Some(closed) = name.strip_prefix('/') {
            if open.pop() != Some(closed) {
                return false;
            }
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    open.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_is_well_formed_whatever_the_text() {
        let mut svg = Svg::new(100.0, 50.0, "a < b & c");
        svg.text(1.0, 2.0, "quiet", "R&D <fast> \"quoted\"");
        svg.bar(0.0, 0.0, 10.0, 5.0, "own");
        svg.dot(0.0, 0.0, "c0");
        svg.line(&[(0.0, 1.0), (2.5, 3.25)], "line c0");
        let document = svg.finish();
        assert!(is_well_formed(&document), "{document}");
        assert!(document.contains("R&amp;D &lt;fast&gt;"));
        assert!(!is_well_formed("<svg><g></svg>"));
        assert!(!is_well_formed("<svg>a & b</svg>"));
    }

    #[test]
    fn numbers_are_short() {
        let shortened = [
            0.0,
            0.25,
            7.0,
            42.26,
            999.4,
            999.6,
            4213.0,
            306_400.0,
            1_020_000.0,
        ]
        .map(short)
        .join(" ");
        assert_eq!(shortened, "0 0.25 7 42.3 999 1.00k 4.21k 306k 1.02M");
    }
}
