//! Where to look and what to try.

use anyhow::Context;
use serde_json::Value;
use testkit::Mom;

use crate::demo::Demo;
use crate::options::Options;
use crate::steps::Painter;

/// Prints the panel.
pub(crate) async fn print(demo: &Demo, options: &Options, painter: Painter) -> anyhow::Result<()> {
    let manager = options.manager_url();
    let mut lines = vec![
        Line::title("Look"),
        Line::pair("news, as they arrive", options.news_url()),
        Line::pair("comments on them", options.comments_url()),
        Line::pair("the manager's console", format!("{manager}/")),
        Line::empty(),
        Line::title("Try"),
        Line::pair("which queues there are", format!("curl {manager}/queues")),
        Line::pair(
            "which MoM hosts the news",
            format!("curl {manager}/queues/news"),
        ),
    ];
    let host = host_of_news(demo, &manager).await?;
    if let Some((name, pid)) = host.and_then(|mom| Some((mom.name(), mom.pid()?))) {
        lines.push(Line::pair(
            &format!("kill that MoM, {name}"),
            format!("kill -9 {pid}"),
        ));
        lines.push(Line::pair(
            "",
            "and watch pages and console go on: another MoM takes over,".to_owned(),
        ));
        lines.push(Line::pair(
            "",
            format!("and {name} comes back after 20 seconds"),
        ));
    }
    lines.push(Line::empty());
    lines.push(Line::title("Processes"));
    for mom in &demo.moms {
        let pid = mom
            .pid()
            .map(|pid| format!("pid {pid}"))
            .unwrap_or_default();
        lines.push(Line::pair(
            mom.name(),
            format!("{}:{}  {pid}", mom.host(), mom.port()),
        ));
    }
    if let Some(pid) = demo.manager.as_ref().and_then(|manager| manager.pid()) {
        lines.push(Line::pair(
            "manager",
            format!("127.0.0.1:{}  pid {pid}", options.manager_port),
        ));
    }
    if let Some(postgres) = &demo.postgres {
        let pid = postgres
            .process()
            .pid()
            .map(|pid| format!("pid {pid}"))
            .unwrap_or_default();
        lines.push(Line::pair(
            "PostgreSQL",
            format!("127.0.0.1:{}  {pid}", postgres.port()),
        ));
    }
    lines.push(Line::pair(
        "data and logs",
        options.directory().display().to_string(),
    ));
    lines.push(Line::empty());
    lines.push(Line::pair("Ctrl-C ends everything.", String::new()));
    show(&lines, painter);
    Ok(())
}

struct Line {
    left: String,
    right: String,
    is_title: bool,
}

impl Line {
    fn title(text: &str) -> Self {
        Self {
            left: text.to_owned(),
            right: String::new(),
            is_title: true,
        }
    }

    fn pair(left: &str, right: String) -> Self {
        Self {
            left: format!("  {left}"),
            right,
            is_title: false,
        }
    }

    fn empty() -> Self {
        Self {
            left: String::new(),
            right: String::new(),
            is_title: false,
        }
    }
}

fn show(lines: &[Line], painter: Painter) {
    let length = |text: &str| text.chars().count();
    let left = lines
        .iter()
        .map(|line| length(&line.left))
        .max()
        .unwrap_or_default();
    let right = lines
        .iter()
        .map(|line| length(&line.right))
        .max()
        .unwrap_or_default();
    let rule = "─".repeat(left + right + 5);
    println!("\n  {}", painter.dim(format!("╭{rule}╮")));
    for line in lines {
        // Padded before it is coloured: colours have no width.
        let name = format!("{:<left$}", line.left);
        let name = if line.is_title {
            painter.bold(name)
        } else {
            name
        };
        let edge = painter.dim("│");
        println!("  {edge} {name}   {:<right$} {edge}", line.right);
    }
    println!("  {}\n", painter.dim(format!("╰{rule}╯")));
}

/// The MoM that hosts the queue of news, as the manager says.
async fn host_of_news<'a>(demo: &'a Demo, manager: &str) -> anyhow::Result<Option<&'a Mom>> {
    let url = format!("{manager}/queues/news");
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .context("cannot make an HTTP client")?;
    let answer = client
        .get(&url)
        .send()
        .await
        .with_context(|| format!("cannot get {url}"))?;
    let place: Value = answer
        .json()
        .await
        .with_context(|| format!("{url} is not JSON"))?;
    let at = |mom: &&Mom| place["host"] == mom.host() && place["port"] == mom.port();
    Ok(demo.moms.iter().find(at))
}
