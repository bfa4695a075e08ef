//! Pushers and subscribers while MoMs and managers die under them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{LONG, client_of, receive_until};
use futures_util::{StreamExt, stream};
use momclient::{Error, Message, MoMClient, PushOptions, Pusher, Receipt, Uuid};
use protos::RebuildQueueRequest;
use protos::message_stream_client::MessageStreamClient;
use testkit::{Cluster, Direction, wait_until};
use tonic::transport::Endpoint;

type Outcome = Result<Receipt, Error>;

/// Pushes numbers, many at once, and tells what became of each.
async fn push_numbers(pusher: &Pusher, count: usize, done: &AtomicUsize) -> Vec<Outcome> {
    stream::iter(0..count)
        .map(|n| async move {
            let outcome = pusher.push(n.to_string(), None).await;
            done.fetch_add(1, Ordering::Relaxed);
            outcome
        })
        .buffered(64)
        .collect()
        .await
}

/// Which MoM of the cluster hosts a queue, by the manager's word.
async fn host_of(cluster: &Cluster, client: &MoMClient, queue: &str) -> usize {
    let port = client.queue(queue).await.unwrap().port;
    (0..2)
        .find(|index| cluster.mom(*index).port() == port)
        .expect("a MoM of the cluster")
}

/// As [`host_of`], where clients know the MoMs by their proxies.
async fn proxied_host_of(cluster: &Cluster, client: &MoMClient, queue: &str) -> usize {
    let port = client.queue(queue).await.unwrap().port;
    (0..2)
        .find(|index| cluster.mom_proxy(*index).port() == port)
        .expect("a MoM of the cluster")
}

