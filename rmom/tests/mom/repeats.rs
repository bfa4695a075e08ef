//! Pushes that are repeated: by a pusher that numbers them, and by callers with ids of their own.

use crate::support::{Client, assert_refused, cluster, start};
use protos::{OpenPusherRequest, Origin, Push, PushOkResponse, codes};
use testkit::Cluster;
use tonic::{Code, Status};
use uuid::Uuid;

const PUSHER: [u8; 16] = [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0, 0, 0, 0];

async fn open(client: &mut Client, settled: u32) -> Result<i64, Status> {
    let request = OpenPusherRequest {
        queue_label: "q".into(),
        pusher: PUSHER.to_vec().into(),
        settled,
    };
    Ok(client.0.open_pusher(request).await?.into_inner().term)
}

fn origin(number: u32, term: i64, after_seq: Option<i64>) -> Origin {
    Origin {
        pusher: PUSHER.to_vec().into(),
        number,
        settled: 1,
        term,
        after_seq,
    }
}

async fn push(
    client: &mut Client,
    content: &'static str,
    origin: impl Into<Option<Origin>>,
    id: &str,
) -> Result<PushOkResponse, Status> {
    let push = Push {
        content: content.into(),
        topic: "t".into(),
        queue_label: "q".into(),
        origin: origin.into(),
        id: id.into(),
        ..Push::default()
    };
    Ok(client.0.push_to_queue(push).await?.into_inner())
}

#[tokio::test]
async fn a_repeated_push_is_answered_with_the_place_of_the_first_one_even_after_a_restart() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    let term = open(&mut client, 1).await.unwrap();
    assert_eq!(open(&mut client, 1).await.unwrap(), term);

    let first = push(&mut client, "a", origin(1, term, None), "")
        .await
        .unwrap();
    assert_eq!((first.seq, first.duplicate), (1, false));
    let id = Uuid::try_parse(&first.id).unwrap();
    assert_eq!(id.as_u128(), u128::from_be_bytes(PUSHER) + 1);
    for after_seq in [None, Some(0)] {
        let again = push(&mut client, "a", origin(1, term, after_seq), "").await;
        let again = again.unwrap();
        assert_eq!(
            (again.id, again.seq, again.duplicate),
            (first.id.clone(), 1, true)
        );
    }
    // Numbers need not come in their order.
    assert_eq!(
        push(&mut client, "c", origin(3, term, None), "")
            .await
            .unwrap()
            .seq,
        2
    );
    assert_eq!(
        push(&mut client, "b", origin(2, term, None), "")
            .await
            .unwrap()
            .seq,
        3
    );

    cluster.mom(0).kill().await;
    cluster.mom(0).start().await.unwrap();
    let mut client = Client::of(cluster.mom(0)).await;
    // What was on its way when the MoM died may not be taken for new.
    let late = push(&mut client, "c", origin(3, term, None), "").await;
    assert_refused(late, Code::FailedPrecondition, codes::PUSHER_NOT_OPEN);
    let term = open(&mut client, 1).await.unwrap();
    let again = push(&mut client, "c", origin(3, term, Some(1)), "")
        .await
        .unwrap();
    assert_eq!((again.seq, again.duplicate), (2, true));
    let new = push(&mut client, "d", origin(4, term, Some(3)), "")
        .await
        .unwrap();
    assert_eq!((new.seq, new.duplicate), (4, false));
    assert_eq!(
        cluster.psql("select count(*) from message").await.unwrap(),
        "4"
    );
}

