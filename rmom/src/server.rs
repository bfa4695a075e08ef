//! The life of a MoM: waits for the database, restores its queues, serves, and stops under a deadline.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow, bail};
use protos::message_stream_server::MessageStreamServer;
use storage::Store;
use tokio::net::{TcpSocket, lookup_host};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::committer::Committer;
use crate::config::Config;
use crate::connections::{self, Connections};
use crate::hosting::Hosting;
use crate::metrics::Metrics;
use crate::pushes::Pushes;
use crate::service::Service;
use crate::shared::Shared;
use crate::watched::{self, Readiness};

/// The most calls that one connection may have under way, subscriptions among them.
const STREAMS_PER_CONNECTION: u32 = 2048;

/// How much of what a client sends is buffered before it has to wait: of one call, and of one connection.
const WINDOWS: (u32, u32) = (1 << 20, 4 << 20);

/// The most bytes of the headers of one call.
const HEADER_LIST_BYTES: u32 = 16 << 10;

/// How often a silent connection is probed, and how long the answer may take.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// What a message may take on the wire beside its content, so that one that is slightly too large is refused by name.
const DECODING_SLACK: usize = 3 << 20;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// A socket that holds the configured address, so that a second MoM there ends before it does anything, but that
/// refuses connections until the MoM is ready for them.
pub async fn bind(config: &Config) -> anyhow::Result<TcpSocket> {
    let bind = async {
        let mut addresses =
            lookup_host((config.host.trim_matches(['[', ']']), config.port)).await?;
        let address = addresses.next().context("the host has no address")?;
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        anyhow::Ok(socket)
    };
    bind.await
        .with_context(|| format!("cannot listen on host {} port {}", config.host, config.port))
}

/// Runs a MoM on `socket` until `stop` completes. Errs if it cannot serve, or if a part of it ends unexpectedly.
pub async fn run(
    config: Config,
    socket: TcpSocket,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let store = Store::open(&config.connect());
    let shared = Shared::new(config.queue_buffer_size, config.duplicate_window());
    let hosting = Hosting::new(store.clone(), config.external_address(), shared.clone());
    tokio::pin!(stop);
    tokio::select! {
        () = &mut stop => return Ok(()),
        ready = make_ready(&config, &store, &hosting) => ready?,
    }

    let listener = socket.listen(BACKLOG)?;
    tracing::info!(listening = %listener.local_addr()?, "ready");

    let stopping = CancellationToken::new();
    let drained = CancellationToken::new();
    let committer = Committer::new(
        store.appender(),
        hosting.clone(),
        shared.clone(),
        config.ttl(),
    );
    let subscriptions = Arc::new(Semaphore::new(config.max_subscriptions));
    let connections = Connections::new(config.max_connections);
    let service = Service {
        hosting: hosting.clone(),
        store: store.clone(),
        pushes: Pushes::new(
            hosting.clone(),
            store.clone(),
            committer.database_is_up(),
            config.max_message_bytes,
            stopping.clone(),
        ),
        subscriptions: subscriptions.clone(),
        connections: connections.clone(),
        stopping: stopping.clone(),
    };
    let service = MessageStreamServer::new(service)
        .max_decoding_message_size(config.max_message_bytes + DECODING_SLACK);
    let readiness = Readiness {
        hosting: hosting.clone(),
        database_is_up: committer.database_is_up(),
        stopping: stopping.clone(),
    };
    let metrics = Metrics {
        hosting: hosting.clone(),
        shared: shared.clone(),
        connections: connections.clone(),
        subscriptions,
        max_subscriptions: config.max_subscriptions,
        database_is_up: committer.database_is_up(),
        max_queues: config.metrics_queues,
        started: SystemTime::now(),
    };
    let (routes, reporting) = watched::routes(service, metrics, readiness)?;
    let server = builder()
        .add_routes(routes)
        // Streamed replies wait for nothing: without this, small ones wait for the acknowledgement of earlier ones.
        .serve_with_incoming_shutdown(
            connections::accept(
                TcpIncoming::from(listener).with_nodelay(Some(true)),
                connections,
            ),
            stopping.clone().cancelled_owned(),
        );

    let mut tasks = JoinSet::new();
    tasks.spawn(committer.run(drained.clone()));
    tasks.spawn(reporting);
    tasks.spawn({
        let stopping = stopping.clone();
        async move { hosting.follow(stopping).await }
    });
    tokio::pin!(server);
    tokio::select! {
        () = &mut stop => {}
        outcome = &mut server => {
            outcome.context("the gRPC server failed")?;
            bail!("the gRPC server ended");
        }
        ended = tasks.join_next() => bail!("a task ended that never should: {ended:?}"),
    }

    // From here on new calls are refused and subscriptions end; pushes that were accepted are committed and answered.
    tracing::info!(deadline_secs = config.stop_deadline_secs, "stopping");
    stopping.cancel();
    let stop_in_order = async {
        server
            .await
            .context("the gRPC server failed while it stopped")?;
        drained.cancel();
        while tasks.join_next().await.is_some() {}
        store.close().await;
        Ok(())
    };
    timeout(
        Duration::from_secs(config.stop_deadline_secs),
        stop_in_order,
    )
    .await
    .unwrap_or_else(|_| {
        Err(anyhow!(
            "not everything ended within stop_deadline_secs; the rest is cut off"
        ))
    })
}

fn builder() -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .http2_max_header_list_size(HEADER_LIST_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        // For probes and Prometheus, which speak no HTTP/2.
        .accept_http1(true)
}

/// Waits for the database and its schema, and restores what this MoM hosted. Errs if the database is there but may lose
/// what it acknowledges.
async fn make_ready(config: &Config, store: &Store, hosting: &Hosting) -> anyhow::Result<()> {
    let mut last_reason = String::new();
    loop {
        let reason = match try_make_ready(store, hosting).await {
            Ok(true) => return Ok(()),
            Ok(false) => {
                "its schema is missing or older than this program: waiting for a manager, or for migrations/run.sh".into()
            }
            Err(error @ storage::Error::NotDurable(_)) => {
                return Err(error).context(
                    "this MoM serves only on a database that keeps what it acknowledges; turn the settings on, or set \
                     allow_undurable_database for data that may be lost",
                );
            }
            Err(error) => format!("waiting, since {error}"),
        };
        if reason != last_reason {
            tracing::warn!(database = ?config.database, "{reason}");
            last_reason = reason;
        }
        sleep(Duration::from_millis(250)).await;
    }
}

async fn try_make_ready(store: &Store, hosting: &Hosting) -> storage::Result<bool> {
    let mut appender = store.appender();
    appender.connect().await?;
    appender.close().await;
    if !store.schema_is_current().await? {
        return Ok(false);
    }
    hosting.restore().await?;
    Ok(true)
}
