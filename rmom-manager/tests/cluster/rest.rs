//! Every route and every error of the REST surface.

use std::collections::HashMap;

use futures_util::future::join_all;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use testkit::{Cluster, wait_until};

use crate::support::{PATIENCE, Rest, hosted, labels, push};

#[tokio::test]
async fn queues_are_created_shown_listed_and_deleted() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    let port = cluster.mom(0).port();
    let place = |label: &str| json!({ "label": label, "host": "127.0.0.1", "port": port });

    let status = rest.request(Method::GET, "/status").send().await.unwrap();
    assert_eq!(status.status(), 200);
    assert_eq!(status.text().await.unwrap(), "Ok");

    assert_eq!(rest.get("/queues").await, json!([]));
    let created = rest.ask(Method::POST, "/queues/News.EU").await;
    assert_eq!((created.status, &created.json), (201, &place("news.eu")));
    assert_eq!(created.location.as_deref(), Some("/queues/news.eu"));
    assert_eq!(hosted(&cluster, 0).await, ["news.eu"]);
    rest.create("alerts").await;
    assert_eq!(rest.get("/queues").await, json!(["alerts", "news.eu"]));
    assert_eq!(rest.get("/queues/NEWS.eu").await, place("news.eu"));

    let again = rest.refusal(Method::POST, "/queues/NEWS.EU").await;
    assert_eq!(again, (409, "queue_exists".to_owned()));

    let deleted = rest.ask(Method::DELETE, "/queues/News.EU").await;
    assert_eq!((deleted.status, deleted.json), (204, Value::Null));
    assert_eq!(rest.get("/queues").await, json!(["alerts"]));
    wait_until("the MoM to drop the queue", PATIENCE, async || {
        hosted(&cluster, 0).await == ["alerts"]
    })
    .await;
    for (method, path) in [
        (Method::GET, "/queues/news.eu"),
        (Method::DELETE, "/queues/news.eu"),
        (Method::GET, "/queue/news.eu/topics"),
        (Method::GET, "/queues/news.eu/topics"),
        (Method::PUT, "/queues/news.eu/channels/x"),
    ] {
        let refusal = rest.refusal(method, path).await;
        assert_eq!(refusal, (404, "queue_not_found".to_owned()), "{path}");
    }
    // The label is free again.
    rest.create("news.eu").await;
}

#[tokio::test]
async fn channels_are_created_shown_listed_and_deleted() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    rest.create("news").await;
    assert_eq!(rest.get("/channels").await, json!([]));

    // As clients have always sent it: with a content type and without a body.
    let request = rest.request(Method::PUT, "/queues/NEWS/channels/Sports");
    let request = request.header(CONTENT_TYPE, "application/json");
    let created = Rest::read(request.send().await.unwrap()).await;
    assert_eq!(created.status, 201, "{}", created.json);
    let id = created.json["id"].as_str().unwrap().to_owned();
    let place = json!({
        "id": id, "host": "127.0.0.1", "port": cluster.mom(0).port(), "topic": "sports"
    });
    assert_eq!(created.json, place);
    assert_eq!(created.location, Some(format!("/channels/{id}")));
    assert_eq!(rest.get(&format!("/channels/{id}")).await, place);
    let upper = format!("/channels/{}", id.to_uppercase());
    assert_eq!(rest.get(&upper).await, place);

    let again = rest.channel("news", "sports").await;
    assert_ne!(again, id);
    let all = rest.channel("news", "__none__").await;
    assert_eq!(
        rest.get(&format!("/channels/{all}")).await["topic"],
        "__none__"
    );
    rest.channel("news", "arts").await;
    for path in ["/queue/news/topics", "/queues/NEWS/topics"] {
        assert_eq!(rest.get(path).await, json!(["arts", "sports"]));
    }
    let ids = rest.get("/channels").await;
    assert_eq!(ids.as_array().unwrap().len(), 4);
    assert!(ids.as_array().unwrap().contains(&json!(id)));

    let deleted = rest.ask(Method::DELETE, &format!("/channels/{id}")).await;
    assert_eq!((deleted.status, deleted.json), (204, Value::Null));
    for method in [Method::GET, Method::DELETE] {
        let refusal = rest.refusal(method, &format!("/channels/{id}")).await;
        assert_eq!(refusal, (404, "channel_not_found".to_owned()));
    }
}

#[tokio::test]
async fn deleting_a_queue_takes_its_channels_and_messages_and_nobody_elses() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    let mut channels = HashMap::new();
    for label in ["one", "two"] {
        rest.create(label).await;
        channels.insert(label, rest.channel(label, "__none__").await);
        push(&cluster, 0, label, "hello").await;
    }
    rest.ask(Method::DELETE, "/queues/one").await;
    assert_eq!(rest.get("/channels").await, json!([channels["two"]]));
    let rows = cluster
        .psql("select queue_label from message")
        .await
        .unwrap();
    assert_eq!(rows, "two");
}

