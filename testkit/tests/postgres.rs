//! The private PostgreSQL server.

use std::time::Duration;

use testkit::{Folder, Postgres, Stop};

#[tokio::test]
async fn it_is_durable_and_asks_for_a_password() {
    let postgres = Postgres::start_temporary().await.unwrap();
    for name in ["fsync", "full_page_writes", "synchronous_commit"] {
        let value = postgres
            .psql("postgres", &format!("show {name}"))
            .await
            .unwrap();
        assert_eq!(value, "on", "{name}");
    }
    let stored =
        "select rolpassword like 'SCRAM-SHA-256$%' from pg_authid where rolname = current_user";
    assert_eq!(postgres.psql("postgres", stored).await.unwrap(), "t");
    let rules = "select string_agg(distinct auth_method, ',') from pg_hba_file_rules";
    assert_eq!(
        postgres.psql("postgres", rules).await.unwrap(),
        "scram-sha-256"
    );
}

#[tokio::test]
async fn a_setting_given_prevails_over_the_usual_one() {
    let postgres = Postgres::builder()
        .setting("fsync", "off")
        .start()
        .await
        .unwrap();
    assert_eq!(
        postgres.psql("postgres", "show fsync").await.unwrap(),
        "off"
    );
}

#[tokio::test]
async fn committed_rows_survive_every_way_to_stop() {
    let postgres = Postgres::start_temporary().await.unwrap();
    postgres.create_database("kept").await.unwrap();
    assert!(postgres.has_database("kept").await.unwrap());
    assert!(!postgres.has_database("other").await.unwrap());
    postgres
        .psql("kept", "create table row (n int)")
        .await
        .unwrap();

    for (n, how) in [Stop::Fast, Stop::Immediate, Stop::Crash]
        .into_iter()
        .enumerate()
    {
        postgres
            .psql("kept", &format!("insert into row values ({n})"))
            .await
            .unwrap();
        postgres.stop(how).await.unwrap();
        assert!(!postgres.process().is_running());
        assert!(
            postgres.psql("kept", "select 1").await.is_err(),
            "it answers after {how:?}"
        );
        postgres.start().await.unwrap();
        let count = postgres
            .psql("kept", "select count(*) from row")
            .await
            .unwrap();
        assert_eq!(count, (n + 1).to_string(), "after {how:?}");
    }
}

#[tokio::test]
async fn a_frozen_server_answers_nobody_new_until_it_thaws() {
    let postgres = Postgres::start_temporary().await.unwrap();
    postgres.process().freeze().await.unwrap();
    let look = tokio::time::timeout(
        Duration::from_millis(300),
        postgres.psql("postgres", "select 1"),
    );
    assert!(look.await.is_err());
    postgres.process().thaw().await.unwrap();
    assert_eq!(postgres.psql("postgres", "select 1").await.unwrap(), "1");
}

#[tokio::test]
async fn a_given_directory_keeps_its_data() {
    let folder = Folder::temporary().unwrap();
    let directory = folder.path().join("kept");
    let start = || Postgres::builder().directory(&directory).start();

    let first = start().await.unwrap();
    assert_eq!(first.moved_from(), None);
    first.create_database("kept").await.unwrap();
    let running = start().await.map(drop).unwrap_err().to_string();
    assert!(running.contains("another demo"), "{running}");
    drop(first);

    let second = start().await.unwrap();
    assert!(second.has_database("kept").await.unwrap());
}

#[tokio::test]
async fn a_pid_file_whose_number_belongs_to_another_process_is_removed() {
    let folder = Folder::temporary().unwrap();
    let directory = folder.path().join("kept");
    let first = Postgres::builder()
        .directory(&directory)
        .start()
        .await
        .unwrap();
    let pid_file = directory.join("data/postmaster.pid");
    let note = std::fs::read_to_string(&pid_file).unwrap();
    first.stop(Stop::Crash).await.unwrap();
    drop(first);
    // This process is alive and is not PostgreSQL.
    let pid = note.lines().next().unwrap();
    let note = note.replacen(pid, &std::process::id().to_string(), 1);
    std::fs::write(&pid_file, note).unwrap();

    let second = Postgres::builder()
        .directory(&directory)
        .start()
        .await
        .unwrap();
    assert_eq!(second.psql("postgres", "select 1").await.unwrap(), "1");
}

