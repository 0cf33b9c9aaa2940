//! Metrics. Each service has its own counters; two in one process share none.

use std::sync::Arc;

use enlarger_pipeline::LaneStatus;
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

    /// What devices do now.
    pub fn devices(&self, lanes: &[LaneStatus]) {
        for (at, lane) in lanes.iter().enumerate() {
            // Several cards may have one name.
            let labels = || vec![Label::new("lane", at.to_string()), Label::new("device", lane.device.clone())];
            let gauge = |name, value| self.0.register_gauge(&Key::from_parts(name, labels()), &ABOUT).set(value);
            let count = |name, value| self.0.register_counter(&Key::from_parts(name, labels()), &ABOUT).absolute(value);
            gauge("enlarger_device_slots", lane.slots as f64);
            gauge("enlarger_device_jobs", lane.running as f64);
            if let Some(gpu) = &lane.gpu {
                gauge("enlarger_gpu_in_use", f64::from(u8::from(gpu.in_use)));
                gauge("enlarger_gpu_flops", gpu.rate.unwrap_or(0.0));
                count("enlarger_gpu_losses_total", gpu.losses);
                count("enlarger_gpu_fallbacks_total", gpu.fallbacks);
            }
        }
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
