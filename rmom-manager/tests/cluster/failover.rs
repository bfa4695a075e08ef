//! Queues stay available whatever becomes of MoMs and managers.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use testkit::{Cluster, Direction, wait_until};

use crate::support::{PATIENCE, Rest, hosted, messages, push, queues_on_the_first, until_hosted};

/// Longer than a test: what happens is not the doing of the period.
const NO_PERIOD: (&str, &str) = ("manager_cycle_secs", "3600");

#[tokio::test]
async fn the_queues_of_a_mom_that_is_killed_move_with_their_channels_and_messages() {
    let cluster = Cluster::start(2, 1).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    let lost = queues_on_the_first(&cluster, &rest, 3).await;
    let channel = rest.channel(&lost[0], "__none__").await;
    push(&cluster, 0, &lost[0], "before").await;

    cluster.mom(0).kill().await;
    rest.until_all_on(&lost, cluster.mom(1).port()).await;
    let place = rest.get(&format!("/channels/{channel}")).await;
    assert_eq!(place["port"], cluster.mom(1).port());
    assert_eq!(place["id"], json!(channel));
    let seq = push(&cluster, 1, &lost[0], "after").await;
    assert_eq!(seq, 2);
    assert_eq!(
        messages(&cluster, 1, &channel, 2).await,
        ["before", "after"]
    );

    // It takes nothing away from others when it comes back.
    cluster.mom(0).start().await.unwrap();
    rest.until_mom(cluster.mom(0).port(), true).await;
    rest.until_all_on(&lost, cluster.mom(1).port()).await;
    assert_eq!(hosted(&cluster, 0).await, Vec::<String>::new());
    // New queues go to it, since it has the fewest.
    assert_eq!(rest.create("fresh").await["port"], cluster.mom(0).port());
}

#[tokio::test]
async fn a_crash_is_noticed_without_waiting_for_the_next_period() {
    let (key, value) = NO_PERIOD;
    let cluster = Cluster::builder().moms(2).manager_setting(key, value);
    let cluster = cluster.start().await.unwrap();
    let rest = Rest::of(&cluster, 0);
    let lost = queues_on_the_first(&cluster, &rest, 1).await;
    cluster.mom(0).kill().await;
    rest.until_all_on(&lost, cluster.mom(1).port()).await;
}

#[tokio::test]
async fn the_queues_of_a_mom_that_freezes_move_and_stay_when_it_goes_on() {
    let cluster = Cluster::start(3, 1).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    let lost = queues_on_the_first(&cluster, &rest, 4).await;
    let channel = rest.channel(&lost[0], "__none__").await;
    push(&cluster, 0, &lost[0], "before").await;

    cluster.mom(0).freeze().await.unwrap();
    rest.until_mom(cluster.mom(0).port(), false).await;
    let mut per_mom = [0; 3];
    for label in &lost {
        let what = format!("{label} to leave the frozen MoM");
        let index = wait_until(&what, PATIENCE, async || {
            let port = rest.get(&format!("/queues/{label}")).await["port"].clone();
            (1..3).find(|index| port == cluster.mom(*index).port())
        })
        .await;
        per_mom[index] += 1;
        push(&cluster, index, label, "after").await;
    }
    assert_eq!(per_mom, [0, 2, 2]);

    cluster.mom(0).thaw().await.unwrap();
    rest.until_mom(cluster.mom(0).port(), true).await;
    wait_until("the MoM to let its queues go", PATIENCE, async || {
        hosted(&cluster, 0)
            .await
            .iter()
            .all(|label| !lost.contains(label))
    })
    .await;
    let place = rest.get(&format!("/channels/{channel}")).await["port"].clone();
    let index = (1..3).find(|index| place == cluster.mom(*index).port());
    assert_eq!(
        messages(&cluster, index.unwrap(), &channel, 2).await,
        ["before", "after"]
    );
}

#[tokio::test]
async fn a_mom_that_is_frozen_does_not_delay_the_failover_of_another() {
    let cluster = Cluster::builder()
        .moms(3)
        .manager_setting("life_probe_deadline_millis", "10000");
    let cluster = cluster.start().await.unwrap();
    let rest = Rest::of(&cluster, 0);
    let lost = queues_on_the_first(&cluster, &rest, 1).await;
    cluster.mom(1).freeze().await.unwrap();
    rest.until_mom(cluster.mom(1).port(), false).await;
    cluster.mom(0).kill().await;
    let moved = rest.until_all_on(&lost, cluster.mom(2).port());
    tokio::time::timeout(Duration::from_secs(5), moved)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_queues_of_a_mom_that_cannot_be_reached_move() {
    let cluster = Cluster::builder().moms(2).proxy_moms().start().await;
    let cluster = cluster.unwrap();
    let rest = Rest::of(&cluster, 0);
    let lost = queues_on_the_first(&cluster, &rest, 2).await;
    cluster.mom_proxy(0).blackhole(Direction::Both);
    rest.until_all_on(&lost, cluster.mom(1).port()).await;
    cluster.mom_proxy(0).restore().await.unwrap();
    rest.until_mom(cluster.mom(0).port(), true).await;
    push(&cluster, 1, &lost[0], "after").await;
}

#[tokio::test]
async fn the_queues_of_a_mom_at_whose_address_another_one_answers_move() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    let port = cluster.mom(0).port();
    // As a change of a MoM's external host leaves it: the former address still reaches the process.
    cluster
        .psql(&format!(
            "with former as (
                insert into mom (id, host, port, is_up)
                values (gen_random_uuid(), 'localhost', {port}, true) returning id
            )
            insert into queue (id, label, mom_id) select gen_random_uuid(), 'news', id from former"
        ))
        .await
        .unwrap();
    until_hosted(&cluster, 0, "news").await;
    assert_eq!(rest.get("/queues/news").await["host"], "127.0.0.1");
    let moms = rest.get("/moms").await;
    let former = moms.as_array().unwrap().iter();
    let former = former.filter(|mom| mom["host"] == "localhost");
    assert!(former.into_iter().all(|mom| mom["is_up"] == false));
    let log = cluster.manager(0).log();
    assert!(
        log.contains("a MoM answers that is configured as 127.0.0.1"),
        "{log}"
    );
}

