//! Waiting for a condition with a deadline, in place of sleeping and hoping.

use std::fmt::Display;
use std::time::{Duration, Instant};

use crate::Error;

/// How long to wait between two looks at a condition.
const INTERVAL: Duration = Duration::from_millis(10);

/// What a condition may answer: a `bool`, an `Option` or a `Result`.
pub trait Condition {
    /// What the fulfilled condition hands over.
    type Value;

    /// The value, or the state that was seen instead.
    fn fulfilled(self) -> Result<Self::Value, String>;
}

impl Condition for bool {
    type Value = ();

    fn fulfilled(self) -> Result<(), String> {
        if self {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    }
}

impl<T> Condition for Option<T> {
    type Value = T;

    fn fulfilled(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing yet".to_owned())
    }
}

impl<T, E: Display> Condition for Result<T, E> {
    type Value = T;

    fn fulfilled(self) -> Result<T, String> {
        self.map_err(|state| state.to_string())
    }
}

/// Looks at `condition` until it is fulfilled and returns its value.
///
/// # Panics
///
/// When `deadline` has passed, naming `what` and the state seen last. A look that itself takes longer than what is
/// left of the deadline is abandoned.
pub async fn wait_until<C, F, Fut>(what: &str, deadline: Duration, condition: F) -> C::Value
where
    C: Condition,
    F: FnMut() -> Fut,
    Fut: Future<Output = C>,
{
    match try_wait_until(what, deadline, condition).await {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

/// As [`wait_until`], with an error where that panics.
pub async fn try_wait_until<C, F, Fut>(
    what: &str,
    deadline: Duration,
    mut condition: F,
) -> Result<C::Value, Error>
where
    C: Condition,
    F: FnMut() -> Fut,
    Fut: Future<Output = C>,
{
    let end = Instant::now() + deadline;
    let mut last = "the first look did not come back".to_owned();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if let Ok(answer) = tokio::time::timeout(left, condition()).await {
            match answer.fulfilled() {
                Ok(value) => return Ok(value),
                Err(state) => last = state,
            }
        }
        if Instant::now() >= end {
            return Err(Error::Failed(format!(
                "waited {deadline:?} for {what}; state seen last: {last}"
            )));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
