//! Where subscriptions start and which topics they see, as a client of any language asks for it.

use crate::support::{Client, DEADLINE, assert_refused, cluster};
use protos::message_stream_client::MessageStreamClient;
use protos::{BatchSubscription, MessageBatch, START_METADATA, SubscriptionRequest, codes};
use tokio::time::timeout;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status, Streaming};

fn told(metadata: &MetadataMap) -> i64 {
    let seq = metadata.get(START_METADATA).expect("where it starts");
    seq.to_str().unwrap().parse().unwrap()
}

/// A stream of batches, and where it starts.
async fn batches(
    client: &Client,
    request: SubscriptionRequest,
) -> Result<(i64, Streaming<MessageBatch>), Status> {
    let first = BatchSubscription {
        subscribe: Some(request),
        messages: 1000,
        bytes: 1 << 20,
    };
    // What follows never comes, so that the credit is not taken for the last.
    let requests = futures_util::StreamExt::chain(
        tokio_stream::once(first),
        tokio_stream::pending::<BatchSubscription>(),
    );
    let mut stub: MessageStreamClient<_> = client.0.clone();
    let answer = stub.subscribe_to_batches(requests).await?;
    Ok((told(answer.metadata()), answer.into_inner()))
}

/// Where a subscription starts that receives messages singly, and where one that receives batches; they are the same.
async fn start_of(client: &mut Client, request: &SubscriptionRequest) -> i64 {
    let singly = client
        .0
        .subscribe_to_channel(request.clone())
        .await
        .unwrap();
    let (start, _) = batches(client, request.clone()).await.unwrap();
    assert_eq!(told(singly.metadata()), start);
    start
}

#[tokio::test]
async fn a_subscription_says_where_it_starts_before_anything_comes() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("news").await.unwrap();
    let channel_id = client.create_channel("news", "__none__").await.unwrap();
    let plain = SubscriptionRequest {
        channel_id,
        ..Default::default()
    };
    let latest = SubscriptionRequest {
        latest: true,
        ..plain.clone()
    };
    let after = |seq| SubscriptionRequest {
        after_seq: Some(seq),
        ..plain.clone()
    };
    let since = |micros| SubscriptionRequest {
        since_micros: Some(micros),
        ..plain.clone()
    };
    for request in [&latest, &since(0), &plain] {
        assert_eq!(
            start_of(&mut client, request).await,
            0,
            "nothing is there yet"
        );
    }

    for content in ["1", "2"] {
        client.push("news", "a", content.as_bytes()).await.unwrap();
    }
    let now = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
    let between: i64 = cluster.psql(now).await.unwrap().trim().parse().unwrap();
    client.push("news", "a", b"3").await.unwrap();
    for (request, start) in [
        (&plain, 0),
        (&after(1), 1),
        (&after(9), 9),
        (&latest, 3),
        (&since(0), 0),
        (&since(between), 2),
        (&since(between + 3_600_000_000), 3),
    ] {
        assert_eq!(start_of(&mut client, request).await, start, "{request:?}");
    }

    let (_, mut live) = batches(&client, latest.clone()).await.unwrap();
    let (_, mut recent) = batches(&client, since(between)).await.unwrap();
    client.push("news", "a", b"4").await.unwrap();
    for (stream, first) in [(&mut live, 4), (&mut recent, 3)] {
        let batch = timeout(DEADLINE, stream.message()).await.expect("a batch");
        assert_eq!(batch.unwrap().unwrap().first_seq, first);
    }

    for (request, field) in [
        (after(-1), "after_seq"),
        (since(-1), "since_micros"),
        (since(i64::MAX), "since_micros"),
        (
            SubscriptionRequest {
                latest: true,
                ..after(0)
            },
            "latest",
        ),
        (
            SubscriptionRequest {
                latest: true,
                ..since(1)
            },
            "since_micros",
        ),
        (
            SubscriptionRequest {
                after_seq: Some(0),
                ..since(1)
            },
            "since_micros",
        ),
    ] {
        let singly = client.0.subscribe_to_channel(request.clone()).await;
        let detail = assert_refused(singly, Code::InvalidArgument, codes::INVALID_ARGUMENT);
        assert!(detail.starts_with(field), "{detail}");
        let batched = batches(&client, request).await;
        assert_refused(batched, Code::InvalidArgument, codes::INVALID_ARGUMENT);
    }
}

#[tokio::test]
async fn a_channel_sees_the_topics_that_its_pattern_stands_for_live_and_late_and_in_batches() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("news").await.unwrap();
    let one = client.create_channel("news", "Sports.*").await.unwrap();
    let rest = client.create_channel("news", "sports.>").await.unwrap();
    let mut live = client.subscribe(&one, None).await.unwrap();
    for topic in [
        "sports",
        "sports.eu",
        "sports.eu.fr",
        "__none__",
        "sports.us",
    ] {
        client.push("news", topic, topic.as_bytes()).await.unwrap();
    }
    let of_one = ["sports.eu", "sports.us"];
    let of_rest = ["sports.eu", "sports.eu.fr", "sports.us"];
    assert_eq!(live.texts(2).await, of_one);
    for (channel_id, topics) in [(&one, &of_one[..]), (&rest, &of_rest)] {
        let mut late = client.subscribe(channel_id, None).await.unwrap();
        assert_eq!(late.texts(topics.len()).await, topics);
        let request = SubscriptionRequest {
            channel_id: channel_id.clone(),
            ..Default::default()
        };
        let (_, mut late) = batches(&client, request).await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < topics.len() {
            let batch = timeout(DEADLINE, late.message()).await.expect("a batch");
            seen.extend(
                batch
                    .unwrap()
                    .unwrap()
                    .runs
                    .into_iter()
                    .map(|run| run.topic),
            );
        }
        assert_eq!(seen, topics);
    }
    for topic in ["sports.*", "sports.>", "s*"] {
        let pushed = client.push("news", topic, b"").await;
        let detail = assert_refused(pushed, Code::InvalidArgument, codes::INVALID_TOPIC);
        assert!(detail.contains("wildcard"), "{detail}");
    }
    let misplaced = client.create_channel("news", "a.>.b").await;
    assert_refused(misplaced, Code::InvalidArgument, codes::INVALID_TOPIC);
}
