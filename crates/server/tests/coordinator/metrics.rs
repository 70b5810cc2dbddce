//! Metrics for operators.

use std::collections::{BTreeMap, BTreeSet};

use chaarfm_protocol::{
    Device, Failure, FailureKind, JobRef, Outcome, PairingCode, ToServer, ToWorker, worker_socket_path,
};

use crate::harness::{Coordinator, Folders, Worker, hello, vector_for, within};

/// Every sample by its name and labels.
pub(crate) type Samples = BTreeMap<String, f64>;

pub(crate) async fn scrape(coordinator: &Coordinator) -> Samples {
    parse(&text(coordinator).await)
}

async fn text(coordinator: &Coordinator) -> String {
    let response = coordinator.get("/metrics").await;
    assert_eq!(response.status(), 200);
    let kind = response.headers()["content-type"].to_str().unwrap();
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.text().await.unwrap()
}

/// Scrapes until the samples are as expected: nothing else shows when a broken connection has been handled.
async fn scrape_until(coordinator: &Coordinator, is_it: impl Fn(&Samples) -> bool) -> Samples {
    let scraping = async {
        loop {
            let samples = scrape(coordinator).await;
            if is_it(&samples) {
                return samples;
            }
        }
    };
    within("certain metrics", scraping).await
}

/// A strict parser for the counters, gauges, histograms and infos of the OpenMetrics text format:
/// <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>.
fn parse(text: &str) -> Samples {
    let mut samples = Samples::new();
    let mut families = BTreeSet::new();
    let (mut family, mut kind) = ("", "");
    let body = text.strip_suffix("# EOF\n").expect("it ends so");
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let [keyword, name, rest]: [&str; 3] = comment.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
            match keyword {
                "HELP" => {
                    assert!(families.insert(name), "{line}: a second time");
                    assert!(name.starts_with("chaarfm_") && is_name(name), "{line}");
                    assert!(!rest.is_empty() && !rest.contains(['\\', '"']), "{line}");
                    (family, kind) = (name, "");
                }
                "TYPE" => kind = rest,
                "UNIT" => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                _ => panic!("{line}"),
            }
            assert_eq!(name, family, "{line}");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line}: not of {family}"));
        let suffixes: &[_] = match kind {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_sum", "_count"],
            "info" => &["_info"],
            other => panic!("{family} is of type {other:?}"),
        };
        assert!(suffixes.contains(&suffix), "{line}: not of a {kind}");
        expect_labels(labels.strip_suffix('}').unwrap(), line);
        let value: f64 = value.parse().unwrap();
        assert!(value.is_finite() && (value >= 0.0 || kind == "gauge"), "{line}");
        assert!(samples.insert(series.to_owned(), value).is_none(), "{line}: a second time");
    }
    expect_histograms(&samples);
    samples
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// None of our label values needs escaping.
fn expect_labels(labels: &str, line: &str) {
    for label in labels.split(',').filter(|label| !label.is_empty()) {
        let (name, value) = label.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
        let value = value.strip_suffix('"').unwrap_or_else(|| panic!("{line}"));
        assert!(is_name(name) && !value.contains(['"', '\\']), "{line}");
    }
}

/// Buckets are cumulative, and the last one contains everything.
fn expect_histograms(samples: &Samples) {
    for (series, count) in samples.iter().filter(|(series, _)| series.split('{').next().unwrap().ends_with("_count")) {
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let name = name.strip_suffix("_count").unwrap();
        let mut buckets: Vec<_> = samples
            .iter()
            .filter_map(|(series, value)| {
                let bucket = series.strip_prefix(name)?.strip_prefix("_bucket{le=\"")?;
                let (bound, others) = bucket.split_once('"')?;
                let others = others.strip_prefix(',').unwrap_or(others);
                (others == labels).then(|| (bound.replace("+Inf", "inf").parse::<f64>().unwrap(), *value))
            })
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.len() > 10 && buckets.is_sorted_by(|a, b| a.1 <= b.1), "{series}: {buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{series}");
    }
}

/// The metrics that changed between two scrapes, except database queries and times.
fn changes(before: &Samples, after: &Samples) -> Vec<(String, f64)> {
    let times = ["chaarfm_store_seconds", "chaarfm_dispatch_seconds"];
    let changed = after.iter().filter(|(series, _)| !times.iter().any(|time| series.starts_with(time)));
    let difference = |(series, value): (&String, &f64)| (series.clone(), value - before.get(series).unwrap_or(&0.0));
    changed.map(difference).filter(|(_, difference)| *difference != 0.0).collect()
}

/// The expected result of [`changes`].
fn exactly(changes: &[(&str, f64)]) -> Vec<(String, f64)> {
    changes.iter().map(|(series, difference)| (format!("chaarfm_{series}"), *difference)).collect()
}

async fn join_from(coordinator: &Coordinator, code: PairingCode, backend: &str, jobs: u8) -> Worker {
    let mut introduction = hello(jobs);
    if let ToServer::Hello { device, .. } = &mut introduction {
        *device = Device { backend: backend.into(), name: "Secret Processor".into() };
    }
    let mut worker = coordinator.connect(&worker_socket_path(&code)).await;
    worker.say(&introduction).await;
    assert!(matches!(worker.hear().await, ToWorker::Welcome { .. }));
    worker
}

