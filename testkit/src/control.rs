//! Causing faults over HTTP, for tests in other languages.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::{Cluster, Error, Process, Stop};

/// An HTTP server on a port of its own that controls a cluster. Dropping it ends it.
///
/// | request | does |
/// |---|---|
/// | `GET /moms`, `GET /managers` | lists them: `index`, `host`, `port`, `running`, `pid` |
/// | `POST /mom/<index>/<fault>`, `POST /manager/<index>/<fault>` | `kill`, `freeze`, `thaw`, `terminate`, `start`, `restart` |
/// | `POST /postgres/<fault>` | `stop`, `crash`, `start`, `restart` |
///
/// An answer of 2xx says that it is done: a process that was started serves. Otherwise there is `{"message"}`.
#[derive(Debug)]
pub struct Control {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

/// One MoM or manager, as `GET` lists it.
#[derive(Debug, Serialize)]
struct Listed {
    index: usize,
    host: String,
    port: u16,
    running: bool,
    pid: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Problem {
    message: String,
}

type Answer = Result<StatusCode, (StatusCode, Json<Problem>)>;

impl Control {
    /// Starts the server for `cluster`.
    pub async fn start(cluster: Arc<Cluster>) -> Result<Self, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(Error::io("the control server cannot listen on 127.0.0.1"))?;
        let address = listener
            .local_addr()
            .map_err(Error::io("the control server has no address"))?;
        let routes = Router::new()
            .route("/moms", get(moms))
            .route("/managers", get(managers))
            .route("/mom/{index}/{fault}", post(mom))
            .route("/manager/{index}/{fault}", post(manager))
            .route("/postgres/{fault}", post(postgres))
            .with_state(cluster);
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                eprintln!("the control server ended: {error}");
            }
        });
        Ok(Self { address, serving })
    }

    /// Its URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn moms(State(cluster): State<Arc<Cluster>>) -> Json<Vec<Listed>> {
    let list = cluster
        .moms()
        .enumerate()
        .map(|(index, mom)| listed(index, mom.host(), mom.port(), mom));
    Json(list.collect())
}

async fn managers(State(cluster): State<Arc<Cluster>>) -> Json<Vec<Listed>> {
    let list = cluster
        .managers()
        .enumerate()
        .map(|(index, manager)| listed(index, "127.0.0.1", manager.port(), manager));
    Json(list.collect())
}

fn listed(index: usize, host: &str, port: u16, process: &Process) -> Listed {
    let pid = process.pid();
    Listed {
        index,
        host: host.to_owned(),
        port,
        running: pid.is_some(),
        pid,
    }
}

async fn mom(
    State(cluster): State<Arc<Cluster>>,
    Path((index, fault)): Path<(usize, String)>,
) -> Answer {
    let mom = cluster
        .moms()
        .nth(index)
        .ok_or_else(|| not_found(format!("there is no MoM {index}")))?;
    match fault.as_str() {
        "start" => answer(mom.start().await),
        "restart" => answer(mom.restart().await),
        _ => strike(mom, &fault).await,
    }
}

async fn manager(
    State(cluster): State<Arc<Cluster>>,
    Path((index, fault)): Path<(usize, String)>,
) -> Answer {
    let manager = cluster
        .managers()
        .nth(index)
        .ok_or_else(|| not_found(format!("there is no manager {index}")))?;
    match fault.as_str() {
        "start" => answer(manager.start().await),
        "restart" => answer(manager.restart().await),
        _ => strike(manager, &fault).await,
    }
}

async fn strike(process: &Process, fault: &str) -> Answer {
    match fault {
        "kill" => {
            process.kill().await;
            answer(Ok(()))
        }
        "freeze" => answer(process.freeze().await),
        "thaw" => answer(process.thaw().await),
        "terminate" => answer(process.terminate().await.map(drop)),
        _ => Err(not_found(format!(
            "`{fault}` is not known; use kill, freeze, thaw, terminate, start or restart"
        ))),
    }
}

async fn postgres(State(cluster): State<Arc<Cluster>>, Path(fault): Path<String>) -> Answer {
    let postgres = cluster.postgres();
    match fault.as_str() {
        "stop" => answer(postgres.stop(Stop::Fast).await),
        "crash" => answer(postgres.stop(Stop::Crash).await),
        "start" => answer(postgres.start().await),
        "restart" => answer(postgres.restart(Stop::Fast).await),
        _ => Err(not_found(format!(
            "`{fault}` is not known; use stop, crash, start or restart"
        ))),
    }
}

fn answer(outcome: Result<(), Error>) -> Answer {
    match outcome {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err((
            StatusCode::CONFLICT,
            Json(Problem {
                message: error.to_string(),
            }),
        )),
    }
}

fn not_found(message: String) -> (StatusCode, Json<Problem>) {
    (StatusCode::NOT_FOUND, Json(Problem { message }))
}
