//! Metrics for operators: counts and times, in the OpenMetrics text format, which Prometheus reads.
//!
//! All metrics belong to one [`Metrics`], none are global: several coordinators may run in one process. Labels have few,
//! fixed values: never one chosen by a peer, a file or a user, and none that reveals whose music it is.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use chaarfm_domain::Counts;
use chaarfm_protocol::{RefusalReason, WorkerKind};
use chaarfm_store::{SessionRow, StoreMetrics};
use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
        info::Info,
    },
    registry::{Registry, Unit},
};

/// Content type of [`Metrics::text`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Prefix of all names.
const PREFIX: &str = "chaarfm";

/// Upper bounds of the time from a worker having room to having the job.
const DISPATCH_BUCKETS_SECONDS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Known backends of workers.
const BACKENDS: [&str; 3] = ["wgpu", "ndarray", "flex"];

/// Any other backend that a worker reports.
const OTHER_BACKEND: &str = "other";

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// How a worker's result was handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResultOutcome {
    /// Its vector is stored.
    Stored,
    /// The collection already had the track; the vector was dropped.
    Duplicate,
    /// The same answer was accepted before.
    Repeated,
    /// A passing failure; the job is retried unless that was its last attempt.
    FailedPassing,
    /// A final failure.
    FailedPermanent,
    /// The vector does not fit the model.
    Invalid,
    /// The job does not exist, or is not leased under that token.
    Refused,
}

impl ResultOutcome {
    const ALL: [Self; 7] = [
        Self::Stored,
        Self::Duplicate,
        Self::Repeated,
        Self::FailedPassing,
        Self::FailedPermanent,
        Self::Invalid,
        Self::Refused,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Duplicate => "duplicate",
            Self::Repeated => "repeated",
            Self::FailedPassing => "failed_passing",
            Self::FailedPermanent => "failed_permanent",
            Self::Invalid => "invalid",
            Self::Refused => "refused",
        }
    }
}

/// Why a lease ended without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseEnd {
    /// The worker's connection was lost.
    Lost,
    /// The job made no progress.
    Expired,
    /// The worker handed the job back.
    Released,
}

impl LeaseEnd {
    const ALL: [Self; 3] = [Self::Lost, Self::Expired, Self::Released];

    fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Expired => "expired",
            Self::Released => "released",
        }
    }
}

/// The outcome of recomputing a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verification {
    /// It matched.
    Confirmed,
    /// It differed.
    Refuted,
    /// The audio was unavailable, or too many results were waiting.
    Impossible,
}

impl Verification {
    const ALL: [Self; 3] = [Self::Confirmed, Self::Refuted, Self::Impossible];

    fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Refuted => "refuted",
            Self::Impossible => "impossible",
        }
    }
}

const REFUSALS: [RefusalReason; 5] = [
    RefusalReason::UnknownCode,
    RefusalReason::SessionEnded,
    RefusalReason::ProtocolVersion,
    RefusalReason::BadHello,
    RefusalReason::Full,
];

/// A refusal's name, as on the wire.
fn refusal_name(reason: RefusalReason) -> &'static str {
    match reason {
        RefusalReason::UnknownCode => "unknown_code",
        RefusalReason::SessionEnded => "session_ended",
        RefusalReason::ProtocolVersion => "protocol_version",
        RefusalReason::BadHello => "bad_hello",
        RefusalReason::Full => "full",
    }
}

/// The metrics of one coordinator. Every counter exists from the start, as 0.
pub(crate) struct Metrics {
    registry: Registry,
    dispatch: Histogram,
    results: Family<Labels<1>, Counter>,
    verifications: Family<Labels<1>, Counter>,
    leases_ended: Family<Labels<1>, Counter>,
    workers: Family<Labels<2>, Gauge>,
    connections: Counter,
    refused: Family<Labels<1>, Counter>,
}

