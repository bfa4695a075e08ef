//! Pauses between attempts: doubling, bounded and jittered, so that many clients of one failure do not come back in step.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

const FIRST: Duration = Duration::from_millis(20);
/// A queue moves within a moment after its MoM has died; pauses stay short for as long as that may take ...
const LONGEST_AT_FIRST: (u32, Duration) = (12, Duration::from_millis(80));
/// ... and grow up to this after it.
const LONGEST: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// Waits before the next attempt. False, and at once, if that would be after the deadline.
    pub(crate) async fn pause(&mut self, deadline: Option<Instant>) -> bool {
        let wake = Instant::now() + self.next();
        if deadline.is_some_and(|deadline| wake >= deadline) {
            return false;
        }
        sleep_until(wake).await;
        true
    }

    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Between half and all of the doubled pause: never zero, which is what bounds the rate of look-ups.
    fn next(&mut self) -> Duration {
        let longest = if self.attempts < LONGEST_AT_FIRST.0 {
            LONGEST_AT_FIRST.1
        } else {
            LONGEST
        };
        let full = FIRST
            .saturating_mul(1 << self.attempts.min(10))
            .min(longest);
        self.attempts = self.attempts.saturating_add(1);
        // The keys of each RandomState are random, and this is rare enough that a generator of our own is not needed.
        let random = RandomState::new().hash_one(self.attempts);
        full / 2 + (full / 2).mul_f64(random as f64 / u64::MAX as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_within_their_bounds() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..13).map(|_| backoff.next()).collect();
        assert!(pauses[0] >= FIRST / 2 && pauses[0] <= FIRST, "{pauses:?}");
        assert!(pauses[11] <= LONGEST_AT_FIRST.1, "{pauses:?}");
        assert!(
            pauses[12] >= LONGEST / 2 && pauses[12] <= LONGEST,
            "{pauses:?}"
        );
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
