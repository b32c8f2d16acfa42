//! Metrics: what is counted on the way of traffic, and the page a scrape gets.
//!
//! Every name begins with `tandem_` and ends in its unit; labels are bounded by the config (listener, upstream, backend,
//! vip, worker) or by the code (result, reason, class, direction), never by what a client sends.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// Media type of the page.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the buckets of a [`Histogram`], seconds.
const BOUNDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// How long things took. Without a lock: one relaxed addition for the bucket and one for the sum.
#[derive(Debug, Default)]
pub struct Histogram {
    /// The last one is for all beyond the bounds.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Histogram {
    /// Takes note of one.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}

/// The labels of one value; none for a metric that has only one.
pub type Labels = Vec<(&'static str, String)>;

/// A page under writing. Names are given without `tandem_`.
pub struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    /// Values that go up and down.
    ///
    /// # Errors
    /// Of the text it is written to.
    pub fn gauge(&mut self, name: &str, help: &str, samples: Vec<(Labels, f64)>) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                metric.encode_gauge(&value)?;
            } else {
                metric.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    /// Values that only go up until the process ends; `_total` is put behind the name.
    ///
    /// # Errors
    /// Of the text it is written to.
    pub fn counter(&mut self, name: &str, help: &str, samples: Vec<(Labels, u64)>) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
            } else {
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
            }
        }
        Ok(())
    }

    /// How long things took, all `parts` together.
    ///
    /// # Errors
    /// Of the text it is written to.
    #[allow(clippy::cast_precision_loss)]
    pub fn histogram<'h>(
        &mut self,
        name: &str,
        help: &str,
        parts: impl Iterator<Item = &'h Histogram> + Clone,
    ) -> fmt::Result {
        let bounds = BOUNDS.iter().copied().chain([f64::INFINITY]);
        let count = |i: usize| parts.clone().map(|h| h.buckets[i].load(Relaxed)).sum::<u64>();
        let buckets: Vec<(f64, u64)> = bounds.enumerate().map(|(i, bound)| (bound, count(i))).collect();
        let nanos = parts.clone().map(|h| h.nanos.load(Relaxed)).sum::<u64>();
        let all = buckets.iter().map(|(_, n)| n).sum();
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(nanos as f64 / 1e9, all, &buckets, None)
    }
}

struct Source<F>(F);

impl<F> fmt::Debug for Source<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

impl<F: Fn(&mut Page<'_>) -> fmt::Result + Send + Sync + 'static> Collector for Source<F> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0(&mut Page(encoder))
    }
}

/// The page that `write` writes.
///
/// # Errors
/// Those of `write`.
pub fn page(write: impl Fn(&mut Page<'_>) -> fmt::Result + Send + Sync + 'static) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("tandem");
    registry.register_collector(Box::new(Source(write)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let text = page(|page| {
            page.gauge("raft_term", "Current term.", vec![(vec![], 3.0)])?;
            let up = vec![("upstream", "u".to_owned()), ("backend", "a\"b".to_owned())];
            page.counter("upgrades", "Upgrades.", vec![(up, 7)])?;
            let (one, two) = (Histogram::default(), Histogram::default());
            one.observe(Duration::from_millis(2));
            two.observe(Duration::from_secs(60));
            page.histogram("dial_seconds", "Dials.", [&one, &two].into_iter())
        });
        let text = text.unwrap();
        for line in [
            "# TYPE tandem_raft_term gauge",
            "tandem_raft_term 3.0",
            "tandem_upgrades_total{upstream=\"u\",backend=\"a\\\"b\"} 7",
            "tandem_dial_seconds_sum 60.002",
            "tandem_dial_seconds_count 2",
            "tandem_dial_seconds_bucket{le=\"0.001\"} 0",
            "tandem_dial_seconds_bucket{le=\"0.0025\"} 1",
            "tandem_dial_seconds_bucket{le=\"+Inf\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
}
