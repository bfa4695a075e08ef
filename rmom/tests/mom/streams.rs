//! Streams of pushes and of batches, as a client of any language speaks them.

use crate::support::{Client, DEADLINE, cluster, code, start};
use bytes::Bytes;
use protos::{
    BatchSubscription, MessageBatch, OpenPusherRequest, Outcome, PushAnswer, PushBatch,
    RebuildQueueRequest, Run, SubscriptionRequest, codes, ends,
};
use testkit::{Cluster, wait_until};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};
use uuid::Uuid;

/// A stream of pushes to one queue.
pub(super) struct Pushing {
    batches: mpsc::UnboundedSender<PushBatch>,
    answers: Streaming<PushAnswer>,
    opened: PushAnswer,
}

impl Pushing {
    pub(super) async fn open(client: &Client, label: &str, pusher: Uuid) -> Result<Self, Status> {
        let (batches, sent) = mpsc::unbounded_channel();
        let open = OpenPusherRequest {
            queue_label: label.into(),
            pusher: Bytes::copy_from_slice(pusher.as_bytes()),
            settled: 1,
        };
        let opening = PushBatch {
            open: Some(open),
            ..Default::default()
        };
        batches.send(opening).unwrap();
        let sent = UnboundedReceiverStream::new(sent);
        let mut answers = client.0.clone().stream_pushes(sent).await?.into_inner();
        let opened = answers.message().await?.expect("an answer to the opening");
        Ok(Self {
            batches,
            answers,
            opened,
        })
    }

    pub(super) fn send(&self, batch: PushBatch) {
        self.batches.send(batch).unwrap();
    }

    /// The outcomes of so many messages.
    pub(super) async fn outcomes(&mut self, messages: u32) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        while outcomes
            .iter()
            .map(|outcome: &Outcome| outcome.count)
            .sum::<u32>()
            < messages
        {
            let answer = timeout(DEADLINE, self.answers.message()).await;
            outcomes.extend(answer.expect("outcomes").unwrap().unwrap().outcomes);
        }
        outcomes
    }

    async fn end(mut self) -> Status {
        loop {
            match timeout(DEADLINE, self.answers.message())
                .await
                .expect("an end")
            {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("the stream ended"),
                Err(status) => return status,
            }
        }
    }
}

pub(super) fn pusher() -> Uuid {
    Uuid::from_u128(Uuid::now_v7().as_u128() & !u128::from(u32::MAX))
}

/// One run for each group of contents, the first message numbered `number`.
pub(super) fn batch(number: u32, runs: &[(&str, &[&[u8]])]) -> PushBatch {
    let (mut all_ends, mut contents) = (Vec::new(), Vec::new());
    for content in runs.iter().flat_map(|(_, contents)| *contents) {
        contents.extend_from_slice(content);
        ends::push(&mut all_ends, contents.len());
    }
    let run = |(topic, contents): &(&str, &[&[u8]])| Run {
        count: contents.len() as u32,
        topic: (*topic).into(),
        ..Default::default()
    };
    PushBatch {
        settled: 1,
        number,
        runs: runs.iter().map(run).collect(),
        ends: all_ends.into(),
        contents: contents.into(),
        ..Default::default()
    }
}

pub(super) fn committed(number: u32, count: u32, seq: i64) -> Outcome {
    Outcome {
        number,
        count,
        seq,
        ..Default::default()
    }
}

/// What a refusal says: number, count, status, code.
pub(super) fn refused(outcome: &Outcome) -> (u32, u32, Code, &str) {
    let refusal = outcome.refusal.as_ref().expect("a refusal");
    assert!(!refusal.detail.is_empty());
    let status = Code::from(refusal.status);
    (outcome.number, outcome.count, status, &refusal.code)
}

/// A stream of batches.
pub(super) struct Receiving {
    grants: mpsc::UnboundedSender<BatchSubscription>,
    pub(super) batches: Streaming<MessageBatch>,
}

impl Receiving {
    pub(super) async fn open(
        client: &Client,
        channel_id: &str,
        after: i64,
        credit: (u32, u64),
    ) -> Self {
        let (grants, sent) = mpsc::unbounded_channel();
        let subscribe = SubscriptionRequest {
            channel_id: channel_id.into(),
            after_seq: Some(after),
            ..Default::default()
        };
        let first = BatchSubscription {
            subscribe: Some(subscribe),
            messages: credit.0,
            bytes: credit.1,
        };
        grants.send(first).unwrap();
        let sent = UnboundedReceiverStream::new(sent);
        let batches = client.0.clone().subscribe_to_batches(sent).await.unwrap();
        Self {
            grants,
            batches: batches.into_inner(),
        }
    }

