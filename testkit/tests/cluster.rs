//! A whole cluster of real processes.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use protos::message_stream_client::MessageStreamClient;
use protos::{Push, SubscriptionRequest};
use serde::Deserialize;
use testkit::{Cluster, Control, Mom, Postgres, wait_until};

const SOON: Duration = Duration::from_mins(1);

#[derive(Deserialize)]
struct Place {
    #[serde(default)]
    id: String,
    host: String,
    port: u16,
}

fn http() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(20))
        .build()
        .unwrap()
}

async fn create_queue(cluster: &Cluster, label: &str) {
    let url = format!("{}/queues/{label}", cluster.manager_url(0));
    http()
        .post(url)
        .send()
        .await
        .unwrap()
        .error_for_status()
        .unwrap();
}

async fn host_of<'a>(cluster: &'a Cluster, label: &str) -> Option<&'a Mom> {
    let url = format!("{}/queues/{label}", cluster.manager_url(0));
    let answer = http().get(url).send().await.ok()?;
    let place: Place = answer.json().await.ok()?;
    cluster.mom_at(&place.host, place.port)
}

async fn push(mom: &Mom, label: &str, content: &str) -> Result<(), tonic::Status> {
    let endpoint = tonic::transport::Endpoint::from_shared(mom.url()).unwrap();
    let channel = endpoint
        .timeout(Duration::from_secs(10))
        .connect()
        .await
        .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let push = Push {
        content: content.to_owned().into(),
        topic: "__none__".to_owned(),
        queue_label: label.to_owned(),
        ..Default::default()
    };
    MessageStreamClient::new(channel)
        .push_to_queue(push)
        .await
        .map(drop)
}

/// The first `count` messages of a new channel.
async fn retained(cluster: &Cluster, label: &str, count: usize) -> Vec<String> {
    let url = format!(
        "{}/queues/{label}/channels/__none__",
        cluster.manager_url(0)
    );
    let channel: Place = http().put(url).send().await.unwrap().json().await.unwrap();
    let mom = format!("http://{}:{}", channel.host, channel.port);
    let request = SubscriptionRequest {
        channel_id: channel.id,
        ..Default::default()
    };
    let endpoint = tonic::transport::Endpoint::from_shared(mom).unwrap();
    let mut client = MessageStreamClient::new(endpoint.connect().await.unwrap());
    let mut stream = client
        .subscribe_to_channel(request)
        .await
        .unwrap()
        .into_inner();
    let mut contents = Vec::new();
    while contents.len() < count {
        let message = stream
            .message()
            .await
            .unwrap()
            .expect("the stream does not end");
        contents.push(String::from_utf8(message.content.to_vec()).unwrap());
    }
    contents
}

#[tokio::test]
async fn it_takes_messages_and_delivers_them() {
    let cluster = Cluster::start(2, 1).await.unwrap();
    assert_eq!(
        cluster
            .psql("select count(*) from mom where is_up")
            .await
            .unwrap(),
        "2"
    );
    create_queue(&cluster, "letters").await;
    let mom = host_of(&cluster, "letters").await.unwrap();
    push(mom, "letters", "one").await.unwrap();
    push(mom, "letters", "two").await.unwrap();
    assert_eq!(retained(&cluster, "letters", 2).await, ["one", "two"]);
    cluster.stop().await.unwrap();
    assert!(
        cluster
            .moms()
            .all(|mom| mom.exit_status().is_some_and(|status| status.success()))
    );
    assert!(!cluster.postgres().process().is_running());
}

#[tokio::test]
async fn a_queue_moves_away_from_a_killed_and_from_a_frozen_mom() {
    let cluster = Cluster::start(2, 2).await.unwrap();
    create_queue(&cluster, "letters").await;
    let first = host_of(&cluster, "letters").await.unwrap();
    push(first, "letters", "one").await.unwrap();

    first.kill().await;
    let second = wait_until("the queue to move from the killed MoM", SOON, async || {
        host_of(&cluster, "letters")
            .await
            .filter(|mom| mom.name() != first.name())
    })
    .await;
    wait_until("the new host to take pushes", SOON, async || {
        push(second, "letters", "two").await
    })
    .await;

    first.start().await.unwrap();
    let up = "select count(*) from mom where is_up";
    wait_until("the first MoM to be seen up again", SOON, async || {
        cluster.psql(up).await.unwrap() == "2"
    })
    .await;
    second.freeze().await.unwrap();
    wait_until("the queue to move from the frozen MoM", SOON, async || {
        host_of(&cluster, "letters")
            .await
            .is_some_and(|mom| mom.name() == first.name())
    })
    .await;
    wait_until("the first MoM to take pushes", SOON, async || {
        push(first, "letters", "three").await
    })
    .await;
    second.thaw().await.unwrap();
    let contents = retained(&cluster, "letters", 3).await;
    // A push whose outcome was unknown may have been made twice by the loop above.
    assert_eq!((contents[0].as_str(), contents[1].as_str()), ("one", "two"));
}

