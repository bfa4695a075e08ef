//! Headers, by each call that takes or gives messages.

use crate::streams::{Pushing, Receiving, batch, committed, pusher, refused};
use crate::support::{Client, DEADLINE, assert_refused, cluster};
use protos::{Header, Message, Push, codes};
use tokio::time::timeout;
use tonic::{Code, Request};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

type Given<'a> = &'a [(&'a str, &'a str)];

fn headers(of: Given<'_>) -> Vec<Header> {
    let headers = of.iter().map(|(name, value)| Header {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    });
    headers.collect()
}

fn push(headers: Vec<Header>) -> Push {
    Push {
        content: "x".into(),
        topic: protos::NO_TOPIC.into(),
        queue_label: "q".into(),
        headers,
        ..Push::default()
    }
}

fn of_each(messages: Vec<Message>) -> Vec<Vec<Header>> {
    messages
        .into_iter()
        .map(|message| message.headers)
        .collect()
}

/// The headers of the next messages.
async fn received(receiving: &mut Receiving, count: usize) -> Vec<Vec<Header>> {
    let mut all = Vec::new();
    while all.len() < count {
        let batch = timeout(DEADLINE, receiving.batches.message()).await;
        for run in batch.expect("a batch").unwrap().expect("a batch").runs {
            all.extend(vec![run.headers; run.count as usize]);
        }
    }
    all
}

#[tokio::test]
async fn headers_come_with_each_message_however_it_is_pushed_and_received() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    let channel = client.create_channel("q", protos::NO_TOPIC).await.unwrap();
    let mut live = client.subscribe(&channel, None).await.unwrap();
    let mut live_batches = Receiving::open(&client, &channel, 0, (100, 1 << 20)).await;

    client.push("q", protos::NO_TOPIC, b"none").await.unwrap();
    let given = headers(&[("X-B", "\u{e9}"), ("a", "")]);
    client.0.push_to_queue(push(given)).await.unwrap();
    // What a call says of its trace goes with the message, unless the message says it.
    for given in [Vec::new(), headers(&[("traceparent", "of the message")])] {
        let mut call = Request::new(push(given));
        let metadata = call.metadata_mut();
        metadata.insert("traceparent", TRACE.parse().unwrap());
        metadata.insert("tracestate", "a=1,b=2".parse().unwrap());
        metadata.insert("x-other", "y".parse().unwrap());
        client.0.push_to_queue(call).await.unwrap();
    }
    let mut pushing = Pushing::open(&client, "q", pusher()).await.unwrap();
    let mut pushed = batch(1, &[("", &[b"a", b"b"]), ("", &[b"c"]), ("", &[b"d"])]);
    pushed.runs[1].headers = headers(&[("traceparent", TRACE)]);
    pushing.send(pushed);
    assert_eq!(pushing.outcomes(4).await, [committed(1, 4, 5)]);

    let expected = [
        headers(&[]),
        headers(&[("a", ""), ("x-b", "\u{e9}")]),
        headers(&[("traceparent", TRACE), ("tracestate", "a=1,b=2")]),
        headers(&[("traceparent", "of the message"), ("tracestate", "a=1,b=2")]),
        headers(&[]),
        headers(&[]),
        headers(&[("traceparent", TRACE)]),
        headers(&[]),
    ];
    assert_eq!(of_each(live.take(8).await), expected);
    assert_eq!(received(&mut live_batches, 8).await, expected);

    // Another process has nothing in memory: it reads them from the database.
    cluster.mom(0).restart().await.unwrap();
    let mut client = Client::of(cluster.mom(0)).await;
    let mut late = client.subscribe(&channel, None).await.unwrap();
    assert_eq!(of_each(late.take(8).await), expected);
    let mut late_batches = Receiving::open(&client, &channel, 0, (100, 1 << 20)).await;
    assert_eq!(received(&mut late_batches, 8).await, expected);
}

#[tokio::test]
async fn a_message_whose_headers_are_not_legal_is_refused_and_no_other() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    let many: Vec<_> = (0..17).map(|number| format!("h{number}")).collect();
    let many: Vec<_> = many.iter().map(|name| (&**name, "")).collect();
    let large = "v".repeat(1025);
    let long = "n".repeat(65);
    let full = ["a", "b", "c", "d"].map(|name| (name, &large[2..]));
    let full = [&full[..], &[("e", "")]].concat();
    let wrong: [(Given<'_>, &str, &str); 8] = [
        (&[("", "x")], "no name", "1 to 64"),
        (&[("a b", "x")], "\"a b\"", "1 to 64"),
        (&[(&long, "x")], "65 bytes", "1 to 64"),
        (&[("a", &large)], "\"a\"", "1024"),
        (&[("a", "x\r\n")], "\"a\"", "control"),
        (&[("a", "1"), ("A", "2")], "\"a\"", "once"),
        (&many, "\"h16\"", "16"),
        (&full, "\"e\"", "4096"),
    ];
    let mut pushing = Pushing::open(&client, "q", pusher()).await.unwrap();
    for (place, (given, what, limit)) in wrong.into_iter().enumerate() {
        let outcome = client.0.push_to_queue(push(headers(given))).await;
        let detail = assert_refused(outcome, Code::InvalidArgument, codes::INVALID_ARGUMENT);
        assert!(detail.contains(what) && detail.contains(limit), "{detail}");

        let number = place as u32 * 3 + 1;
        let mut pushed = batch(
            number,
            &[("", &[b"before"]), ("", &[b"x"]), ("", &[b"after"])],
        );
        pushed.runs[1].headers = headers(given);
        pushing.send(pushed);
        let mut outcomes = pushing.outcomes(3).await;
        outcomes.sort_by_key(|outcome| outcome.number);
        let expected = (
            number + 1,
            1,
            Code::InvalidArgument,
            codes::INVALID_ARGUMENT,
        );
        assert_eq!(refused(&outcomes[1]), expected);
        assert_eq!(outcomes[1].refusal.as_ref().unwrap().detail, detail);
        let seqs: Vec<_> = outcomes.iter().map(|outcome| outcome.seq).collect();
        let before = place as i64 * 2;
        assert_eq!(seqs, [before + 1, 0, before + 2]);
    }
}

#[tokio::test]
async fn a_repeat_may_have_other_headers_and_those_of_the_first_stay() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    let channel = client.create_channel("q", protos::NO_TOPIC).await.unwrap();
    for (value, duplicate) in [("first", false), ("second", true)] {
        let mut push = push(headers(&[("traceparent", value)]));
        push.id = "01890000-0000-7000-8000-000000000001".into();
        let pushed = client.0.push_to_queue(push).await.unwrap().into_inner();
        assert_eq!((pushed.seq, pushed.duplicate), (1, duplicate));
    }
    let mut subscription = client.subscribe(&channel, None).await.unwrap();
    let expected = [headers(&[("traceparent", "first")])];
    assert_eq!(of_each(subscription.take(1).await), expected);
}
