//! What a MoM does when processes end, the database goes away, and subscribers are slow.

use crate::support::{Client, DEADLINE, assert_refused, cluster, code, start};
use protos::{RebuildQueueRequest, codes};
use testkit::{Cluster, Stop, wait_until};
use tonic::Code;

#[tokio::test]
async fn a_killed_mom_restores_its_queues_when_it_starts_again_without_a_manager() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    let channel = client.create_channel("q", "__none__").await.unwrap();
    for text in ["one", "two"] {
        client.push("q", "x", text.as_bytes()).await.unwrap();
    }
    cluster.manager(0).kill().await;
    cluster.mom(0).kill().await;
    cluster.mom(0).start().await.unwrap();

    let mut client = Client::of(cluster.mom(0)).await;
    assert_eq!(client.push("q", "x", b"three").await.unwrap().seq, 3);
    let mut subscription = client.subscribe(&channel, None).await.unwrap();
    assert_eq!(subscription.texts(3).await, ["one", "two", "three"]);
    assert_eq!(
        cluster
            .psql("select epoch from queue")
            .await
            .unwrap()
            .trim(),
        "2",
        "an older process is fenced"
    );
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_loses_nothing_and_delays_nobody() {
    let cluster = start(
        Cluster::builder()
            .moms(1)
            .managers(1)
            .mom_setting("queue_buffer_size", 16),
    )
    .await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    let channel = client.create_channel("q", "__none__").await.unwrap();
    let mut slow = Client::of(cluster.mom(0))
        .await
        .subscribe(&channel, None)
        .await
        .unwrap();
    let mut quick = Client::of(cluster.mom(0))
        .await
        .subscribe(&channel, None)
        .await
        .unwrap();
    // Far more than the buffers of the MoM and of both ends of the connection hold.
    let content = vec![b'x'; 64 << 10];
    for seq in 1..=400 {
        assert_eq!(client.push("q", "x", &content).await.unwrap().seq, seq);
        assert_eq!(quick.next().await.unwrap().seq, seq);
    }
    let seen: Vec<i64> = slow
        .take(400)
        .await
        .iter()
        .map(|message| message.seq)
        .collect();
    assert_eq!(seen, (1..=400).collect::<Vec<_>>());
    client.push("q", "x", b"live again").await.unwrap();
    assert_eq!(slow.texts(1).await, ["live again"]);
}

#[tokio::test]
async fn many_pushes_at_once_get_consecutive_sequences_and_share_commits() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    for label in ["a", "b"] {
        client.create_queue(label).await.unwrap();
    }
    let push = |index: usize| {
        let mut client = client.clone();
        let label = if index.is_multiple_of(3) { "a" } else { "b" };
        tokio::spawn(async move {
            (
                label,
                client
                    .push(label, "x", index.to_string().as_bytes())
                    .await
                    .unwrap()
                    .seq,
            )
        })
    };
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for task in (0..900).map(push).collect::<Vec<_>>() {
        match task.await.unwrap() {
            ("a", seq) => a.push(seq),
            (_, seq) => b.push(seq),
        }
    }
    a.sort_unstable();
    b.sort_unstable();
    assert_eq!((a, b), ((1..=300).collect(), (1..=600).collect()));
    let gaps = "select count(*) from (select first_seq, lag(first_seq + count, 1, 1::bigint)
        over (partition by queue_id order by first_seq) as expected from message_batch) b where first_seq <> expected";
    assert_eq!(cluster.psql(gaps).await.unwrap().trim(), "0");
    let batches: usize = cluster
        .psql("select count(*) from message_batch")
        .await
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(batches < 900, "{batches} batches for 900 messages");
}

