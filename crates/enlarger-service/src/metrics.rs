//! Metrics. Each service has its own counters; two in one process share none.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use enlarger_pipeline::LaneStatus;
use enlarger_tasks::Counts;
use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

const ABOUT: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

const SUBMITTED: &str = "enlarger_tasks_submitted_total";
const ATTEMPTS: &str = "enlarger_attempts_total";
const WEBHOOKS: &str = "enlarger_webhooks_total";
const REQUESTS: &str = "enlarger_http_requests_total";
const GPU_LOSSES: &str = "enlarger_gpu_losses_total";
const GPU_FALLBACKS: &str = "enlarger_gpu_fallbacks_total";
const COUNTERS: [(&str, &str); 6] = [
    (SUBMITTED, "Jobs that this process accepted, by kind"),
    (ATTEMPTS, "Attempts at jobs that ended in this process, by outcome"),
    (WEBHOOKS, "Deliveries of webhooks by this process, by outcome"),
    (REQUESTS, "HTTP requests that this process answered, by method, route and status code"),
    (GPU_LOSSES, "How often a GPU of this process was lost, by device"),
    (GPU_FALLBACKS, "How often the CPU took over from a GPU of this process, by device"),
];

const WAITING: &str = "enlarger_tasks_waiting";
const RUNNING: &str = "enlarger_tasks_running";
const QUEUED: &str = "enlarger_queue_seconds";
const OLDEST: &str = "enlarger_queue_oldest_seconds";
const PENDING: &str = "enlarger_webhooks_pending";
const DEVICE_SLOTS: &str = "enlarger_device_slots";
const DEVICE_JOBS: &str = "enlarger_device_jobs";
const GPU_IN_USE: &str = "enlarger_gpu_in_use";
const GPU_FLOPS: &str = "enlarger_gpu_flops";
const GAUGES: [(&str, &str); 9] = [
    (WAITING, "Jobs waiting, of all processes"),
    (RUNNING, "Jobs running, of all processes"),
    (QUEUED, "Estimated work of the waiting jobs in seconds, on one worker"),
    (OLDEST, "Seconds since the oldest waiting job was accepted; 0 if none waits"),
    (PENDING, "Webhooks not delivered yet, of all processes"),
    (DEVICE_SLOTS, "Jobs that a device of this process takes at once"),
    (DEVICE_JOBS, "Jobs that a device of this process runs now"),
    (GPU_IN_USE, "1 if a GPU of this process is used, 0 if it failed or was lost too often"),
    (GPU_FLOPS, "Measured floating-point operations per second of a GPU; 0 if unknown"),
];

const ATTEMPT: &str = "enlarger_attempt_seconds";
const REQUEST: &str = "enlarger_http_seconds";
/// With the upper bounds of their buckets, in seconds.
const HISTOGRAMS: [(&str, &str, &[f64]); 2] = [
    (ATTEMPT, "How long attempts at jobs took", &[0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0]),
    (
        REQUEST,
        "Time from a request's head until its response begins, by method and route",
        &[0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0],
    ),
];

/// Recorded times are summed up after so many, also if nobody asks for them.
const UPKEEP: u32 = 1024;

/// The counters of one service. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    /// How many times were recorded.
    times: Arc<AtomicU32>,
}

impl Default for Metrics {
    fn default() -> Self {
        let builder = HISTOGRAMS.iter().fold(PrometheusBuilder::new(), |builder, (name, _, buckets)| {
            let matcher = Matcher::Full((*name).to_owned());
            builder.set_buckets_for_metric(matcher, buckets).expect("there are buckets")
        });
        let recorder = builder.build_recorder();
        COUNTERS.iter().for_each(|(name, help)| recorder.describe_counter((*name).into(), None, (*help).into()));
        GAUGES.iter().for_each(|(name, help)| recorder.describe_gauge((*name).into(), None, (*help).into()));
        HISTOGRAMS.iter().for_each(|(name, help, _)| recorder.describe_histogram((*name).into(), None, (*help).into()));
        Self { recorder: Arc::new(recorder), times: Arc::default() }
    }
}

impl Metrics {
    /// A task was accepted.
    pub fn submitted(&self, kind: &str) {
        self.count(SUBMITTED, vec![Label::new("kind", kind.to_owned())]);
    }

    /// An attempt ended after so many seconds.
    pub fn attempt(&self, outcome: &'static str, seconds: f64) {
        self.count(ATTEMPTS, vec![Label::from_static_parts("outcome", outcome)]);
        self.time(ATTEMPT, Vec::new(), seconds);
    }

    /// A webhook was sent, or could not be.
    pub fn webhook(&self, outcome: &'static str) {
        self.count(WEBHOOKS, vec![Label::from_static_parts("outcome", outcome)]);
    }

    /// A request was answered. `route` is a pattern, not a path: there are few of them.
    pub fn request(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        let labels = vec![Label::from_static_parts("method", method), Label::new("route", route.to_owned())];
        self.time(REQUEST, labels.clone(), took.as_secs_f64());
        self.count(REQUESTS, [labels, vec![Label::new("status", status.to_string())]].concat());
    }

