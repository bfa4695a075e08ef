//! `mom sub`: messages as they come, printed or given to a command.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use momclient::{Message, MoMClient, Start, Subscriber};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

use crate::arguments::Sub;
use crate::output::{Output, print_json_line, print_line};

/// Where to start, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct From(Start);

impl FromStr for From {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{given:?} is none of: earliest, latest, a sequence from 0 on, a time such as 2026-01-31T12:00:00Z, or how \
                 long ago, such as -30s, -5m, -2h or -1d"
            )
        };
        if let Some(ago) = given.strip_prefix('-') {
            let unit = match ago.chars().last() {
                Some('s') => 1,
                Some('m') => 60,
                Some('h') => 3600,
                Some('d') => 86400,
                _ => return Err(wrong()),
            };
            let number: u64 = ago[..ago.len() - 1].parse().map_err(|_| wrong())?;
            let ago = Duration::from_secs(number.checked_mul(unit).ok_or_else(wrong)?);
            let since = SystemTime::now().checked_sub(ago).ok_or_else(wrong)?;
            return Ok(Self(Start::Since(since)));
        }
        Ok(Self(match given {
            "earliest" => Start::Earliest,
            "latest" => Start::Latest,
            _ => match given.parse() {
                Ok(seq) if seq >= 0 => Start::After(seq),
                _ => {
                    let time = DateTime::parse_from_rfc3339(given).map_err(|_| wrong())?;
                    Start::Since(time.into())
                }
            },
        }))
    }
}

pub(crate) async fn run(client: &MoMClient, options: Sub, output: Output) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    if let Ok(channel) = Uuid::parse_str(&options.source) {
        ensure!(
            options.topic.is_none(),
            "a channel has its topic already; --topic is for a queue"
        );
        let receiving = receive(client, &channel, &options, output);
        return tokio::select! {
            done = receiving => done,
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        };
    }
    let channel = client
        .create_channel(&options.source, options.topic.as_deref())
        .await?;
    let done = tokio::select! {
        done = receive(client, &channel.id, &options, output) => done,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    let deleted = client.delete_channel(&channel.id).await;
    done?;
    deleted.with_context(|| format!("the channel {} is left behind", channel.id))
}

async fn receive(
    client: &MoMClient,
    channel: &Uuid,
    options: &Sub,
    output: Output,
) -> anyhow::Result<()> {
    let mut subscriber: Subscriber = client.subscribe(channel).start(options.from.0).await?;
    let mut left = options.count;
    while left != Some(0) {
        let Some(message) = subscriber.next().await else {
            break;
        };
        let message = message?;
        match &options.exec {
            Some(command) => execute(command, &message).await?,
            None => print(&message, options.verbose, output)?,
        }
        left = left.map(|left| left - 1);
    }
    Ok(())
}

fn print(message: &Message, verbose: bool, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        let text = std::str::from_utf8(&message.content).ok();
        return print_json_line(&serde_json::json!({
            "seq": message.seq,
            "id": message.id,
            "topic": message.topic,
            // Text where it is text, which programs rather have; what is not is told by the other field.
            "content": text,
            "base64": text.is_none().then(|| STANDARD.encode(&message.content)),
            "headers": message.headers().iter().collect::<BTreeMap<_, _>>(),
        }));
    }
    if !verbose {
        return print_line(&message.content);
    }
    let topic = message.topic.as_deref().unwrap_or("-");
    let mut line = format!("{} {topic} ", message.seq).into_bytes();
    line.extend_from_slice(&message.content);
    print_line(&line)
}

async fn execute(command: &str, message: &Message) -> anyhow::Result<()> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .env("MOM_SEQ", message.seq.to_string())
        .env("MOM_ID", message.id.to_string())
        .env("MOM_TOPIC", message.topic.as_deref().unwrap_or_default())
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run sh")?;
    let mut input = child.stdin.take().expect("it was asked for");
    let (given, ended) = tokio::join!(
        async move {
            // A command that does not read is free not to.
            let _ = input.write_all(&message.content).await;
        },
        child.wait()
    );
    let () = given;
    let status = ended?;
    if !status.success() {
        bail!(
            "the command failed ({status}) for the message {}; go on with --from {}",
            message.seq,
            message.seq - 1
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_starting_point_is_understood_or_explained() {
        let from = |given: &str| given.parse::<From>().map(|from| from.0);
        assert_eq!(from("earliest"), Ok(Start::Earliest));
        assert_eq!(from("latest"), Ok(Start::Latest));
        assert_eq!(from("17"), Ok(Start::After(17)));
        let noon = SystemTime::UNIX_EPOCH + Duration::from_hours(491_628);
        assert_eq!(from("2026-01-31T12:00:00Z"), Ok(Start::Since(noon)));
        assert!(matches!(from("-5m"), Ok(Start::Since(_))));
        for wrong in [
            "",
            "newest",
            "-5",
            "-m",
            "2026-01-31",
            "-99999999999999999999d",
            "1.5",
        ] {
            assert!(from(wrong).unwrap_err().contains("earliest"), "{wrong}");
        }
    }
}
