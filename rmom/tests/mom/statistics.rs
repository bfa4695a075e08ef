//! What a MoM tells of its work.

use crate::support::{Client, DEADLINE, cluster};
use protos::{QueueStatistics, StatisticsRequest, StatisticsResponse};
use testkit::wait_until;

async fn statistics(client: &Client, label: &str) -> StatisticsResponse {
    let request = StatisticsRequest {
        queue_label: label.into(),
    };
    let answer = client.0.clone().get_statistics(request).await;
    answer.unwrap().into_inner()
}

/// Waits until the queue's figures, without its epoch, are these.
async fn wait_for(client: &Client, expected: &QueueStatistics) {
    wait_until(&format!("{expected:?}"), DEADLINE, || async {
        let queues = statistics(client, "").await.queues;
        let [queue] = &queues[..] else { return false };
        let mut queue = queue.clone();
        queue.epoch = 0;
        queue == *expected
    })
    .await;
}

#[tokio::test]
async fn what_was_pushed_delivered_and_caught_up_is_counted_and_stays_when_subscribers_go() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("news").await.unwrap();
    let before = statistics(&client, "").await;
    assert!(before.resident_bytes > 1 << 20, "{before:?}");
    assert!(before.connections >= 1, "{before:?}");
    let all = client.create_channel("news", "__none__").await.unwrap();
    let sports = client.create_channel("news", "sports").await.unwrap();
    for (topic, content) in [("sports", "goal"), ("weather", "rain"), ("sports", "miss!")] {
        client
            .push("news", topic, content.as_bytes())
            .await
            .unwrap();
    }
    let pushed = QueueStatistics {
        queue_label: "news".into(),
        last_seq: 3,
        pushed_messages: 3,
        pushed_bytes: 13,
        ..Default::default()
    };
    wait_for(&client, &pushed).await;

    // One who has all, one who has what has its topic, and one who is ahead of the queue.
    let mut reader = client.subscribe(&all, None).await.unwrap();
    reader.take(3).await;
    let mut fan = client.subscribe(&sports, Some(1)).await.unwrap();
    fan.take(1).await;
    let ahead = client.subscribe(&all, Some(7)).await.unwrap();
    let caught_up = QueueStatistics {
        delivered_messages: 4,
        delivered_bytes: 18,
        caught_up_messages: 4,
        subscriptions: 3,
        ..pushed
    };
    wait_for(&client, &caught_up).await;

    client.push("news", "sports", b"end").await.unwrap();
    reader.take(1).await;
    fan.take(1).await;
    let live = QueueStatistics {
        last_seq: 4,
        pushed_messages: 4,
        pushed_bytes: 16,
        delivered_messages: 6,
        delivered_bytes: 24,
        ..caught_up
    };
    wait_for(&client, &live).await;

    let told = statistics(&client, "NEWS").await.subscriptions;
    let mut shown: Vec<_> = told
        .iter()
        .map(|s| (s.seq, s.lag, s.topic.as_str(), s.channel_id.as_str()))
        .collect();
    shown.sort_unstable();
    assert_eq!(
        shown,
        [
            (4, 0, "__none__", all.as_str()),
            (4, 0, "sports", sports.as_str()),
            (7, 0, "__none__", all.as_str()),
        ]
    );
    for subscription in &told {
        assert!(subscription.peer.starts_with("127.0.0.1:"), "{told:?}");
    }
    assert_eq!(statistics(&client, "unknown").await.subscriptions, []);

    drop((reader, fan, ahead));
    let alone = QueueStatistics {
        subscriptions: 0,
        ..live
    };
    wait_for(&client, &alone).await;
    let after = statistics(&client, "").await;
    assert_eq!(after.instance, before.instance);
    assert!(after.uptime_millis >= before.uptime_millis);
}
