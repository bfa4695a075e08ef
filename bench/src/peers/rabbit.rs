//! RabbitMQ, twice: quorum queues, which each subscriber needs one of behind an exchange that copies, and streams, which
//! all subscribers read. Both over AMQP 0.9.1 with publisher confirms, on one server.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};
use testkit::{Folder, ProcessBuilder, free_port};

use crate::flow::Sink;
use crate::peers::server::{Account, Server, find};
use crate::peers::{About, Contender, Inlet, Lane, Missing, Visitor};

pub(crate) const NAME: &str = "RabbitMQ";
pub(crate) const QUORUM: &str = "rabbitmq-quorum";
pub(crate) const STREAM: &str = "rabbitmq-stream";
/// Where Debian has the scripts themselves; those in the PATH insist on the system's own server.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";
/// Messages that a subscriber is given beyond those that it has acknowledged, and after how many it acknowledges.
const PREFETCH: u16 = 2_000;
const ACK_EVERY: u64 = 500;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Quorum,
    Stream,
}

/// The server and what Erlang finds its nodes by.
struct Node {
    rabbit: Server,
    _epmd: Server,
    url: String,
    version: String,
}

struct Rabbit {
    node: Arc<Node>,
    kind: Kind,
    about: About,
}

/// Starts it if it is there.
pub(crate) async fn open(wanted: &impl Fn(&str) -> bool, visitor: &mut impl Visitor) -> Result<()> {
    let script = Path::new(SCRIPTS).join("rabbitmq-server");
    let script = if script.is_file() {
        Some(script)
    } else {
        find("rabbitmq-server", &[])
    };
    let (Some(script), Some(epmd)) = (
        script,
        find("epmd", &[PathBuf::from("/usr/lib/erlang/bin")]),
    ) else {
        visitor.miss(Missing {
            name: NAME,
            remedy: "./first-time-install.sh --with-peers".to_owned(),
        });
        return Ok(());
    };
    let node = Arc::new(Node::start(script, epmd).await?);
    for kind in [Kind::Quorum, Kind::Stream] {
        let about = kind.about(&node.version);
        if wanted(about.key) {
            let node = node.clone();
            visitor.add(Rabbit { node, kind, about });
        }
    }
    Ok(())
}