impl Metrics {
    pub(crate) fn new(store: &StoreMetrics) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            dispatch: Histogram::new(DISPATCH_BUCKETS_SECONDS),
            results: counters("outcome", ResultOutcome::ALL.map(ResultOutcome::name)),
            verifications: counters("outcome", Verification::ALL.map(Verification::name)),
            leases_ended: counters("reason", LeaseEnd::ALL.map(LeaseEnd::name)),
            workers: worker_gauges(),
            connections: Counter::default(),
            refused: counters("reason", REFUSALS.map(refusal_name)),
        };
        metrics.register(store);
        metrics
    }

    fn register(&mut self, store: &StoreMetrics) {
        let registry = &mut self.registry;
        registry.register("build", "The program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let started = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64();
        registry.register_with_unit(
            "start_time",
            "When this coordinator started, since 1970",
            Unit::Seconds,
            ConstGauge::new(started),
        );
        registry.register_with_unit(
            "dispatch",
            "Time from when a worker had room for a job that waited until it was sent the job",
            Unit::Seconds,
            self.dispatch.clone(),
        );
        let verifications = "Results that were computed again, by what came of it";
        registry.register("verifications", verifications, self.verifications.clone());
        registry.register("results", "Results of workers, by what became of them", self.results.clone());
        registry.register("leases_ended", "Leases that ended without a result", self.leases_ended.clone());
        registry.register("workers", "Workers connected to this coordinator", self.workers.clone());
        registry.register("connections", "Connections opened by workers", self.connections.clone());
        registry.register("connections_refused", "Workers that were not let in", self.refused.clone());
        store.register(registry);
    }

    /// All metrics in the text format, including the open sessions unless the database did not respond.
    pub(crate) fn text(&self, open: Option<&[SessionRow]>) -> String {
        let mut text = String::new();
        self.write(&mut text, open).expect("a text takes whatever is written to it");
        text
    }

    fn write(&self, text: &mut String, open: Option<&[SessionRow]>) -> fmt::Result {
        encode_registry(text, &self.registry)?;
        encode_registry(text, &of_database(open))?;
        encode_eof(text)
    }

    /// Records how long a worker with room had to wait for a queued job.
    pub(crate) fn dispatched(&self, after: Duration) {
        self.dispatch.observe(after.as_secs_f64());
    }

    pub(crate) fn verified(&self, outcome: Verification) {
        self.verifications.get_or_create(&[("outcome", outcome.name())]).inc();
    }

    pub(crate) fn result(&self, outcome: ResultOutcome) {
        self.results.get_or_create(&[("outcome", outcome.name())]).inc();
    }

    pub(crate) fn lease_ended(&self, reason: LeaseEnd) {
        self.leases_ended.get_or_create(&[("reason", reason.name())]).inc();
    }

    pub(crate) fn connection_opened(&self) {
        self.connections.inc();
    }

    pub(crate) fn connection_refused(&self, reason: RefusalReason) {
        self.refused.get_or_create(&[("reason", refusal_name(reason))]).inc();
    }

    /// Counts a worker as connected until the returned value is dropped.
    #[must_use]
    pub(crate) fn connected(&self, kind: WorkerKind, backend: &str) -> Connected {
        let gauge = self.workers.get_or_create_owned(&worker_labels(kind, backend));
        gauge.inc();
        Connected(gauge)
    }
}

/// A worker counted as connected.
pub(crate) struct Connected(Gauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Metrics read from the database, covering all coordinators that share it.
fn of_database(open: Option<&[SessionRow]>) -> Registry {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register("store_up", "Whether the database has answered", ConstGauge::new(i64::from(open.is_some())));
    let Some(open) = open else { return registry };
    let jobs: Family<Labels<1>, Gauge> = Family::default();
    let sum = |count: fn(&Counts) -> u64| -> u64 { open.iter().map(|session| count(&session.counts)).sum() };
    for (state, count) in [
        ("queued", sum(|counts| counts.queued)),
        ("leased", sum(|counts| counts.leased)),
        ("done", sum(|counts| counts.done)),
        ("failed", sum(|counts| counts.failed)),
    ] {
        jobs.get_or_create(&[("state", state)]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    registry.register("jobs", "Jobs of the open sessions in the database, whichever coordinator asks", jobs);
    registry.register("sessions", "Open sessions in the database", ConstGauge::new(open.len() as i64));
    registry
}

/// One counter for each value of a label.
fn counters<const N: usize>(label: &'static str, values: [&'static str; N]) -> Family<Labels<1>, Counter> {
    let family = Family::default();
    for value in values {
        drop(family.get_or_create(&[(label, value)]));
    }
    family
}

/// One gauge for each kind of worker and backend.
fn worker_gauges() -> Family<Labels<2>, Gauge> {
    let family = Family::default();
    for kind in [WorkerKind::Native, WorkerKind::Browser] {
        for backend in BACKENDS.into_iter().chain([OTHER_BACKEND]) {
            drop(family.get_or_create(&worker_labels(kind, backend)));
        }
    }
    family
}

fn worker_labels(kind: WorkerKind, backend: &str) -> Labels<2> {
    let known = BACKENDS.into_iter().find(|known| *known == backend);
    [("kind", kind.name()), ("backend", known.unwrap_or(OTHER_BACKEND))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_says_it_computes_on_makes_no_labels() {
        let metrics = Metrics::new(&StoreMetrics::default());
        let lines = metrics.text(None).lines().count();
        let connected = ["flex", "wgpu", "a\"b\n", "Flex", ""].map(|name| metrics.connected(WorkerKind::Native, name));
        let text = metrics.text(None);
        assert_eq!(text.lines().count(), lines, "{text}");
        for (backend, count) in [("flex", 1), ("wgpu", 1), ("ndarray", 0), ("other", 3)] {
            let line = format!("chaarfm_workers{{kind=\"native\",backend=\"{backend}\"}} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
        drop(connected);
        assert!(metrics.text(None).contains("chaarfm_workers{kind=\"native\",backend=\"other\"} 0\n"));
    }

    #[test]
    fn what_has_not_happened_yet_is_there_as_0() {
        let metrics = Metrics::new(&StoreMetrics::default());
        let text = metrics.text(None);
        for line in [
            "chaarfm_store_errors_total{kind=\"unavailable\"} 0",
            "chaarfm_store_errors_total{kind=\"full\"} 0",
            "chaarfm_dispatch_seconds_bucket{le=\"60.0\"} 0",
            "chaarfm_store_up 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("chaarfm_jobs"), "{text}");
    }
}
