//! Response times and error counts of the database.

use std::time::Duration;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::error::StoreError;

/// Upper bounds of the buckets for response times.
const BUCKETS_SECONDS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

const ERRORS: [&str; 3] = ["unavailable", "full", "other"];

type Label = [(&'static str, &'static str); 1];

/// Response times and error counts of the database. Clones share the counts.
#[derive(Debug, Clone)]
pub struct StoreMetrics {
    seconds: Family<Label, Histogram>,
    errors: Family<Label, Counter>,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        let errors = Family::default();
        for kind in ERRORS {
            drop::<Counter>(errors.get_or_create_owned(&[("kind", kind)]));
        }
        Self { seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS_SECONDS)), errors }
    }
}

impl StoreMetrics {
    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_with_unit("store", "Time the database took", Unit::Seconds, self.seconds.clone());
        registry.register("store_errors", "What the database did not do", self.errors.clone());
    }

    /// Records an answer of the database, and the time it took.
    pub(crate) fn answered<T>(&self, operation: &'static str, after: Duration, answer: &Result<T, StoreError>) {
        self.seconds.get_or_create(&[("operation", operation)]).observe(after.as_secs_f64());
        if let Err(error) = answer {
            let kind = match error {
                StoreError::Unavailable(_) => "unavailable",
                StoreError::Full(_) => "full",
                _ => "other",
            };
            self.errors.get_or_create(&[("kind", kind)]).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn times_are_counted_in_their_buckets_and_errors_by_kind() {
        let store = StoreMetrics::default();
        let mut registry = Registry::default();
        store.register(&mut registry);
        store.answered("claim", Duration::from_millis(2), &Ok(()));
        store.answered("claim", Duration::from_secs(20), &Err::<(), _>(sqlx::Error::PoolTimedOut.into()));
        store.answered("claim", Duration::ZERO, &Err::<(), _>(StoreError::NotEmpty));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "store_seconds_count{operation=\"claim\"} 3",
            "store_seconds_bucket{le=\"0.0001\",operation=\"claim\"} 1",
            "store_seconds_bucket{le=\"0.0025\",operation=\"claim\"} 2",
            "store_seconds_bucket{le=\"10.0\",operation=\"claim\"} 2",
            "store_seconds_bucket{le=\"+Inf\",operation=\"claim\"} 3",
            "store_errors_total{kind=\"unavailable\"} 1",
            "store_errors_total{kind=\"full\"} 0",
            "store_errors_total{kind=\"other\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