#[tokio::test]
async fn repeats_that_come_together_find_what_a_former_owner_committed() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    let term = open(&mut client, 1).await.unwrap();
    for number in 1..=50 {
        push(&mut client, "x", origin(number, term, None), "")
            .await
            .unwrap();
    }
    cluster.mom(0).kill().await;
    cluster.mom(0).start().await.unwrap();
    let mut client = Client::of(cluster.mom(0)).await;
    let term = open(&mut client, 1).await.unwrap();
    let repeat = |number: u32| {
        let mut client = client.clone();
        tokio::spawn(async move { push(&mut client, "x", origin(number, term, Some(0)), "").await })
    };
    for (number, repeated) in (1..=60)
        .map(|number| (number, repeat(number)))
        .collect::<Vec<_>>()
    {
        let answer = repeated.await.unwrap().unwrap();
        assert_eq!(answer.duplicate, number <= 50, "{number}");
        if number <= 50 {
            assert_eq!(answer.seq, i64::from(number));
        }
    }
    assert_eq!(
        cluster.psql("select count(*) from message").await.unwrap(),
        "60"
    );
}

#[tokio::test]
async fn an_id_that_the_caller_brings_is_known_again_and_stands_for_one_content() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    let id = "0189-nonsense";
    let refused = push(&mut client, "a", None, id).await;
    assert_refused(refused, Code::InvalidArgument, codes::INVALID_ARGUMENT);

    let id = Uuid::from_u128(1).to_string();
    let first = push(&mut client, "a", None, &id).await.unwrap();
    assert_eq!((&first.id, first.seq, first.duplicate), (&id, 1, false));
    push(&mut client, "between", None, "").await.unwrap();
    cluster.mom(0).kill().await;
    cluster.mom(0).start().await.unwrap();
    let mut client = Client::of(cluster.mom(0)).await;
    for _ in 0..2 {
        let again = push(&mut client, "a", None, &id.to_uppercase())
            .await
            .unwrap();
        assert_eq!((&again.id, again.seq, again.duplicate), (&id, 1, true));
    }
    let other = push(&mut client, "b", None, &id).await;
    assert_refused(other, Code::InvalidArgument, codes::ID_CONFLICT);
    assert_eq!(
        cluster.psql("select count(*) from message").await.unwrap(),
        "2"
    );
}

#[tokio::test]
async fn pushes_of_one_id_at_once_make_one_message() {
    let cluster = start(Cluster::builder().moms(1).managers(1)).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    let id = Uuid::from_u128(1).to_string();
    let repeat = |_| {
        let (mut client, id) = (client.clone(), id.clone());
        tokio::spawn(async move { push(&mut client, "a", None, &id).await })
    };
    let mut firsts = 0;
    for repeated in (0..100).map(repeat).collect::<Vec<_>>() {
        let answer = repeated.await.unwrap().unwrap();
        assert_eq!(answer.seq, 1);
        firsts += usize::from(!answer.duplicate);
    }
    assert_eq!(firsts, 1);
    assert_eq!(
        cluster.psql("select count(*) from message").await.unwrap(),
        "1"
    );
}

#[tokio::test]
async fn an_origin_that_makes_no_sense_is_refused_by_name() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    let term = open(&mut client, 1).await.unwrap();
    let sane = origin(1, term, None);
    let short = Origin {
        pusher: vec![1; 3].into(),
        ..sane.clone()
    };
    let full = Origin {
        pusher: vec![1; 16].into(),
        ..sane.clone()
    };
    let unnumbered = Origin {
        number: 0,
        ..sane.clone()
    };
    let ahead = Origin {
        number: 1 << 20,
        ..sane.clone()
    };
    let id = Uuid::from_u128(1).to_string();
    for (origin, id, field) in [
        (short, "", "origin.pusher"),
        (full, "", "origin.pusher"),
        (unnumbered, "", "origin.number"),
        (ahead, "", "origin.number"),
        (sane, id.as_str(), "id"),
    ] {
        let refused = push(&mut client, "a", Some(origin), id).await;
        let text = assert_refused(refused, Code::InvalidArgument, codes::INVALID_ARGUMENT);
        assert!(text.starts_with(field), "{text}");
    }
    let nowhere = OpenPusherRequest {
        queue_label: "nowhere".into(),
        pusher: PUSHER.to_vec().into(),
        settled: 1,
    };
    let refused = client.0.open_pusher(nowhere).await;
    assert_refused(refused, Code::NotFound, codes::QUEUE_NOT_FOUND);
}
