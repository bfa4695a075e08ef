//! What those who watch a MoM ask it, on the port on which it serves: `/livez`, `/readyz` and `/metrics` over HTTP, and
//! gRPC's own health checks and reflection.
//!
//! None of it is on the way of messages: the routes of the message service are added beside these.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use protos::message_stream_server::{MessageStreamServer, SERVICE_NAME};
use telemetry::metrics::CONTENT_TYPE;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::hosting::Hosting;
use crate::metrics::Metrics;
use crate::service::Service;

/// How often what health checks hear is renewed.
const PERIOD: Duration = Duration::from_millis(250);

/// A MoM that has heard nothing from the database for so long is cut off from it: it is asked every second.
const SILENCE: Duration = Duration::from_secs(3);

/// Whether a MoM is of use at this moment.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// Who asks the database every second.
    pub hosting: Arc<Hosting>,
    /// False while the database is away.
    pub database_is_up: Arc<AtomicBool>,
    /// Cancelled when the MoM begins to stop.
    pub stopping: CancellationToken,
}

impl Readiness {
    /// Why it is not.
    fn fault(&self) -> Option<&'static str> {
        let is_cut_off = !self.database_is_up.load(Ordering::Relaxed)
            || self.hosting.database_silence() > SILENCE;
        if self.stopping.is_cancelled() {
            Some("this MoM is stopping")
        } else if is_cut_off {
            Some("the database does not answer")
        } else {
            None
        }
    }

    /// Keeps what health checks hear up to date until the MoM stops, and then ends their streams by `ending`.
    async fn report(self, health: HealthReporter, ending: CancellationToken) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = None;
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => {}
                _ = ticks.tick() => {}
            }
            let is_ready = self.fault().is_none();
            if told.replace(is_ready) != Some(is_ready) {
                let status = if is_ready {
                    ServingStatus::Serving
                } else {
                    ServingStatus::NotServing
                };
                // The name of the whole server is empty.
                for service in ["", SERVICE_NAME] {
                    health.set_service_status(service, status).await;
                }
            }
            if self.stopping.is_cancelled() {
                ending.cancel();
                return;
            }
        }
    }
}

/// All that a MoM answers, and what keeps it up to date until the MoM stops, to be run in a task of its own.
pub fn routes(
    service: MessageStreamServer<Service>,
    metrics: Metrics,
    readiness: Readiness,
) -> anyhow::Result<(Routes, impl Future<Output = ()> + Send + use<>)> {
    let health = HealthReporter::new();
    let ending = CancellationToken::new();
    let reporting = readiness.clone().report(health.clone(), ending.clone());
    let health = tonic_health::server::HealthService::from_health_reporter(health);
    let health = tonic_health::pb::health_server::HealthServer::new(health);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(protos::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("the description of the gRPC service is not valid")?;
    let watched = Routes::new(health)
        .add_service(reflection)
        .into_axum_router()
        .route("/livez", get(async || "Ok"))
        .route(
            "/readyz",
            get(move || std::future::ready(ready(&readiness))),
        )
        .route(
            "/metrics",
            get(move || {
                let text = metrics.render();
                std::future::ready(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
            }),
        )
        // Who watches may keep a stream open for ever, for which a stop need not wait.
        .layer(axum::middleware::map_response(move |response: Response| {
            let until = Box::pin(ending.clone().cancelled_owned());
            std::future::ready(response.map(|body| Body::new(Until { body, until })))
        }));
    let routes = Routes::from(watched).add_service(service).prepare();
    Ok((routes, reporting))
}

fn ready(readiness: &Readiness) -> Response {
    match readiness.fault() {
        None => "Ok".into_response(),
        Some(fault) => (StatusCode::SERVICE_UNAVAILABLE, fault).into_response(),
    }
}

/// A body that ends when the MoM stops, after what it has to say at that moment.
struct Until {
    body: Body,
    until: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl HttpBody for Until {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        self.until.as_mut().poll(cx).map(|()| None)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
