//! Where subscribers start, and that they keep to it whatever fails.

use std::time::{Duration, SystemTime};

use crate::support::{LONG, client_of, receive_until};
use momclient::{Error, Start};
use testkit::{Cluster, wait_until};

#[tokio::test]
async fn a_start_is_looked_up_once_and_kept_when_the_mom_dies_before_the_first_message() {
    let cluster = Cluster::start(2, 1).await.unwrap();
    let client = client_of(&cluster);
    client.create_queue("news").await.unwrap();
    let channel = client.create_channel("news", Some("news.>")).await.unwrap();
    let topic = Some("news.eu.fr");
    let pusher = client.pusher("news").await.unwrap();
    for n in 1..=2 {
        pusher.push(n.to_string(), topic).await.unwrap();
    }
    let now = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
    let between: u64 = cluster.psql(now).await.unwrap().trim().parse().unwrap();
    let between = SystemTime::UNIX_EPOCH + Duration::from_micros(between);
    let third = pusher.push("3", topic).await.unwrap();

    let mut subscribers = Vec::new();
    for (start, after) in [
        (Start::Earliest, 0),
        (Start::Latest, third.seq),
        (Start::After(1), 1),
        (Start::Since(between), 2),
        (Start::Since(SystemTime::UNIX_EPOCH), 0),
        (Start::Since(between + LONG), third.seq),
    ] {
        let subscriber = client.subscribe(&channel.id).start(start).await.unwrap();
        assert_eq!(subscriber.last_seq(), after, "{start:?}");
        subscribers.push((subscriber, after));
    }

    // None of them has been asked for a message when their MoM dies, nor until there is one more.
    let port = client.queue("news").await.unwrap().port;
    let host = usize::from(cluster.mom(0).port() != port);
    cluster.mom(host).kill().await;
    pusher.push("elsewhere", Some("sports")).await.unwrap();
    let last = pusher.push("5", topic).await.unwrap();
    wait_until("the queue to have moved", LONG, || async {
        client
            .queue("news")
            .await
            .is_ok_and(|place| place.port != port)
    })
    .await;
    for (mut subscriber, after) in subscribers {
        let seqs: Vec<_> = receive_until(&mut subscriber, last.seq)
            .await
            .iter()
            .map(|message| message.seq)
            .collect();
        let expected: Vec<_> = [1, 2, 3, 5]
            .into_iter()
            .filter(|seq| *seq > after)
            .collect();
        assert_eq!(seqs, expected, "after {after}");
    }

    let before_all = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    let beyond = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
    for (start, names) in [
        (Start::After(-1), "-1"),
        (Start::Since(before_all), "1970"),
        (Start::Since(beyond), "9999"),
    ] {
        let error = client
            .subscribe(&channel.id)
            .start(start)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
        assert!(error.detail().contains(names), "{error}");
    }
}
