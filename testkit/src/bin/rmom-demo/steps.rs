//! Progress: one line for each step, with the time that it took.

use std::fmt::Display;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Where the time stands, counted from the left.
const WIDTH: usize = 68;

/// The lines on the terminal.
pub(crate) struct Steps {
    spinner: ProgressBar,
    painter: Painter,
}

/// Colours, where the output is a terminal that wants them.
#[derive(Clone, Copy)]
pub(crate) struct Painter {
    on: bool,
}

impl Painter {
    pub(crate) fn green(self, text: impl Display) -> String {
        self.paint("32", text)
    }

    pub(crate) fn yellow(self, text: impl Display) -> String {
        self.paint("33", text)
    }

    pub(crate) fn bold(self, text: impl Display) -> String {
        self.paint("1", text)
    }

    pub(crate) fn dim(self, text: impl Display) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: impl Display) -> String {
        if self.on {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }
}

impl Steps {
    pub(crate) fn new() -> Self {
        let on = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        // It draws on standard error, and nothing where that is no terminal.
        let spinner = ProgressBar::new_spinner();
        spinner.set_style(
            ProgressStyle::with_template("  {spinner:.cyan} {msg} {elapsed:.dim}")
                .expect("the template is right"),
        );
        Self {
            spinner,
            painter: Painter { on },
        }
    }

    pub(crate) fn painter(&self) -> Painter {
        self.painter
    }

    /// Does a step and prints its line: `doing` while it lasts, afterwards what `done` says.
    pub(crate) async fn step<T, E>(
        &self,
        doing: &str,
        work: impl Future<Output = Result<T, E>>,
        done: impl FnOnce(&T) -> String,
    ) -> Result<T, E> {
        let start = Instant::now();
        self.spinner.reset_elapsed();
        self.spinner.set_message(doing.to_owned());
        self.spinner.enable_steady_tick(Duration::from_millis(80));
        let outcome = work.await;
        self.spinner.disable_steady_tick();
        if let Ok(value) = &outcome {
            let text = done(value);
            let took = self
                .painter
                .dim(format!("{:>5.1} s", start.elapsed().as_secs_f64()));
            self.line(&format!(
                "  {} {text:<WIDTH$} {took}",
                self.painter.green("✓")
            ));
        }
        outcome
    }

    /// Prints a line of something that happened.
    pub(crate) fn event(&self, text: &str) {
        self.line(&format!("  {} {text}", self.painter.yellow("•")));
    }

    /// Takes the spinner away.
    pub(crate) fn clear(&self) {
        self.spinner.disable_steady_tick();
        self.spinner.finish_and_clear();
    }

    fn line(&self, text: &str) {
        self.spinner.suspend(|| println!("{text}"));
    }
}
