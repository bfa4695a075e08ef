//! `mom push`: contents from the command line, a file or standard input, pushed in lots.

use std::io::{BufRead, IsTerminal, stdin};
use std::str::FromStr;
use std::thread;

use anyhow::{Context, ensure};
use chrono::{SecondsFormat, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use momclient::{MoMClient, PushOptions, Pusher};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::arguments::Push;
use crate::output::{Output, print_json};

/// Messages that are pushed as one.
const LOT: usize = 256;
/// Bytes after which a lot is full.
const LOT_BYTES: usize = 256 * 1024;
/// Lots that are under way.
const LOTS: usize = 8;
/// Bytes that a line may have: as many as a MoM takes by default.
const MAX_LINE: usize = 1 << 20;

type Lot = Vec<Vec<u8>>;

/// A header, as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    name: String,
    value: String,
}

impl FromStr for Header {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        let (name, value) = given
            .split_once('=')
            .ok_or_else(|| format!("{given:?} has no '='; legal is NAME=VALUE"))?;
        let (name, value) = (name.to_owned(), value.to_owned());
        Ok(Self { name, value })
    }
}

pub(crate) async fn run(client: &MoMClient, options: Push, output: Output) -> anyhow::Result<()> {
    let pusher = client.pusher(&options.queue).await?;
    let mut with = PushOptions::new();
    if let Some(topic) = &options.topic {
        with = with.topic(topic);
    }
    for Header { name, value } in &options.headers {
        with = with.header(name, value);
    }
    let content = options.content.filter(|content| content != "-");
    if let Some(id) = options.id {
        let content = content.context("--id is of one message: give its content")?;
        let receipt = pusher.push_with(content, &with.id(id)).await?;
        return told(
            output,
            1,
            receipt.seq,
            Some((receipt.id, receipt.duplicate)),
        );
    }
    let is_repeated = options.count > 1 || options.template;
    if content.is_none() && options.file.is_none() && !is_repeated {
        let progress = progress(None, "lines");
        return push(&pusher, lines()?, &with, &progress, output).await;
    }
    let content = if let Some(path) = &options.file {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?
    } else {
        let content = content
            .context("--count repeats a content and --template fills one: give it, or a --file")?;
        content.into_bytes()
    };
    let per_lot = (LOT_BYTES / content.len().max(1)).clamp(1, LOT) as u64;
    let count = options.count;
    let lots = stream::iter((0..count.div_ceil(per_lot)).map(move |lot| {
        let numbers = lot * per_lot + 1..=(lot * per_lot + per_lot).min(count);
        let contents = numbers.map(|n| {
            if options.template {
                filled(&content, n)
            } else {
                content.clone()
            }
        });
        Ok(contents.collect())
    }));
    let progress = progress(Some(count), "messages");
    push(&pusher, lots, &with, &progress, output).await
}

/// Pushes lots in their order, several at once, until all are committed.
async fn push(
    pusher: &Pusher,
    lots: impl futures_util::Stream<Item = anyhow::Result<Lot>>,
    with: &PushOptions<'_>,
    progress: &ProgressBar,
    output: Output,
) -> anyhow::Result<()> {
    let committed = lots
        .map_ok(|lot| async move { Ok(pusher.push_many_with(lot, with).await?) })
        .try_buffered(LOTS)
        .try_fold((0, 0, None), async |(count, _, id), receipts| {
            progress.inc(receipts.len() as u64);
            let only = (receipts.len() == 1).then(|| (receipts.first_id(), receipts.duplicate()));
            Ok((
                count + receipts.len() as u64,
                receipts.last_seq(),
                id.or(only),
            ))
        });
    let outcome = committed.await;
    let so_far = progress.position();
    progress.finish_and_clear();
    let (count, last_seq, id) = outcome.map_err(|error| {
        if so_far == 0 {
            error
        } else {
            error.context(format!("{so_far} messages were committed before this"))
        }
    })?;
    told(output, count, last_seq, id.filter(|_| count == 1))
}

fn told(
    output: Output,
    count: u64,
    last_seq: i64,
    only: Option<(Uuid, bool)>,
) -> anyhow::Result<()> {
    if output.is_json() {
        return print_json(&serde_json::json!({
            "committed": count,
            "last_seq": (count > 0).then_some(last_seq),
            "id": only.map(|(id, _)| id),
            "duplicate": only.is_some_and(|(_, duplicate)| duplicate),
        }));
    }
    match only {
        Some((id, true)) => println!("{last_seq} {id}, committed before"),
        Some((id, false)) => println!("{last_seq} {id}"),
        None if count == 0 => println!("nothing to push"),
        None => println!("{count} messages committed, the last as {last_seq}"),
    }
    Ok(())
}

