//! CPU seconds that processes have used, as the kernel tells: user and system time together.

use std::collections::HashMap;
use std::fs;

/// In what `/proc` counts: 100 a second on every Linux, whatever the kernel's own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// What all processes have used at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    by_pid: HashMap<u32, Usage>,
}

#[derive(Debug, PartialEq, Eq)]
struct Usage {
    parent: u32,
    /// Of its own.
    own: u64,
    /// Of its children that have ended and that it has waited for, and theirs.
    ended: u64,
}

impl Snapshot {
    pub(crate) fn take() -> Self {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let by_pid = pids
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
                Some((pid, Usage::parse(&stat)?))
            })
            .collect();
        Self { by_pid }
    }

    /// Seconds of the process alone.
    pub(crate) fn of_process(&self, pid: u32) -> f64 {
        self.by_pid
            .get(&pid)
            .map_or(0.0, |usage| usage.own as f64 / TICKS_PER_SECOND)
    }

    /// Seconds of the process and everything below it, also what has ended.
    pub(crate) fn of_tree(&self, root: u32) -> f64 {
        let is_below = |pid: &u32| {
            let mut at = *pid;
            while at != root {
                match self.by_pid.get(&at) {
                    Some(usage) if usage.parent != 0 => at = usage.parent,
                    _ => return false,
                }
            }
            true
        };
        let ticks: u64 = self
            .by_pid
            .iter()
            .filter(|(pid, _)| is_below(pid))
            .map(|(_, usage)| usage.own + usage.ended)
            .sum();
        ticks as f64 / TICKS_PER_SECOND
    }
}

impl Usage {
    /// From a line of `/proc/PID/stat`; see proc(5).
    fn parse(stat: &str) -> Option<Self> {
        // The program's name stands in parentheses and may itself contain some.
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            parent: number(1)? as u32,
            own: number(11)? + number(12)?,
            ended: number(13)? + number(14)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whatever_the_programs_name() {
        let stat = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 2 3 4 100 20 3 1 20 0 1 0 99 1 1";
        let usage = Usage {
            parent: 7,
            own: 120,
            ended: 4,
        };
        assert_eq!(Usage::parse(stat), Some(usage));
        assert_eq!(Usage::parse("42 (ended"), None);
    }

    #[test]
    fn a_tree_has_all_that_is_below_it_and_nothing_else() {
        let usage = |parent, own, ended| Usage { parent, own, ended };
        let by_pid = HashMap::from([
            (1, usage(0, 1_000, 0)),
            (10, usage(1, 100, 50)),
            (11, usage(10, 20, 0)),
            (12, usage(11, 3, 0)),
            (20, usage(1, 7_000, 0)),
        ]);
        let snapshot = Snapshot { by_pid };
        assert!((snapshot.of_tree(10) - 1.73).abs() < 1e-9);
        assert!((snapshot.of_process(10) - 1.0).abs() < 1e-9);
    }
}
