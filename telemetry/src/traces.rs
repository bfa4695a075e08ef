//! Traces over OTLP, where the environment names somebody to send them to: `OTEL_EXPORTER_OTLP_ENDPOINT`, and the
//! other variables that OpenTelemetry defines for sampling, batching and names.
//!
//! Without that variable the spans of [`TARGET`] are filtered out where they would begin, and cost a comparison.

use std::time::Duration;

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::{Builder, Runtime};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

/// The target of spans that are there for traces only. [`Traces::DIRECTIVE`] lets them through.
pub const TARGET: &str = "rmom_trace";

/// How long the end of a process waits for what is still to be sent.
const LAST_DEADLINE: Duration = Duration::from_secs(2);

/// Sends traces until it is dropped, which must not happen in a runtime.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    /// One of its own, since traces begin before the process's runtime does and end after it.
    runtime: Option<Runtime>,
}

/// Why traces cannot be sent.
#[derive(Debug)]
pub struct NoTraces(String);

impl std::fmt::Display for NoTraces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "traces cannot be sent: {}", self.0)
    }
}

impl std::error::Error for NoTraces {}

impl Traces {
    /// What to add to the filter of the log, so that the spans of [`TARGET`] begin.
    pub const DIRECTIVE: &str = "rmom_trace=trace";

    /// Begins to send, if the environment says where to. The service is called `service` unless the environment names
    /// it.
    pub fn from_env(service: &'static str) -> Result<Option<Self>, NoTraces> {
        let is_set = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty());
        if !is_set("OTEL_EXPORTER_OTLP_ENDPOINT") && !is_set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
            return Ok(None);
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("otlp")
            .enable_all()
            .build()
            .map_err(|error| NoTraces(error.to_string()))?;
        let exporter = {
            let _within = runtime.enter();
            SpanExporter::builder().with_tonic().build()
        };
        let exporter = exporter.map_err(|error| NoTraces(error.to_string()))?;
        let mut resource = Resource::builder();
        if !is_set("OTEL_SERVICE_NAME") {
            resource = resource.with_service_name(service);
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        Ok(Some(Self {
            provider,
            runtime: Some(runtime),
        }))
    }

    /// What makes traces of spans.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer().with_tracer(self.provider.tracer("rusty-mom"))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        // Whoever should have had them is not there: there is nothing more to do about it.
        let _ = self.provider.shutdown_with_timeout(LAST_DEADLINE);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Makes a span part of the trace that a `traceparent` header (W3C Trace Context) names.
pub fn continue_from(span: &Span, traceparent: &str) {
    let context = TraceContextPropagator::new().extract(&Header(traceparent));
    // It fails where nothing is traced.
    let _ = span.set_parent(context);
}

struct Header<'a>(&'a str);

impl Extractor for Header<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}
