//! `mom errors`: what a code means, from the place where the codes are.

use std::fmt::Write;

use anyhow::bail;
use protos::codes::EXPLAINED;

use crate::output::{Output, Table, print_json};

pub(crate) fn run(code: Option<&str>, markdown: bool, output: Output) -> anyhow::Result<()> {
    if markdown {
        print!("{}", table_of_codes());
        return Ok(());
    }
    let Some(code) = code else {
        if output.is_json() {
            let all: serde_json::Map<_, _> = EXPLAINED
                .iter()
                .map(|(code, lines)| ((*code).to_owned(), text(lines).into()))
                .collect();
            return print_json(&all);
        }
        let mut table = Table::new(&["CODE", "MEANING"]);
        for (code, lines) in EXPLAINED {
            table.row([(*code).to_owned(), text(lines)]);
        }
        table.print();
        return Ok(());
    };
    let Some((code, lines)) = EXPLAINED.iter().find(|(known, _)| *known == code) else {
        bail!("there is no code {code:?}; `mom errors` lists all");
    };
    if output.is_json() {
        return print_json(&serde_json::json!({ "code": code, "meaning": text(lines) }));
    }
    println!("{code}: {}", text(lines));
    Ok(())
}

/// `docs/errors.md`, which a test compares.
fn table_of_codes() -> String {
    let mut page = "# Error codes\n\nThe same code stands in the `code` of a manager's `application/problem+json`, in the \
        metadata entry `rmom-code` of a\nMoM's gRPC error, in `Error::code()` of the Rust library and in `error.code` of the \
        Python library. Codes are for\nprograms and do not change; the words beside them may. `mom errors CODE` prints the \
        same.\n\n| code | meaning, what to do, gRPC status / HTTP status |\n|---|---|\n"
        .to_owned();
    for (code, lines) in EXPLAINED {
        writeln!(page, "| `{code}` | {} |", text(lines)).expect("a string takes everything");
    }
    page
}

fn text(lines: &[&str]) -> String {
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    lines.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_code() {
        let page = include_str!("../../../docs/errors.md");
        assert!(
            page == table_of_codes(),
            "docs/errors.md is not up to date: cargo run -p mom -- errors --markdown > docs/errors.md"
        );
    }
}
