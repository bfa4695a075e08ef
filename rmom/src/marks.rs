//! When messages of a queue came, roughly: enough to tell for how long somebody has been behind.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The least time between two marks.
const SPACING: Duration = Duration::from_secs(1);

/// The most marks. When there are more, every second one is forgotten, so that old times are known less exactly than
/// new ones.
const MOST: usize = 128;

/// Sequences, and when the message with each of them came; both ascend.
#[derive(Debug)]
pub struct Marks(VecDeque<(i64, Instant)>);

impl Marks {
    /// Of a queue whose next message has the sequence `next_seq`. What was there before counts as old as this.
    pub fn new(next_seq: i64, now: Instant) -> Self {
        Self(VecDeque::from([(next_seq - 1, now)]))
    }

    /// Messages from the sequence `first_seq` on came at this time.
    pub fn mark(&mut self, first_seq: i64, at: Instant) {
        let is_due = |(_, last): &(i64, Instant)| at.saturating_duration_since(*last) >= SPACING;
        if !self.0.back().is_none_or(is_due) {
            return;
        }
        self.0.push_back((first_seq, at));
        if self.0.len() > MOST {
            let mut index = 0;
            self.0.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
    }

    /// How long ago the message with this sequence came, at the most.
    pub fn age(&self, seq: i64, now: Instant) -> Duration {
        let after = self.0.partition_point(|(marked, _)| *marked <= seq);
        let mark = after.checked_sub(1).or(Some(0));
        let mark = mark.and_then(|index| self.0.get(index));
        mark.map_or(Duration::ZERO, |(_, at)| now.saturating_duration_since(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_as_exact_as_the_marks_and_their_number_is_bounded() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut marks = Marks::new(8, start);
        for batch in 1..=100 {
            marks.mark(batch * 10, at(batch as u64 * 500));
        }
        let age = |marks: &Marks, seq| marks.age(seq, at(60_000)).as_millis();
        // What was there before is as old as the queue is here.
        assert_eq!((age(&marks, 3), age(&marks, 9)), (60_000, 60_000));
        // Sequence 1000 came after 50 s, and 995 half a second earlier.
        assert_eq!((age(&marks, 1000), age(&marks, 1005)), (10_000, 10_000));
        assert_eq!(age(&marks, 995), 11_000);
        for batch in 101..=2000 {
            marks.mark(batch * 10, at(batch as u64 * 1000));
        }
        assert!(marks.0.len() <= MOST, "{}", marks.0.len());
        assert!(marks.0.iter().is_sorted());
        assert_eq!(marks.age(3, at(2_000_000)).as_secs(), 2000);
    }
}