    /// How many of what there are now.
    pub fn counts(&self, counts: &Counts) {
        let gauge = |name| self.recorder.register_gauge(&Key::from_static_name(name), &ABOUT);
        gauge(WAITING).set(counts.created as f64);
        gauge(RUNNING).set(counts.in_progress as f64);
        gauge(QUEUED).set(counts.queued_cost);
        gauge(OLDEST).set(counts.oldest.as_secs_f64());
        gauge(PENDING).set(counts.outbox_pending as f64);
    }

    /// What devices do now.
    pub fn devices(&self, lanes: &[LaneStatus]) {
        for (at, lane) in lanes.iter().enumerate() {
            // Several cards may have one name.
            let labels = || vec![Label::new("lane", at.to_string()), Label::new("device", lane.device.clone())];
            let gauge = |name, value| self.recorder.register_gauge(&Key::from_parts(name, labels()), &ABOUT).set(value);
            let count =
                |name, value| self.recorder.register_counter(&Key::from_parts(name, labels()), &ABOUT).absolute(value);
            gauge(DEVICE_SLOTS, lane.slots as f64);
            gauge(DEVICE_JOBS, lane.running as f64);
            if let Some(gpu) = &lane.gpu {
                gauge(GPU_IN_USE, f64::from(u8::from(gpu.in_use)));
                gauge(GPU_FLOPS, gpu.rate.unwrap_or(0.0));
                count(GPU_LOSSES, gpu.losses);
                count(GPU_FALLBACKS, gpu.fallbacks);
            }
        }
    }

    /// All metrics, in the text format of Prometheus.
    pub fn render(&self) -> String {
        self.recorder.handle().render()
    }

    fn count(&self, name: &'static str, labels: Vec<Label>) {
        self.recorder.register_counter(&Key::from_parts(name, labels), &ABOUT).increment(1);
    }

    fn time(&self, name: &'static str, labels: Vec<Label>, seconds: f64) {
        self.recorder.register_histogram(&Key::from_parts(name, labels), &ABOUT).record(seconds);
        if self.times.fetch_add(1, Ordering::Relaxed) % UPKEEP == UPKEEP - 1 {
            self.recorder.handle().run_upkeep();
        }
    }
}

#[cfg(test)]
mod tests {
    use enlarger_pipeline::Health;

    use super::*;

    #[test]
    fn two_services_in_one_process_count_apart() {
        let [first, second] = [Metrics::default(), Metrics::default()];
        first.submitted("creative");
        first.submitted("creative");
        second.attempt("completed", 1.5);
        assert!(first.render().contains("enlarger_tasks_submitted_total{kind=\"creative\"} 2"), "{}", first.render());
        assert!(!first.render().contains("enlarger_attempts_total"));
        assert!(second.render().contains("enlarger_attempts_total{outcome=\"completed\"} 1"));
        assert!(second.render().contains("enlarger_attempt_seconds_sum 1.5"), "{}", second.render());
        assert!(!second.render().contains("submitted"));
    }

    #[test]
    fn times_are_counted_in_buckets_and_summed_up_without_being_asked_for() {
        let metrics = Metrics::default();
        for _ in 0..3 * UPKEEP {
            metrics.request("GET", "/files/{key}", 200, Duration::from_millis(20));
        }
        let printed = metrics.render();
        let labels = "method=\"GET\",route=\"/files/{key}\"";
        for line in [
            format!("enlarger_http_requests_total{{{labels},status=\"200\"}} 3072"),
            format!("enlarger_http_seconds_bucket{{{labels},le=\"0.01\"}} 0"),
            format!("enlarger_http_seconds_bucket{{{labels},le=\"0.03\"}} 3072"),
            format!("enlarger_http_seconds_count{{{labels}}} 3072"),
        ] {
            assert!(printed.contains(&line), "{line}: {printed}");
        }
    }

    #[test]
    fn losses_of_gpus_are_counted_by_device() {
        let gpu = Health { losses: 2, fallbacks: 3, in_use: true, rate: Some(5e12), ..Health::default() };
        let lane = |device: &str, gpu| LaneStatus { device: device.into(), slots: 2, running: 1, gpu };
        let metrics = Metrics::default();
        metrics.devices(&[lane("A f16", Some(gpu)), lane("avx2 int16", None)]);
        let text = metrics.render();
        for line in [
            "enlarger_gpu_losses_total{lane=\"0\",device=\"A f16\"} 2",
            "enlarger_gpu_fallbacks_total{lane=\"0\",device=\"A f16\"} 3",
            "enlarger_gpu_in_use{lane=\"0\",device=\"A f16\"} 1",
            "enlarger_device_slots{lane=\"1\",device=\"avx2 int16\"} 2",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("enlarger_gpu_losses_total{lane=\"1\""), "{text}");
    }
}