#[tokio::test]
async fn malformed_requests_are_refused_and_change_nothing() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    rest.create("news").await;
    let long = format!("/queues/{}", "x".repeat(256));
    for (method, path, status, code) in [
        (Method::POST, "/queues/a%20b", 400, "invalid_label"),
        (Method::POST, "/queues/a%00b", 400, "invalid_label"),
        (Method::POST, "/queues/a%FFb", 400, "invalid_label"),
        (Method::POST, "/queues/a%2Fb", 400, "invalid_label"),
        (Method::POST, "/queues/__none__", 400, "invalid_label"),
        (Method::POST, &long, 400, "invalid_label"),
        (Method::DELETE, "/queues/a%20b", 400, "invalid_label"),
        (
            Method::PUT,
            "/queues/news/channels/a%20b",
            400,
            "invalid_topic",
        ),
        (Method::GET, "/channels/7", 400, "invalid_channel_id"),
        (Method::DELETE, "/channels/7", 400, "invalid_channel_id"),
        (Method::DELETE, "/queues//news", 400, "malformed_request"),
        (Method::GET, "/nope", 404, "route_not_found"),
        (Method::PUT, "/queues/news", 405, "method_not_allowed"),
        (Method::DELETE, "/queues", 405, "method_not_allowed"),
    ] {
        let refusal = rest.refusal(method, path).await;
        assert_eq!(refusal, (status, code.to_owned()), "{path}");
    }
    let wrong_method = rest.request(Method::PATCH, "/queues/news").send().await;
    let wrong_method = wrong_method.unwrap();
    assert_eq!(wrong_method.headers()["allow"], "DELETE, GET, HEAD, POST");
    let unknown_method = Method::from_bytes(b"BREW").unwrap();
    let refusal = rest.refusal(unknown_method, "/queues/news").await;
    assert_eq!(refusal, (400, "malformed_request".to_owned()));
    assert_eq!(rest.get("/queues").await, json!(["news"]));
    assert_eq!(rest.get("/channels").await, json!([]));
}

#[tokio::test]
async fn bodies_are_neither_needed_nor_kept() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    let with_body = |path: &str, bytes: usize| {
        let request = rest.request(Method::POST, path);
        request.body(vec![b'x'; bytes]).send()
    };
    let small = with_body("/queues/small", 100_000).await.unwrap();
    assert_eq!(Rest::read(small).await.status, 201);
    let large = Rest::read(with_body("/queues/large", 2 << 20).await.unwrap()).await;
    assert_eq!(large.status, 413);
    assert_eq!(large.json["code"], "body_too_large");
    assert_eq!(rest.get("/queues").await, json!(["small"]));
}

#[tokio::test]
async fn queues_are_spread_over_the_moms_that_are_up() {
    let cluster = Cluster::start(3, 1).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    let loads = async || -> Vec<i64> {
        let moms = rest.get("/moms").await;
        let moms = moms.as_array().unwrap().iter();
        moms.map(|mom| mom["queues"].as_i64().unwrap()).collect()
    };
    for label in labels("single", 9) {
        rest.create(&label).await;
    }
    assert_eq!(loads().await, [3, 3, 3]);
    let together = labels("together", 12);
    join_all(together.iter().map(|label| rest.create(label))).await;
    let loads = loads().await;
    assert_eq!(loads.iter().sum::<i64>(), 21);
    assert!(loads.iter().all(|load| (5..=9).contains(load)), "{loads:?}");

    for (index, mom) in rest
        .get("/moms")
        .await
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        assert_eq!(mom["is_up"], true);
        assert_eq!(mom["host"], "127.0.0.1");
        let here = (0..3).find(|index| mom["port"] == cluster.mom(*index).port());
        let hosted = hosted(&cluster, here.unwrap()).await;
        assert_eq!(hosted.len() as i64, loads[index]);
    }
}

#[tokio::test]
async fn two_creations_of_one_label_make_one_queue() {
    let cluster = Cluster::start(2, 2).await.unwrap();
    let managers = [Rest::of(&cluster, 0), Rest::of(&cluster, 1)];
    for label in labels("contested", 10) {
        let path = format!("/queues/{label}");
        let answers = managers
            .each_ref()
            .map(|rest| rest.ask(Method::POST, &path));
        let mut statuses: Vec<u16> = join_all(answers)
            .await
            .into_iter()
            .map(|answer| answer.status)
            .collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409]);
    }
}

#[tokio::test]
async fn without_a_mom_that_is_up_nothing_is_created_and_places_are_still_told() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    let place = rest.create("early").await;
    cluster.mom(0).kill().await;
    rest.until_mom(cluster.mom(0).port(), false).await;
    let refusal = rest.refusal(Method::POST, "/queues/late").await;
    assert_eq!(refusal, (503, "no_mom_up".to_owned()));
    assert_eq!(rest.get("/queues").await, json!(["early"]));
    assert_eq!(rest.get("/queues/early").await, place);
}

#[tokio::test]
async fn a_queue_without_an_owner_has_no_place() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    rest.create("news").await;
    let channel = rest.channel("news", "__none__").await;
    cluster.mom(0).kill().await;
    rest.until_mom(cluster.mom(0).port(), false).await;
    cluster
        .psql("update queue set mom_id = null, epoch = epoch + 1")
        .await
        .unwrap();
    for (method, path) in [
        (Method::GET, "/queues/news".to_owned()),
        (Method::GET, format!("/channels/{channel}")),
        (Method::PUT, "/queues/news/channels/x".to_owned()),
    ] {
        let refusal = rest.refusal(method, &path).await;
        assert_eq!(refusal, (503, "no_mom_up".to_owned()), "{path}");
    }
    assert_eq!(rest.get("/channels").await, json!([channel]));
    // Once a MoM is up, the queue is given to it.
    cluster.mom(0).start().await.unwrap();
    rest.until_mom(cluster.mom(0).port(), true).await;
    wait_until("the queue to have an owner", PATIENCE, async || {
        rest.ask(Method::GET, "/queues/news").await.status == 200
    })
    .await;
    push(&cluster, 0, "news", "hello").await;
}
