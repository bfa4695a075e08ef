//! `mom bench`: how fast this system is from here. For comparisons between systems and versions there is the project's
//! own benchmark; this is for a look at one's own machines and network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use momclient::{Error, MoMClient, Subscriber};
use serde::Serialize;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::arguments::Bench;
use crate::output::{Output, amount, print_json};

/// How long subscribers may take to receive what was pushed, after the last push.
const DRAIN: Duration = Duration::from_secs(30);

/// What was measured.
#[derive(Serialize)]
struct Measured {
    secs: f64,
    pushed: u64,
    pushed_per_sec: f64,
    push_p50_micros: u64,
    push_p99_micros: u64,
    delivered: u64,
    delivered_per_sec: f64,
}

pub(crate) async fn run(client: &MoMClient, options: Bench, output: Output) -> anyhow::Result<()> {
    let label = format!("mom-bench-{}", Uuid::now_v7());
    client.create_queue(&label).await?;
    let measured = tokio::select! {
        measured = measure(client, &label, &options) => measured,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into).and_then(|()| Err(anyhow::anyhow!("interrupted"))),
    };
    client.delete_queue(&label).await?;
    let measured = measured?;
    if output.is_json() {
        return print_json(&measured);
    }
    println!(
        "{} pushed/s of {} bytes, {} under way: {} in {:.1} s; a push took {} µs (median), {} µs (99 %)",
        amount(Some(measured.pushed_per_sec)),
        options.size,
        options.in_flight,
        measured.pushed,
        measured.secs,
        measured.push_p50_micros,
        measured.push_p99_micros,
    );
    if options.subscribers > 0 {
        println!(
            "{} delivered/s to {} subscribers: {}, each message to each of them",
            amount(Some(measured.delivered_per_sec)),
            options.subscribers,
            measured.delivered,
        );
    }
    Ok(())
}

async fn measure(client: &MoMClient, label: &str, options: &Bench) -> anyhow::Result<Measured> {
    let channel = client.create_channel(label, None).await?;
    let received = Arc::new(AtomicU64::new(0));
    let mut subscribers = JoinSet::new();
    for _ in 0..options.subscribers {
        let subscriber = client.subscribe(&channel.id).await?;
        subscribers.spawn(receive(subscriber, Arc::clone(&received)));
    }

    let style =
        ProgressStyle::with_template("{spinner} {msg}").expect("the template is well-formed");
    let progress = ProgressBar::new_spinner().with_style(style);
    let pusher = client
        .pusher(label)
        .in_flight(options.in_flight as usize)
        .await?;
    let content: Arc<[u8]> = vec![b'x'; options.size as usize].into();
    let began = Instant::now();
    let end = began + Duration::from_secs(options.secs);
    let mut lanes = JoinSet::new();
    for _ in 0..options.in_flight {
        let (pusher, content) = (pusher.clone(), Arc::clone(&content));
        lanes.spawn(async move {
            let mut took = histogram();
            let mut sent = 0;
            while Instant::now() < end {
                let at = Instant::now();
                pusher.push(content.to_vec(), None).await?;
                took.saturating_record(at.elapsed().as_micros() as u64);
                sent += 1;
            }
            Ok::<_, Error>((sent, took))
        });
    }
    let (mut messages, mut took) = (0_u64, histogram());
    while let Some(lane) = lanes.join_next().await {
        let (sent, lane) = lane??;
        messages += sent;
        took.add(lane)?;
        progress.set_message(format!("{} pushed", amount(Some(messages as f64))));
    }
    let secs = began.elapsed().as_secs_f64();

    progress.set_message("waiting for the subscribers");
    let expected = messages * options.subscribers;
    tokio::select! {
        () = reached(&received, expected) => {}
        Some(ended) = subscribers.join_next() => ended??,
        () = tokio::time::sleep(DRAIN) => {
            anyhow::bail!("the subscribers did not receive everything within {DRAIN:?}")
        }
    }
    let delivered = received.load(Ordering::Relaxed);
    progress.finish_and_clear();
    Ok(Measured {
        secs,
        pushed: messages,
        pushed_per_sec: messages as f64 / secs,
        push_p50_micros: took.value_at_quantile(0.5),
        push_p99_micros: took.value_at_quantile(0.99),
        delivered,
        delivered_per_sec: delivered as f64 / began.elapsed().as_secs_f64(),
    })
}

/// Of microseconds, up to an hour; what is not bounded from the beginning would take everything for its smallest bound.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(3_600_000_000, 3).expect("the bound and 3 digits are legal")
}

async fn receive(mut subscriber: Subscriber, received: Arc<AtomicU64>) -> Result<(), Error> {
    while let Some(batch) = subscriber.next_batch().await {
        received.fetch_add(batch?.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

async fn reached(received: &AtomicU64, expected: u64) {
    while received.load(Ordering::Relaxed) < expected {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