#[tokio::test]
async fn while_the_database_is_away_pushes_are_refused_and_afterwards_nothing_is_missing_or_twice()
{
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    let channel = client.create_channel("q", "__none__").await.unwrap();
    let mut subscription = client.subscribe(&channel, None).await.unwrap();
    client.push("q", "x", b"before").await.unwrap();
    cluster.postgres().stop(Stop::Immediate).await.unwrap();

    // The push that finds out waits for its outcome; those that come later are refused.
    let mut other = client.clone();
    let caught = tokio::spawn(async move { other.push("q", "x", b"caught").await });
    wait_until("pushes are refused", DEADLINE, async || {
        let refused = tokio::time::timeout(DEADLINE, client.clone().push("q", "x", b"refused"))
            .await
            .unwrap();
        refused.is_err_and(|status| {
            status.code() == Code::Unavailable && code(&status) == codes::DATABASE_UNAVAILABLE
        })
    })
    .await;
    cluster.postgres().start().await.unwrap();
    let caught = caught.await.unwrap();
    wait_until("pushes are taken again", DEADLINE, async || {
        client.clone().push("q", "x", b"after").await.is_ok()
    })
    .await;

    let mut seen = subscription.texts(1).await;
    assert_eq!(seen, ["before"]);
    while seen.last().is_some_and(|text| text != "after") {
        seen.extend(subscription.texts(1).await);
    }
    let times = seen.iter().filter(|text| *text == "caught").count();
    match caught {
        Ok(_) => assert_eq!(times, 1, "{seen:?}"),
        Err(status) => assert!(times <= 1, "{status:?} {seen:?}"),
    }
    let stored = cluster
        .psql("select convert_from(content, 'utf8') from message order by seq")
        .await
        .unwrap();
    assert_eq!(
        stored.lines().collect::<Vec<_>>(),
        seen,
        "delivered is what is stored"
    );
}

#[tokio::test]
async fn a_connection_that_breaks_in_mid_commit_leaves_one_message_or_none() {
    let cluster = start(Cluster::builder().moms(1).managers(1).proxy_databases()).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    client.push("q", "x", b"0").await.unwrap();
    let proxy = cluster.mom_database_proxy(0);
    let mut outcomes = Vec::new();
    for round in 1..=10 {
        let mut pushing = client.clone();
        let push =
            tokio::spawn(async move { pushing.push("q", "x", round.to_string().as_bytes()).await });
        // At no particular moment: before, within or after the statement.
        proxy.cut().await;
        proxy.restore().await.unwrap();
        outcomes.push((round.to_string(), push.await.unwrap()));
        wait_until("pushes are taken again", DEADLINE, async || {
            client.clone().push("q", "x", b"-").await.is_ok()
        })
        .await;
    }
    let stored = cluster
        .psql("select convert_from(content, 'utf8') from message order by seq")
        .await
        .unwrap();
    for (text, outcome) in outcomes {
        let times = stored.lines().filter(|line| *line == text).count();
        match outcome {
            Ok(_) => assert_eq!(times, 1, "{text}"),
            Err(status) if code(&status) == codes::DATABASE_UNAVAILABLE => {
                assert_eq!(times, 0, "{text} {status:?}");
            }
            Err(status) => assert!(times <= 1, "{text} {status:?}"),
        }
    }
}