fn assert_ascending(messages: &[Message]) {
    assert!(
        messages.windows(2).all(|pair| pair[0].seq < pair[1].seq),
        "a repeat or a step back"
    );
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_or_repeated_when_the_mom_is_killed_under_load() {
    const COUNT: usize = 6_000;
    let cluster = Cluster::start(2, 1).await.unwrap();
    let client = client_of(&cluster);
    client.create_queue("news").await.unwrap();
    let channel = client.create_channel("news", None).await.unwrap();
    let mut subscriber = client.subscribe(&channel.id).await.unwrap();
    let pusher = client.pusher("news").connections(2).await.unwrap();

    let done = AtomicUsize::new(0);
    let kill = async {
        wait_until("a third of the pushes are done", LONG, || async {
            done.load(Ordering::Relaxed) > COUNT / 3
        })
        .await;
        let host = host_of(&cluster, &client, "news").await;
        cluster.mom(host).kill().await;
        host
    };
    let (outcomes, host) = tokio::join!(push_numbers(&pusher, COUNT, &done), kill);
    let acked: Vec<Receipt> = outcomes.into_iter().map(Result::unwrap).collect();
    assert_ne!(
        host_of(&cluster, &client, "news").await,
        host,
        "the queue did not move"
    );

    let last = acked.iter().map(|receipt| receipt.seq).max().unwrap();
    let messages = receive_until(&mut subscriber, last).await;
    assert_ascending(&messages);
    let delivered: HashMap<_, _> = messages
        .iter()
        .map(|message| (message.id, message.seq))
        .collect();
    for receipt in &acked {
        assert_eq!(
            delivered.get(&receipt.id),
            Some(&receipt.seq),
            "{receipt:?} was acknowledged"
        );
    }
    // One that comes after all this sees the same.
    let mut late = client.subscribe(&channel.id).await.unwrap();
    assert_eq!(receive_until(&mut late, last).await, messages);
}

#[tokio::test]
async fn headers_are_there_after_a_failover_and_for_whoever_catches_up() {
    const COUNT: i64 = 300;
    let cluster = Cluster::start(2, 1).await.unwrap();
    let client = client_of(&cluster);
    client.create_queue("news").await.unwrap();
    let channel = client.create_channel("news", None).await.unwrap();
    let pusher = client.pusher("news").await.unwrap();
    let mut subscriber = client.subscribe(&channel.id).await.unwrap();
    // Every third has none, and some the same as those before them.
    let value_of = |n: i64| (n % 3 > 0).then(|| (n / 6).to_string());
    let push = async |n: i64| {
        let value = value_of(n).unwrap_or_default();
        let options = match n % 3 {
            0 => PushOptions::new(),
            _ => PushOptions::new().header("traceparent", &value),
        };
        let receipt = pusher.push_with(n.to_string(), &options).await;
        assert_eq!(receipt.unwrap().seq, n);
    };
    let in_order = |numbers: std::ops::RangeInclusive<i64>| {
        stream::iter(numbers)
            .map(&push)
            .buffered(64)
            .collect::<()>()
    };
    in_order(1..=COUNT / 2).await;
    let mut messages = receive_until(&mut subscriber, COUNT / 4).await;
    cluster
        .mom(host_of(&cluster, &client, "news").await)
        .kill()
        .await;
    in_order(COUNT / 2 + 1..=COUNT).await;
    messages.extend(receive_until(&mut subscriber, COUNT).await);
    for (n, message) in (1..).zip(&messages) {
        let value = message.headers().get("traceparent").map(str::to_owned);
        assert_eq!((message.seq, value), (n, value_of(n)));
    }
    let mut late = client.subscribe(&channel.id).await.unwrap();
    assert_eq!(receive_until(&mut late, COUNT).await, messages);
}

#[tokio::test]
async fn however_often_connections_break_each_push_makes_one_message_in_its_turn() {
    const COUNT: usize = 6_000;
    let cluster = Cluster::builder()
        .moms(2)
        .managers(1)
        .proxy_moms()
        .start()
        .await
        .unwrap();
    let client = client_of(&cluster);
    client.create_queue("news").await.unwrap();
    let channel = client.create_channel("news", None).await.unwrap();
    let pusher = client.pusher("news").await.unwrap();

    let done = AtomicUsize::new(0);
    // While the answers to some are held back. The last time the MoM itself dies, and its successor knows nothing of
    // those but what the database says.
    let break_connections = async {
        for part in 1..=4 {
            wait_until("some more pushes are done", LONG, || async {
                done.load(Ordering::Relaxed) > part * COUNT / 6
            })
            .await;
            let host = proxied_host_of(&cluster, &client, "news").await;
            let proxy = cluster.mom_proxy(host);
            proxy.blackhole(Direction::FromTarget);
            wait_until("more to be committed than is answered", LONG, || async {
                let sql = "select max(first_seq + count - 1) from message_batch";
                let committed: usize = cluster.psql(sql).await.unwrap().parse().unwrap();
                committed > done.load(Ordering::Relaxed)
            })
            .await;
            if part == 4 {
                cluster.mom(host).kill().await;
            }
            proxy.cut().await;
            proxy.restore().await.unwrap();
        }
    };
    let (outcomes, ()) = tokio::join!(push_numbers(&pusher, COUNT, &done), break_connections);
    let receipts: Vec<Receipt> = outcomes.into_iter().map(Result::unwrap).collect();
    assert!(
        receipts.is_sorted_by_key(|receipt| receipt.seq),
        "a push has overtaken another"
    );
    let duplicates = receipts.iter().filter(|receipt| receipt.duplicate).count();
    assert!(
        duplicates > 0,
        "no answer was held back when a connection broke"
    );

    let last = pusher.push("last", None).await.unwrap();
    let mut subscriber = client.subscribe(&channel.id).await.unwrap();
    let messages = receive_until(&mut subscriber, last.seq).await;
    assert_eq!(
        messages.len(),
        COUNT + 1,
        "a push made two messages or none"
    );
    let by_seq: HashMap<_, _> = messages
        .iter()
        .map(|message| (message.seq, (message.id, message.content.clone())))
        .collect();
    for (n, receipt) in receipts.iter().enumerate() {
        let (id, content) = &by_seq[&receipt.seq];
        assert_eq!((*id, &content[..]), (receipt.id, n.to_string().as_bytes()));
    }
}

#[tokio::test]
async fn in_a_queue_made_anew_a_push_that_is_repeated_is_found_although_sequences_begin_anew() {
    let cluster = Cluster::builder().moms(2).managers(1).proxy_moms().start();
    let cluster = cluster.await.unwrap();
    let client = client_of(&cluster);
    client.create_queue("news").await.unwrap();
    let pusher = client.pusher("news").await.unwrap();
    for _ in 0..5 {
        pusher.push("old", None).await.unwrap();
    }
    client.delete_queue("news").await.unwrap();
    client.create_queue("news").await.unwrap();
    assert_eq!(pusher.push("one", None).await.unwrap().seq, 1);

    let host = proxied_host_of(&cluster, &client, "news").await;
    cluster.mom_proxy(host).blackhole(Direction::FromTarget);
    let repeated = pusher.clone();
    let repeated = tokio::spawn(async move { repeated.push("two", None).await });
    wait_until("the push to be committed", LONG, || async {
        cluster.psql("select count(*) from message").await.unwrap() == "2"
    })
    .await;
    cluster.mom(host).kill().await;
    cluster.mom_proxy(host).cut().await;
    let receipt = repeated.await.unwrap().unwrap();
    assert_eq!((receipt.seq, receipt.duplicate), (2, true));
}

#[tokio::test]
async fn an_id_of_the_callers_own_makes_one_message_even_across_pushers_and_owners() {
    let cluster = Cluster::start(2, 1).await.unwrap();
    let client = client_of(&cluster);
    client.create_queue("news").await.unwrap();
    let channel = client.create_channel("news", None).await.unwrap();
    let id = Uuid::from_u128(7);
    let pusher = client.pusher("news").await.unwrap();
    pusher.push("before", None).await.unwrap();
    let first = pusher.push_with_id(id, "one", Some("t")).await.unwrap();
    assert_eq!((first.id, first.seq, first.duplicate), (id, 2, false));

    cluster
        .mom(host_of(&cluster, &client, "news").await)
        .kill()
        .await;
    let other = client.pusher("news").await.unwrap();
    let second = other.push_with_id(id, "one", Some("t")).await.unwrap();
    assert_eq!((second.id, second.seq, second.duplicate), (id, 2, true));
    for (content, topic) in [("two", Some("t")), ("one", None)] {
        let error = other.push_with_id(id, content, topic).await.unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
        assert_eq!(error.code(), "id_conflict");
    }
    other.push("after", None).await.unwrap();
    let mut subscriber = client.subscribe(&channel.id).await.unwrap();
    let texts: Vec<_> = receive_until(&mut subscriber, 3)
        .await
        .into_iter()
        .map(|message| message.content)
        .collect();
    assert_eq!(texts, ["before", "one", "after"]);
}

#[tokio::test]
async fn pushers_and_subscribers_leave_a_frozen_mom_when_its_queue_has_moved() {
    let cluster = Cluster::start(2, 1).await.unwrap();
    let client = client_of(&cluster);
    client.create_queue("news").await.unwrap();
    let channel = client.create_channel("news", None).await.unwrap();
    let pusher = client.pusher("news").await.unwrap();
    let mut subscriber = client.subscribe(&channel.id).await.unwrap();
    let before = pusher.push("before", None).await.unwrap();
    let mut ids: Vec<_> = receive_until(&mut subscriber, before.seq)
        .await
        .iter()
        .map(|message| message.id)
        .collect();

    let host = host_of(&cluster, &client, "news").await;
    cluster.mom(host).freeze().await.unwrap();
    let after = pusher.push("after", None).await.unwrap();
    assert_ne!(host_of(&cluster, &client, "news").await, host);

    // Nothing breaks the stream but that pings go unanswered.
    let resumed = receive_until(&mut subscriber, after.seq).await;
    ids.extend(resumed.iter().map(|message| message.id));
    assert!(
        ids.contains(&before.id) && ids.contains(&after.id),
        "{ids:?}"
    );
}

#[tokio::test]
async fn pushes_and_subscriptions_go_on_without_a_manager() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    let client = client_of(&cluster);
    client.create_queue("news").await.unwrap();
    let channel = client.create_channel("news", None).await.unwrap();
    let mut subscriber = client.subscribe(&channel.id).await.unwrap();
    let pusher = client.pusher("news").await.unwrap();

    cluster.manager(0).kill().await;
    let receipt = pusher.push("nobody manages", None).await.unwrap();
    assert_eq!(subscriber.next().await.unwrap().unwrap().id, receipt.id);

    // Even when connections must be made anew: the address known last is the best guess.
    cluster.mom(0).kill().await;
    cluster.mom(0).start().await.unwrap();
    let receipt = pusher.push("still nobody", None).await.unwrap();
    let messages = receive_until(&mut subscriber, receipt.seq).await;
    assert_eq!(messages.last().unwrap().id, receipt.id);
    assert!(client.queues().await.is_err());
}

