//! Several managers side by side: one decides, all answer.

use std::time::Duration;

use protos::SubscriptionRequest;
use reqwest::Method;
use serde_json::json;
use testkit::{Cluster, Direction, wait_until};

use crate::support::{PATIENCE, Rest, mom, push, queues_on_the_first, until_hosted};

/// The epoch of the lease, and which manager has it.
async fn leader(cluster: &Cluster) -> (i64, usize) {
    wait_until("a manager to lead", PATIENCE, async || {
        let sql = "select epoch from lease where expires_at > clock_timestamp()";
        let epoch: i64 = cluster.psql(sql).await.unwrap().parse().ok()?;
        let says_so = format!("leading since lease epoch {epoch}\n");
        let mut managers = cluster.managers().enumerate();
        let found = managers.find(|(_, manager)| manager.log().contains(&says_so));
        found.map(|(index, _)| (epoch, index))
    })
    .await
}

/// The epoch of a later lease, and which manager has it.
async fn next_leader(cluster: &Cluster, former: i64) -> (i64, usize) {
    wait_until("another manager to lead", PATIENCE, async || {
        let (epoch, index) = leader(cluster).await;
        (epoch > former).then_some((epoch, index))
    })
    .await
}

async fn epochs(cluster: &Cluster) -> String {
    let sql = "select string_agg(label || epoch, ' ' order by label) from queue";
    cluster.psql(sql).await.unwrap()
}

#[tokio::test]
async fn one_manager_leads_and_all_answer() {
    let cluster = Cluster::start(2, 3).await.unwrap();
    leader(&cluster).await;
    for index in 0..3 {
        let rest = Rest::of(&cluster, index);
        let label = format!("by{index}");
        let place = rest.create(&label).await;
        for other in 0..3 {
            let other = Rest::of(&cluster, other);
            assert_eq!(other.get(&format!("/queues/{label}")).await, place);
        }
        rest.channel(&label, "x").await;
    }
    let first = Rest::of(&cluster, 0);
    let deleted = first.ask(Method::DELETE, "/queues/by2").await;
    assert_eq!(deleted.status, 204);
    let queues = Rest::of(&cluster, 2).get("/queues").await;
    assert_eq!(queues, json!(["by0", "by1"]));
    let leaders = cluster.managers();
    let leaders = leaders.filter(|manager| manager.log().contains("leading since"));
    assert_eq!(leaders.count(), 1);
}

#[tokio::test]
async fn when_the_leader_is_killed_another_manager_moves_the_queues_of_a_dead_mom() {
    let cluster = Cluster::start(2, 2).await.unwrap();
    let (epoch, first) = leader(&cluster).await;
    let rest = Rest::of(&cluster, 1 - first);
    let lost = queues_on_the_first(&cluster, &rest, 3).await;
    push(&cluster, 0, &lost[0], "before").await;
    cluster.manager(first).kill().await;
    cluster.mom(0).kill().await;
    rest.until_all_on(&lost, cluster.mom(1).port()).await;
    assert_eq!(leader(&cluster).await, (epoch + 1, 1 - first));
    assert_eq!(push(&cluster, 1, &lost[0], "after").await, 2);
    // It follows when it comes back.
    cluster.manager(first).start().await.unwrap();
    wait_until("the former leader to follow", PATIENCE, async || {
        let log = cluster.manager(first).log_of_this_run();
        log.contains("another manager leads")
    })
    .await;
}

#[tokio::test]
async fn a_leader_that_stops_in_order_gives_the_lease_back() {
    // So long that it does not end by itself; another manager asks for it every five seconds.
    let cluster = Cluster::builder().managers(2);
    let cluster = cluster.manager_setting("lease_secs", "15");
    let cluster = cluster.start().await.unwrap();
    let (epoch, first) = leader(&cluster).await;
    cluster.manager(first).terminate().await.unwrap();
    let left = "select expires_at <= clock_timestamp() from lease where epoch = 1";
    let left = cluster.psql(left).await.unwrap();
    assert!(left == "t" || left.is_empty(), "{left}");
    let next = tokio::time::timeout(Duration::from_secs(10), next_leader(&cluster, epoch));
    assert_eq!(next.await.unwrap(), (epoch + 1, 1 - first));
}

