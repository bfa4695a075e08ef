//! What operators do about MoMs while the system runs.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use momclient::MoMClient;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Cluster, wait_until};

use crate::support::{PATIENCE, Rest, hosted, labels, push, queues_on_the_first};

/// The id of a MoM.
async fn id(rest: &Rest, cluster: &Cluster, index: usize) -> String {
    let mom = rest.mom(cluster.mom(index).port()).await;
    mom["id"].as_str().unwrap().to_owned()
}

async fn until_loads(rest: &Rest, cluster: &Cluster, expected: &[i64]) {
    let what = format!("the MoMs to have {expected:?} queues");
    wait_until(&what, PATIENCE, async || {
        let mut loads = Vec::new();
        for mom in cluster.moms() {
            let queues = rest.mom(mom.port()).await["queues"].clone();
            loads.push(queues.as_i64().unwrap());
        }
        if loads == expected {
            Ok(())
        } else {
            Err(format!("{loads:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn a_mom_is_removed_and_registered_while_the_system_runs() {
    let cluster = Cluster::start(2, 2).await.unwrap();
    // A manager serves before it has registered the MoMs of its list, and would register again what is removed here.
    wait_until(
        "both managers to be through with it",
        PATIENCE,
        async || {
            let is_through = |index| {
                let log = cluster.folder().join(format!("manager{index}.log"));
                let log = std::fs::read_to_string(log).unwrap();
                log.contains("leading since") || log.contains("another manager leads")
            };
            (0..2).all(is_through)
        },
    )
    .await;
    let (rest, other) = (Rest::of(&cluster, 0), Rest::of(&cluster, 1));
    let port = cluster.mom(1).port();
    let path = format!("/moms/{}", id(&rest, &cluster, 1).await);
    let shown = rest.get(&path).await;
    assert_eq!(shown, rest.mom(port).await);
    assert_eq!(
        (&shown["draining"], &shown["queues"]),
        (&json!(false), &json!(0))
    );

    let removed = rest.ask(Method::DELETE, &path).await;
    assert_eq!((removed.status, removed.json), (204, Value::Null));
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::POST, format!("{path}/drain")),
        (Method::POST, format!("{path}/undrain")),
    ] {
        let refusal = other.refusal(method, &path).await;
        assert_eq!(refusal, (404, "mom_not_found".to_owned()), "{path}");
    }
    for label in labels("alone", 3) {
        assert_eq!(rest.create(&label).await["port"], cluster.mom(0).port());
    }

    let register = async |rest: &Rest, body: Value| {
        let request = rest.request(Method::POST, "/moms").json(&body);
        Rest::read(request.send().await.unwrap()).await
    };
    let address = json!({ "host": "127.0.0.1", "port": port });
    let registered = register(&other, address.clone()).await;
    assert_eq!(registered.status, 201, "{}", registered.json);
    let path = format!("/moms/{}", registered.json["id"].as_str().unwrap());
    assert_eq!(registered.location, Some(path.clone()));
    assert_eq!(registered.json["port"], port);
    rest.until_mom(port, true).await;
    assert_eq!(rest.create("fresh").await["port"], port);
    push(&cluster, 1, "fresh", "hello").await;

    let again = register(&rest, address).await;
    assert_eq!(
        (again.status, &again.json["code"]),
        (409, &json!("mom_exists"))
    );
    let wrong = register(&rest, json!({ "host": "a b", "port": 1 })).await;
    assert_eq!(
        (wrong.status, &wrong.json["code"]),
        (400, &json!("invalid_argument"))
    );

    let refusal = rest.ask(Method::DELETE, &path).await;
    assert_eq!(
        (refusal.status, &refusal.json["code"]),
        (409, &json!("mom_not_empty"))
    );
    assert!(
        refusal.json["detail"]
            .as_str()
            .unwrap()
            .contains("drain it first")
    );
    assert_eq!(rest.get("/queues/fresh").await["port"], port);

    // One of the list in the file is registered again when a manager starts.
    rest.ask(Method::DELETE, "/queues/fresh").await;
    assert_eq!(rest.ask(Method::DELETE, &path).await.status, 204);
    cluster.manager(1).restart().await.unwrap();
    wait_until("the MoM to be registered and up", PATIENCE, async || {
        let moms = other.get("/moms").await;
        let mut moms = moms.as_array().unwrap().iter();
        moms.any(|mom| mom["port"] == port && mom["is_up"] == true)
    })
    .await;
}

#[tokio::test]
async fn a_mom_is_drained_under_load_and_no_push_fails() {
    let cluster = Cluster::start(3, 2).await.unwrap();
    let rest = Rest::of(&cluster, 1);
    let here = queues_on_the_first(&cluster, &rest, 3).await;
    let path = format!("/moms/{}", id(&rest, &cluster, 0).await);
    let drained = AtomicBool::new(false);
    let client = MoMClient::new([cluster.manager_url(0), cluster.manager_url(1)]).unwrap();
    let pushing = here.iter().map(async |label| {
        let pusher = client.pusher(label).await.unwrap();
        let mut seq = 0;
        // On after the move as well.
        let mut left = 100;
        while left > 0 {
            seq += 1;
            assert_eq!(pusher.push("hello", None).await.unwrap().seq, seq);
            left -= i32::from(drained.load(Ordering::Relaxed));
        }
    });
    let draining = async {
        wait_until("pushes to all queues", PATIENCE, async || {
            let pushed_to = "select count(distinct queue_label) from message";
            cluster.psql(pushed_to).await.unwrap() == "3"
        })
        .await;
        for _ in 0..2 {
            let answer = rest.ask(Method::POST, &format!("{path}/drain")).await;
            let draining = &answer.json["draining"];
            assert_eq!((answer.status, draining), (200, &json!(true)));
        }
        wait_until("the MoM to have no queues", PATIENCE, async || {
            let mom = rest.get(&path).await;
            if mom["queues"] == 0 {
                Ok(())
            } else {
                Err(mom.to_string())
            }
        })
        .await;
        assert_eq!(rest.get(&path).await["is_up"], true);
        drained.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all(pushing), draining);
    wait_until("the MoM to host nothing", PATIENCE, async || {
        hosted(&cluster, 0).await.is_empty()
    })
    .await;

    // It is given nothing.
    let port = cluster.mom(0).port();
    for label in labels("elsewhere", 4) {
        assert_ne!(rest.create(&label).await["port"], port);
    }
    for _ in 0..2 {
        let answer = rest.ask(Method::POST, &format!("{path}/undrain")).await;
        assert_eq!(
            (answer.status, &answer.json["draining"]),
            (200, &json!(false))
        );
    }
    assert_eq!(rest.create("here").await["port"], port);
}

#[tokio::test]
async fn the_queues_of_a_mom_that_drains_stay_where_there_is_no_other_place() {
    let cluster = Cluster::start(2, 1).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    let kept = queues_on_the_first(&cluster, &rest, 2).await;
    cluster.mom(1).kill().await;
    rest.until_mom(cluster.mom(1).port(), false).await;
    rest.until_all_on(&kept, cluster.mom(0).port()).await;
    let path = format!("/moms/{}", id(&rest, &cluster, 0).await);
    rest.ask(Method::POST, &format!("{path}/drain")).await;
    let refusal = rest.refusal(Method::POST, "/queues/late").await;
    assert_eq!(refusal, (503, "no_mom_up".to_owned()));
    push(&cluster, 0, &kept[0], "hello").await;
    // As soon as there is one they go.
    cluster.mom(1).start().await.unwrap();
    rest.until_all_on(&kept, cluster.mom(1).port()).await;
    push(&cluster, 1, &kept[0], "hello").await;
}

#[tokio::test]
async fn queues_are_evened_out_on_request_with_the_fewest_moves() {
    let cluster = Cluster::start(3, 2).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    for label in labels("queue", 9) {
        rest.create(&label).await;
    }
    cluster.mom(0).kill().await;
    until_loads(&rest, &cluster, &[0, 5, 4]).await;
    cluster.mom(0).start().await.unwrap();
    rest.until_mom(cluster.mom(0).port(), true).await;
    until_loads(&rest, &cluster, &[0, 5, 4]).await;
    let epochs = "select sum(epoch) from queue";
    let before: i64 = cluster.psql(epochs).await.unwrap().parse().unwrap();

    // Whichever of them leads.
    for index in 0..2 {
        let answer = Rest::of(&cluster, index)
            .ask(Method::POST, "/rebalance")
            .await;
        assert_eq!(answer.status, 202, "{}", answer.json);
        assert_eq!(answer.json["kind"], "rebalance");
    }
    until_loads(&rest, &cluster, &[3, 3, 3]).await;
    wait_until("the requests to be forgotten", PATIENCE, async || {
        let left = cluster.psql("select count(*) from operator_request").await;
        left.unwrap() == "0"
    })
    .await;
    let after: i64 = cluster.psql(epochs).await.unwrap().parse().unwrap();
    assert_eq!(after - before, 3);
}

#[tokio::test]
async fn a_request_outlives_the_manager_that_leads() {
    let cluster = Cluster::start(2, 2).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    queues_on_the_first(&cluster, &rest, 2).await;
    cluster.mom(0).kill().await;
    until_loads(
        &rest,
        &cluster,
        &[
            0,
            rest.get("/queues").await.as_array().unwrap().len() as i64,
        ],
    )
    .await;
    // Nobody leads when it is made.
    for index in 0..2 {
        cluster.manager(index).kill().await;
    }
    cluster.mom(0).start().await.unwrap();
    cluster
        .psql("update lease set expires_at = clock_timestamp() + '5 seconds'")
        .await
        .unwrap();
    cluster.manager(1).start().await.unwrap();
    let rest = Rest::of(&cluster, 1);
    let number = rest.get("/queues").await.as_array().unwrap().len() as i64;
    assert_eq!(rest.ask(Method::POST, "/rebalance").await.status, 202);
    until_loads(&rest, &cluster, &[number / 2, number - number / 2]).await;
}