impl Node {
    async fn start(script: PathBuf, epmd: PathBuf) -> Result<Self> {
        let account = Account::find("rabbitmq");
        let (folder, epmd_folder) = (Folder::temporary()?, Folder::temporary()?);
        let home = folder.path().join("home");
        fs::create_dir(&home)?;
        let (port, dist_port, epmd_port) = (free_port()?, free_port()?, free_port()?);
        let config = home.join("rabbitmq.conf");
        // A benchmark that fills memory or disk faster than readers read is to be slowed down by neither alarm.
        fs::write(
            &config,
            format!(
                "listeners.tcp.1 = 127.0.0.1:{port}\n\
                 vm_memory_high_watermark.relative = 0.8\n\
                 disk_free_limit.absolute = 100MB\n\
                 log.file.level = error\n"
            ),
        )?;
        let plugins = home.join("enabled_plugins");
        fs::write(&plugins, "[].\n")?;
        if let Some(account) = &account {
            for path in [&home, &config, &plugins] {
                account.give(path)?;
            }
        }
        let epmd_process = ProcessBuilder::new("epmd", epmd, epmd_folder.path().join("epmd.log"))
            .arg("-port")
            .arg(epmd_port.to_string())
            .arg("-address")
            .arg("127.0.0.1");
        let epmd = Server::start(epmd_process, epmd_folder, async || {
            tokio::net::TcpStream::connect(("127.0.0.1", epmd_port)).await?;
            Ok(())
        })
        .await?;

        let log = folder.path().join("rabbitmq.log");
        let mut process = match &account {
            None => ProcessBuilder::new("rabbitmq-server", &script, &log),
            Some(account) => {
                let setpriv = find("setpriv", &[]).context("there is no setpriv (util-linux)")?;
                account
                    .setpriv()
                    .into_iter()
                    .fold(
                        ProcessBuilder::new("rabbitmq-server", setpriv, &log),
                        ProcessBuilder::arg,
                    )
                    .arg(&script)
            }
        };
        let in_home = |name: &str| home.join(name).to_string_lossy().into_owned();
        for (key, value) in [
            ("HOME", in_home("")),
            ("RABBITMQ_NODENAME", "rmom-bench@localhost".to_owned()),
            ("RABBITMQ_NODE_IP_ADDRESS", String::new()),
            ("RABBITMQ_CONFIG_FILE", in_home("rabbitmq.conf")),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", in_home("advanced.config")),
            ("RABBITMQ_CONF_ENV_FILE", in_home("none.conf")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", in_home("enabled_plugins")),
            ("RABBITMQ_MNESIA_BASE", in_home("data")),
            ("RABBITMQ_LOG_BASE", in_home("log")),
            ("RABBITMQ_PID_FILE", in_home("pid")),
            ("RABBITMQ_DIST_PORT", dist_port.to_string()),
            ("ERL_EPMD_PORT", epmd_port.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            // Its idle schedulers would spin, which the others would pay for.
            (
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+sbwt none +sbwtdcpu none +sbwtdio none".to_owned(),
            ),
            // Has the script put Erlang in its own place, so that there is one process to end.
            ("detached", "true".to_owned()),
        ] {
            process = process.env(key, value);
        }
        let url = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
        let version = std::sync::Mutex::new(String::new());
        let process = process.directory(&home);
        let rabbit = Server::start(process, folder, async || {
            let connection = connect(&url).await?;
            let known = connection.status().username();
            ensure!(!known.is_empty(), "it has let nobody in");
            *version.lock().expect("nobody panics while holding it") = version_of(&script);
            Ok(())
        })
        .await?;
        let version = version
            .into_inner()
            .expect("nobody panics while holding it");
        Ok(Self {
            rabbit,
            _epmd: epmd,
            url,
            version,
        })
    }
}

/// The folder that the scripts stand in is named for the version.
fn version_of(script: &Path) -> String {
    let real = script.canonicalize().unwrap_or_default();
    real.iter()
        .find_map(|part| part.to_str()?.strip_prefix("rabbitmq_server-"))
        .unwrap_or("of unknown version")
        .to_owned()
}

async fn connect(url: &str) -> Result<Connection> {
    Connection::connect(url, ConnectionProperties::default())
        .await
        .context("connecting to RabbitMQ")
}

impl Kind {
    fn about(self, version: &str) -> About {
        let version = format!("RabbitMQ {version}");
        match self {
            Self::Quorum => About {
                key: QUORUM,
                name: "RabbitMQ quorum queues",
                version,
                promise: "written to the log of its one replica, and that synced to disk",
                synced: true,
                settings: format!(
                    "one replica, AMQP 0.9.1, publisher confirms, prefetch {PREFETCH}, acknowledged every {ACK_EVERY}; a \
                     queue for each subscriber; a batch is as many publishes"
                ),
            },
            Self::Stream => About {
                key: STREAM,
                name: "RabbitMQ streams",
                version,
                promise: "written to a file, which the operating system syncs when it likes",
                synced: false,
                settings: format!(
                    "one replica, AMQP 0.9.1, publisher confirms, prefetch {PREFETCH}, acknowledged every {ACK_EVERY}; a \
                     batch is as many publishes"
                ),
            },
        }
    }

    fn arguments(self) -> FieldTable {
        let name = match self {
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        };
        let mut arguments = FieldTable::default();
        arguments.insert(
            ShortString::from("x-queue-type"),
            AMQPValue::LongString(name.into()),
        );
        arguments
    }
}

impl Rabbit {
    /// The queue that the subscriber reads.
    fn queue_of(&self, queue: &str, subscriber: usize) -> ShortString {
        match self.kind {
            Kind::Quorum => format!("{queue}-{subscriber}").into(),
            Kind::Stream => queue.into(),
        }
    }

    /// One queue is published to as such, several by way of an exchange.
    async fn declare(&self, queue: &str, channel: &Channel) -> Result<()> {
        let queues = queues_of(queue)?;
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        if queues > 1 {
            channel
                .exchange_declare(
                    queue.into(),
                    ExchangeKind::Fanout,
                    ExchangeDeclareOptions::default(),
                    FieldTable::default(),
                )
                .await?;
        }
        for index in 0..queues {
            let name = self.queue_of(queue, index);
            channel
                .queue_declare(name.clone(), options, self.kind.arguments())
                .await?;
            if queues > 1 {
                let options = QueueBindOptions::default();
                channel
                    .queue_bind(
                        name,
                        queue.into(),
                        "".into(),
                        options,
                        FieldTable::default(),
                    )
                    .await?;
            }
        }
        Ok(())
    }
}

/// A queue's name ends with the number of RabbitMQ's queues that it is made of.
fn queues_of(queue: &str) -> Result<usize> {
    let number = queue.rsplit('-').next().unwrap_or_default();
    number
        .parse()
        .with_context(|| format!("the name {queue} does not end with a number"))
}

impl Contender for Rabbit {
    type Lane = Publishing;
    type Inlet = Consuming;

    fn about(&self) -> &About {
        &self.about
    }

    fn processes(&self) -> Vec<(&'static str, u32)> {
        vec![("rabbitmq-server", self.node.rabbit.pid())]
    }

    async fn create(&self, subscribers: usize) -> Result<String> {
        let queues = match self.kind {
            Kind::Quorum => subscribers.max(1),
            Kind::Stream => 1,
        };
        let name = format!("compare-{}-{queues}", uuid::Uuid::now_v7().simple());
        let connection = connect(&self.node.url).await?;
        self.declare(&name, &connection.create_channel().await?)
            .await?;
        Ok(name)
    }

    async fn remove(&self, queue: &str) -> Result<()> {
        let connection = connect(&self.node.url).await?;
        let channel = connection.create_channel().await?;
        let queues = queues_of(queue)?;
        for index in 0..queues {
            channel
                .queue_delete(self.queue_of(queue, index), QueueDeleteOptions::default())
                .await?;
        }
        if queues > 1 {
            channel
                .exchange_delete(queue.into(), ExchangeDeleteOptions::default())
                .await?;
        }
        Ok(())
    }

    async fn lane(&self, queue: &str, _index: usize, _in_flight: usize) -> Result<Publishing> {
        let connection = connect(&self.node.url).await?;
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let (exchange, routing_key) = if queues_of(queue)? > 1 {
            (queue.into(), "".into())
        } else {
            ("".into(), self.queue_of(queue, 0))
        };
        Ok(Publishing {
            channel,
            exchange,
            routing_key,
            _connection: connection,
        })
    }

    async fn inlet(&self, queue: &str, index: usize) -> Result<Consuming> {
        let connection = connect(&self.node.url).await?;
        let channel = connection.create_channel().await?;
        channel
            .basic_qos(PREFETCH, BasicQosOptions::default())
            .await?;
        let mut arguments = FieldTable::default();
        if self.kind == Kind::Stream {
            arguments.insert(
                ShortString::from("x-stream-offset"),
                AMQPValue::LongString("first".into()),
            );
        }
        let consumer = channel
            .basic_consume(
                self.queue_of(queue, index),
                "".into(),
                BasicConsumeOptions::default(),
                arguments,
            )
            .await?;
        Ok(Consuming {
            consumer,
            channel,
            _connection: connection,
        })
    }
}

struct Publishing {
    channel: Channel,
    exchange: ShortString,
    routing_key: ShortString,
    _connection: Connection,
}

impl Lane for Publishing {
    async fn push(&self, contents: Vec<Bytes>) -> Result<()> {
        // 2: persistent.
        let properties = BasicProperties::default().with_delivery_mode(2);
        let mut confirms = Vec::with_capacity(contents.len());
        for content in contents {
            let published = self.channel.basic_publish(
                self.exchange.clone(),
                self.routing_key.clone(),
                BasicPublishOptions::default(),
                &content,
                properties.clone(),
            );
            confirms.push(published.await?);
        }
        for confirmation in try_join_all(confirms).await? {
            ensure!(confirmation.is_ack(), "a message was not confirmed");
        }
        Ok(())
    }
}

struct Consuming {
    consumer: Consumer,
    channel: Channel,
    _connection: Connection,
}

impl Inlet for Consuming {
    async fn read(&mut self, sink: &mut Sink) -> Result<Infallible> {
        while let Some(delivery) = self.consumer.next().await {
            let delivery = delivery?;
            sink.take(&delivery.data);
            if delivery.delivery_tag % ACK_EVERY == 0 {
                let options = BasicAckOptions { multiple: true };
                self.channel
                    .basic_ack(delivery.delivery_tag, options)
                    .await?;
            }
        }
        bail!("the consumer has ended")
    }
}