#[tokio::test]
async fn proxies_stand_before_moms_and_the_database() {
    let cluster = Cluster::builder()
        .moms(1)
        .proxy_moms()
        .proxy_databases()
        .start()
        .await
        .unwrap();
    create_queue(&cluster, "letters").await;
    let mom = host_of(&cluster, "letters").await.unwrap();
    assert_eq!(mom.port(), cluster.mom_proxy(0).port());
    push(mom, "letters", "one").await.unwrap();

    cluster.mom_proxy(0).cut().await;
    push(mom, "letters", "lost").await.unwrap_err();
    mom.heartbeat().await.unwrap();
    cluster.mom_proxy(0).restore().await.unwrap();
    wait_until("pushes through the restored proxy", SOON, async || {
        push(mom, "letters", "two").await
    })
    .await;

    assert!(cluster.manager_database_proxy(0).connections().await > 0);
    cluster.mom_database_proxy(0).cut().await;
    push(mom, "letters", "unknown").await.unwrap_err();
    cluster.mom_database_proxy(0).restore().await.unwrap();
    wait_until("pushes once the database is back", SOON, async || {
        push(mom, "letters", "three").await
    })
    .await;
}

#[tokio::test]
async fn two_clusters_on_one_server_have_databases_of_their_own() {
    let postgres = Arc::new(Postgres::start_temporary().await.unwrap());
    let build = || Cluster::builder().moms(1).postgres(Arc::clone(&postgres));
    let (one, two) = (
        build().start().await.unwrap(),
        build().start().await.unwrap(),
    );
    assert_ne!(one.database(), two.database());
    create_queue(&one, "letters").await;
    assert!(host_of(&one, "letters").await.is_some());
    assert!(host_of(&two, "letters").await.is_none());
    one.stop().await.unwrap();
    assert!(postgres.process().is_running());
}

#[tokio::test]
async fn a_given_directory_keeps_queues_and_messages() {
    let folder = testkit::Folder::temporary().unwrap();
    let build = || {
        Cluster::builder()
            .moms(1)
            .data_dir(folder.path().join("kept"))
    };
    let cluster = build().start().await.unwrap();
    create_queue(&cluster, "letters").await;
    push(
        host_of(&cluster, "letters").await.unwrap(),
        "letters",
        "one",
    )
    .await
    .unwrap();
    cluster.stop().await.unwrap();
    drop(cluster);

    let cluster = build().start().await.unwrap();
    // Its MoM has another port now, so to the manager it is another MoM.
    let mom = wait_until("the queue to be hosted again", SOON, async || {
        host_of(&cluster, "letters").await
    })
    .await;
    wait_until("it to take pushes", SOON, async || {
        push(mom, "letters", "two").await
    })
    .await;
    assert_eq!(retained(&cluster, "letters", 2).await, ["one", "two"]);
}

#[tokio::test]
async fn settings_reach_every_part() {
    let cluster = Cluster::builder()
        .message_ttl(1234)
        .mom_setting("database.max_connections", 7)
        .mom_env("RUST_LOG", "rmom=debug")
        .manager_setting("manager_cycle_secs", "2")
        .manager_setting("databases.rmom_manager.max_connections", "6")
        .postgres_setting("max_connections", "77")
        .start()
        .await
        .unwrap();
    let yaml = std::fs::read_to_string(cluster.folder().join("mom0.yaml")).unwrap();
    assert!(
        yaml.contains("message_ttl: 1234") && yaml.contains("max_connections: 7"),
        "{yaml}"
    );
    let toml = std::fs::read_to_string(cluster.folder().join("manager0/Rocket.toml")).unwrap();
    assert!(toml.contains("manager_cycle_secs = 2\n"), "{toml}");
    assert!(
        toml.contains("databases.rmom_manager.max_connections = 6\n"),
        "{toml}"
    );
    assert_eq!(cluster.psql("show max_connections").await.unwrap(), "77");
}