    fn grant(&self, messages: u32, bytes: u64) {
        let grant = BatchSubscription {
            subscribe: None,
            messages,
            bytes,
        };
        self.grants.send(grant).unwrap();
    }

    /// The next batch, as sequence, id, topic and content of each message.
    async fn next(&mut self) -> Vec<(i64, Uuid, String, Bytes)> {
        let batch = timeout(DEADLINE, self.batches.message())
            .await
            .expect("a batch");
        let batch = batch.unwrap().expect("a batch");
        let (mut messages, mut seq) = (Vec::new(), batch.first_seq);
        for run in batch.runs {
            seq += i64::from(run.gap);
            for number in 0..u128::from(run.count) {
                let id = Uuid::from_slice(&run.id).unwrap().as_u128() + number;
                let content = batch
                    .contents
                    .slice(ends::range(&batch.ends, messages.len()));
                messages.push((seq, Uuid::from_u128(id), run.topic.clone(), content));
                seq += 1;
            }
        }
        messages
    }

    async fn seqs(&mut self) -> Vec<i64> {
        self.next().await.iter().map(|message| message.0).collect()
    }
}

/// Somebody holds the queue's row until what is returned is told to let go.
async fn hold(cluster: &std::sync::Arc<Cluster>, label: &str) -> impl AsyncFnOnce() + use<> {
    let hold = format!(
        "begin; select 1 from queue where label = '{label}' for update; select pg_sleep(600)"
    );
    let holding = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.psql(&hold).await }
    });
    let is_held = "select count(*) from pg_stat_activity where query like 'begin;%pg_sleep%' and wait_event = 'PgSleep'";
    wait_until("the row to be held", DEADLINE, async || {
        cluster.psql(is_held).await.unwrap() == "1"
    })
    .await;
    let cluster = cluster.clone();
    async move || {
        let release = "select pg_terminate_backend(pid) from pg_stat_activity where query like 'begin;%pg_sleep%'";
        cluster.psql(release).await.unwrap();
        holding.await.unwrap().unwrap_err();
    }
}

#[tokio::test]
async fn a_batch_is_committed_in_order_and_what_is_wrong_with_a_message_concerns_no_other() {
    let cluster = start(
        Cluster::builder()
            .moms(1)
            .mom_setting("max_message_bytes", 1024),
    )
    .await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    let channel = client.create_channel("q", "__none__").await.unwrap();
    let pusher = pusher();
    let mut pushing = Pushing::open(&client, "Q", pusher).await.unwrap();
    assert!(pushing.opened.window_messages > 0 && pushing.opened.window_bytes > 0);

    pushing.send(batch(1, &[("", &[b"one", b""]), ("Sports", &[b"three"])]));
    assert_eq!(pushing.outcomes(3).await, [committed(1, 3, 1)]);
    // The third is too large, the topic of the fifth is none; the window of numbers goes on.
    let large = [0; 1025];
    pushing.send(batch(
        4,
        &[
            ("", &[b"4", b"5", &large, b"7"]),
            ("no topic!", &[b"8"]),
            ("", &[b"9"]),
        ],
    ));
    let mut outcomes = pushing.outcomes(6).await;
    outcomes.sort_unstable_by_key(|outcome| outcome.number);
    let (ok, no): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|outcome| outcome.seq > 0);
    assert_eq!(
        ok,
        [committed(4, 2, 4), committed(7, 1, 6), committed(9, 1, 7)]
    );
    assert_eq!(
        no.iter().map(refused).collect::<Vec<_>>(),
        [
            (6, 1, Code::InvalidArgument, codes::MESSAGE_TOO_LARGE),
            (8, 1, Code::InvalidArgument, codes::INVALID_TOPIC)
        ]
    );
    // All or none.
    let mut together = batch(10, &[("", &[b"10", &large])]);
    together.runs[0].together = true;
    pushing.send(together);
    let outcomes = pushing.outcomes(2).await;
    assert_eq!(
        outcomes.iter().map(refused).collect::<Vec<_>>(),
        [(10, 2, Code::InvalidArgument, codes::MESSAGE_TOO_LARGE)]
    );

    let mut received = client.subscribe(&channel, None).await.unwrap();
    let shown = received.take(7).await.into_iter().map(|message| {
        let content = String::from_utf8(message.content.to_vec()).unwrap();
        (message.id, message.topic, content)
    });
    let id = |number: u128| Uuid::from_u128(pusher.as_u128() + number).to_string();
    let none = || "__none__".to_owned();
    let expected = [
        (id(1), none(), "one".into()),
        (id(2), none(), String::new()),
        (id(3), "sports".into(), "three".into()),
        (id(4), none(), "4".into()),
        (id(5), none(), "5".into()),
        (id(7), none(), "7".into()),
        (id(9), none(), "9".into()),
    ];
    assert_eq!(shown.collect::<Vec<_>>(), expected);
    drop(pushing.batches);
    assert_eq!(
        pushing.answers.message().await.unwrap(),
        None,
        "it ends with the client's end"
    );
}

