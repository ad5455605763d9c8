//! Writes metrics with their samples: the library's encoder, by kind of metric.

use std::borrow::Cow;
use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::reconcile::Durations;

/// Labels of a sample, by name.
pub type Labels<'a> = Vec<(&'static str, Cow<'a, str>)>;

/// Labels of a sample with one label.
pub fn label<'a>(name: &'static str, value: impl Into<Cow<'a, str>>) -> Labels<'a> {
    vec![(name, value.into())]
}

/// A histogram as the page shows it.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    pub sum: f64,
    pub count: u64,
    /// Upper bounds, the last one infinite, and how many observations each class has.
    pub classes: Vec<(f64, u64)>,
}

impl From<&Durations> for Classes {
    fn from(durations: &Durations) -> Self {
        Self { sum: durations.sum(), count: durations.count(), classes: durations.classes().collect() }
    }
}

pub struct Page<'a>(DescriptorEncoder<'a>);

impl<'a> Page<'a> {
    pub const fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    pub fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.gauges(name, help, [(Labels::new(), value)])
    }

    pub fn gauges<'l, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, V)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, samples, |encoder, value| encoder.encode_gauge(value))
    }

    /// `name` has no `_total`: the format adds it.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counters(name, help, [(Labels::new(), value)])
    }

    /// `name` has no `_total`: the format adds it.
    pub fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Counter, samples, |encoder, value| {
            encoder.encode_counter::<NoLabelSet, _, u64>(value, None)
        })
    }

    /// A counter of a unit that has fractions. `name` has no `_total`.
    pub fn fraction_counter(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.fraction_counters(name, help, [(Labels::new(), value)])
    }

    /// A counter of a unit that has fractions. `name` has no `_total`.
    pub fn fraction_counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, f64)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Counter, samples, |encoder, value| {
            encoder.encode_counter::<NoLabelSet, _, u64>(value, None)
        })
    }

    pub fn histograms<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, Classes)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Histogram, samples, |encoder, value| {
            encoder.encode_histogram::<NoLabelSet>(value.sum, value.count, &value.classes, None)
        })
    }

    fn family<'l, V>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl IntoIterator<Item = (Labels<'l>, V)>,
        encode: impl Fn(&mut MetricEncoder<'_>, &V) -> fmt::Result,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in samples {
            match labels.is_empty() {
                true => encode(&mut encoder, &value)?,
                false => encode(&mut encoder.encode_family(&labels)?, &value)?,
            }
        }
        Ok(())
    }
}
