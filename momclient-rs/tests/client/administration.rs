//! Queues and channels through the manager, and what comes of asking for what is not there.

use crate::support::client_of;
use momclient::{Error, MoMClient, Uuid};
use protos::codes;
use testkit::Cluster;

#[tokio::test]
async fn queues_and_channels_are_created_listed_found_and_deleted() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    let client = client_of(&cluster);
    client.status().await.unwrap();
    assert!(client.queues().await.unwrap().is_empty());

    client.create_queue("News").await.unwrap();
    client.create_queue("other").await.unwrap();
    let mut labels = client.queues().await.unwrap();
    labels.sort();
    assert_eq!(labels, ["news", "other"]);
    let host = client.queue("NEWS").await.unwrap();
    assert_eq!(
        (host.label.as_str(), host.port),
        ("news", cluster.mom(0).port())
    );

    let all = client.create_channel("news", None).await.unwrap();
    let sports = client.create_channel("news", Some("Sports")).await.unwrap();
    assert_eq!(
        (all.topic.as_deref(), sports.topic.as_deref()),
        (None, Some("sports"))
    );
    assert_eq!(client.topics("news").await.unwrap(), ["sports"]);
    assert_eq!(client.channel(&sports.id).await.unwrap(), sports);
    let mut ids = client.channels().await.unwrap();
    ids.sort();
    let mut expected = [all.id, sports.id];
    expected.sort();
    assert_eq!(ids, expected);

    client.delete_channel(&all.id).await.unwrap();
    assert_eq!(client.channels().await.unwrap(), [sports.id]);
    client.delete_queue("news").await.unwrap();
    assert_eq!(client.queues().await.unwrap(), ["other"]);
    assert!(client.channels().await.unwrap().is_empty());
}

#[tokio::test]
async fn each_refusal_has_its_variant_and_its_code() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    let client = client_of(&cluster);
    client.create_queue("news").await.unwrap();
    let nobody = Uuid::nil();

    let error = client.create_queue("NEWS").await.unwrap_err();
    assert!(matches!(error, Error::AlreadyExists(_)), "{error}");
    assert_eq!(error.code(), codes::QUEUE_EXISTS);

    for error in [
        client.queue("nowhere").await.unwrap_err(),
        client.delete_queue("nowhere").await.unwrap_err(),
        client.topics("nowhere").await.unwrap_err(),
        client.create_channel("nowhere", None).await.unwrap_err(),
        client.pusher("nowhere").await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::QueueNotFound(_)), "{error}");
        assert_eq!(error.code(), codes::QUEUE_NOT_FOUND);
    }
    for error in [
        client.channel(&nobody).await.unwrap_err(),
        client.delete_channel(&nobody).await.unwrap_err(),
        client.subscribe(&nobody).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::ChannelNotFound(_)), "{error}");
        assert_eq!(error.code(), codes::CHANNEL_NOT_FOUND);
    }

    let pusher = client.pusher("news").await.unwrap();
    for (error, code) in [
        (
            client.create_queue("a b").await.unwrap_err(),
            codes::INVALID_LABEL,
        ),
        (
            client.create_queue(&"x".repeat(256)).await.unwrap_err(),
            codes::INVALID_LABEL,
        ),
        (
            client.create_queue("..").await.unwrap_err(),
            codes::INVALID_LABEL,
        ),
        (
            client
                .create_channel("news", Some("a b"))
                .await
                .unwrap_err(),
            codes::INVALID_TOPIC,
        ),
        (
            client.create_channel("news", Some("")).await.unwrap_err(),
            codes::INVALID_TOPIC,
        ),
        (
            pusher.push("x", Some("a b")).await.unwrap_err(),
            codes::INVALID_TOPIC,
        ),
        (
            pusher.push("x", Some("")).await.unwrap_err(),
            codes::INVALID_TOPIC,
        ),
        (
            pusher.push("x", Some(&"x".repeat(256))).await.unwrap_err(),
            codes::INVALID_TOPIC,
        ),
        (
            pusher
                .push(vec![0; 1024 * 1024 + 1], None)
                .await
                .unwrap_err(),
            codes::MESSAGE_TOO_LARGE,
        ),
        (
            client.subscribe_after(&nobody, -1).await.unwrap_err(),
            codes::INVALID_ARGUMENT,
        ),
    ] {
        assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
        assert_eq!(error.code(), code, "{error}");
    }

    // A MoM ends the stream for a message that is beyond all measure, which is the fault of none beside it.
    let (before, beyond, after) = tokio::join!(
        pusher.push("before", None),
        pusher.push(vec![0; 16 << 20], None),
        pusher.push("after", None),
    );
    let beyond = beyond.unwrap_err();
    assert!(matches!(beyond, Error::InvalidArgument(_)), "{beyond}");
    let [before, after] = [before, after].map(Result::unwrap);
    assert_eq!((before.seq, before.duplicate), (1, false));
    assert_eq!((after.seq, after.duplicate), (2, false));
}

#[tokio::test]
async fn a_manager_that_does_not_answer_is_passed_over() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    let nobody = format!("http://127.0.0.1:{}", testkit::free_port().unwrap());

    let client = MoMClient::new([nobody.clone(), cluster.manager(0).url()]).unwrap();
    client.create_queue("news").await.unwrap();
    assert_eq!(client.queues().await.unwrap(), ["news"]);

    let client = MoMClient::new([nobody.as_str()]).unwrap();
    let error = client.queues().await.unwrap_err();
    assert!(matches!(error, Error::ManagerUnreachable(_)), "{error}");
    assert!(error.detail().contains(&nobody), "{error}");
}