#[tokio::test]
async fn root_is_told_when_the_directory_is_out_of_reach() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::temporary().unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).unwrap();
    let wanted = home.join("kept");
    let postgres = Postgres::builder()
        .directory(&wanted)
        .start()
        .await
        .unwrap();
    // Only root has to step down to an account that does not get there.
    let by_root = std::fs::metadata("/proc/self").unwrap();
    if std::os::unix::fs::MetadataExt::uid(&by_root) == 0 {
        assert_eq!(postgres.moved_from(), Some(wanted.as_path()));
        let directory = postgres.directory().to_path_buf();
        assert!(directory.starts_with("/var/tmp"), "{}", directory.display());
        drop(postgres);
        std::fs::remove_dir_all(directory).unwrap();
    } else {
        assert_eq!(postgres.moved_from(), None);
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let error = Postgres::builder()
        .port(port)
        .start()
        .await
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, testkit::Error::PortTaken(_)), "{error}");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn a_promoted_standby_has_everything_that_was_acknowledged() {
    let primary = Postgres::start_temporary().await.unwrap();
    primary.create_database("kept").await.unwrap();
    primary
        .psql("kept", "create table row (n int)")
        .await
        .unwrap();
    let standby = primary.start_standby().await.unwrap();
    for n in 0..20 {
        primary
            .psql("kept", &format!("insert into row values ({n})"))
            .await
            .unwrap();
    }
    assert!(standby.psql("kept", "delete from row").await.is_err());

    primary.stop(Stop::Crash).await.unwrap();
    standby.promote().await.unwrap();
    let count = "select count(*) from row";
    assert_eq!(standby.psql("kept", count).await.unwrap(), "20");
    standby
        .psql("kept", "insert into row values (20)")
        .await
        .unwrap();
    standby.restart(Stop::Fast).await.unwrap();
    assert_eq!(standby.psql("kept", count).await.unwrap(), "21");
}

#[tokio::test]
async fn commits_wait_for_a_standby_that_is_away() {
    let primary = Postgres::start_temporary().await.unwrap();
    let standby = primary.start_standby().await.unwrap();
    standby.stop(Stop::Fast).await.unwrap();
    let create = primary.psql("postgres", "create table row (n int)");
    let create = tokio::time::timeout(Duration::from_millis(500), create);
    assert!(create.await.is_err());
    standby.start().await.unwrap();
    primary
        .psql("postgres", "create table other (n int)")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_small_disk_gets_full_and_is_freed() {
    if let Err(why) = testkit::Disk::is_possible() {
        eprintln!("not tested: {why}");
        return;
    }
    let postgres = Postgres::builder().small_disk(128).start().await.unwrap();
    let disk = postgres.disk().unwrap();
    postgres
        .psql("postgres", "create table row (n bytea)")
        .await
        .unwrap();
    // Stored uncompressed, 8 MiB take new pages.
    let insert = "insert into row select decode(repeat(md5(n::text), 256), 'hex') from generate_series(1, 2048) n";
    postgres.psql("postgres", insert).await.unwrap();

    disk.fill().unwrap();
    assert!(postgres.psql("postgres", insert).await.is_err());
    disk.free().unwrap();
    if !postgres.process().is_running() {
        postgres.start().await.unwrap();
    }
    testkit::wait_until("room", Duration::from_secs(30), async || {
        postgres.psql("postgres", insert).await
    })
    .await;
    let count = postgres.psql("postgres", "select count(*) from row").await;
    assert_eq!(count.unwrap(), "4096");
}
