//! Traces of tasks, sent to a collector by OTLP: who accepted a task and how long it waited, each attempt at it, and each call of its
//! receiver.
//!
//! A task's id is the id of its trace, and the second half of it that of the trace's root. So whichever process sees a part of a task
//! adds to the same trace, and nothing has to be passed from one to the other. Whoever ends a task sends the root.

use std::{
    cell::Cell,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use enlarger_egress::{EgressError, TrustedService};
use enlarger_tasks::Task;
use http::{Request, Response, header};
use opentelemetry::{
    Context, KeyValue, Value,
    trace::{
        Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
        TracerProvider,
    },
};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{IdGenerator, RandomIdGenerator, SdkTracer, SdkTracerProvider},
};
use tokio::runtime::Handle;
use uuid::Uuid;

/// For a request to the collector.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of the collector's answer.
const MOST_ANSWER: u64 = 1 << 20;

/// Where traces go. Cheap to clone; without a collector nothing is sent.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Sending>>);

struct Sending {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// A part of a task's trace, which ends now.
struct Part<'a> {
    name: &'static str,
    kind: SpanKind,
    since: SystemTime,
    attributes: Vec<(&'static str, Value)>,
    error: Option<&'a str>,
}

impl Traces {
    /// Whether traces can be sent there.
    ///
    /// # Errors
    /// As [`Self::to`].
    pub fn check(collector: &str) -> Result<(), EgressError> {
        TrustedService::new(collector, &[], PATIENCE).map(|_| ())
    }

