//! A database that is away, and what the manager does in it by itself.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Cluster, Direction, Process, Stop, wait_until};

use crate::support::{PATIENCE, Rest, push};

#[tokio::test]
async fn while_the_database_is_away_clients_are_told_and_afterwards_all_goes_on() {
    let cluster = Cluster::builder()
        .moms(1)
        .manager_setting("databases.rmom_manager.connect_timeout", "1")
        .start()
        .await
        .unwrap();
    let rest = Rest::of(&cluster, 0);
    let place = rest.create("news").await;
    for stop in [Stop::Fast, Stop::Immediate] {
        cluster.postgres().stop(stop).await.unwrap();
        for (method, path) in [
            (Method::GET, "/queues"),
            (Method::GET, "/queues/news"),
            (Method::POST, "/queues/other"),
            (Method::GET, "/moms"),
            (Method::GET, "/readyz"),
            (Method::GET, "/overview"),
        ] {
            let refusal = rest.refusal(method, path).await;
            assert_eq!(refusal, (503, "database_unavailable".to_owned()), "{path}");
        }
        cluster.manager(0).status().await.unwrap();
        cluster.postgres().start().await.unwrap();
        wait_until("the manager to find its database", PATIENCE, async || {
            rest.ask(Method::GET, "/queues/news").await.status == 200
        })
        .await;
        assert_eq!(rest.get("/queues/news").await, place);
        let ready = rest.request(Method::GET, "/readyz").send().await.unwrap();
        assert_eq!(ready.status(), 200);
    }
    cluster.manager(0).ensure_running().unwrap();
    let log = cluster.manager(0).log();
    assert!(log.contains("the database is available again"), "{log}");
    // One line when it goes away, not one for each request and turn.
    assert!(
        log.matches("trying again until it is back").count() <= 2,
        "{log}"
    );
}

#[tokio::test]
async fn a_database_that_does_not_answer_counts_as_away() {
    let cluster = Cluster::builder()
        .proxy_databases()
        .manager_setting("databases.rmom_manager.connect_timeout", "1")
        .start()
        .await
        .unwrap();
    let rest = Rest::of(&cluster, 0);
    rest.create("news").await;
    cluster.manager_database_proxy(0).blackhole(Direction::Both);
    let refusal = rest.refusal(Method::GET, "/queues").await;
    assert_eq!(refusal, (503, "database_unavailable".to_owned()));
    cluster.manager_database_proxy(0).restore().await.unwrap();
    wait_until("the manager to find its database", PATIENCE, async || {
        rest.ask(Method::GET, "/queues").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_manager_that_starts_without_a_database_waits_for_it() {
    let cluster = Cluster::builder()
        .moms(2)
        .proxy_databases()
        .manager_setting("databases.rmom_manager.connect_timeout", "1")
        .start()
        .await
        .unwrap();
    let rest = Rest::of(&cluster, 0);
    rest.create("news").await;
    cluster.manager(0).kill().await;
    cluster.manager_database_proxy(0).cut().await;
    cluster.manager(0).start().await.unwrap();
    let refusal = rest.refusal(Method::GET, "/queues").await;
    assert_eq!(refusal, (503, "database_unavailable".to_owned()));
    cluster.manager_database_proxy(0).restore().await.unwrap();
    wait_until("the manager to find its database", PATIENCE, async || {
        rest.ask(Method::GET, "/queues").await.status == 200
    })
    .await;
    // And its control loop has begun: a MoM that dies now is noticed.
    cluster.mom(0).kill().await;
    rest.until_mom(cluster.mom(0).port(), false).await;
}

/// Everything that uses the database, MoMs first.
fn processes(cluster: &Cluster) -> impl Iterator<Item = &Process> {
    let moms = cluster.moms().map(|mom| &**mom);
    moms.chain(cluster.managers().map(|manager| &**manager))
}

#[tokio::test]
async fn several_managers_may_start_at_once_on_an_empty_database() {
    let cluster = Cluster::start(2, 4).await.unwrap();
    for process in processes(&cluster) {
        process.kill().await;
    }
    cluster
        .psql("drop schema public cascade; create schema public")
        .await
        .unwrap();
    for process in processes(&cluster) {
        process.spawn().unwrap();
    }
    for manager in 0..4 {
        cluster.manager(manager).ready().await.unwrap();
        let rest = Rest::of(&cluster, manager);
        wait_until("the manager to see both MoMs up", PATIENCE, async || {
            let moms = rest.ask(Method::GET, "/moms").await.json;
            let up = |moms: &Vec<Value>| moms.iter().filter(|mom| mom["is_up"] == true).count();
            moms.as_array().is_some_and(|moms| up(moms) == 2)
        })
        .await;
        rest.create(&format!("by{manager}")).await;
        cluster.manager(manager).ensure_running().unwrap();
    }
    let queues = Rest::of(&cluster, 0).get("/queues").await;
    assert_eq!(queues, json!(["by0", "by1", "by2", "by3"]));
}

#[tokio::test]
async fn expired_messages_are_deleted_and_the_sequence_goes_on() {
    let cluster = Cluster::builder().message_ttl(1).start().await.unwrap();
    let rest = Rest::of(&cluster, 0);
    rest.create("news").await;
    for seq in 1..=3 {
        assert_eq!(push(&cluster, 0, "news", "hello").await, seq);
    }
    wait_until("expired messages to be deleted", PATIENCE, async || {
        let rows = cluster
            .psql("select count(*), coalesce(sum(length(contents)), 0) from message_batch")
            .await
            .unwrap();
        // The newest batch stays, without its messages.
        if rows == "1|0" { Ok(()) } else { Err(rows) }
    })
    .await;
    assert_eq!(push(&cluster, 0, "news", "hello").await, 4);
}

#[tokio::test]
async fn while_the_database_takes_no_writes_clients_are_told_and_afterwards_all_goes_on() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    rest.create("news").await;
    for round in 1..=2 {
        for (setting, status) in [("on", 503), ("off", 204)] {
            let set = format!("alter system set default_transaction_read_only = {setting}");
            cluster.psql(&set).await.unwrap();
            cluster.psql("select pg_reload_conf()").await.unwrap();
            if setting == "on" {
                wait_until("writes to be refused", PATIENCE, async || {
                    let answer = rest.ask(Method::POST, &format!("/queues/x{round}")).await;
                    answer.status == 503 && answer.json["code"] == "database_unavailable"
                })
                .await;
            }
            let what = format!("a deletion to be answered with {status}");
            wait_until(&what, PATIENCE, async || {
                let queue = format!("/queues/round{round}");
                rest.ask(Method::POST, &queue).await;
                rest.ask(Method::DELETE, &queue).await.status == status
            })
            .await;
        }
        push(&cluster, 0, "news", "hello").await;
    }
    cluster.manager(0).ensure_running().unwrap();
}
