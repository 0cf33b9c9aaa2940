//! Metrics. Each service has its own counters; two in one process share none.

use std::sync::Arc;

use enlarger_tasks::Counts;
use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

const ABOUT: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// The counters of one service. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<PrometheusRecorder>);

impl Default for Metrics {
    fn default() -> Self {
        Self(Arc::new(PrometheusBuilder::new().build_recorder()))
    }
}

impl Metrics {
    /// A task was accepted.
    pub fn submitted(&self, kind: &str) {
        self.count("enlarger_tasks_submitted_total", "kind", kind.to_owned());
    }

    /// An attempt ended after so many seconds.
    pub fn attempt(&self, outcome: &'static str, seconds: f64) {
        self.count("enlarger_attempts_total", "outcome", outcome.to_owned());
        self.0.register_histogram(&Key::from_static_name("enlarger_attempt_seconds"), &ABOUT).record(seconds);
    }

    /// A webhook was sent, or could not be.
    pub fn webhook(&self, outcome: &'static str) {
        self.count("enlarger_webhooks_total", "outcome", outcome.to_owned());
    }

    /// How many of what there are now.
    pub fn counts(&self, counts: &Counts) {
        let gauge = |name| self.0.register_gauge(&Key::from_static_name(name), &ABOUT);
        gauge("enlarger_tasks_waiting").set(counts.created as f64);
        gauge("enlarger_tasks_running").set(counts.in_progress as f64);
        gauge("enlarger_queue_seconds").set(counts.queued_cost);
        gauge("enlarger_webhooks_pending").set(counts.outbox_pending as f64);
    }

    /// All metrics, in the text format of Prometheus.
    pub fn render(&self) -> String {
        self.0.handle().render()
    }

    fn count(&self, name: &'static str, label: &'static str, value: String) {
        let key = Key::from_parts(name, vec![Label::new(label, value)]);
        self.0.register_counter(&key, &ABOUT).increment(1);
    }
}

#[cfg(test)]
mod tests {
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
}