#[tokio::test]
async fn counters_move_by_what_has_happened() {
    let folders = Folders::with(&["1.wav", "2.wav", "3.wav", "4.wav", "5.wav", "6.wav"]);
    let coordinator = Coordinator::start(&folders).await;
    let fresh = scrape(&coordinator).await;
    assert_eq!(fresh["chaarfm_jobs{state=\"queued\"}"], 0.0);
    let code = coordinator.scanned().await;
    let idle = scrape(&coordinator).await;
    assert_eq!(changes(&fresh, &idle), exactly(&[("jobs{state=\"queued\"}", 6.0), ("sessions", 1.0)]));

    let mut worker = join_from(&coordinator, code, "wgpu", 1).await;
    let job = worker.job().await;
    worker.finish(&job).await;
    let next = worker.job().await;
    worker.finish(&job).await;
    let permanent = Failure { kind: FailureKind::Permanent, message: "no audio in it".into() };
    worker.answer(&next.job, Outcome::Failed(permanent)).await;
    let job = worker.job().await;
    let passing = Failure { kind: FailureKind::Passing, message: "no network".into() };
    worker.answer(&job.job, Outcome::Failed(passing)).await;
    let job = worker.job().await;
    let mut short = vector_for(&job);
    short.embedding.pop();
    worker.answer(&job.job, Outcome::Done(short)).await;
    let job = worker.job().await;
    let forged = JobRef { job: job.job.job, lease: "forged".into() };
    worker.answer(&forged, Outcome::Done(vector_for(&job))).await;
    worker.say(&ToServer::Release { job: job.job.clone() }).await;
    let job = worker.job().await;
    let busy = scrape(&coordinator).await;
    assert_eq!(busy["chaarfm_dispatch_seconds_count"], 6.0);
    assert_eq!(
        changes(&idle, &busy),
        exactly(&[
            ("connections_total", 1.0),
            ("jobs{state=\"done\"}", 1.0),
            ("jobs{state=\"failed\"}", 1.0),
            ("jobs{state=\"leased\"}", 1.0),
            ("jobs{state=\"queued\"}", -3.0),
            ("leases_ended_total{reason=\"released\"}", 1.0),
            ("results_total{outcome=\"failed_passing\"}", 1.0),
            ("results_total{outcome=\"failed_permanent\"}", 1.0),
            ("results_total{outcome=\"invalid\"}", 1.0),
            ("results_total{outcome=\"refused\"}", 1.0),
            ("results_total{outcome=\"repeated\"}", 1.0),
            ("results_total{outcome=\"stored\"}", 1.0),
            ("workers{kind=\"native\",backend=\"wgpu\"}", 1.0),
        ])
    );
    let answers = "chaarfm_store_seconds_count{operation=\"answer\"}";
    assert_eq!(busy[answers] - idle.get(answers).unwrap_or(&0.0), 6.0);

    // Texts from workers do not appear in the metrics. This worker accepts no jobs, so it cannot get the returned one.
    let mut odd = join_from(&coordinator, code, "odd\"}\n\\ one", 0).await;
    odd.say(&ToServer::Ping).await;
    assert_eq!(odd.hear_word().await, ToWorker::Pong);
    let told = text(&coordinator).await;
    let code_without_dashes = code.to_string().replace('-', "");
    for secret in [code.to_string().as_str(), &code_without_dashes, "Processor", "odd", "wav", "lib", &job.job.lease] {
        assert!(!told.contains(secret), "{secret} is in {told}");
    }
    assert_eq!(parse(&told)["chaarfm_workers{kind=\"native\",backend=\"other\"}"], 1.0);

    odd.say(&ToServer::Bye).await;
    scrape_until(&coordinator, |samples| samples["chaarfm_workers{kind=\"native\",backend=\"other\"}"] == 0.0).await;
    worker.vanish();
    // The jobs are read before the other metrics, so a concurrent change may show in only some samples.
    let gone = |samples: &Samples| {
        samples["chaarfm_workers{kind=\"native\",backend=\"wgpu\"}"] == 0.0
            && samples["chaarfm_jobs{state=\"leased\"}"] == 0.0
    };
    let quiet = scrape_until(&coordinator, gone).await;
    assert_eq!(
        changes(&busy, &quiet),
        exactly(&[
            ("connections_total", 1.0),
            ("jobs{state=\"leased\"}", -1.0),
            ("jobs{state=\"queued\"}", 1.0),
            ("leases_ended_total{reason=\"lost\"}", 1.0),
            ("workers{kind=\"native\",backend=\"wgpu\"}", -1.0),
        ])
    );
    coordinator.stop().await;
}

#[tokio::test]
async fn who_is_not_let_in_is_counted_by_the_reason() {
    let folders = Folders::with(&[]);
    let coordinator = Coordinator::start(&folders).await;
    let code = coordinator.current().await.code;
    let before = scrape(&coordinator).await;
    let nobodys = PairingCode::from_random(12345);
    for (code, first_word) in [(nobodys, hello(1)), (code, ToServer::Ping)] {
        let mut stranger = coordinator.connect(&worker_socket_path(&code)).await;
        stranger.say(&first_word).await;
        assert!(matches!(stranger.hear().await, ToWorker::Refused { .. }));
    }
    assert_eq!(
        changes(&before, &scrape(&coordinator).await),
        exactly(&[
            ("connections_refused_total{reason=\"bad_hello\"}", 1.0),
            ("connections_refused_total{reason=\"unknown_code\"}", 1.0),
            ("connections_total", 2.0),
        ])
    );
    coordinator.stop().await;
}
