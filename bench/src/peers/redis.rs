//! Redis Streams: a queue is a stream, a push is an XADD, and who reads asks with XREAD from where it is.

use std::convert::Infallible;

use anyhow::{Context, Result};
use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Pipeline};
use testkit::{Folder, ProcessBuilder, free_port};

use crate::flow::Sink;
use crate::peers::server::{Server, find, output_of};
use crate::peers::{About, Contender, Inlet, Lane, Missing, Visitor};

pub(crate) const KEY: &str = "redis";
pub(crate) const NAME: &str = "Redis Streams";
/// Entries that a reader asks for at a time.
const PAGE: usize = 1_000;

struct Redis {
    server: Server,
    client: Client,
    about: About,
}

/// Starts it if it is there.
pub(crate) async fn open(visitor: &mut impl Visitor) -> Result<()> {
    let Some(program) = find("redis-server", &[]) else {
        visitor.miss(Missing {
            name: NAME,
            remedy: "./first-time-install.sh --with-peers".to_owned(),
        });
        return Ok(());
    };
    let version = output_of(&program, &["--version"])?;
    let version = version
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v="))
        .unwrap_or("of unknown version");
    let folder = Folder::temporary()?;
    let port = free_port()?;
    let mut process =
        ProcessBuilder::new("redis-server", &program, folder.path().join("redis.log"))
            .directory(folder.path());
    for (key, value) in [
        ("--port", port.to_string().as_str()),
        ("--bind", "127.0.0.1"),
        ("--dir", &folder.path().to_string_lossy()),
        ("--appendonly", "yes"),
        ("--appendfsync", "always"),
        // Snapshots beside the log, and rewriting it in the middle of what is measured, would only cost.
        ("--save", ""),
        ("--auto-aof-rewrite-percentage", "0"),
    ] {
        process = process.arg(key).arg(value);
    }
    let client = Client::open(format!("redis://127.0.0.1:{port}/"))?;
    let server = Server::start(process, folder, async || {
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("PING").exec_async(&mut connection).await?;
        Ok(())
    })
    .await?;
    let about = About {
        key: KEY,
        name: NAME,
        version: format!("Redis {version}"),
        promise: "appended to the log, and that synced to disk",
        synced: true,
        settings: format!(
            "appendonly yes, appendfsync always, no snapshots; XADD in two pipelines a connection, XREAD COUNT {PAGE}; \
             a batch is a pipeline"
        ),
    };
    visitor.add(Redis {
        server,
        client,
        about,
    });
    Ok(())
}

impl Redis {
    async fn connect(&self) -> Result<MultiplexedConnection> {
        // Reading waits for as long as nothing comes.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        self.client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .context("connecting to Redis")
    }
}

impl Contender for Redis {
    type Lane = Adding;
    type Inlet = Reading;

    fn about(&self) -> &About {
        &self.about
    }

    fn processes(&self) -> Vec<(&'static str, u32)> {
        vec![("redis-server", self.server.pid())]
    }

    async fn create(&self, _subscribers: usize) -> Result<String> {
        // The first XADD makes the stream.
        Ok(format!("compare-{}", uuid::Uuid::now_v7().simple()))
    }

    async fn remove(&self, queue: &str) -> Result<()> {
        let mut connection = self.connect().await?;
        redis::cmd("UNLINK")
            .arg(queue)
            .exec_async(&mut connection)
            .await?;
        // Else the log would keep growing. Refused while the last rewriting is still under way, which is as well.
        let _: redis::RedisResult<()> =
            redis::cmd("BGREWRITEAOF").exec_async(&mut connection).await;
        Ok(())
    }

    async fn lane(&self, queue: &str, _index: usize, _in_flight: usize) -> Result<Adding> {
        Ok(Adding {
            connection: self.connect().await?,
            stream: queue.to_owned(),
        })
    }

    async fn inlet(&self, queue: &str, _index: usize) -> Result<Reading> {
        Ok(Reading {
            connection: self.connect().await?,
            stream: queue.to_owned(),
        })
    }
}

struct Adding {
    connection: MultiplexedConnection,
    stream: String,
}

impl Lane for Adding {
    async fn push(&self, contents: Vec<Bytes>) -> Result<()> {
        let mut pipeline = Pipeline::with_capacity(contents.len());
        for content in &contents {
            pipeline
                .cmd("XADD")
                .arg(&self.stream)
                .arg("*")
                .arg("m")
                .arg(&content[..])
                .ignore();
        }
        pipeline.exec_async(&mut self.connection.clone()).await?;
        Ok(())
    }

    /// Half of them: one pipeline is answered while the other is on its way.
    fn together(&self, in_flight: usize) -> usize {
        in_flight.div_ceil(2)
    }
}

struct Reading {
    connection: MultiplexedConnection,
    stream: String,
}

/// `(stream, [(id, [field, value])])` for each stream that has something.
type Page = Vec<(String, Vec<(String, (Bytes, Bytes))>)>;

impl Inlet for Reading {
    async fn read(&mut self, sink: &mut Sink) -> Result<Infallible> {
        let mut last = "0".to_owned();
        loop {
            let page: Option<Page> = redis::cmd("XREAD")
                .arg("COUNT")
                .arg(PAGE)
                .arg("BLOCK")
                .arg(0)
                .arg("STREAMS")
                .arg(&self.stream)
                .arg(&last)
                .query_async(&mut self.connection)
                .await?;
            for (_, entries) in page.unwrap_or_default() {
                for (id, (_, content)) in entries {
                    sink.take(&content);
                    last = id;
                }
            }
        }
    }
}
