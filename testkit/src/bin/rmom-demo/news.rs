//! Watching the example servers' pages, by the events that they send to browsers.

use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::Response;
use testkit::{Error, try_wait_until};

const WITHIN: Duration = Duration::from_mins(2);
/// Longer than any event.
const MOST: usize = 1 << 20;

/// Waits until the page on `port` counts something under `what`; errs as soon as `alive` does.
pub(crate) async fn until(
    port: u16,
    alive: &dyn Fn() -> Result<(), Error>,
    what: &str,
) -> anyhow::Result<()> {
    let url = format!("http://127.0.0.1:{port}/events");
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .context("cannot make an HTTP client")?;
    let wait = async {
        let mut events = try_wait_until(&url, WITHIN, async || match alive() {
            Ok(()) => client.get(&url).send().await.map(Ok),
            Err(ended) => Ok(Err(ended)),
        })
        .await??;
        let mut seen = String::new();
        while !counts(&next(&mut events, &mut seen).await?, what) {}
        anyhow::Ok(())
    };
    let died = async {
        // It never finds what it waits for, but an error.
        loop {
            alive()?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let outcome = tokio::time::timeout(WITHIN, async {
        tokio::select! {
            outcome = wait => outcome,
            outcome = died => outcome,
        }
    });
    outcome
        .await
        .with_context(|| format!("{url} counted no `{what}` within {WITHIN:?}"))?
}

/// The next event, as the text between two empty lines.
async fn next(events: &mut Response, seen: &mut String) -> anyhow::Result<String> {
    loop {
        if let Some((event, rest)) = seen.split_once("\n\n") {
            let (event, rest) = (event.to_owned(), rest.to_owned());
            *seen = rest;
            return Ok(event);
        }
        let chunk = events
            .chunk()
            .await
            .context("the page's events broke off")?;
        let chunk = chunk.context("the page's events ended")?;
        seen.push_str(&String::from_utf8_lossy(&chunk));
        ensure!(
            seen.len() <= MOST,
            "the page sent an event of more than {MOST} bytes"
        );
    }
}

/// Whether `event` is a state whose `what` is above 0.
fn counts(event: &str, what: &str) -> bool {
    let mut lines = event.lines();
    lines.next() == Some("event: state")
        && lines
            .find_map(|line| line.strip_prefix("data: "))
            .and_then(|data| serde_json::from_str::<serde_json::Value>(data).ok())
            .and_then(|state| state.get(what)?.as_u64())
            .is_some_and(|count| count > 0)
}