/// The lines of standard input, as many as are there at once in a lot. A thread reads them, which the end of the program
/// does not wait for.
fn lines() -> anyhow::Result<impl futures_util::Stream<Item = anyhow::Result<Lot>>> {
    if stdin().is_terminal() {
        eprintln!("Each line is a message; Ctrl-D ends.");
    }
    let (lines, read) = mpsc::channel(LOT * LOTS);
    thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let mut input = stdin().lock();
            loop {
                let line = read_line(&mut input);
                let is_last = !matches!(line, Ok(Some(_)));
                if let Some(line) = line.transpose()
                    && lines.blocking_send(line).is_err()
                {
                    return;
                }
                if is_last {
                    return;
                }
            }
        })?;
    Ok(stream::unfold(read, async |mut read| {
        let mut lines = Vec::new();
        if read.recv_many(&mut lines, LOT).await == 0 {
            return None;
        }
        // Those before a line that cannot be read are pushed first.
        Some((lines, read))
    })
    .flat_map(|lines| {
        let mut lots = Vec::new();
        let (mut lot, mut bytes) = (Lot::new(), 0);
        for line in lines {
            match line {
                Ok(line) => {
                    if bytes + line.len() > LOT_BYTES && !lot.is_empty() {
                        lots.push(Ok(std::mem::take(&mut lot)));
                        bytes = 0;
                    }
                    bytes += line.len();
                    lot.push(line);
                }
                Err(error) => {
                    lots.extend((!lot.is_empty()).then(|| Ok(std::mem::take(&mut lot))));
                    lots.push(Err(error));
                }
            }
        }
        lots.extend((!lot.is_empty()).then_some(Ok(lot)));
        stream::iter(lots)
    }))
}

/// The next line without its end.
fn read_line(input: &mut impl BufRead) -> anyhow::Result<Option<Vec<u8>>> {
    use std::io::Read;

    let mut line = Vec::new();
    let mut limited = input.take(MAX_LINE as u64 + 2);
    if limited
        .read_until(b'\n', &mut line)
        .context("cannot read standard input")?
        == 0
    {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        line.pop_if(|byte| *byte == b'\r');
    }
    ensure!(line.len() <= MAX_LINE, "a line has more than 1 MiB");
    Ok(Some(line))
}

/// The content with what stands in braces replaced.
fn filled(content: &[u8], number: u64) -> Vec<u8> {
    let text = String::from_utf8_lossy(content);
    let mut text = text.replace("{n}", &number.to_string());
    if text.contains("{uuid}") {
        text = text.replace("{uuid}", &Uuid::now_v7().to_string());
    }
    if text.contains("{now}") {
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        text = text.replace("{now}", &now);
    }
    text.into_bytes()
}

/// Shows only where there is a terminal.
fn progress(count: Option<u64>, what: &str) -> ProgressBar {
    let template = match count {
        Some(_) => {
            format!("{{bar:30}} {{human_pos}} of {{human_len}} {what}, {{per_sec}}, {{eta}} left")
        }
        None => format!("{{spinner}} {{human_pos}} {what}, {{per_sec}}"),
    };
    let style = ProgressStyle::with_template(&template).expect("the template is well-formed");
    let bar = count.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    bar.with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_their_ends_and_nothing_else() {
        let mut input: &[u8] = b"one\ntwo\r\n\n \nlast";
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut input).unwrap() {
            lines.push(String::from_utf8(line).unwrap());
        }
        assert_eq!(lines, ["one", "two", "", " ", "last"]);
        let long = vec![b'x'; MAX_LINE + 1];
        assert!(read_line(&mut long.as_slice()).is_err());
        assert!(read_line(&mut &long[1..]).is_ok());
    }

    #[test]
    fn a_header_is_a_name_and_all_behind_the_first_sign() {
        let header: Header = "tracestate=a=1,b=2".parse().unwrap();
        assert_eq!((&*header.name, &*header.value), ("tracestate", "a=1,b=2"));
        assert!("tracestate".parse::<Header>().is_err());
    }

    #[test]
    fn a_template_is_filled() {
        assert_eq!(filled(b"{n} of {n}, {m}", 7), b"7 of 7, {m}");
        assert_ne!(filled(b"{uuid}", 1), filled(b"{uuid}", 1));
    }
}