#[tokio::test]
async fn a_batch_that_makes_no_sense_ends_the_stream_and_nothing_of_it_is_taken() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    let sound = || batch(1, &[("", &[b"a", b"b"])]);
    let broken: [(&str, PushBatch); 7] = [
        (
            "number",
            PushBatch {
                number: 0,
                ..sound()
            },
        ),
        (
            "number",
            PushBatch {
                number: u32::MAX,
                ..sound()
            },
        ),
        (
            "ends",
            PushBatch {
                ends: Bytes::new(),
                ..sound()
            },
        ),
        (
            "ends",
            PushBatch {
                contents: Bytes::from_static(b"a"),
                ..sound()
            },
        ),
        ("runs", batch(1, &[("", &vec![&b"x"[..]; 1025])])),
        (
            "runs.count",
            PushBatch {
                runs: vec![Run::default()],
                ..sound()
            },
        ),
        ("contents", batch(1, &[("", &[&vec![0; 1 << 20], b"x"])])),
    ];
    for (field, broken) in broken {
        let pushing = Pushing::open(&client, "q", pusher()).await.unwrap();
        pushing.send(broken);
        let status = pushing.end().await;
        assert_eq!(
            (status.code(), code(&status)),
            (Code::InvalidArgument, codes::INVALID_ARGUMENT)
        );
        assert!(status.message().starts_with(field), "{field}: {status:?}");
    }
    assert_eq!(
        client.push("q", "x", b"-").await.unwrap().seq,
        1,
        "none of it was taken"
    );
}

#[tokio::test]
async fn repeats_are_known_again_however_they_are_grouped_and_by_whoever_owns_the_queue() {
    let cluster = cluster(2).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    let pusher = pusher();
    let mut pushing = Pushing::open(&client, "q", pusher).await.unwrap();
    pushing.send(batch(1, &[("", &[b"1", b"2", b"3", b"4"])]));
    assert_eq!(pushing.outcomes(4).await, [committed(1, 4, 1)]);

    let again = |number, contents: &[&[u8]]| PushBatch {
        after_seq: Some(0),
        ..batch(number, &[("", contents)])
    };
    let duplicate = |number, count, seq| Outcome {
        duplicate: true,
        ..committed(number, count, seq)
    };
    let mut other = Pushing::open(&client, "q", pusher).await.unwrap();
    other.send(again(3, &[b"3", b"4", b"5"]));
    let mut outcomes = other.outcomes(3).await;
    outcomes.sort_unstable_by_key(|outcome| outcome.number);
    assert_eq!(outcomes, [duplicate(3, 2, 3), committed(5, 1, 5)]);
    // An id that the pusher brings.
    let key = Uuid::now_v7();
    let keyed = |number| {
        let mut keyed = batch(number, &[("", &[b"keyed"])]);
        keyed.runs[0].id = Bytes::copy_from_slice(key.as_bytes());
        keyed
    };
    other.send(keyed(6));
    assert_eq!(other.outcomes(1).await, [committed(6, 1, 6)]);

    let mut next = Client::of(cluster.mom(1)).await;
    let rebuild = RebuildQueueRequest {
        queue_label: "q".into(),
        ..Default::default()
    };
    next.0.rebuild_queue(rebuild).await.unwrap();
    pushing.send(batch(7, &[("", &[b"to the former owner"])]));
    let ended = pushing.end().await;
    assert_eq!(code(&ended), codes::NOT_OWNER);
    let owner = ended.metadata().get(protos::OWNER_METADATA).unwrap();
    assert_eq!(
        owner,
        format!("127.0.0.1:{}", cluster.mom(1).port()).as_str()
    );

    let mut pushing = Pushing::open(&next, "q", pusher).await.unwrap();
    assert_eq!(pushing.opened.seq, 6);
    pushing.send(again(2, &[b"2", b"3", b"4", b"5"]));
    assert_eq!(pushing.outcomes(4).await, [duplicate(2, 4, 2)]);
    pushing.send(keyed(8));
    assert_eq!(pushing.outcomes(1).await, [duplicate(8, 1, 6)]);
    pushing.send(batch(7, &[("", &[b"7"])]));
    assert_eq!(pushing.outcomes(1).await, [committed(7, 1, 7)]);
}

