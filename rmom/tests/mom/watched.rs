//! What those who watch a MoM ask it, and what clients of other languages expect of a gRPC server.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use crate::support::{Client, DEADLINE, start};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use protos::message_stream_server::SERVICE_NAME;
use testkit::{Cluster, Mom, wait_until};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_types::StatusExt;

async fn get(mom: &Mom, path: &str) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(format!("{}{path}", mom.url())).send().await;
    let answer = answer.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn channel(mom: &Mom) -> Channel {
    let endpoint = Endpoint::from_shared(mom.url()).unwrap();
    endpoint.connect().await.unwrap()
}

fn check(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.into(),
    }
}

/// The values as they are written, by name and labels. Each line has to be one that Prometheus's format knows.
fn parse(text: &str) -> HashMap<String, String> {
    let mut typed = HashSet::new();
    let mut values = HashMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(typed.insert(name.to_owned()), "twice: {line}");
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .filter(|base| typed.contains(*base))
                .unwrap_or(name);
            assert!(typed.contains(base), "without a type: {line}");
            value.parse::<f64>().unwrap();
            let before = values.insert(series.to_owned(), value.to_owned());
            assert_eq!(before, None, "twice: {line}");
        }
    }
    values
}

/// Somebody who is sent traces, and remembers the names of the spans.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<HashSet<String>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let sent = request.into_inner().resource_spans.into_iter();
        let spans = sent
            .flat_map(|of_one| of_one.scope_spans)
            .flat_map(|of_one| of_one.spans);
        let mut names = self.0.lock().unwrap();
        names.extend(spans.map(|span| span.name));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Listens as long as the runtime lasts. Returns the URL too.
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let service = TraceServiceServer::new(collector.clone());
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (collector, url)
    }
}

#[tokio::test]
async fn metrics_count_what_was_done_and_bound_the_number_of_series() {
    let (collector, url) = Collector::start().await;
    let builder = Cluster::builder()
        .moms(1)
        .managers(1)
        .mom_setting("metrics_queues", 2)
        .mom_setting("log_format", "json")
        .mom_env("OTEL_EXPORTER_OTLP_ENDPOINT", &url)
        .mom_env("OTEL_BSP_SCHEDULE_DELAY", "50")
        .manager_env("OTEL_EXPORTER_OTLP_ENDPOINT", &url)
        .manager_env("OTEL_BSP_SCHEDULE_DELAY", "50");
    let cluster = start(builder).await;
    let mom = cluster.mom(0);
    let mut client = Client::of(mom).await;
    for label in ["a", "b", "c", "d"] {
        client.create_queue(label).await.unwrap();
        client.push(label, "__none__", b"four").await.unwrap();
    }
    let channel = client.create_channel("a", "__none__").await.unwrap();
    let mut reader = client.subscribe(&channel, None).await.unwrap();
    reader.take(1).await;
    client.push("a", "__none__", b"four").await.unwrap();
    reader.take(1).await;

    let values = wait_until("the last delivery to be counted", DEADLINE, async || {
        let values = parse(&get(mom, "/metrics").await.1);
        let is_counted = values["rmom_delivered_messages_total"] == "2";
        is_counted.then_some(values).ok_or("it is not")
    })
    .await;
    for (series, value) in [
        ("rmom_pushed_messages_total", "5"),
        ("rmom_pushed_bytes_total", "20"),
        ("rmom_caught_up_messages_total", "1"),
        ("rmom_queues", "4"),
        ("rmom_subscriptions", "1"),
        ("rmom_database_up", "1"),
        ("rmom_commit_seconds_count", "5"),
        ("rmom_batch_messages_sum", "5"),
        ("rmom_delivery_seconds_count", "1"),
        ("rmom_queue_pushed_messages_total{queue=\"a\"}", "2"),
        ("rmom_queue_pushed_messages_total{queue=\"b\"}", "1"),
        ("rmom_queue_pushed_messages_total{queue=\"(others)\"}", "2"),
        ("rmom_queue_lag_messages{queue=\"a\"}", "0"),
        ("rmom_queue_lag_seconds{queue=\"a\"}", "0"),
    ] {
        assert_eq!(
            values.get(series).map(String::as_str),
            Some(value),
            "{series}"
        );
    }
    assert!(!values.contains_key("rmom_queue_subscriptions{queue=\"c\"}"));
    let resident: u64 = values["process_resident_memory_bytes"].parse().unwrap();
    assert!(resident > 1 << 20);

    // Commits of the MoM, and requests to the manager, of which the cluster has made some to see whether it is there.
    wait_until("spans of both", DEADLINE, async || {
        let names = collector.0.lock().unwrap();
        names.contains("commit") && names.contains("request")
    })
    .await;

    let log = mom.log_of_this_run();
    let is_json = |line: &str| line.starts_with("{\"timestamp\":") && line.ends_with('}');
    assert!(log.lines().all(is_json), "{log}");
}

#[tokio::test]
async fn a_mom_says_whether_it_is_of_use_describes_itself_and_details_its_errors() {
    let builder = Cluster::builder().moms(1).managers(1).proxy_databases();
    let cluster = start(builder).await;
    let mom = cluster.mom(0);
    assert_eq!(get(mom, "/livez").await, (200, "Ok".to_owned()));
    assert_eq!(get(mom, "/readyz").await, (200, "Ok".to_owned()));

    let mut health = HealthClient::new(channel(mom).await);
    for service in ["", SERVICE_NAME] {
        wait_until("the MoM to serve", DEADLINE, async || {
            let answer = health.clone().check(check(service)).await.unwrap();
            answer.into_inner().status() == ServingStatus::Serving
        })
        .await;
    }
    let unknown = health.check(check("unknown")).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    let mut watch = health.watch(check("")).await.unwrap().into_inner();
    let mut next = async || {
        let next = timeout(DEADLINE, watch.next()).await.unwrap();
        next.map(|answer| answer.map(|answer| answer.status()))
    };
    assert_eq!(next().await.unwrap().unwrap(), ServingStatus::Serving);

    let asked = tokio_stream::iter([ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    }]);
    let mut reflection = ServerReflectionClient::new(channel(mom).await);
    let answers = reflection.server_reflection_info(asked).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(listed)) = answer.message_response else {
        panic!("no list of services");
    };
    let services: HashSet<String> = listed.service.into_iter().map(|found| found.name).collect();
    assert!(services.contains(SERVICE_NAME), "{services:?}");
    assert!(services.contains("grpc.health.v1.Health"), "{services:?}");

    let mut client = Client::of(mom).await;
    client.create_queue("news").await.unwrap();
    let missing = client.push("none", "__none__", b"").await.unwrap_err();
    let details = missing.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(
        (&info.reason[..], &info.domain[..]),
        ("queue_not_found", "rusty-mom")
    );
    assert!(details.retry_info().is_none());

    cluster.mom_database_proxy(0).cut().await;
    assert_eq!(next().await.unwrap().unwrap(), ServingStatus::NotServing);
    assert_eq!(get(mom, "/livez").await.0, 200);
    let (status, fault) = get(mom, "/readyz").await;
    assert_eq!((status, &fault[..]), (503, "the database does not answer"));
    cluster.mom_database_proxy(0).restore().await.unwrap();
    assert_eq!(next().await.unwrap().unwrap(), ServingStatus::Serving);

    // Who watches is told that the MoM stops, and does not hold it up.
    let (exit, last) = tokio::join!(mom.terminate(), next());
    assert!(exit.unwrap().success());
    assert_eq!(last.unwrap().unwrap(), ServingStatus::NotServing);
}
