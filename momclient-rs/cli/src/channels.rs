//! `mom channel`.

use momclient::{Channel as Placed, MoMClient};
use serde::Serialize;
use uuid::Uuid;

use crate::arguments::Channel;
use crate::output::{Output, Table, print_json};
use crate::queues::topic;

/// A channel in a list.
#[derive(Serialize)]
struct Listed {
    queue: String,
    id: Uuid,
    topic: String,
}

pub(crate) async fn run(
    client: &MoMClient,
    command: Channel,
    output: Output,
) -> anyhow::Result<()> {
    match command {
        Channel::Add { queue, topic } => {
            let channel = client.create_channel(&queue, topic.as_deref()).await?;
            if output.is_json() {
                return show(&channel, output);
            }
            // Alone, so that a script can take it.
            println!("{}", channel.id);
            Ok(())
        }
        Channel::Ls { queue } => list(client, queue, output).await,
        Channel::Info { id } => show(&client.channel(&id).await?, output),
        Channel::Rm { id } => Ok(client.delete_channel(&id).await?),
    }
}

async fn list(client: &MoMClient, queue: Option<String>, output: Output) -> anyhow::Result<()> {
    let labels = match queue {
        Some(label) => vec![label],
        None => client.queues().await?,
    };
    let mut channels = Vec::new();
    for label in labels {
        let details = client.queue_details(&label).await?;
        for channel in details.channel_list.unwrap_or_default() {
            channels.push(Listed {
                queue: label.clone(),
                id: channel.id,
                topic: channel.topic,
            });
        }
    }
    if output.is_json() {
        return print_json(&channels);
    }
    let mut table = Table::new(&["QUEUE", "TOPIC", "CHANNEL"]);
    for channel in channels {
        table.row([channel.queue, topic(&channel.topic), channel.id.to_string()]);
    }
    table.print();
    Ok(())
}

fn show(channel: &Placed, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return print_json(&serde_json::json!({
            "id": channel.id, "topic": channel.topic, "host": channel.host, "port": channel.port,
        }));
    }
    let mut table = Table::new(&["CHANNEL", "TOPIC", "MOM"]);
    table.row([
        channel.id.to_string(),
        topic(channel.topic.as_deref().unwrap_or_default()),
        format!("{}:{}", channel.host, channel.port),
    ]);
    table.print();
    Ok(())
}
