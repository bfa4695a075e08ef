//! Who may command a MoM, and what it does when it finds that it owns less or more than it thought.

use crate::support::{Client, DEADLINE, assert_refused, cluster, start};
use protos::message_stream_client::MessageStreamClient;
use protos::{
    DeleteQueueRequest, HeartbeatRequest, OWNER_METADATA, RebuildQueueRequest, ReleaseQueueRequest,
    codes,
};
use testkit::{Cluster, wait_until};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

fn heartbeat(lease_epoch: i64) -> HeartbeatRequest {
    HeartbeatRequest {
        with_queues: true,
        lease_epoch,
    }
}

#[tokio::test]
async fn a_manager_that_does_not_lead_any_more_is_not_obeyed() {
    let cluster = cluster(1).await;
    cluster.manager(0).kill().await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    // A leader that the database does not know is not believed for long.
    client.0.get_heartbeat(heartbeat(9_999)).await.unwrap();
    wait_until("the database to be believed", DEADLINE, async || {
        let mut client = client.clone();
        client.0.get_heartbeat(heartbeat(1_000)).await.is_ok()
    })
    .await;
    let lead = "update lease set epoch = 1000";
    cluster.psql(lead).await.unwrap();
    wait_until("it to be heard of", DEADLINE, async || {
        let mut client = client.clone();
        client.0.get_heartbeat(heartbeat(999)).await.is_err()
    })
    .await;
    client.0.get_heartbeat(heartbeat(1_000)).await.unwrap();
    let stale = client.0.get_heartbeat(heartbeat(999)).await;
    assert_refused(stale, Code::FailedPrecondition, codes::STALE_MANAGER);
    let rebuild = |lease_epoch| RebuildQueueRequest {
        queue_label: "q".into(),
        epoch: 1,
        lease_epoch,
    };
    let stale = client.0.rebuild_queue(rebuild(999)).await;
    assert_refused(stale, Code::FailedPrecondition, codes::STALE_MANAGER);
    client.0.rebuild_queue(rebuild(1_000)).await.unwrap();
    let release = ReleaseQueueRequest {
        queue_label: "q".into(),
        epoch: 2,
        lease_epoch: 999,
        owner: String::new(),
    };
    let stale = client.0.release_queue(release).await;
    assert_refused(stale, Code::FailedPrecondition, codes::STALE_MANAGER);
}

#[tokio::test]
async fn a_command_about_an_ownership_that_has_ended_is_refused() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    cluster.mom(0).restart().await.unwrap();
    let mut client = Client::of(cluster.mom(0)).await;
    for (epoch, fate) in [(1, Err(codes::STALE_EPOCH)), (2, Ok(()))] {
        let rebuild = RebuildQueueRequest {
            queue_label: "q".into(),
            epoch,
            lease_epoch: 0,
        };
        let answer = client.0.rebuild_queue(rebuild).await;
        match fate {
            Ok(()) => drop(answer.unwrap()),
            Err(code) => drop(assert_refused(answer, Code::FailedPrecondition, code)),
        }
    }
}

#[tokio::test]
async fn a_released_queue_sends_its_users_to_the_new_owner_and_is_hosted_again_if_there_is_none() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    let channel = client.create_channel("q", "__none__").await.unwrap();
    let mut subscription = client.subscribe(&channel, None).await.unwrap();
    client.push("q", "x", b"one").await.unwrap();
    assert_eq!(subscription.texts(1).await, ["one"]);
    let release = |epoch| ReleaseQueueRequest {
        queue_label: "q".into(),
        epoch,
        lease_epoch: 0,
        owner: "127.0.0.9:1".into(),
    };
    // Of the present ownership or an earlier one: nothing happens.
    client.0.release_queue(release(1)).await.unwrap();
    client.push("q", "x", b"two").await.unwrap();
    assert_eq!(subscription.texts(1).await, ["two"]);

    client.0.release_queue(release(2)).await.unwrap();
    let end = subscription.next().await;
    let owner = end.as_ref().unwrap_err().metadata().get(OWNER_METADATA);
    assert_eq!(owner.unwrap(), "127.0.0.9:1");
    assert_refused(end, Code::FailedPrecondition, codes::NOT_OWNER);
    // The database knows better than whoever sent this.
    assert_eq!(client.push("q", "x", b"three").await.unwrap().seq, 3);
}

#[tokio::test]
async fn a_late_hint_of_a_deletion_does_not_touch_a_new_queue_of_the_label() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    client.push("q", "x", b"old").await.unwrap();
    let delete = |epoch| DeleteQueueRequest {
        queue_label: "q".into(),
        epoch,
    };
    client.0.delete_queue(delete(0)).await.unwrap();
    client.create_queue("q").await.unwrap();
    client.push("q", "x", b"new").await.unwrap();
    client.0.delete_queue(delete(1)).await.unwrap();
    assert_eq!(client.push("q", "x", b"newer").await.unwrap().seq, 2);
    assert_eq!(
        cluster.psql("select count(*) from message").await.unwrap(),
        "2"
    );
}

#[tokio::test]
async fn a_queue_that_nobody_told_its_owner_of_is_hosted_when_it_is_asked_for() {
    let cluster = cluster(2).await;
    cluster.manager(0).kill().await;
    let mut former = Client::of(cluster.mom(0)).await;
    former.create_queue("q").await.unwrap();
    former.push("q", "x", b"one").await.unwrap();
    let port = cluster.mom(1).port();
    let sql = format!(
        "update queue set epoch = epoch + 1, mom_id = (select id from mom where port = {port})"
    );
    cluster.psql(&sql).await.unwrap();
    let mut owner = Client::of(cluster.mom(1)).await;
    assert_eq!(owner.push("q", "x", b"two").await.unwrap().seq, 2);
    let fenced = former.push("q", "x", b"three").await;
    assert_refused(fenced, Code::FailedPrecondition, codes::NOT_OWNER);
}

#[tokio::test]
async fn a_process_that_finds_another_one_under_its_address_ends() {
    let cluster = cluster(1).await;
    let mut client = Client::of(cluster.mom(0)).await;
    client.create_queue("q").await.unwrap();
    cluster
        .psql("update mom set instance = '00000000-0000-0000-0000-000000000001'")
        .await
        .unwrap();
    let status = cluster.mom(0).ended(DEADLINE).await.unwrap();
    assert!(!status.success());
    let log = cluster.mom(0).log_of_this_run();
    assert!(log.contains("another process serves"), "{log}");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_the_others_are_served() {
    let cluster = start(
        Cluster::builder()
            .moms(1)
            .managers(1)
            .mom_setting("max_connections", 3),
    )
    .await;
    // The manager may hold one.
    let mut served = Vec::new();
    while let Some(client) = connect(&cluster).await {
        served.push(client);
    }
    assert!((2..=3).contains(&served.len()), "{}", served.len());
    for client in &mut served {
        client.get_heartbeat(heartbeat(0)).await.unwrap();
    }
    served.pop();
    wait_until("room for another", DEADLINE, async || {
        connect(&cluster).await
    })
    .await;
}

/// A connection that is served.
async fn connect(cluster: &Cluster) -> Option<MessageStreamClient<Channel>> {
    let endpoint = Endpoint::from_shared(cluster.mom(0).url()).unwrap();
    let mut client = MessageStreamClient::new(endpoint.connect().await.ok()?);
    client.get_heartbeat(heartbeat(0)).await.ok()?;
    Some(client)
}
