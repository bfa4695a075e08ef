//! What is printed: tables for people, JSON for programs, and numbers that people can read.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use chrono::{DateTime, Utc};
use serde::Serialize;

/// For whom to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Says why the program ends, on standard error.
    pub(crate) fn failure(self, failure: &anyhow::Error) {
        let error = failure
            .chain()
            .find_map(|cause| cause.downcast_ref::<momclient::Error>());
        let code = error.map(momclient::Error::code);
        if self.json {
            let text = format!("{failure:#}");
            eprintln!("{}", serde_json::json!({ "error": text, "code": code }));
            return;
        }
        eprintln!("mom: {failure:#}");
        if let Some(code) = code.filter(|code| protos::codes::ALL.contains(code)) {
            eprintln!("     `mom errors {code}` explains it.");
        }
    }
}

/// Prints one document.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print_line(serde_json::to_string_pretty(value)?.as_bytes())
}

/// Prints one line of many.
pub(crate) fn print_json_line(value: &impl Serialize) -> anyhow::Result<()> {
    print_line(&serde_json::to_vec(value)?)
}

/// Nobody reads any more what is printed: an end, not a failure, as with other tools.
#[derive(Debug)]
pub(crate) struct Unread;

impl std::error::Error for Unread {}

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nobody reads what is printed")
    }
}

pub(crate) fn print_line(line: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out
        .write_all(line)
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Unread.into()),
        done => Ok(done?),
    }
}

/// Asks for a yes, naming what is lost. Without a terminal nobody can be asked, so it is a no.
pub(crate) fn confirm(question: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        anyhow::bail!("{question} Nobody can be asked here: give --yes");
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Columns as wide as what is in them; numbers at the right.
#[derive(Debug)]
pub(crate) struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heads: &[&str]) -> Self {
        let heads = heads.iter().map(|head| (*head).to_owned());
        Self {
            heads: heads.collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    /// The lines, without what would go beyond `width`.
    pub(crate) fn lines(&self, width: usize) -> Vec<String> {
        let columns = self.heads.len();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
                widest.max(self.heads[column].chars().count())
            })
            .collect();
        let is_number = |column: usize| {
            let mut cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.all(|cell| {
                // Addresses and ids begin with digits too.
                let begins = cell.starts_with(|c: char| c.is_ascii_digit());
                cell == "-" || (begins && !cell.contains([':', '-']))
            })
        };
        let right: Vec<bool> = (0..columns)
            .map(|column| !self.rows.is_empty() && is_number(column))
            .collect();
        let line = |cells: &[String]| {
            let padded = cells.iter().enumerate().map(|(column, cell)| {
                let width = widths[column];
                if right[column] {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
            let line = padded.collect::<Vec<_>>().join("  ");
            line.trim_end().chars().take(width).collect()
        };
        std::iter::once(&self.heads)
            .chain(&self.rows)
            .map(|cells| line(cells))
            .collect()
    }

    pub(crate) fn print(&self) {
        for line in self.lines(usize::MAX) {
            println!("{line}");
        }
    }
}

/// `1234567` as `1.23M`; `-` where it is not known.
pub(crate) fn amount(number: Option<f64>) -> String {
    let Some(number) = number else {
        return "-".to_owned();
    };
    scaled(number, 1000.0, &["", "k", "M", "G", "T"])
}

/// Bytes as KiB, MiB and so on; `-` where they are not known.
pub(crate) fn bytes(number: Option<u64>) -> String {
    let Some(number) = number else {
        return "-".to_owned();
    };
    scaled(
        number as f64,
        1024.0,
        &[" B", " KiB", " MiB", " GiB", " TiB"],
    )
}

fn scaled(mut number: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while number >= step && unit + 1 < units.len() {
        number /= step;
        unit += 1;
    }
    let digits = match number {
        _ if unit == 0 => 0,
        n if n < 9.995 => 2,
        n if n < 99.95 => 1,
        _ => 0,
    };
    format!("{number:.digits$}{}", units[unit])
}

/// How long ago something was; `-` where that is not known.
pub(crate) fn age(at: Option<DateTime<Utc>>) -> String {
    let Some(at) = at else {
        return "-".to_owned();
    };
    let secs = (Utc::now() - at).num_seconds().max(0);
    match secs {
        0..120 => format!("{secs}s"),
        120..7200 => format!("{}m", secs / 60),
        7200..172_800 => format!("{}h", secs / 3600),
        _ => format!("{}d", secs / 86400),
    }
}

/// A content as far as it can be shown in a line.
pub(crate) fn shown(content: &[u8], most: usize) -> String {
    if let Ok(text) = std::str::from_utf8(content) {
        let mut line: String = text.chars().take(most).flat_map(printable).collect();
        if text.chars().nth(most).is_some() {
            line.push('…');
        }
        return line;
    }
    let mut line = "0x".to_owned();
    for byte in content.iter().take(most / 2) {
        write!(line, "{byte:02x}").expect("a string takes everything");
    }
    if content.len() > most / 2 {
        line.push('…');
    }
    line
}

/// What a terminal might obey is told instead of sent.
fn printable(c: char) -> impl Iterator<Item = char> {
    let (escaped, plain) = if c.is_control() {
        (Some(c.escape_default()), None)
    } else {
        (None, Some(c))
    };
    escaped.into_iter().flatten().chain(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (number, expected) in [
            (0.0, "0"),
            (999.0, "999"),
            (1000.0, "1.00k"),
            (12_345.0, "12.3k"),
            (999_000.0, "999k"),
            (1_234_567.0, "1.23M"),
        ] {
            assert_eq!(amount(Some(number)), expected);
        }
        assert_eq!(bytes(Some(1536)), "1.50 KiB");
        assert_eq!(bytes(None), "-");
    }

    #[test]
    fn a_content_cannot_command_the_terminal() {
        assert_eq!(shown(b"a\x1b[2Jb\n", 20), "a\\u{1b}[2Jb\\n");
        assert_eq!(shown("ä".repeat(5).as_bytes(), 3), "äää…");
        assert_eq!(shown(&[0xff, 0xfe, 0xfd], 4), "0xfffe…");
    }

    #[test]
    fn numbers_stand_at_the_right() {
        let mut table = Table::new(&["NAME", "N"]);
        table.row(["a".to_owned(), "5".to_owned()]);
        table.row(["bcdef".to_owned(), "-".to_owned()]);
        table.row(["b".to_owned(), "12.3k".to_owned()]);
        let lines = [
            "NAME       N",
            "a          5",
            "bcdef      -",
            "b      12.3k",
        ];
        assert_eq!(table.lines(80), lines);
        assert_eq!(table.lines(3)[2], "bcd");
        let mut addresses = Table::new(&["AT", "N"]);
        addresses.row(["10.0.0.1:1".to_owned(), "5".to_owned()]);
        addresses.row(["9.0.0.1:1".to_owned(), "5".to_owned()]);
        assert_eq!(addresses.lines(80)[2], "9.0.0.1:1   5");
    }
}
