//! Messages from pushers to subscribers while nothing fails.

use std::collections::HashMap;

use crate::support::{client_of, receive_until};
use futures_util::{StreamExt, TryStreamExt, stream};
use momclient::{Error, PushOptions, Uuid};
use testkit::Cluster;

#[tokio::test]
async fn pushes_of_many_at_once_come_once_and_in_order() {
    const MESSAGES: i64 = 2_000;
    let cluster = Cluster::start(1, 1).await.unwrap();
    let client = client_of(&cluster);
    client.create_queue("news").await.unwrap();
    let channel = client.create_channel("news", None).await.unwrap();
    let mut subscriber = client.subscribe(&channel.id).await.unwrap();

    let pusher = client.pusher("news").connections(3).await.unwrap();
    let receipts: HashMap<Uuid, (i64, String)> = stream::iter(0..MESSAGES)
        .map(|n| {
            let pusher = pusher.clone();
            async move {
                let receipt = pusher.push(n.to_string(), None).await?;
                Ok::<_, Error>((receipt.id, (receipt.seq, n.to_string())))
            }
        })
        .buffer_unordered(128)
        .try_collect()
        .await
        .unwrap();

    let messages = receive_until(&mut subscriber, MESSAGES).await;
    let seqs: Vec<_> = messages.iter().map(|message| message.seq).collect();
    assert_eq!(seqs, (1..=MESSAGES).collect::<Vec<_>>());
    for message in messages {
        let (seq, content) = &receipts[&message.id];
        assert_eq!(
            (message.seq, message.content.as_ref()),
            (*seq, content.as_bytes())
        );
    }
}

#[tokio::test]
async fn a_channel_with_a_topic_sees_that_topic_and_one_without_sees_all() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    let client = client_of(&cluster);
    client.create_queue("news").await.unwrap();
    let pusher = client.pusher("news").await.unwrap();
    for topic in [Some("sports"), None, Some("weather"), Some("SPORTS")] {
        pusher.push("x", topic).await.unwrap();
    }
    let last = pusher.push("last", Some("sports")).await.unwrap();

    let mut topics = Vec::new();
    for channel_topic in [Some("sports"), None] {
        let channel = client.create_channel("news", channel_topic).await.unwrap();
        let mut subscriber = client.subscribe(&channel.id).await.unwrap();
        let messages = receive_until(&mut subscriber, last.seq).await;
        assert_eq!(messages.last().unwrap().id, last.id);
        topics.push(
            messages
                .into_iter()
                .map(|message| message.topic)
                .collect::<Vec<_>>(),
        );
    }
    let [sports, weather] = ["sports", "weather"].map(|topic| Some(topic.to_owned()));
    assert_eq!(topics[0], [sports.clone(), sports.clone(), sports.clone()]);
    assert_eq!(
        topics[1],
        [sports.clone(), None, weather, sports.clone(), sports]
    );
}

#[tokio::test]
async fn a_subscriber_goes_on_after_the_sequence_it_names() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    let client = client_of(&cluster);
    client.create_queue("news").await.unwrap();
    let channel = client.create_channel("news", None).await.unwrap();
    let pusher = client.pusher("news").await.unwrap();
    for n in 0..10 {
        pusher.push(vec![n], None).await.unwrap();
    }
    let subscriber = client.subscribe_after(&channel.id, 7).await.unwrap();
    // The same through the trait.
    let messages: Vec<_> = subscriber.take(3).try_collect().await.unwrap();
    let contents: Vec<_> = messages.iter().map(|message| message.content[0]).collect();
    assert_eq!(contents, [7, 8, 9]);
}

#[tokio::test]
async fn messages_pushed_as_one_come_in_batches_and_one_by_one() {
    const MANY: usize = 1024;
    let cluster = Cluster::start(1, 1).await.unwrap();
    let client = client_of(&cluster);
    client.create_queue("news").await.unwrap();
    let channel = client.create_channel("news", None).await.unwrap();
    let pusher = client.pusher("news").in_flight(16).await.unwrap();

    for count in [0, MANY + 1] {
        let error = pusher.push_many(vec!["x"; count], None).await.unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
        assert!(error.detail().contains("1 to 1024"), "{error}");
    }
    let half = vec![0; 1 << 19];
    let error = pusher.push_many([&half, &half, &vec![0]], None).await;
    let error = error.unwrap_err();
    assert!(error.detail().contains("1048576 bytes"), "{error}");

    // What is under way beside it neither comes in between nor overtakes it.
    let contents: Vec<_> = (0..MANY).map(|n| n.to_string()).collect();
    let (before, many, after) = tokio::join!(
        pusher.push("before", None),
        pusher.push_many(&contents, Some("numbers")),
        pusher.push("after", None),
    );
    let many = many.unwrap();
    assert_eq!((many.len(), before.unwrap().seq), (MANY, 1));
    let (first, last) = (many.first_seq(), many.last_seq());
    assert_eq!((first, last), (2, 1 + MANY as i64));
    assert_eq!(after.unwrap().seq, last + 1);

    // A buffer of fewer messages than there are is filled more than once.
    let mut subscriber = client.subscribe(&channel.id).buffer(100, 1 << 20).await;
    let subscriber = subscriber.as_mut().unwrap();
    assert_eq!(subscriber.next().await.unwrap().unwrap().content, "before");
    let mut receipts = many.iter();
    while subscriber.last_seq() < last {
        // By turns.
        let message = subscriber.next().await.unwrap().unwrap();
        let receipt = receipts.next().unwrap();
        assert_eq!((message.id, message.seq), (receipt.id, receipt.seq));
        if subscriber.last_seq() == last {
            break;
        }
        let batch = subscriber.next_batch().await.unwrap().unwrap();
        assert!(batch.len() <= 100, "more than there was room for");
        for message in &batch {
            if message.seq > last {
                assert_eq!(message.content, b"after");
                return;
            }
            let receipt = receipts.next().unwrap();
            assert_eq!((message.id, message.seq), (receipt.id, receipt.seq));
            let place = (message.seq - first) as usize;
            assert_eq!(message.content, contents[place].as_bytes());
            assert_eq!(message.topic, Some("numbers"));
        }
        assert_eq!(batch.last_seq(), subscriber.last_seq());
    }
    assert_eq!(subscriber.next().await.unwrap().unwrap().content, "after");
}

