//! Nothing that was started outlives the value, the test or the process that started it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::{Folder, Postgres, ProcessBuilder, wait_until};

const SOON: Duration = Duration::from_secs(20);
/// Set for the run of `holds_a_server` that is to be killed.
const VICTIM: &str = "TESTKIT_VICTIM";

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

async fn gone(pid: u32) {
    wait_until(&format!("process {pid} to be gone"), SOON, async || {
        !exists(pid)
    })
    .await;
}

#[tokio::test]
async fn drop_ends_the_server_and_removes_its_folder() {
    let postgres = Postgres::start_temporary().await.unwrap();
    let (pid, folder) = (
        postgres.process().pid().unwrap(),
        postgres.directory().to_path_buf(),
    );
    assert!(folder.join("data/PG_VERSION").exists());
    drop(postgres);
    assert!(!exists(pid));
    assert!(!folder.exists());
}

#[tokio::test]
async fn drop_ends_a_frozen_server() {
    let postgres = Postgres::start_temporary().await.unwrap();
    let pid = postgres.process().pid().unwrap();
    postgres.process().freeze().await.unwrap();
    drop(postgres);
    assert!(!exists(pid));
}

#[test]
fn a_panic_ends_the_server_and_keeps_its_log() {
    let (tell, told) = std::sync::mpsc::channel();
    let test = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let postgres = Postgres::start_temporary().await.unwrap();
            let folder = postgres.directory().to_path_buf();
            tell.send((postgres.process().pid().unwrap(), folder))
                .unwrap();
            panic!("as a failed assertion does");
        });
    });
    assert!(test.join().is_err());
    let (pid, folder): (u32, PathBuf) = told.recv().unwrap();
    assert!(!exists(pid));
    assert!(folder.join("postgres.log").exists());
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn sigkill_to_the_parent_ends_the_server_and_the_next_one_tidies_up() {
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holds_a_server", "--ignored", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let (pid, folder) = lines
        .map_while(Result::ok)
        .find_map(|line| {
            let (_, rest) = line.split_once("holding ")?;
            let (pid, folder) = rest.split_once(' ')?;
            Some((pid.parse::<u32>().unwrap(), PathBuf::from(folder)))
        })
        .unwrap();
    assert!(exists(pid));
    parent.kill().unwrap();
    parent.wait().unwrap();
    gone(pid).await;

    // Its folder goes with the next temporary folder that anybody makes, here or in a test alongside.
    wait_until("the folder to be swept", SOON, async || {
        drop(Folder::temporary().unwrap());
        !folder.exists()
    })
    .await;
}

/// The thread that started the server ends early on purpose: the server must not end with it.
#[test]
#[ignore = "another test starts this one to kill it"]
fn holds_a_server() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let starter = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(Postgres::start_temporary()).unwrap()
    });
    let postgres = starter.join().unwrap();
    let pid = postgres
        .process()
        .pid()
        .expect("it outlives the thread that started it");
    println!("holding {pid} {}", postgres.directory().display());
    loop {
        std::thread::park();
    }
}

#[tokio::test]
async fn a_process_that_is_frozen_stays_and_goes_on_when_thawed() {
    let folder = Folder::temporary().unwrap();
    let log = folder.path().join("log");
    let process = ProcessBuilder::new("a counter", "/bin/sh", &log)
        .arg("-c")
        .arg("n=0; while true; do n=$((n+1)); echo $n; sleep 0.01; done")
        .build();
    assert!(process.freeze().await.is_err(), "it does not run yet");
    process.spawn().unwrap();
    assert!(process.spawn().is_err(), "it runs already");
    wait_until("a first line", SOON, async || !process.log().is_empty()).await;

    process.freeze().await.unwrap();
    assert!(process.is_running());
    let frozen = process.log();
    process.thaw().await.unwrap();
    wait_until("more lines", SOON, async || {
        process.log().len() > frozen.len()
    })
    .await;

    process.kill().await;
    assert!(!process.is_running());
    assert!(
        process
            .ensure_running()
            .unwrap_err()
            .to_string()
            .contains("signal: 9")
    );
}

#[tokio::test]
async fn terminate_tells_the_exit_status() {
    let folder = Folder::temporary().unwrap();
    let process = ProcessBuilder::new("a polite one", "/bin/sh", folder.path().join("log"))
        .arg("-c")
        .arg("trap 'echo bye; exit 3' TERM; echo ready; while true; do sleep 0.01; done")
        .build();
    process.spawn().unwrap();
    wait_until("it to be ready", SOON, async || {
        process.log().contains("ready")
    })
    .await;
    assert_eq!(process.terminate().await.unwrap().code(), Some(3));
    assert!(process.log_of_this_run().ends_with("bye\n"));
}

#[tokio::test]
async fn a_variable_set_once_is_there_for_one_life() {
    let folder = Folder::temporary().unwrap();
    let process = ProcessBuilder::new("a teller", "/bin/sh", folder.path().join("log"))
        .env("TESTKIT_ONCE", "usual")
        .arg("-c")
        .arg("echo $TESTKIT_ONCE")
        .build();
    process.set_env_once("TESTKIT_ONCE", "armed");
    for expected in ["armed\n", "usual\n"] {
        process.spawn().unwrap();
        assert!(process.ended(SOON).await.unwrap().success());
        assert_eq!(process.log_of_this_run(), expected);
    }
}
