//! The commands of the documentation, run as they are printed and in their order.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use testkit::Cluster;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_mins(1);

/// Which pages are run, and how many blocks of each are not: they install or build, need a terminal or root, do not end,
/// or are what a command prints. The numbers keep a block that is meant to be run from being passed over in silence.
const PAGES: [(&str, usize); 3] = [("quickstart.md", 15), ("cli.md", 2), ("operations.md", 3)];

/// The languages of blocks that are not run here.
const NOT_RUN: [&str; 4] = ["text", "python", "rust,no_run", "toml"];

/// A block of commands, for a shell of its own.
struct Block {
    /// Where its first command is.
    line: usize,
    commands: String,
    /// The exit code that it ends with.
    expected: i32,
}

#[tokio::test]
async fn every_command_of_the_documentation_does_what_is_said() {
    let cluster = Cluster::start(2, 1).await.unwrap();
    // For operations to have something to look at, to move, to save and to restore.
    let kept = Block {
        line: 0,
        commands: "mom queue add kept; mom push kept {n},{uuid} --template --count 300".to_owned(),
        expected: 0,
    };
    run(&cluster, "none", cluster.folder(), &kept).await;
    for (page, shown) in PAGES {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
        let text = std::fs::read_to_string(folder.join(page)).unwrap();
        let (blocks, not_run) = blocks(page, &text);
        assert_eq!(not_run, shown, "docs/{page}: blocks that are not run");
        let home = cluster.folder().join(page);
        std::fs::create_dir(&home).unwrap();
        for block in &blocks {
            run(&cluster, page, &home, block).await;
        }
    }
    let contents = "select count(*), sum(length(content)) from message where queue_label = 'kept'";
    let restored = cluster.postgres().psql("rmom_restored", contents).await;
    assert_eq!(restored.unwrap(), cluster.psql(contents).await.unwrap());
}

async fn run(cluster: &Cluster, page: &str, home: &Path, block: &Block) {
    // `rmom` and `rmom-manager` are beside it.
    let programs = Path::new(env!("CARGO_BIN_EXE_mom")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash")
        .arg("-es")
        .current_dir(home)
        .env("PATH", path)
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home)
        .env("MOM_MANAGER", cluster.manager_url(0))
        .env("DATABASE_URL", cluster.database_url())
        .env_remove("MOM_CONTEXT")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = shell.stdin.take().unwrap();
    // In braces it is read as a whole before any of it runs, and there is nothing to read for what it runs.
    let script = format!("{{\n{}\nexit\n}} < /dev/null\n", block.commands);
    input.write_all(script.as_bytes()).await.unwrap();
    drop(input);
    let at = format!("docs/{page}:{}", block.line);
    let ended = tokio::time::timeout(PATIENCE, shell.wait_with_output()).await;
    let output = ended
        .unwrap_or_else(|_| panic!("{at} does not end"))
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(block.expected),
        "{at}:\n{}\n{}{}",
        block.commands,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}

/// The blocks of commands, and how many blocks there are beside.
fn blocks(page: &str, text: &str) -> (Vec<Block>, usize) {
    let (mut blocks, mut not_run) = (Vec::new(), 0);
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        // Those in a list are indented.
        let Some(language) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        let inside = lines.by_ref().map(|(line, _)| line);
        let commands: Vec<&str> = inside.take_while(|line| line.trim() != "```").collect();
        let expected = if language == "sh" {
            0
        } else if let Some(code) = language.strip_prefix("sh fails ") {
            code.parse().expect("an exit code")
        } else {
            let known = NOT_RUN.contains(&language);
            assert!(known, "docs/{page}:{number}: is {language:?} to be run?");
            not_run += 1;
            continue;
        };
        blocks.push(Block {
            line: number + 1,
            commands: commands.join("\n"),
            expected,
        });
    }
    (blocks, not_run)
}
