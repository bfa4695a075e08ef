//! `mom top`: the system, again and again.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyModifiers};
use crossterm::style::{Attribute, Print, SetAttribute};
use crossterm::terminal::{self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{execute, queue};
use momclient::{MoMClient, Overview, QueueDetails};

use crate::{moms, queues};

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a key may go unnoticed.
const KEYS: Duration = Duration::from_millis(50);
/// Bars of a sparkline.
const SPARKS: usize = 60;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The alternate screen, left again whatever happens.
struct Screen;

impl Screen {
    fn enter() -> anyhow::Result<Self> {
        terminal::enable_raw_mode()?;
        let screen = Self;
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = terminal::disable_raw_mode();
    }
}

pub(crate) async fn run(client: &MoMClient) -> anyhow::Result<()> {
    anyhow::ensure!(
        io::stdout().is_terminal(),
        "top needs a terminal; for programs there is `mom status --json`"
    );
    let _screen = Screen::enter()?;
    let mut history = History::default();
    loop {
        let seen = look(client).await;
        if let Ok((overview, _)) = &seen {
            history.add(overview);
        }
        draw(&seen, &history)?;
        let next = tokio::time::Instant::now() + PERIOD;
        while tokio::time::Instant::now() < next {
            if is_over()? {
                return Ok(());
            }
            tokio::time::sleep(KEYS).await;
        }
    }
}

async fn look(client: &MoMClient) -> Result<(Overview, Vec<QueueDetails>), momclient::Error> {
    let (overview, queues) = tokio::join!(client.overview(), client.queue_list());
    let mut queues = queues?;
    // The busiest first: the others may be beyond the last line.
    let rate = |queue: &QueueDetails| {
        queue.rates.pushed.unwrap_or(0.0) + queue.rates.delivered.unwrap_or(0.0)
    };
    queues.sort_by(|a, b| {
        rate(b)
            .total_cmp(&rate(a))
            .then_with(|| a.label.cmp(&b.label))
    });
    Ok((overview?, queues))
}

/// Whether somebody has pressed q, Escape or Ctrl-C.
fn is_over() -> anyhow::Result<bool> {
    while event::poll(Duration::ZERO)? {
        if let Event::Key(key) = event::read()? {
            let interrupted =
                key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if interrupted || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// What was pushed and delivered a second, over the last minute.
#[derive(Default)]
struct History {
    pushed: VecDeque<f64>,
    delivered: VecDeque<f64>,
}

impl History {
    fn add(&mut self, overview: &Overview) {
        for (line, rate) in [
            (&mut self.pushed, overview.rates.pushed),
            (&mut self.delivered, overview.rates.delivered),
        ] {
            line.push_back(rate.unwrap_or(0.0));
            if line.len() > SPARKS {
                line.pop_front();
            }
        }
    }
}

fn sparkline(values: &VecDeque<f64>) -> String {
    let most = values.iter().fold(0.0, |a: f64, b| a.max(*b));
    let bar = |value: &f64| {
        if most <= 0.0 {
            return BARS[0];
        }
        BARS[((value / most) * 7.0).round() as usize]
    };
    values.iter().map(bar).collect()
}

fn draw(
    seen: &Result<(Overview, Vec<QueueDetails>), momclient::Error>,
    history: &History,
) -> anyhow::Result<()> {
    let (width, height) = terminal::size()?;
    let (width, height) = (usize::from(width), usize::from(height));
    let mut lines = Vec::new();
    let mut heads = Vec::new();
    match seen {
        Ok((overview, all)) => {
            lines.extend(moms::summary(overview));
            lines.push(format!("pushed     {}", sparkline(&history.pushed)));
            lines.push(format!("delivered  {}", sparkline(&history.delivered)));
            for table in [moms::table(&overview.moms), queues::table(all)] {
                lines.push(String::new());
                heads.push(lines.len());
                lines.extend(table.lines(width));
            }
        }
        Err(error) => {
            lines.push(error.to_string());
            lines.push("Trying again every second.".to_owned());
        }
    }
    let mut out = io::stdout().lock();
    queue!(out, MoveTo(0, 0))?;
    for row in 0..height {
        queue!(out, MoveTo(0, row as u16), Clear(ClearType::CurrentLine))?;
        let line = match lines.get(row) {
            _ if row + 1 == height => "q ends",
            Some(line) => line.as_str(),
            None => continue,
        };
        let line: String = line.chars().take(width).collect();
        if heads.contains(&row) || row == 0 {
            queue!(
                out,
                SetAttribute(Attribute::Bold),
                Print(line),
                SetAttribute(Attribute::Reset)
            )?;
        } else {
            queue!(out, Print(line))?;
        }
    }
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_is_as_high_as_its_highest_value() {
        assert_eq!(sparkline(&VecDeque::from([0.0, 50.0, 100.0])), "▁▅█");
        assert_eq!(sparkline(&VecDeque::from([0.0, 0.0])), "▁▁");
    }
}