#[tokio::test]
async fn a_mom_that_refuses_to_start_is_named_with_its_log() {
    let undurable = Cluster::builder()
        .postgres_setting("fsync", "off")
        .start()
        .await;
    let error = undurable.map(drop).unwrap_err().to_string();
    assert!(
        error.contains("mom0 ended") && error.contains("fsync"),
        "{error}"
    );
    let folder = error
        .split_once("; the end of ")
        .unwrap()
        .1
        .split_once("/mom0.log")
        .unwrap()
        .0;
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn binaries_that_are_missing_are_named() {
    let missing = Cluster::builder().binaries("/nonexistent").start().await;
    let error = missing.map(drop).unwrap_err().to_string();
    assert!(
        error.contains("/nonexistent/rmom-manager is not there"),
        "{error}"
    );
}

#[tokio::test]
async fn moms_without_a_manager_are_refused() {
    let error = Cluster::start(1, 0)
        .await
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(error.contains("need a manager"), "{error}");
}

#[tokio::test]
async fn faults_can_be_caused_over_http() {
    let cluster = Arc::new(Cluster::start(1, 1).await.unwrap());
    let control = Control::start(Arc::clone(&cluster)).await.unwrap();
    let order = async |path: &str| {
        http()
            .post(format!("{}/{path}", control.url()))
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    let running = async |list: &str| {
        let answer = http()
            .get(format!("{}/{list}", control.url()))
            .send()
            .await
            .unwrap();
        answer.json::<serde_json::Value>().await.unwrap()[0]["running"]
            .as_bool()
            .unwrap()
    };
    assert!(running("moms").await);
    assert_eq!(order("mom/0/kill").await, 204);
    assert!(!running("moms").await);
    assert_eq!(order("mom/0/freeze").await, 409);
    assert_eq!(order("mom/0/restart").await, 204);
    assert!(running("moms").await);
    assert_eq!(order("manager/0/freeze").await, 204);
    assert!(cluster.manager(0).status().await.is_err());
    assert_eq!(order("manager/0/thaw").await, 204);
    cluster.manager(0).ready().await.unwrap();
    assert_eq!(order("postgres/stop").await, 204);
    assert!(!cluster.postgres().process().is_running());
    assert_eq!(order("postgres/start").await, 204);
    assert_eq!(order("mom/1/kill").await, 404);
    assert_eq!(order("mom/0/explode").await, 404);
    assert_eq!(order("manager/0/terminate").await, 204);
    assert!(!running("managers").await);
}

#[tokio::test]
async fn drop_ends_every_process() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    let pids = [
        cluster.mom(0).pid().unwrap(),
        cluster.manager(0).pid().unwrap(),
        cluster.postgres().process().pid().unwrap(),
    ];
    let folder = cluster.folder().to_path_buf();
    drop(cluster);
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
    assert!(!folder.exists());
}

#[test]
fn rmom_cluster_runs_a_command_and_exits_with_its_status() {
    let script = "test -n \"$RMOM_DATABASE_URL\" && test -n \"$RMOM_CONTROL\" && echo \"managers: $RMOM_MANAGER\"; exit 7";
    let output = Command::new(env!("CARGO_BIN_EXE_rmom-cluster"))
        .args([
            "--moms",
            "1",
            "--managers",
            "2",
            "--exec",
            "sh",
            "-c",
            script,
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        output.status.code(),
        Some(7),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let managers = text.trim().strip_prefix("managers: ").unwrap();
    assert_eq!(
        managers
            .split(',')
            .filter(|url| url.starts_with("http://127.0.0.1:"))
            .count(),
        2
    );
}

#[tokio::test]
async fn a_standby_takes_over_under_the_same_address() {
    let cluster = Cluster::builder()
        .moms(0)
        .managers(0)
        .standby()
        .start()
        .await
        .unwrap();
    cluster.psql("create table row (n int)").await.unwrap();
    let (first, address) = (cluster.postgres().port(), cluster.database_proxy().port());
    cluster.fail_over().await.unwrap();
    assert_ne!(cluster.postgres().port(), first);
    assert_eq!(cluster.database_proxy().port(), address);
    cluster.psql("insert into row values (1)").await.unwrap();
    assert_eq!(cluster.psql("select n from row").await.unwrap(), "1");
    assert!(cluster.fail_over().await.is_err(), "there is no second one");
}