#[tokio::test]
async fn with_two_managers_one_that_is_frozen_or_dead_is_hardly_missed() {
    let cluster = Cluster::start(2, 2).await.unwrap();
    let urls = [cluster.manager(0).url(), cluster.manager(1).url()];
    // One manager alone may take this long, so a client that waited for it would not be served in time.
    let client = MoMClient::builder(urls)
        .request_timeout(LONG)
        .deadline(LONG / 2)
        .build()
        .unwrap();
    client.create_queue("news").await.unwrap();
    let channel = client.create_channel("news", None).await.unwrap();
    cluster.manager(0).freeze().await.unwrap();
    let mut subscriber = client.subscribe(&channel.id).await.unwrap();
    let receipt = client
        .pusher("news")
        .await
        .unwrap()
        .push("one", None)
        .await
        .unwrap();
    assert_eq!(subscriber.next().await.unwrap().unwrap().id, receipt.id);

    cluster.manager(0).kill().await;
    let host = host_of(&cluster, &client, "news").await;
    cluster.mom(host).kill().await;
    let pusher = client.pusher("news").await.unwrap();
    assert_eq!(pusher.push("two", None).await.unwrap().seq, 2);
    assert_ne!(host_of(&cluster, &client, "news").await, host);
}

#[tokio::test]
async fn a_queue_that_moves_while_no_manager_runs_is_found_by_the_word_of_its_former_mom() {
    let cluster = Cluster::start(2, 1).await.unwrap();
    let client = client_of(&cluster);
    client.create_queue("news").await.unwrap();
    let channel = client.create_channel("news", None).await.unwrap();
    let mut subscriber = client.subscribe(&channel.id).await.unwrap();
    let pusher = client.pusher("news").await.unwrap();
    pusher.push("before", None).await.unwrap();
    let other = 1 - host_of(&cluster, &client, "news").await;

    cluster.manager(0).kill().await;
    let endpoint = Endpoint::from_shared(cluster.mom(other).url()).unwrap();
    let mut mom = MessageStreamClient::new(endpoint.connect().await.unwrap());
    let take_over = RebuildQueueRequest {
        queue_label: "news".to_owned(),
        epoch: 0,
        ..Default::default()
    };
    mom.rebuild_queue(take_over).await.unwrap();

    let receipt = pusher.push("after", None).await.unwrap();
    assert_eq!(receipt.seq, 2);
    let messages = receive_until(&mut subscriber, 2).await;
    assert_eq!(messages[1].id, receipt.id);
}
