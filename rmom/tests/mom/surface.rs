//! Every RPC of a MoM, and every way in which it refuses.

use crate::support::{Client, DEADLINE, assert_refused, cluster, start};
use protos::{
    DeleteChannelRequest, DeleteQueueRequest, HeartbeatRequest, ListChannelsRequest,
    ListQueuesRequest, RebuildQueueRequest, codes,
};
use testkit::{Cluster, Folder, Mom, MomConfig, Postgres, ensure_built, free_port, wait_until};
use tonic::Code;

#[tokio::test]
async fn a_channel_sees_the_messages_of_its_topic_and_one_without_topic_sees_all() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("News").await.unwrap();
    let all = client.create_channel("news", "__none__").await.unwrap();
    let sports = client.create_channel("NEWS", "Sports").await.unwrap();
    let mut all_live = client.subscribe(&all, None).await.unwrap();
    let mut sports_live = client.subscribe(&sports, None).await.unwrap();

    let plain = client.push("nEWS", "__none__", b"plain").await.unwrap();
    let goal = client.push("news", "SPORTS", b"goal").await.unwrap();
    client.push("news", "weather", b"").await.unwrap();
    assert_eq!((plain.seq, goal.seq), (1, 2));

    let seen = all_live.take(3).await;
    let shown: Vec<_> = seen
        .iter()
        .map(|m| (m.seq, m.topic.as_str(), &m.content[..]))
        .collect();
    assert_eq!(
        shown,
        [
            (1, "__none__", &b"plain"[..]),
            (2, "sports", b"goal"),
            (3, "weather", b"")
        ]
    );
    assert_eq!((&seen[0].id, &seen[1].id), (&plain.id, &goal.id));
    assert_eq!(sports_live.take(1).await, [seen[1].clone()]);

    // Several subscribers of one channel each receive everything, also from before they came.
    let mut late = client.subscribe(&all, None).await.unwrap();
    assert_eq!(late.take(3).await, seen);
    let mut resumed = client.subscribe(&all, Some(1)).await.unwrap();
    assert_eq!(resumed.take(2).await, seen[1..]);
    let mut channel_made_later = {
        let channel = client.create_channel("news", "weather").await.unwrap();
        client.subscribe(&channel, None).await.unwrap()
    };
    assert_eq!(channel_made_later.take(1).await, seen[2..]);
}