#[tokio::test]
async fn what_was_deleted_ends_its_subscribers_and_refuses_pushes() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    let client = client_of(&cluster);
    client.create_queue("news").await.unwrap();
    let first = client.create_channel("news", None).await.unwrap();
    let second = client.create_channel("news", None).await.unwrap();
    let pusher = client.pusher("news").await.unwrap();
    let mut of_first = client.subscribe(&first.id).await.unwrap();
    let mut of_second = client.subscribe(&second.id).await.unwrap();

    client.delete_channel(&first.id).await.unwrap();
    let ended = of_first.next().await;
    assert!(
        matches!(ended, Some(Err(Error::ChannelNotFound(_)))),
        "{ended:?}"
    );
    assert!(of_first.next().await.is_none());

    let receipt = pusher.push("still there", None).await.unwrap();
    assert_eq!(of_second.next().await.unwrap().unwrap().id, receipt.id);

    client.delete_queue("news").await.unwrap();
    let ended = of_second.next().await;
    assert!(
        matches!(ended, Some(Err(Error::ChannelNotFound(_)))),
        "{ended:?}"
    );
    let error = pusher.push("too late", None).await.unwrap_err();
    assert!(matches!(error, Error::QueueNotFound(_)), "{error}");

    // A queue that comes again under the same label is served by the same pusher.
    client.create_queue("news").await.unwrap();
    pusher.push("again", None).await.unwrap();
}

#[tokio::test]
async fn headers_come_with_the_messages_that_were_pushed_with_them() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    let client = client_of(&cluster);
    client.create_queue("news").await.unwrap();
    let channel = client.create_channel("news", None).await.unwrap();
    let pusher = client.pusher("news").await.unwrap();
    let map = HashMap::from([("B".to_owned(), "2".to_owned()), ("a".into(), "1".into())]);
    let both = PushOptions::new().topic("t").headers(&map);
    let id = Uuid::now_v7();
    let keyed = PushOptions::new()
        .id(id)
        .header("traceparent", "00-ab-cd-01");
    pusher.push("none", None).await.unwrap();
    pusher.push_with("both", &both).await.unwrap();
    for duplicate in [false, true] {
        let receipt = pusher.push_with("keyed", &keyed).await.unwrap();
        let expected = (id, 3, duplicate);
        assert_eq!((receipt.id, receipt.seq, receipt.duplicate), expected);
    }
    let many = pusher.push_many_with(["x", "y"], &both).await.unwrap();
    assert_eq!((many.first_seq(), many.len()), (4, 2));
    let last = pusher.push_many(["none"], None).await.unwrap().last_seq();

    let error = pusher.push_many_with(["x"], &keyed).await.unwrap_err();
    assert!(error.detail().contains("id is given"), "{error}");
    let error = pusher
        .push_with("x", &PushOptions::new().header("not legal", ""))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
    assert!(error.detail().contains("\"not legal\""), "{error}");

    let mut subscriber = client.subscribe(&channel.id).await.unwrap();
    let messages = receive_until(&mut subscriber, last).await;
    let pairs: Vec<Vec<_>> = messages
        .iter()
        .map(|message| message.headers().iter().collect())
        .collect();
    let of_map = vec![("a", "1"), ("b", "2")];
    let trace = vec![("traceparent", "00-ab-cd-01")];
    let expected = [
        vec![],
        of_map.clone(),
        trace,
        of_map.clone(),
        of_map,
        vec![],
    ];
    assert_eq!(pairs, expected);
    assert!(messages[0].headers().is_empty());
    assert_eq!(messages[1].headers().get("b"), Some("2"));
    let topics: Vec<_> = messages
        .iter()
        .map(|message| message.topic.as_deref())
        .collect();
    assert_eq!(topics, [None, Some("t"), None, Some("t"), Some("t"), None]);

    let mut subscriber = client.subscribe(&channel.id).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < pairs.len() {
        let batch = subscriber.next_batch().await.unwrap().unwrap();
        for message in &batch {
            let headers = message.headers().iter();
            seen.push(
                headers
                    .map(|(n, v)| (n.to_owned(), v.to_owned()))
                    .collect::<Vec<_>>(),
            );
        }
    }
    let pairs = pairs
        .into_iter()
        .map(|of| of.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())));
    assert_eq!(
        seen,
        pairs.map(Iterator::collect::<Vec<_>>).collect::<Vec<_>>()
    );
}
