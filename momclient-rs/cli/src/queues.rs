//! `mom queue`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use momclient::{MoMClient, QueueDetails};

use crate::arguments::Queue;
use crate::output::{Output, Table, age, amount, bytes, confirm, print_json, shown};

/// How much of a content a line shows.
const SHOWN: usize = 60;

pub(crate) async fn run(client: &MoMClient, command: Queue, output: Output) -> anyhow::Result<()> {
    match command {
        Queue::Add { label } => {
            client.create_queue(&label).await?;
            if output.is_json() {
                print_json(&client.queue_details(&label).await?)?;
            }
            Ok(())
        }
        Queue::Ls => {
            let queues = client.queue_list().await?;
            if output.is_json() {
                return print_json(&queues);
            }
            table(&queues).print();
            Ok(())
        }
        Queue::Info { label } => {
            let queue = client.queue_details(&label).await?;
            if output.is_json() {
                return print_json(&queue);
            }
            info(&queue);
            Ok(())
        }
        Queue::Peek {
            label,
            after,
            limit,
            topic,
        } => peek(client, &label, after, limit, topic.as_deref(), output).await,
        Queue::Rm { label, yes } => {
            if yes || confirm_loss(client, &label, true).await? {
                client.delete_queue(&label).await?;
            }
            Ok(())
        }
        Queue::Purge { label, yes } => {
            if yes || confirm_loss(client, &label, false).await? {
                let messages = client.purge(&label).await?;
                if output.is_json() {
                    return print_json(&serde_json::json!({ "messages": messages }));
                }
                println!("{messages} messages deleted");
            }
            Ok(())
        }
    }
}

/// Asks, and names what is lost.
async fn confirm_loss(client: &MoMClient, label: &str, whole: bool) -> anyhow::Result<bool> {
    let queue = client.queue_details(label).await?;
    let messages = format!("{} messages ({})", queue.messages, bytes(queue.bytes));
    let question = if whole {
        let channels = queue.channels;
        let subscriptions = queue.subscriptions.unwrap_or(0);
        format!(
            "Delete the queue {label} with {messages}, {channels} channels and {subscriptions} subscriptions?"
        )
    } else {
        format!("Delete {messages} of the queue {label}?")
    };
    confirm(&question)
}

/// Queues with how full they are.
pub(crate) fn table(queues: &[QueueDetails]) -> Table {
    let heads = [
        "QUEUE",
        "MESSAGES",
        "BYTES",
        "OLDEST",
        "PUSHED/S",
        "DELIVERED/S",
        "SUBSCRIPTIONS",
        "LAG",
        "MOM",
    ];
    let mut table = Table::new(&heads);
    for queue in queues {
        table.row([
            queue.label.clone(),
            amount(Some(queue.messages as f64)),
            bytes(queue.bytes),
            age(queue.oldest_at),
            amount(queue.rates.pushed),
            amount(queue.rates.delivered),
            amount(queue.subscriptions.map(|n| n as f64)),
            amount(queue.largest_lag.map(|n| n as f64)),
            owner(queue),
        ]);
    }
    table
}

fn owner(queue: &QueueDetails) -> String {
    let owner = queue.mom.as_ref();
    owner.map_or_else(
        || "none".to_owned(),
        |mom| format!("{}:{}", mom.host, mom.port),
    )
}

fn info(queue: &QueueDetails) {
    println!(
        "{}: owned by {} at epoch {}, committed up to {}",
        queue.label,
        owner(queue),
        queue.epoch,
        queue.last_seq
    );
    println!(
        "{} messages retained ({}), the oldest {} old",
        queue.messages,
        bytes(queue.bytes),
        age(queue.oldest_at)
    );
    println!(
        "{} pushed/s, {} delivered/s, of these {} caught up",
        amount(queue.rates.pushed),
        amount(queue.rates.delivered),
        amount(queue.rates.caught_up)
    );
    let channels = queue.channel_list.as_deref().unwrap_or_default();
    if !channels.is_empty() {
        let mut table = Table::new(&["CHANNEL", "TOPIC"]);
        for channel in channels {
            table.row([channel.id.to_string(), topic(&channel.topic)]);
        }
        println!();
        table.print();
    }
    let subscriptions = queue.subscription_list.as_deref().unwrap_or_default();
    if !subscriptions.is_empty() {
        let mut table = Table::new(&["SUBSCRIBER", "TOPIC", "SEQ", "LAG", "CHANNEL"]);
        for subscription in subscriptions {
            table.row([
                subscription.peer.clone(),
                topic(&subscription.topic),
                subscription.seq.to_string(),
                subscription.lag.to_string(),
                subscription.channel_id.to_string(),
            ]);
        }
        println!();
        table.print();
    }
}

/// A topic as people say it.
pub(crate) fn topic(topic: &str) -> String {
    if topic.is_empty() || topic == protos::NO_TOPIC {
        "-".to_owned()
    } else {
        topic.to_owned()
    }
}

async fn peek(
    client: &MoMClient,
    label: &str,
    after: i64,
    limit: u32,
    of: Option<&str>,
    output: Output,
) -> anyhow::Result<()> {
    let peeked = client.peek(label, after, limit, of).await?;
    if output.is_json() {
        return print_json(&peeked);
    }
    let mut heads = vec!["SEQ", "AGE", "TOPIC", "BYTES", "CONTENT"];
    let any_headers = peeked.messages.iter().any(|of| !of.headers.is_empty());
    heads.extend(any_headers.then_some("HEADERS"));
    let mut table = Table::new(&heads);
    for message in &peeked.messages {
        let content = STANDARD.decode(&message.content)?;
        let mut row = vec![
            message.seq.to_string(),
            age(Some(message.at)),
            topic(&message.topic),
            message.size.to_string(),
            shown(&content, SHOWN),
        ];
        if any_headers {
            let headers = message.headers.iter();
            let headers: Vec<_> = headers
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            row.push(headers.join(" "));
        }
        table.row(row);
    }
    table.print();
    if let Some(next) = peeked.next_after {
        println!("more: mom queue peek {label} --after {next}");
    }
    Ok(())
}
