//! NATS JetStream: a queue is a stream in files with one subject; who reads has an ordered consumer that is pushed to.

use std::convert::Infallible;
use std::fs;
use std::future::IntoFuture;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use async_nats::jetstream::consumer::push::{Ordered, OrderedConfig};
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::stream::{Config, StorageType};
use async_nats::jetstream::{Context, consumer::DeliverPolicy};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use testkit::{Folder, ProcessBuilder, free_port};

use crate::flow::Sink;
use crate::peers::server::{Server, find, output_of};
use crate::peers::{About, Contender, Inlet, Lane, Missing, Visitor};

pub(crate) const KEY: &str = "nats";
pub(crate) const SYNCED_KEY: &str = "nats-synced";
pub(crate) const NAME: &str = "NATS JetStream";
const SYNCED_NAME: &str = "NATS JetStream, synced";
/// The first version that can sync before it acknowledges.
const SYNCING_SINCE: (u32, u32) = (2, 10);

struct Nats {
    server: Server,
    url: String,
    about: About,
}

/// Starts it if it is there: as it comes, and once more with a disk that is synced for each acknowledgement.
pub(crate) async fn open(wanted: &impl Fn(&str) -> bool, visitor: &mut impl Visitor) -> Result<()> {
    let Some(program) = find("nats-server", &[]) else {
        visitor.miss(Missing {
            name: NAME,
            remedy: "./first-time-install.sh --with-peers".to_owned(),
        });
        return Ok(());
    };
    let version = output_of(&program, &["--version"])?;
    let version = version.rsplit(['v', ' ']).next().unwrap_or_default().trim();
    if wanted(KEY) {
        visitor.add(Nats::start(&program, version, false).await?);
    }
    if wanted(SYNCED_KEY) {
        if number_of(version).is_some_and(|version| version >= SYNCING_SINCE) {
            visitor.add(Nats::start(&program, version, true).await?);
        } else {
            let (major, minor) = SYNCING_SINCE;
            visitor.miss(Missing {
                name: SYNCED_NAME,
                remedy: format!(
                    "`sync_interval: always` needs nats-server {major}.{minor} or newer; this is {version}"
                ),
            });
        }
    }
    Ok(())
}

/// The first two parts of a version.
fn number_of(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

impl Nats {
    async fn start(program: &Path, version: &str, synced: bool) -> Result<Self> {
        let folder = Folder::temporary()?;
        let port = free_port()?;
        let data = folder.path().join("data");
        let config = folder.path().join("nats.conf");
        let sync = if synced { "sync_interval: always" } else { "" };
        fs::write(
            &config,
            format!(
                "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\"\n {sync} }}\n",
                data.display()
            ),
        )?;
        let process = ProcessBuilder::new("nats-server", program, folder.path().join("nats.log"))
            .directory(folder.path())
            .arg("--config")
            .arg(&config);
        let url = format!("nats://127.0.0.1:{port}");
        let server = Server::start(process, folder, async || {
            async_nats::connect(&url).await?;
            Ok(())
        })
        .await?;
        let (key, name, promise, interval) = if synced {
            let promise = "written to a file, and that synced to disk";
            (SYNCED_KEY, SYNCED_NAME, promise, "sync_interval always")
        } else {
            let promise = "written to a file, which is synced every two minutes";
            (KEY, NAME, promise, "the server's own sync_interval")
        };
        let about = About {
            key,
            name,
            version: format!("nats-server {version}"),
            promise,
            synced,
            settings: format!(
                "file storage, one replica, {interval}; asynchronous publishing, ordered push consumers; a batch is as \
                 many publishes"
            ),
        };
        Ok(Self { server, url, about })
    }

    async fn connect(&self, in_flight: usize) -> Result<Context> {
        let client = async_nats::connect(&self.url)
            .await
            .context("connecting to NATS")?;
        // Our own bound is the one that is to be met first.
        let context = ContextBuilder::new().max_ack_inflight(in_flight.max(1_024) * 2);
        Ok(context.build(client))
    }
}

impl Contender for Nats {
    type Lane = Publishing;
    type Inlet = Consuming;

    fn about(&self) -> &About {
        &self.about
    }

    fn processes(&self) -> Vec<(&'static str, u32)> {
        vec![("nats-server", self.server.pid())]
    }

    async fn create(&self, _subscribers: usize) -> Result<String> {
        let name = format!("compare-{}", uuid::Uuid::now_v7().simple());
        let config = Config {
            name: name.clone(),
            subjects: vec![name.clone()],
            storage: StorageType::File,
            num_replicas: 1,
            ..Config::default()
        };
        self.connect(1).await?.create_stream(config).await?;
        Ok(name)
    }

    async fn remove(&self, queue: &str) -> Result<()> {
        self.connect(1).await?.delete_stream(queue).await?;
        Ok(())
    }

    async fn lane(&self, queue: &str, _index: usize, in_flight: usize) -> Result<Publishing> {
        Ok(Publishing {
            context: self.connect(in_flight).await?,
            subject: queue.into(),
        })
    }

    async fn inlet(&self, queue: &str, _index: usize) -> Result<Consuming> {
        let context = self.connect(1).await?;
        let config = OrderedConfig {
            deliver_subject: context.client().new_inbox(),
            deliver_policy: DeliverPolicy::All,
            ..OrderedConfig::default()
        };
        let consumer = context
            .get_stream(queue)
            .await?
            .create_consumer(config)
            .await?;
        Ok(Consuming(consumer.messages().await?))
    }
}

struct Publishing {
    context: Context,
    subject: async_nats::Subject,
}

impl Lane for Publishing {
    async fn push(&self, contents: Vec<Bytes>) -> Result<()> {
        let mut acks = Vec::with_capacity(contents.len());
        for content in contents {
            acks.push(self.context.publish(self.subject.clone(), content).await?);
        }
        try_join_all(acks.into_iter().map(IntoFuture::into_future)).await?;
        Ok(())
    }
}

struct Consuming(Ordered);

impl Inlet for Consuming {
    async fn read(&mut self, sink: &mut Sink) -> Result<Infallible> {
        while let Some(message) = self.0.next().await {
            sink.take(&message?.payload);
        }
        bail!("the consumer has ended")
    }
}