#[tokio::test]
async fn after_a_refusal_for_now_nothing_later_is_accepted_until_it_comes_again() {
    let cluster = start(
        Cluster::builder()
            .moms(1)
            .mom_setting("queue_buffer_size", 2),
    )
    .await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    let mut pushing = Pushing::open(&client, "q", pusher()).await.unwrap();
    let let_go = hold(&cluster, "q").await;
    for number in 1..=3 {
        pushing.send(batch(number, &[("", &[b"-"])]));
    }
    // Two wait, the third has no room.
    let full = pushing.outcomes(1).await;
    assert_eq!(
        full.iter().map(refused).collect::<Vec<_>>(),
        [(3, 1, Code::ResourceExhausted, codes::OVERLOADED)]
    );
    let_go().await;
    assert_eq!(pushing.outcomes(2).await, [committed(1, 2, 1)]);
    // There is room, but not for what comes after it.
    pushing.send(batch(4, &[("", &[b"-"])]));
    let behind = pushing.outcomes(1).await;
    assert_eq!(
        behind.iter().map(refused).collect::<Vec<_>>(),
        [(4, 1, Code::ResourceExhausted, codes::OVERLOADED)]
    );
    pushing.send(batch(3, &[("", &[b"-"])]));
    assert_eq!(pushing.outcomes(1).await, [committed(3, 1, 3)]);
    pushing.send(batch(4, &[("", &[b"-"])]));
    assert_eq!(pushing.outcomes(1).await, [committed(4, 1, 4)]);
}

#[tokio::test]
async fn batches_come_as_far_as_the_credit_goes_and_with_a_topic_only_those() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    let all = client.create_channel("q", "__none__").await.unwrap();
    let sports = client.create_channel("q", "sports").await.unwrap();
    let pusher = pusher();
    let mut pushing = Pushing::open(&client, "q", pusher).await.unwrap();
    let mut live = Receiving::open(&client, &all, 0, (3, 1000)).await;
    let mut live_sports = Receiving::open(&client, &sports, 0, (10, 1000)).await;
    let runs: [(&str, &[&[u8]]); 3] = [
        ("", &[b"1", b"2"]),
        ("sports", &[b"3"]),
        ("", &[b"4", b"5"]),
    ];
    pushing.send(batch(1, &runs));
    pushing.outcomes(5).await;

    let id = |number: u128| Uuid::from_u128(pusher.as_u128() + number);
    let goal = (3, id(3), "sports".to_owned(), Bytes::from_static(b"3"));
    assert_eq!(live_sports.next().await, std::slice::from_ref(&goal));
    let first = live.next().await;
    assert_eq!(
        first[0],
        (1, id(1), String::new(), Bytes::from_static(b"1"))
    );
    assert_eq!(first[2], goal);
    live.grant(1, 0);
    assert_eq!(live.seqs().await, [4], "one more, and no further");
    live.grant(1, 0);
    assert_eq!(live.seqs().await, [5]);

    // From the database, and bounded by bytes.
    let mut late = Receiving::open(&client, &all, 1, (10, 2)).await;
    assert_eq!(late.seqs().await, [2, 3]);
    late.grant(0, 1);
    assert_eq!(late.seqs().await, [4]);
    let mut late_sports = Receiving::open(&client, &sports, 0, (10, 1000)).await;
    assert_eq!(late_sports.next().await, [goal]);

    // With neither credit nor anybody to grant it, there is nothing to wait for.
    drop(late.grants);
    let end = timeout(DEADLINE, late.batches.message())
        .await
        .expect("an end");
    assert_eq!(end.unwrap(), None);
}