#[tokio::test]
async fn a_creation_passes_over_a_mom_that_does_not_answer() {
    let (key, value) = NO_PERIOD;
    let cluster = Cluster::builder().moms(2).manager_setting(key, value);
    let cluster = cluster.start().await.unwrap();
    let rest = Rest::of(&cluster, 0);
    // The one that the next queue would go to.
    let port = rest.get("/moms").await[0]["port"].clone();
    let (next, other) = if port == cluster.mom(0).port() {
        (0, 1)
    } else {
        (1, 0)
    };
    cluster.mom(next).freeze().await.unwrap();
    let place = rest.create("news").await;
    assert_eq!(place["port"], cluster.mom(other).port());
    assert_eq!(hosted(&cluster, other).await, ["news"]);
    push(&cluster, other, "news", "hello").await;
}

#[tokio::test]
async fn a_creation_that_no_mom_takes_leaves_nothing_behind() {
    let (key, value) = NO_PERIOD;
    let cluster = Cluster::builder().moms(2).manager_setting(key, value);
    let cluster = cluster.start().await.unwrap();
    let rest = Rest::of(&cluster, 0);
    for index in 0..2 {
        cluster.mom(index).freeze().await.unwrap();
    }
    let refusal = rest.refusal(Method::POST, "/queues/news").await;
    assert_eq!(refusal, (503, "no_mom_up".to_owned()));
    assert_eq!(rest.get("/queues").await, json!([]));
}

#[tokio::test]
async fn a_creation_that_was_cut_short_is_completed() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    // As a manager leaves it that dies between its row and the MoM, and as no manager leaves it: without an owner.
    cluster
        .psql(
            "insert into queue (id, label, mom_id)
            select gen_random_uuid(), 'owned', id from mom
            union all select gen_random_uuid(), 'orphan', null",
        )
        .await
        .unwrap();
    for label in ["owned", "orphan"] {
        until_hosted(&cluster, 0, label).await;
        assert_eq!(
            rest.get(&format!("/queues/{label}")).await["port"],
            cluster.mom(0).port()
        );
        assert_eq!(push(&cluster, 0, label, "hello").await, 1);
    }
}

#[tokio::test]
async fn a_mom_that_restarts_while_no_manager_runs_keeps_its_queues() {
    let cluster = Cluster::start(2, 1).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    let kept = queues_on_the_first(&cluster, &rest, 2).await;
    let channel = rest.channel(&kept[0], "__none__").await;
    push(&cluster, 0, &kept[0], "before").await;

    cluster.manager(0).kill().await;
    cluster.mom(0).restart().await.unwrap();
    assert_eq!(push(&cluster, 0, &kept[0], "between").await, 2);
    cluster.manager(0).start().await.unwrap();
    rest.until_mom(cluster.mom(0).port(), true).await;
    rest.until_all_on(&kept, cluster.mom(0).port()).await;
    assert_eq!(
        messages(&cluster, 0, &channel, 2).await,
        ["before", "between"]
    );
}

#[tokio::test]
async fn a_mom_that_died_while_no_manager_ran_loses_its_queues_when_one_starts() {
    let cluster = Cluster::start(2, 1).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    let lost = queues_on_the_first(&cluster, &rest, 2).await;
    cluster.manager(0).kill().await;
    cluster.mom(0).kill().await;
    cluster.manager(0).start().await.unwrap();
    rest.until_all_on(&lost, cluster.mom(1).port()).await;
    push(&cluster, 1, &lost[0], "after").await;
}

#[tokio::test]
async fn when_all_moms_were_down_each_comes_back_with_its_own() {
    let cluster = Cluster::start(2, 1).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    let first = queues_on_the_first(&cluster, &rest, 2).await;
    cluster.manager(0).freeze().await.unwrap();
    for index in 0..2 {
        cluster.mom(index).kill().await;
    }
    cluster.manager(0).thaw().await.unwrap();
    for index in 0..2 {
        rest.until_mom(cluster.mom(index).port(), false).await;
    }
    rest.until_all_on(&first, cluster.mom(0).port()).await;
    cluster.mom(0).start().await.unwrap();
    for label in &first {
        until_hosted(&cluster, 0, label).await;
    }
}

#[tokio::test]
async fn two_managers_move_each_queue_once() {
    let cluster = Cluster::start(2, 2).await.unwrap();
    let rest = Rest::of(&cluster, 0);
    let lost = queues_on_the_first(&cluster, &rest, 10).await;
    cluster.mom(0).kill().await;
    rest.until_all_on(&lost, cluster.mom(1).port()).await;
    Rest::of(&cluster, 1)
        .until_all_on(&lost, cluster.mom(1).port())
        .await;
    let epochs = cluster
        .psql("select distinct epoch from queue where label <> all (select label from queue where epoch = 1)")
        .await
        .unwrap();
    assert_eq!(epochs, "2");
    for label in &lost {
        until_hosted(&cluster, 1, label).await;
    }
}
