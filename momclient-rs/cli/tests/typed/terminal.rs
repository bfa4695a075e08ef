//! The command line against a real system, as somebody types it.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Cluster, wait_until};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_mins(1);

/// Somebody at a terminal.
struct Terminal {
    manager: Option<String>,
    /// Where contexts are kept.
    home: PathBuf,
}

impl Terminal {
    async fn type_in(&self, line: &[&str], input: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mom"));
        command
            .args(line)
            .env_remove("MOM_MANAGER")
            .env_remove("MOM_CONTEXT")
            .env("XDG_CONFIG_HOME", &self.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(manager) = &self.manager {
            command.env("MOM_MANAGER", manager);
        }
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // It need not read what it is given.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let ended = tokio::time::timeout(PATIENCE, child.wait_with_output());
        ended.await.expect("it ends").unwrap()
    }

    /// What is printed by a command that is done.
    async fn run(&self, line: &[&str]) -> String {
        self.run_with(line, "").await
    }

    async fn run_with(&self, line: &[&str], input: &str) -> String {
        let output = self.type_in(line, input).await;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "mom {line:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn json(&self, line: &[&str]) -> Value {
        let line: Vec<&str> = line.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.run(&line).await).unwrap()
    }

    /// How a command ends that cannot be done, and what it says.
    async fn fail(&self, line: &[&str]) -> (i32, String) {
        let output = self.type_in(line, "").await;
        let errors = String::from_utf8(output.stderr).unwrap();
        (output.status.code().expect("it was not killed"), errors)
    }
}

#[tokio::test]
async fn somebody_at_a_terminal_sees_and_drives_the_system() {
    let cluster = Cluster::start(2, 1).await.unwrap();
    let mom = Terminal {
        manager: Some(cluster.manager_url(0)),
        home: cluster.folder().join("home"),
    };
    push_and_look(&mom).await;
    receive(&mom).await;
    delete(&mom).await;
    operate(&mom, &cluster).await;
    go_wrong(&mom).await;
    name_systems(&mom, &cluster).await;
}

async fn push_and_look(mom: &Terminal) {
    mom.run(&["queue", "add", "news"]).await;
    let line = ["push", "news", "n{n}", "--template", "--count", "700"];
    assert!(mom.run(&line).await.contains("700 messages committed"));
    let mut line = vec!["push", "news", "--topic", "sports.football"];
    let told = mom.run_with(&line, "1:0\n").await;
    assert!(told.starts_with("701 "), "{told}");
    line.push("-");
    let told = mom.run_with(&line, "2:0\n").await;
    assert!(told.starts_with("702 "), "{told}");
    let id = "01890000-0000-7000-8000-000000000001";
    for expected in ["703 01890000", "committed before"] {
        let told = mom.run(&["push", "news", "once", "--id", id]).await;
        assert!(told.contains(expected), "{told}");
    }
    let file = mom.home.with_extension("txt");
    std::fs::write(&file, "from a file").unwrap();
    let line = [
        "push",
        "news",
        "--file",
        file.to_str().unwrap(),
        "--header",
        "TraceParent=00-ab-cd-01",
        "--header",
        "a=b=c",
    ];
    assert!(mom.run(&line).await.starts_with("704 "));

    let queues = mom.json(&["queue", "ls"]).await;
    assert_eq!(
        (&queues[0]["label"], &queues[0]["messages"]),
        (&json!("news"), &json!(704))
    );
    let line = ["queue", "peek", "news", "--after", "701", "--limit", "2"];
    let peeked = mom.run(&line).await;
    for expected in [
        "sports.football",
        "once",
        "more: mom queue peek news --after 703",
    ] {
        assert!(peeked.contains(expected), "{peeked}");
    }
    assert!(!peeked.contains("HEADERS"), "{peeked}");
    let line = ["queue", "peek", "news", "--after", "702"];
    let peeked = mom.run(&line).await;
    assert!(peeked.contains("a=b=c traceparent=00-ab-cd-01"), "{peeked}");
    let peeked = mom.json(&line).await;
    let headers = json!({"traceparent": "00-ab-cd-01", "a": "b=c"});
    assert_eq!(peeked["messages"][0]["headers"], json!({}));
    assert_eq!(peeked["messages"][1]["headers"], headers);
}

async fn receive(mom: &Terminal) {
    let all = mom.run(&["sub", "news", "--count", "704"]).await;
    let all: Vec<&str> = all.lines().collect();
    assert_eq!((all[0], all[699], all[703]), ("n1", "n700", "from a file"));
    let line = ["sub", "news", "--topic", "sports.*", "--count", "2", "-v"];
    let of_topic = "701 sports.football 1:0\n702 sports.football 2:0\n";
    assert_eq!(mom.run(&line).await, of_topic);
    let line = ["sub", "news", "--from", "702", "--count", "1"];
    let from = mom.json(&line).await;
    assert_eq!(
        (&from["seq"], &from["content"]),
        (&json!(703), &json!("once"))
    );
    assert_eq!(from["headers"], json!({}));
    let line = ["sub", "news", "--from", "703", "--count", "1"];
    let headers = &mom.json(&line).await["headers"];
    assert_eq!(*headers, json!({"traceparent": "00-ab-cd-01", "a": "b=c"}));
    let told = r#"echo "$MOM_SEQ $(cat)""#;
    let line = [
        "sub", "news", "--from", "-1h", "--count", "2", "--exec", told,
    ];
    assert_eq!(mom.run(&line).await, "1 n1\n2 n2\n");
    let left = mom.json(&["channel", "ls"]).await;
    assert_eq!(left, json!([]), "channels are left behind");

    let id = mom
        .run(&["channel", "add", "news", "--topic", "sports.>"])
        .await;
    let id = id.trim();
    assert_eq!(mom.run(&["sub", id, "--count", "1"]).await, "1:0\n");
    let listed = mom.json(&["channel", "ls", "news"]).await;
    assert_eq!(listed[0]["topic"], "sports.>");
    assert_eq!(mom.json(&["channel", "info", id]).await["id"], id);
    let info = mom.run(&["queue", "info", "news"]).await;
    assert!(
        info.contains("committed up to 704") && info.contains(id),
        "{info}"
    );
}