#[tokio::test]
async fn what_a_leader_was_about_to_do_when_it_froze_changes_nothing() {
    let cluster = Cluster::start(3, 2).await.unwrap();
    let (epoch, first) = leader(&cluster).await;
    let rest = Rest::of(&cluster, 1 - first);
    let lost = queues_on_the_first(&cluster, &rest, 4).await;
    let mut expected = epochs(&cluster).await;

    // Somebody works on the queues, so that it waits in the middle of moving them, and freezes there.
    let hold = "begin; select from queue for share; select pg_sleep(600)";
    let working = async { cluster.psql(hold).await.unwrap_err() };
    let story = async {
        let sessions = async |condition: &str| {
            let sql = format!(
                "select count(*) from pg_stat_activity
                where datname = current_database() and pid <> pg_backend_pid() and {condition}"
            );
            cluster.psql(&sql).await.unwrap().parse::<usize>().unwrap()
        };
        wait_until("somebody to work on the queues", PATIENCE, async || {
            sessions("wait_event = 'PgSleep'").await == 1
        })
        .await;
        cluster.mom(0).kill().await;
        wait_until("the leader to be moving queues", PATIENCE, async || {
            sessions("wait_event_type = 'Lock' and application_name = 'rmom-manager'").await > 0
        })
        .await;
        cluster.manager(first).freeze().await.unwrap();
        assert_eq!(next_leader(&cluster, epoch).await, (epoch + 1, 1 - first));
        cluster
            .psql("select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")
            .await
            .unwrap();
    };
    tokio::join!(working, story);

    for label in &lost {
        let what = format!("{label} to leave the MoM that is dead");
        wait_until(&what, PATIENCE, async || {
            rest.get(&format!("/queues/{label}")).await["port"] != cluster.mom(0).port()
        })
        .await;
        expected = expected.replace(&format!("{label}1"), &format!("{label}2"));
    }
    assert_eq!(epochs(&cluster).await, expected);

    cluster.manager(first).thaw().await.unwrap();
    wait_until("the former leader to know", PATIENCE, async || {
        let log = cluster.manager(first).log();
        log.contains("another manager leads, or may")
    })
    .await;
    // It has taken further turns, had it thought so; nothing comes of them.
    cluster.mom(0).start().await.unwrap();
    rest.until_mom(cluster.mom(0).port(), true).await;
    assert_eq!(epochs(&cluster).await, expected);
    let log = cluster.manager(first).log();
    assert!(!log.contains("moved a queue"), "{log}");
    assert_eq!(leader(&cluster).await, (epoch + 1, 1 - first));
}

#[tokio::test]
async fn a_leader_that_cannot_reach_the_database_is_replaced() {
    let cluster = Cluster::builder().moms(2).managers(2).proxy_databases();
    let cluster = cluster.start().await.unwrap();
    let (epoch, first) = leader(&cluster).await;
    let rest = Rest::of(&cluster, 1 - first);
    let lost = queues_on_the_first(&cluster, &rest, 2).await;
    let proxy = cluster.manager_database_proxy(first);
    proxy.blackhole(Direction::Both);
    assert_eq!(next_leader(&cluster, epoch).await, (epoch + 1, 1 - first));
    cluster.mom(0).kill().await;
    rest.until_all_on(&lost, cluster.mom(1).port()).await;
    proxy.restore().await.unwrap();
    let back = Rest::of(&cluster, first);
    wait_until("it to find its database", PATIENCE, async || {
        back.ask(Method::GET, "/queues").await.status == 200
    })
    .await;
    assert_eq!(leader(&cluster).await, (epoch + 1, 1 - first));
}

#[tokio::test]
async fn a_mom_that_alone_cannot_reach_the_database_loses_its_queues() {
    let cluster = Cluster::builder().moms(2).proxy_databases().start().await;
    let cluster = cluster.unwrap();
    let rest = Rest::of(&cluster, 0);
    let lost = queues_on_the_first(&cluster, &rest, 2).await;
    let path = format!("/queues/{}/channels/__none__", lost[0]);
    let channel = rest.ask(Method::PUT, &path).await.json["id"].clone();
    let request = SubscriptionRequest {
        channel_id: channel.as_str().unwrap().to_owned(),
        ..Default::default()
    };
    let subscribed = mom(&cluster, 0).await.subscribe_to_channel(request).await;
    let mut subscription = subscribed.unwrap().into_inner();
    cluster.mom_database_proxy(0).blackhole(Direction::Both);
    rest.until_all_on(&lost, cluster.mom(1).port()).await;
    push(&cluster, 1, &lost[0], "after").await;
    // Its subscribers learn where the queue is, although it cannot look that up.
    let end = tokio::time::timeout(PATIENCE, subscription.message()).await;
    let end = end.expect("the subscription goes on").unwrap_err();
    let owner = end.metadata().get(protos::OWNER_METADATA);
    let elsewhere = format!("127.0.0.1:{}", cluster.mom(1).port());
    assert_eq!(owner.expect("an owner"), elsewhere.as_str(), "{end:?}");
    cluster.mom_database_proxy(0).restore().await.unwrap();
    rest.until_mom(cluster.mom(0).port(), true).await;
    for label in &lost {
        until_hosted(&cluster, 1, label).await;
    }
}