    /// Sends them to the collector at `http://HOST:PORT`, as a process in this role. Call it within a runtime of tokio, which sends.
    ///
    /// # Errors
    /// [`EgressError::Url`] unless it is an http or https URL, [`EgressError::UserInfo`] if it contains a password.
    pub fn to(collector: &str, role: &'static str) -> Result<Self, EgressError> {
        let service = TrustedService::new(collector, &[], PATIENCE)?;
        let collector = Collector { service, runtime: Handle::current(), fails: AtomicBool::new(false) };
        let exporter = SpanExporter::builder().with_http().with_http_client(collector).build();
        let exporter = exporter.expect("a client is all that an exporter needs");
        let about = Resource::builder().with_service_name("enlarger").with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", Uuid::new_v4().to_string()),
            KeyValue::new("enlarger.role", role),
        ]);
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_id_generator(Ids(RandomIdGenerator::default()))
            .with_resource(about.build())
            .build();
        let tracer = provider.tracer("enlarger");
        Ok(Self(Some(Arc::new(Sending { provider, tracer }))))
    }

    /// A request was accepted as a task; it came at `since`.
    pub fn accepted(&self, task: Uuid, since: SystemTime) {
        self.part(task, Part { name: "submit", kind: SpanKind::Server, since, attributes: Vec::new(), error: None });
    }

    /// A task was claimed for the first time.
    pub fn waited(&self, task: &Task) {
        let since = task.created_at.into();
        self.part(task.id, Part { name: "wait", kind: SpanKind::Internal, since, attributes: Vec::new(), error: None });
    }

    /// An attempt at a task, since it was claimed.
    pub fn attempted(&self, task: &Task, since: SystemTime, outcome: &'static str, error: Option<&str>) {
        let attributes = tried(task.attempt, outcome);
        self.part(task.id, Part { name: "attempt", kind: SpanKind::Consumer, since, attributes, error });
    }

    /// A task's receiver was called.
    pub fn called(&self, task: Uuid, since: SystemTime, attempt: u32, outcome: &'static str, error: Option<&str>) {
        let attributes = tried(attempt, outcome);
        self.part(task, Part { name: "webhook", kind: SpanKind::Client, since, attributes, error });
    }

    /// A task ended: sends the root of its trace, from when it was accepted.
    pub fn ended(&self, task: &Task, outcome: &'static str) {
        let Some(Sending { tracer, .. }) = self.0.as_deref() else { return };
        let attributes = vec![("enlarger.kind", task.kind.clone().into()), ("enlarger.outcome", outcome.into())];
        let error = (outcome == "failed").then_some("the task failed");
        let since = task.created_at.into();
        NEXT.set(Some(ids(task.id)));
        send(
            tracer,
            task.id,
            Part { name: "task", kind: SpanKind::Internal, since, attributes, error },
            &Context::new(),
        );
        NEXT.set(None);
    }

    fn part(&self, task: Uuid, part: Part<'_>) {
        let Some(Sending { tracer, .. }) = self.0.as_deref() else { return };
        let (trace, root) = ids(task);
        let parent = SpanContext::new(trace, root, TraceFlags::SAMPLED, true, TraceState::default());
        send(tracer, task, part, &Context::new().with_remote_span_context(parent));
    }

    /// Sends what is left.
    pub async fn end(self) {
        let Some(sending) = self.0 else { return };
        // It waits for the collector, which is asked on this runtime.
        let ended = tokio::task::spawn_blocking(move || sending.provider.shutdown()).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

fn send(tracer: &SdkTracer, task: Uuid, part: Part<'_>, parent: &Context) {
    let mut attributes = vec![KeyValue::new("enlarger.task", task.to_string())];
    attributes.extend(part.attributes.into_iter().map(|(key, value)| KeyValue::new(key, value)));
    let span = tracer.span_builder(part.name).with_kind(part.kind).with_start_time(part.since);
    let mut span = span.with_attributes(attributes).start_with_context(tracer, parent);
    if let Some(why) = part.error {
        span.set_status(Status::error(why.to_owned()));
    }
    span.end();
}

/// The ids of a task's trace and of its root.
fn ids(task: Uuid) -> (TraceId, SpanId) {
    let (_, root) = task.as_u64_pair();
    (TraceId::from_bytes(*task.as_bytes()), SpanId::from_bytes(root.to_be_bytes()))
}

fn tried(attempt: u32, outcome: &'static str) -> Vec<(&'static str, Value)> {
    vec![("enlarger.attempt", i64::from(attempt).into()), ("enlarger.outcome", outcome.into())]
}

thread_local! {
    /// The ids of the next span on this thread.
    static NEXT: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// Random ids, but for the root of a trace.
#[derive(Debug)]
struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT.get().map_or_else(|| self.0.new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.get().map_or_else(|| self.0.new_span_id(), |(_, root)| root)
    }
}

/// The collector, as the exporter sees it: a thread of its own sends, without a runtime.
struct Collector {
    service: TrustedService,
    runtime: Handle,
    /// Whether the last request failed, so that it is said once.
    fails: AtomicBool,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let media = request.headers().get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok());
        let media = media.unwrap_or("application/x-protobuf").to_owned();
        let (service, body) = (self.service.clone(), request.into_body().to_vec());
        let sent = async move { service.post(&["v1", "traces"], &media, body, MOST_ANSWER).await };
        let answer = self.runtime.spawn(sent).await?;
        let trouble = match &answer {
            Ok(answer) if answer.status < 300 => None,
            Ok(answer) => Some(format!("it answers with status {}", answer.status)),
            Err(error) => Some(error.to_string()),
        };
        if self.fails.swap(trouble.is_some(), Relaxed) != trouble.is_some() {
            match trouble {
                Some(why) => tracing::warn!(why, "traces cannot be sent to the collector"),
                None => tracing::info!("traces are sent to the collector again"),
            }
        }
        let answer = answer?;
        Ok(Response::builder().status(answer.status).body(answer.body.into())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_and_its_trace_have_one_id() {
        let task: Uuid = "0198c0de-1234-7abc-8def-0123456789ab".parse().expect("an id");
        let (trace, root) = ids(task);
        assert_eq!(
            (trace.to_string().as_str(), root.to_string().as_str()),
            ("0198c0de12347abc8def0123456789ab", "8def0123456789ab")
        );
    }
}