async fn delete(mom: &Terminal) {
    let (code, said) = mom.fail(&["queue", "rm", "news"]).await;
    assert!(
        code == 1 && said.contains("704 messages") && said.contains("--yes"),
        "{said}"
    );
    let purged = mom.json(&["queue", "purge", "news", "--yes"]).await;
    assert_eq!(purged["messages"], 704);
    mom.run(&["queue", "rm", "news", "-y"]).await;
    assert_eq!(mom.fail(&["queue", "info", "news"]).await.0, 4);
}

async fn operate(mom: &Terminal, cluster: &Cluster) {
    for label in ["a", "b"] {
        mom.run(&["queue", "add", label]).await;
    }
    let drained = format!("127.0.0.1:{}", cluster.mom(0).port());
    mom.run(&["drain", &drained]).await;
    wait_until("the queues to have moved", PATIENCE, async || {
        let moms = mom.json(&["ls"]).await;
        let mut moms = moms.as_array().unwrap().iter();
        moms.any(|mom| mom["draining"] == true && mom["queues"] == 0)
    })
    .await;
    mom.run(&["undrain", &drained]).await;
    mom.run(&["rebalance"]).await;
    let status = mom.run(&["status"]).await;
    assert!(status.contains("MoMs up: 2 of 2, queues: 2"), "{status}");
    let events = mom.run(&["events", "--limit", "100"]).await;
    assert!(
        events.contains("queue_moved") && events.contains("mom_draining"),
        "{events}"
    );
    let checked = mom.run(&["check"]).await;
    assert!(
        checked.contains(&format!("ok   MoM {drained}")),
        "{checked}"
    );
    let measured = mom
        .json(&["bench", "--secs", "1", "--subscribers", "2"])
        .await;
    let count = |what: &str| measured[what].as_u64().unwrap();
    assert!(
        count("pushed") > 0 && count("delivered") == 2 * count("pushed"),
        "{measured}"
    );
    let left = mom.json(&["queue", "ls"]).await;
    assert_eq!(left.as_array().unwrap().len(), 2, "{left}");
}

/// Every exit code that the help names, but for the one of an outcome that is not known.
async fn go_wrong(mom: &Terminal) {
    mom.run(&["push", "a", "x"]).await;
    let nowhere = "http://127.0.0.1:9";
    let lines: &[(&[&str], i32, &str)] = &[
        (&["queue", "add", "a"], 5, "queue_exists"),
        (&["queue", "add", "not legal"], 6, "invalid_label"),
        (&["push", "nothing", "x"], 4, "queue_not_found"),
        (&["drain", "nowhere:1"], 4, "there is no MoM \"nowhere:1\""),
        (&["sub", "a", "--from", "tomorrow"], 2, "earliest"),
        (&["errors", "nonsense"], 1, "lists all"),
        (&["--manager", nowhere, "status"], 3, "no manager answered"),
        (&["--manager", nowhere, "check"], 1, "not everything"),
        (&["sub", "a", "--exec", "exit 3"], 1, "for the message 1"),
    ];
    for (line, expected, says) in lines {
        let (code, said) = mom.fail(line).await;
        assert!(
            code == *expected && said.contains(says),
            "{line:?}: {code}: {said}"
        );
    }
    let told = mom.run(&["errors", "not_owner"]).await;
    assert!(told.starts_with("not_owner: ") && told.len() > 40, "{told}");
    for shell in ["bash", "zsh", "fish"] {
        let completions = mom.run(&["completions", shell]).await;
        assert!(completions.contains("rebalance"), "{shell}");
    }
}

async fn name_systems(mom: &Terminal, cluster: &Cluster) {
    let named = Terminal {
        manager: None,
        home: mom.home.clone(),
    };
    let url = cluster.manager_url(0);
    named.run(&["context", "add", "here", &url]).await;
    let line = ["context", "add", "there", "http://127.0.0.1:9"];
    named.run(&line).await;
    let queues = named.json(&["queue", "ls"]).await;
    assert_eq!(queues.as_array().unwrap().len(), 2);
    assert_eq!(named.fail(&["--context", "there", "status"]).await.0, 3);
    named.run(&["context", "use", "there"]).await;
    assert_eq!(named.fail(&["status"]).await.0, 3);
    named.run(&["context", "rm", "there"]).await;
    let (_, said) = named.fail(&["context", "use", "there"]).await;
    assert!(said.contains("here"), "{said}");
    let kept = std::fs::read_to_string(named.home.join("mom/contexts.yaml"));
    assert!(kept.unwrap().contains(&url));
}