#[tokio::test]
async fn lists_name_what_is_there_and_deletions_take_it_away() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    for label in ["b", "a"] {
        client.create_queue(label).await.unwrap();
    }
    let on_a = client.create_channel("a", "x").await.unwrap();
    let on_b = client.create_channel("b", "x").await.unwrap();
    let queues = client
        .0
        .list_queues(ListQueuesRequest {})
        .await
        .unwrap()
        .into_inner()
        .queues;
    assert_eq!(queues, ["a", "b"]);
    let channels = client
        .0
        .list_channels(ListChannelsRequest {})
        .await
        .unwrap()
        .into_inner()
        .channels;
    assert_eq!(channels, [on_a.clone(), on_b.clone()]);
    let heartbeat = client
        .0
        .get_heartbeat(HeartbeatRequest {
            with_queues: true,
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    let hosted: Vec<_> = heartbeat
        .hosted
        .iter()
        .map(|h| (h.queue_label.as_str(), h.epoch))
        .collect();
    assert_eq!(hosted, [("a", 1), ("b", 1)]);
    let silent = client
        .0
        .get_heartbeat(HeartbeatRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(silent.hosted.is_empty());

    let mut subscription = client.subscribe(&on_b, None).await.unwrap();
    client.push("b", "x", b"1").await.unwrap();
    client
        .0
        .delete_channel(DeleteChannelRequest {
            channel_id: on_b.clone(),
        })
        .await
        .unwrap();
    assert_eq!(subscription.take(1).await.len(), 1);
    assert_refused(
        subscription.next().await,
        Code::NotFound,
        codes::CHANNEL_NOT_FOUND,
    );
    assert_refused(
        client.subscribe(&on_b, None).await.map(|_| ()),
        Code::NotFound,
        codes::CHANNEL_NOT_FOUND,
    );

    let mut subscription = client.subscribe(&on_a, None).await.unwrap();
    client.push("a", "x", b"1").await.unwrap();
    client
        .0
        .delete_queue(DeleteQueueRequest {
            queue_label: "A".into(),
            ..Default::default()
        })
        .await
        .unwrap();
    let _ = subscription.next().await;
    assert_refused(
        subscription.next().await,
        Code::FailedPrecondition,
        codes::NOT_OWNER,
    );
    assert_refused(
        client.push("a", "x", b"2").await,
        Code::NotFound,
        codes::QUEUE_NOT_FOUND,
    );
    let left = cluster
        .psql("select (select count(*) from message), (select count(*) from channel)")
        .await
        .unwrap();
    assert_eq!(left.trim(), "1|0", "the message of the other queue stays");
    client.create_queue("a").await.unwrap();
    assert_eq!(
        client.push("a", "x", b"1").await.unwrap().seq,
        1,
        "a new queue of the same label begins anew"
    );
}

#[tokio::test]
async fn bad_names_and_ids_are_refused_by_name() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    let long = "x".repeat(256);
    for label in ["", "a b", "caf\u{e9}", "a\nb", "a/b", "__none__", &long] {
        let said = assert_refused(
            client.create_queue(label).await,
            Code::InvalidArgument,
            codes::INVALID_LABEL,
        );
        assert!(
            said.contains("label") && said.contains("legal are"),
            "{said}"
        );
        assert_refused(
            client.push(label, "x", b"").await,
            Code::InvalidArgument,
            codes::INVALID_LABEL,
        );
        assert_refused(
            client.create_channel(label, "x").await,
            Code::InvalidArgument,
            codes::INVALID_LABEL,
        );
    }
    for topic in ["", "a b", "\u{0}", &long] {
        assert_refused(
            client.push("q", topic, b"").await,
            Code::InvalidArgument,
            codes::INVALID_TOPIC,
        );
        assert_refused(
            client.create_channel("q", topic).await,
            Code::InvalidArgument,
            codes::INVALID_TOPIC,
        );
    }
    for id in ["", "7", "not-a-uuid", &long] {
        let refused = client.subscribe(id, None).await.map(|_| ());
        assert_refused(refused, Code::InvalidArgument, codes::INVALID_CHANNEL_ID);
    }
}

#[tokio::test]
async fn what_is_unknown_or_over_a_limit_is_refused_by_name() {
    let cluster = start(
        Cluster::builder()
            .moms(1)
            .managers(1)
            .mom_env("RMOM_MAX_SUBSCRIPTIONS", "1"),
    )
    .await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    let unknown = "01890000-0000-7000-8000-000000000000";
    assert_refused(
        client.subscribe(unknown, None).await.map(|_| ()),
        Code::NotFound,
        codes::CHANNEL_NOT_FOUND,
    );
    let channel = client.create_channel("q", "x").await.unwrap();
    let refused = client.subscribe(&channel, Some(-1)).await.map(|_| ());
    assert_refused(refused, Code::InvalidArgument, codes::INVALID_ARGUMENT);
    let _first = client.subscribe(&channel, None).await.unwrap();
    assert_refused(
        client.subscribe(&channel, None).await.map(|_| ()),
        Code::ResourceExhausted,
        codes::OVERLOADED,
    );

    assert_refused(
        client.push("nowhere", "x", b"").await,
        Code::NotFound,
        codes::QUEUE_NOT_FOUND,
    );
    assert_refused(
        client.create_channel("nowhere", "x").await,
        Code::NotFound,
        codes::QUEUE_NOT_FOUND,
    );
    assert_refused(
        client.create_queue("Q").await,
        Code::AlreadyExists,
        codes::QUEUE_EXISTS,
    );
    let nowhere = DeleteQueueRequest {
        queue_label: "nowhere".into(),
        ..Default::default()
    };
    assert_refused(
        client.0.delete_queue(nowhere).await,
        Code::NotFound,
        codes::QUEUE_NOT_FOUND,
    );
    let nothing = DeleteChannelRequest {
        channel_id: unknown.into(),
    };
    assert_refused(
        client.0.delete_channel(nothing).await,
        Code::NotFound,
        codes::CHANNEL_NOT_FOUND,
    );
    let negative = RebuildQueueRequest {
        queue_label: "q".into(),
        epoch: -1,
        ..Default::default()
    };
    assert_refused(
        client.0.rebuild_queue(negative).await,
        Code::InvalidArgument,
        codes::INVALID_ARGUMENT,
    );

    let largest = vec![7; 1 << 20];
    assert_eq!(
        client.push("q", "x", &largest).await.unwrap().seq,
        1,
        "none of the refused was kept"
    );
    let said = client
        .push("q", "x", &[largest.as_slice(), &[7]].concat())
        .await;
    let said = assert_refused(said, Code::InvalidArgument, codes::MESSAGE_TOO_LARGE);
    assert!(
        said.contains("1048577") && said.contains("1048576"),
        "{said}"
    );
    let huge = client.push("q", "x", &vec![7; 5 << 20]).await.unwrap_err();
    assert_eq!(huge.code(), Code::OutOfRange, "{huge:?}");
    assert_eq!(client.push("q", "x", b"").await.unwrap().seq, 2);
}

#[tokio::test]
async fn a_queue_is_rebuilt_elsewhere_and_its_former_owner_is_fenced() {
    let cluster = cluster(2).await;
    let mut first = Client::of(cluster.mom(0)).await;
    let mut second = Client::of(cluster.mom(1)).await;
    first.create_queue("q").await.unwrap();
    let channel = first.create_channel("q", "__none__").await.unwrap();
    let mut on_first = first.subscribe(&channel, None).await.unwrap();
    first.push("q", "x", b"one").await.unwrap();
    assert_eq!(on_first.texts(1).await, ["one"]);
    assert_refused(
        second.push("q", "x", b"").await,
        Code::FailedPrecondition,
        codes::NOT_OWNER,
    );

    // A command under an epoch that is not the database's is refused.
    let stale = RebuildQueueRequest {
        queue_label: "q".into(),
        epoch: 7,
        ..Default::default()
    };
    assert_refused(
        second.0.rebuild_queue(stale).await,
        Code::FailedPrecondition,
        codes::NOT_OWNER,
    );
    second
        .0
        .rebuild_queue(RebuildQueueRequest {
            queue_label: "Q".into(),
            epoch: 0,
            ..Default::default()
        })
        .await
        .unwrap();

    // The former owner may not know yet; what it cannot prove it does not acknowledge.
    let refusal = assert_refused(
        first.push("q", "x", b"lost").await,
        Code::FailedPrecondition,
        codes::NOT_OWNER,
    );
    assert!(refusal.contains("look it up"), "{refusal}");
    assert_refused(
        on_first.next().await,
        Code::FailedPrecondition,
        codes::NOT_OWNER,
    );
    assert_eq!(second.push("q", "x", b"two").await.unwrap().seq, 2);
    let mut on_second = second.subscribe(&channel, None).await.unwrap();
    assert_eq!(on_second.texts(2).await, ["one", "two"]);
    assert_eq!(
        cluster
            .psql("select max(epoch) from message")
            .await
            .unwrap()
            .trim(),
        "2"
    );
}

#[tokio::test]
async fn a_mom_that_starts_before_any_manager_waits_for_the_schema() {
    let postgres = Postgres::start_temporary().await.unwrap();
    postgres.create_database("empty").await.unwrap();
    let folder = Folder::temporary().unwrap();
    let config = MomConfig::new("127.0.0.1", free_port().unwrap()).database(
        &postgres,
        postgres.port(),
        "empty",
    );
    let mom = Mom::new(
        "mom",
        &ensure_built().await.unwrap(),
        folder.path(),
        &config,
        &[],
    )
    .unwrap();
    mom.spawn().unwrap();
    wait_until("the MoM says what it waits for", DEADLINE, async || {
        mom.log().contains("schema is missing")
    })
    .await;
    mom.heartbeat().await.expect_err("it does not serve yet");
    let status = mom.terminate().await.unwrap();
    assert!(status.success(), "waiting can be ended: {status:?}");
}
