//! Waiting with a deadline.

use std::cell::Cell;
use std::time::Duration;

use testkit::{try_wait_until, wait_until};

#[tokio::test]
async fn it_looks_again_until_the_condition_holds() {
    let looks = Cell::new(0);
    let value = wait_until("three looks", Duration::from_secs(20), async || {
        looks.set(looks.get() + 1);
        (looks.get() == 3).then_some("here")
    })
    .await;
    assert_eq!((value, looks.get()), ("here", 3));
}

#[tokio::test]
async fn a_deadline_names_what_was_awaited_and_what_was_seen() {
    let deadline = Duration::from_millis(50);
    let never = try_wait_until("the end of time", deadline, async || {
        Err::<(), _>("it is early")
    });
    let error = never.await.unwrap_err().to_string();
    assert_eq!(
        error,
        "waited 50ms for the end of time; state seen last: it is early"
    );
}

#[tokio::test]
async fn a_look_that_hangs_does_not_outlast_the_deadline() {
    let hangs = try_wait_until(
        "an answer",
        Duration::from_millis(50),
        std::future::pending::<bool>,
    );
    let error = hangs.await.unwrap_err().to_string();
    assert!(
        error.ends_with("the first look did not come back"),
        "{error}"
    );
}

#[tokio::test]
#[should_panic(expected = "for a miracle; state seen last: not yet")]
async fn a_missed_deadline_panics() {
    wait_until("a miracle", Duration::from_millis(20), async || false).await;
}
