//! The manager as a process: its subcommands, its exit status, what it says when it cannot start.

use std::process::Output;

use reqwest::Method;
use testkit::{Cluster, Folder, Postgres, free_port};
use tokio::process::Command;

use crate::support::{PATIENCE, Rest};

/// Runs the manager in a folder with this `Rocket.toml` until it ends.
async fn run(arguments: &[&str], toml: &str) -> Output {
    let folder = Folder::temporary().unwrap();
    std::fs::write(folder.path().join("Rocket.toml"), toml).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_rmom-manager"))
        .args(arguments)
        .current_dir(folder.path())
        .env("ROCKET_PROFILE", "default")
        .env_remove("RUST_LOG")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await;
    output.expect("the manager did not end").unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn it_stops_on_sigterm_with_success() {
    let cluster = Cluster::start(1, 1).await.unwrap();
    // A connection that idles does not hold it up.
    let rest = Rest::of(&cluster, 0);
    rest.create("news").await;
    let status = cluster.manager(0).terminate().await.unwrap();
    assert!(status.success(), "{status}");
    let log = cluster.manager(0).log();
    assert!(
        log.contains("stopping on SIGTERM") && log.contains("stopped"),
        "{log}"
    );
    assert!(!log.contains("cut off"), "{log}");
    // MoMs go on without it.
    cluster.mom(0).heartbeat().await.unwrap();
}

#[tokio::test]
async fn it_stops_on_sigterm_while_the_database_is_away() {
    let cluster = Cluster::builder().proxy_databases().start().await.unwrap();
    cluster.manager(0).kill().await;
    cluster.manager_database_proxy(0).cut().await;
    cluster.manager(0).start().await.unwrap();
    let status = cluster.manager(0).terminate().await.unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn migrate_applies_the_schema_and_ends() {
    let postgres = Postgres::start_temporary().await.unwrap();
    postgres.create_database("empty").await.unwrap();
    let toml = format!(
        "[default.databases.rmom_manager]\nurl = {:?}\n",
        postgres.url("empty")
    );
    for _ in 0..2 {
        let output = run(&["migrate"], &toml).await;
        assert!(output.status.success(), "{}", text(&output));
        let queues = postgres.psql("empty", "select count(*) from queue").await;
        assert_eq!(queues.unwrap(), "0");
    }
}

#[tokio::test]
async fn a_wrong_password_ends_it_with_the_cause_and_without_the_password() {
    let postgres = Postgres::start_temporary().await.unwrap();
    let url = postgres
        .url("postgres")
        .replace(postgres.password(), "guess");
    let toml = format!(
        "[default]\nport = {}\n[default.databases.rmom_manager]\nurl = {url:?}\n",
        free_port().unwrap()
    );
    for arguments in [&["migrate"][..], &[]] {
        let output = run(arguments, &toml).await;
        assert!(!output.status.success());
        let log = text(&output);
        assert!(log.contains("password authentication failed"), "{log}");
        assert!(!log.contains("guess"), "{log}");
    }
}

#[tokio::test]
async fn health_tells_whether_it_listens() {
    let cluster = Cluster::start(0, 1).await.unwrap();
    let toml = format!(
        "[default]\naddress = \"0.0.0.0\"\nport = {}\n[default.databases.rmom_manager]\nurl = {:?}\n",
        cluster.manager(0).port(),
        cluster.database_url()
    );
    let output = run(&["health"], &toml).await;
    assert!(output.status.success(), "{}", text(&output));
    cluster.manager(0).kill().await;
    let output = run(&["health"], &toml).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("no manager listens"),
        "{}",
        text(&output)
    );
}

#[tokio::test]
async fn a_port_that_is_taken_ends_it_with_the_address() {
    let cluster = Cluster::start(0, 1).await.unwrap();
    let port = cluster.manager(0).port();
    let toml = format!(
        "[default]\nport = {port}\n[default.databases.rmom_manager]\nurl = {:?}\n",
        cluster.database_url()
    );
    let output = run(&[], &toml).await;
    assert_eq!(output.status.code(), Some(1));
    let log = text(&output);
    assert!(
        log.contains(&format!("cannot listen on 127.0.0.1:{port}")),
        "{log}"
    );
    Rest::of(&cluster, 0).ask(Method::GET, "/queues").await;
}

#[tokio::test]
async fn wrong_settings_end_it_with_the_file_and_the_key() {
    let output = run(&[], "[default]\nmanager_cycle_secs = 0\n").await;
    assert_eq!(output.status.code(), Some(1));
    let log = text(&output);
    for part in [
        "Rocket.toml, [default]",
        "`manager_cycle_secs`",
        "1 to 3600",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert!(!log.contains("panicked"), "{log}");
}