#[tokio::test]
async fn a_lock_on_one_queue_delays_no_other_and_what_waited_is_committed_when_it_is_gone() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    for label in ["held", "free"] {
        client.create_queue(label).await.unwrap();
    }
    let holder = cluster.clone();
    let session = "begin; select from queue where label = 'held' for update; select pg_sleep(60)";
    let holding = tokio::spawn(async move { holder.psql(session).await });
    let sleeps = "select count(*) from pg_stat_activity where query like 'begin;%' and wait_event = 'PgSleep'";
    wait_until("the row to be held", DEADLINE, async || {
        cluster.psql(sleeps).await.unwrap() == "1"
    })
    .await;

    // More than one batch, and still coming while the queue is tried again and again; less than the connection carries.
    let pushing = client.clone();
    let push = |_| {
        let mut client = pushing.clone();
        tokio::spawn(async move { client.push("held", "x", b"-").await })
    };
    let mut waiting: Vec<_> = (0..1500).map(push).collect();
    for seq in 1..=20 {
        assert_eq!(client.push("free", "x", b"-").await.unwrap().seq, seq);
        waiting.extend((0..20).map(push));
    }
    assert!(waiting.iter().all(|push| !push.is_finished()));
    let release =
        "select pg_terminate_backend(pid) from pg_stat_activity where query like 'begin;%'";
    cluster.psql(release).await.unwrap();
    let mut seqs = Vec::new();
    for push in waiting {
        seqs.push(push.await.unwrap().unwrap().seq);
    }
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=1900).collect::<Vec<_>>());
    let stored = "select count(*) from message where queue_label = 'held'";
    assert_eq!(cluster.psql(stored).await.unwrap(), "1900");
    holding.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_frozen_mom_that_wakes_up_after_a_takeover_acknowledges_nothing() {
    let cluster = cluster(2).await;
    let mut frozen = Client::of(cluster.mom(0)).await;
    let mut other = Client::of(cluster.mom(1)).await;
    frozen.create_queue("q").await.unwrap();
    let channel = frozen.create_channel("q", "__none__").await.unwrap();
    frozen.push("q", "x", b"one").await.unwrap();
    cluster.mom(0).freeze().await.unwrap();
    let mut pushing = frozen.clone();
    let push = tokio::spawn(async move { pushing.push("q", "x", b"into the ice").await });
    // The manager may be faster; then the takeover by hand comes on top.
    let rebuilt = other
        .0
        .rebuild_queue(RebuildQueueRequest {
            queue_label: "q".into(),
            epoch: 0,
            ..Default::default()
        })
        .await;
    rebuilt.unwrap();
    assert_eq!(other.push("q", "x", b"two").await.unwrap().seq, 2);
    cluster.mom(0).thaw().await.unwrap();
    let refused = push.await.unwrap();
    let owner = refused.as_ref().unwrap_err().metadata();
    let owner = owner.get(protos::OWNER_METADATA).cloned();
    assert_refused(refused, Code::FailedPrecondition, codes::NOT_OWNER);
    let here = format!("127.0.0.1:{}", cluster.mom(1).port());
    assert_eq!(
        owner.unwrap(),
        here.as_str(),
        "who is refused is told where to go"
    );
    let mut subscription = other.subscribe(&channel, None).await.unwrap();
    assert_eq!(subscription.texts(2).await, ["one", "two"]);
}

#[tokio::test]
async fn a_mom_that_is_told_to_stop_answers_what_it_accepted_and_ends_its_subscriptions() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    let channel = client.create_channel("q", "__none__").await.unwrap();
    let mut subscription = client.subscribe(&channel, None).await.unwrap();
    client.push("q", "x", b"one").await.unwrap();
    assert_eq!(subscription.texts(1).await, ["one"]);
    let (status, last) = tokio::join!(cluster.mom(0).terminate(), subscription.next());
    assert_refused(last, Code::Unavailable, codes::STOPPING);
    let status = status.unwrap();
    assert!(
        status.success(),
        "{status:?}\n{}",
        cluster.mom(0).log_tail()
    );
}

#[tokio::test]
async fn a_database_that_is_not_durable_is_refused_at_the_start() {
    let cluster = cluster(1).await;
    cluster.mom(0).terminate().await.unwrap();
    let database = cluster.database().to_owned();
    cluster
        .psql(&format!(
            "alter database {database} set synchronous_commit = off"
        ))
        .await
        .unwrap();
    cluster.mom(0).spawn().unwrap();
    let status = cluster.mom(0).ended(DEADLINE).await.unwrap();
    assert!(!status.success());
    let log = cluster.mom(0).log_of_this_run();
    assert!(
        log.contains("synchronous_commit = off") && log.contains("allow_undurable_database"),
        "{log}"
    );
}
