//! What operators watch: counts and times, told in the OpenMetrics text format, which Prometheus reads.
//!
//! Everything belongs to one [`Metrics`], nothing is global: several coordinators may run in one process. Labels have few
//! values, all known here: none that a peer, a file or a user may choose, and none that tells whose music it is.

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

/// What [`Metrics::text`] is, for the header that says so.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What all names begin with.
const PREFIX: &str = "chaarfm";

/// Upper bounds of the times from a worker's having room to its having the job.
const DISPATCH_BUCKETS_SECONDS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// What workers are known to compute on.
const BACKENDS: [&str; 3] = ["wgpu", "ndarray", "flex"];

/// Whatever else a worker says it computes on.
const OTHER_BACKEND: &str = "other";

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// What became of a worker's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResultOutcome {
    /// Its vector is stored.
    Stored,
    /// The collection had the track by then; the vector was dropped.
    Duplicate,
    /// It had been taken before.
    Repeated,
    /// A failure after which the job is tried again, unless it was the last time.
    FailedPassing,
    /// A failure that is final.
    FailedPermanent,
    /// Its vector is none of the model's.
    Invalid,
    /// The job is not held under that lease, or is no more.
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
    /// The connection of its worker broke.
    Lost,
    /// The job did not move on.
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

/// What came of computing a result again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verification {
    /// The same.
    Confirmed,
    /// Something else.
    Refuted,
    /// The audio was not to be had, or there was too much to compute.
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

/// What one coordinator counts. What has not happened yet is there from the start, as 0.
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

    /// Everything in the text format, with the sessions that are open, unless the database did not say.
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

    /// A worker that had room for a job that waited has been given it after this time.
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

    /// Counts a connected worker until what is returned is dropped.
    #[must_use]
    pub(crate) fn connected(&self, kind: WorkerKind, backend: &str) -> Connected {
        let gauge = self.workers.get_or_create_owned(&worker_labels(kind, backend));
        gauge.inc();
        Connected(gauge)
    }
}

/// A worker that counts as connected.
pub(crate) struct Connected(Gauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What is not counted but read from the database, for all coordinators that share it.
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

/// A counter for each value of a label.
fn counters<const N: usize>(label: &'static str, values: [&'static str; N]) -> Family<Labels<1>, Counter> {
    let family = Family::default();
    for value in values {
        drop(family.get_or_create(&[(label, value)]));
    }
    family
}

/// A gauge for each kind of worker on each backend.
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
