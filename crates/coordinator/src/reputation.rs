//! Decides whether a worker is to blame for the tracks it fails or hands back. After [`SUSPICIOUS_FAILURES`] failures in a row
//! it is on probation: other workers try the same tracks, and their results decide.
//!
//! When the storage is down, every worker fails, and none is to blame. A failure that the storage may have caused therefore
//! counts only if another worker started and finished a track after this worker's first such failure, and if this worker got
//! its failed track after that. An outage adds at most one failure to a worker's row. Failures that the storage cannot have
//! caused count while other workers are there to compare with. If the file itself is certainly at fault, the failure never
//! counts.
//!
//! A worker is identified on every connection by its name, the hash of its key. The outcome of other workers' attempts is
//! read from the stored jobs. Other coordinators report their activity from time to time, so their workers count as well;
//! but each coordinator judges only the workers connected to it. The caller stores verdicts, so that they hold on other
//! coordinators and after a restart. A lost connection costs the job an attempt and does not count against the worker.

use std::collections::BTreeMap;

use chaarfm_domain::{JobId, Standing};

use crate::{Job, State, Timestamp, WorkerRegistry};

/// A worker that has failed this many tracks in a row gets none until other workers have tried them.
pub const SUSPICIOUS_FAILURES: usize = 5;

/// Others must finish this many of the five tracks to condemn the worker, or fail this many to clear it. One finished track
/// proves little if the other four files are broken.
const DECISIVE_TRACKS: usize = 3;

/// Probation ends without a verdict after this many seconds.
const PROBATION_SECONDS: u64 = 600;

/// Probation ends when no other worker has been connected for this many seconds.
const JUDGE_WAIT_SECONDS: u64 = 30;

/// Maximum number of workers per session whose failures are remembered: twice the workers it admits. Beyond it, workers in
/// good standing are forgotten.
const MAX_RECORDS: usize = 20_000;

/// Tolerated clock difference between coordinators.
const MAX_CLOCK_DIFFERENCE_MILLIS: u64 = 10_000;

/// How the workers of one session have behaved.
#[derive(Debug, Clone, Default)]
pub struct Reputation {
    /// By the worker's name. A worker without a record has failed nothing since its last finished track.
    records: BTreeMap<String, Record>,
    /// Latest lease time among all tracks completed here.
    done_since: Timestamp,
    /// Whether another coordinator has workers of the session that are receiving tracks.
    has_company_elsewhere: bool,
}

#[derive(Debug, Clone, Default)]
struct Record {
    /// Time of the first failure that the storage may have caused, or of the last one that counted.
    since: Option<Timestamp>,
    /// When another worker first finished a track that was leased after `since`.
    others_did: Option<Timestamp>,
    /// The failures in a row that are held against it, each job once; at most [`SUSPICIOUS_FAILURES`].
    failures: Vec<JobId>,
    status: Status,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Status {
    #[default]
    Good,
    OnProbation {
        since: Timestamp,
        company_seen: Timestamp,
    },
    SetAside {
        /// The jobs that it failed last are queued again, or are about to be.
        is_made_good: bool,
        /// It sent a wrong vector: the tracks it completed do not count either.
        has_lied: bool,
    },
}

/// Possible causes when a worker does not complete a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The track: the worker had the very file that the scan found, and reports that no decoder can read it. Any other
    /// worker would report the same.
    Track,
    /// The track or the worker.
    TrackOrWorker,
    /// The track, the worker, the storage or the network path to it.
    Storage {
        /// When the worker was given the track, if known.
        given: Option<Timestamp>,
    },
}

/// The outcome of a probation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Other workers succeed where this worker fails: it gets no more tracks, and the tracks it failed are retried.
    SetAside,
    /// Other workers fail too, or no verdict came in time: the worker continues with a clean slate.
    Cleared,
}

impl Reputation {
    /// Notes that a worker has completed a track, and when it was given the track, if known. A worker that is set aside may
    /// still have held one: then there are more tracks to queue again.
    pub fn succeeded(&mut self, worker: &str, given: Option<Timestamp>, now: Timestamp) {
        match self.records.get_mut(worker).map(|record| &mut record.status) {
            Some(Status::SetAside { is_made_good, .. }) => *is_made_good = false,
            _ => drop(self.records.remove(worker)),
        }
        if let Some(given) = given {
            self.done_since = self.done_since.max(given);
            self.note_done(given, now);
        }
    }

    /// Latest lease time among all tracks completed here, as reported to other coordinators.
    #[must_use]
    pub fn done_since(&self) -> Timestamp {
        self.done_since
    }

    /// Notes another coordinator's report: whether its workers are given tracks, and its [`Reputation::done_since`].
    pub fn note_elsewhere(&mut self, has_company: bool, done_since: Timestamp, now: Timestamp) {
        self.has_company_elsewhere = has_company;
        self.note_done(Timestamp(done_since.0.saturating_sub(MAX_CLOCK_DIFFERENCE_MILLIS)), now);
    }

    fn note_done(&mut self, given: Timestamp, now: Timestamp) {
        for record in self.records.values_mut().filter(|record| record.since.is_some_and(|since| since <= given)) {
            record.others_did.get_or_insert(now);
        }
    }

    /// Notes that a worker has failed a track, or handed it back. Returns true when this puts the worker on probation: the
    /// caller must then request second opinions on its [`Reputation::tracks_in_doubt`] ([`Job::request_second_opinion`]). A
    /// track that several workers have failed already never counts.
    #[must_use = "what has failed for good has to be queued again, or there is never a verdict"]
    pub fn failed(&mut self, worker: &str, job: &Job, fault: Fault, registry: &WorkerRegistry, now: Timestamp) -> bool {
        if fault == Fault::Track {
            return false;
        }
        if self.records.len() >= MAX_RECORDS && !self.records.contains_key(worker) {
            self.records.retain(|_, record| record.status != Status::Good);
        }
        let has_company = self.has_company(worker, registry);
        let record = self.records.entry(worker.to_owned()).or_default();
        match &mut record.status {
            Status::Good => {}
            Status::OnProbation { .. } => return false,
            Status::SetAside { is_made_good, .. } => {
                *is_made_good = false;
                return false;
            }
        }
        let is_held_against = match fault {
            Fault::Track => false,
            Fault::TrackOrWorker => has_company,
            Fault::Storage { given } => {
                record.since.get_or_insert(now);
                record.others_did.is_some_and(|done| given.is_some_and(|given| done <= given))
            }
        };
        if !is_held_against || !job.has_room_for_opinions() || record.failures.contains(&job.id) {
            return false;
        }
        record.failures.push(job.id);
        if matches!(fault, Fault::Storage { .. }) {
            (record.since, record.others_did) = (Some(now), None);
        }
        let is_suspicious = record.failures.len() == SUSPICIOUS_FAILURES;
        if is_suspicious {
            record.status = Status::OnProbation { since: now, company_seen: now };
        }
        is_suspicious
    }

    /// Whether no worker has a failure since its last completed track: then activity elsewhere does not matter.
    #[must_use]
    pub fn is_spotless(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether any other worker is given tracks.
    fn has_company(&self, worker: &str, registry: &WorkerRegistry) -> bool {
        let is_given_tracks = |name: &str| self.standing(name) == Standing::Good;
        let mut others = registry.iter().filter(|other| other.name != worker && other.takes_jobs());
        self.has_company_elsewhere || others.any(|other| is_given_tracks(&other.name))
    }

    /// A worker's standing. Only workers in good standing get tracks.
    #[must_use]
    pub fn standing(&self, worker: &str) -> Standing {
        match self.records.get(worker).map(|record| record.status) {
            None | Some(Status::Good) => Standing::Good,
            Some(Status::OnProbation { .. }) => Standing::OnProbation,
            Some(Status::SetAside { .. }) => Standing::SetAside,
        }
    }

    /// Sets a worker aside: it gets nothing more. If it has lied, all its work must be done again. Returns false if this
    /// had been decided already.
    pub fn set_aside(&mut self, worker: &str, has_lied: bool) -> bool {
        if self.was_set_aside(worker).is_some_and(|had_lied| had_lied || !has_lied) {
            return false;
        }
        let status = Status::SetAside { is_made_good: false, has_lied };
        self.records.insert(worker.to_owned(), Record { status, ..Record::default() });
        true
    }

    /// Whether a worker that is set aside has lied; none for workers that are not set aside.
    #[must_use]
    pub fn was_set_aside(&self, worker: &str) -> Option<bool> {
        match self.records.get(worker)?.status {
            Status::SetAside { has_lied, .. } => Some(has_lied),
            Status::Good | Status::OnProbation { .. } => None,
        }
    }

    /// All workers that are set aside, and whether each has lied.
    #[must_use]
    pub fn all_set_aside(&self) -> BTreeMap<String, bool> {
        let names = self.records.keys();
        names.filter_map(|name| Some((name.clone(), self.was_set_aside(name)?))).collect()
    }

    /// The workers on probation, each with the tracks that decide its case: at most [`SUSPICIOUS_FAILURES`].
    #[must_use]
    pub fn on_probation(&self) -> Vec<(String, Vec<JobId>)> {
        let on_probation = self.records.iter().filter(|(name, _)| self.standing(name) == Standing::OnProbation);
        on_probation.map(|(name, record)| (name.clone(), record.failures.clone())).collect()
    }

    /// The consecutive failures held against a worker.
    #[must_use]
    pub fn tracks_in_doubt(&self, worker: &str) -> Vec<JobId> {
        self.records.get(worker).map(|record| record.failures.clone()).unwrap_or_default()
    }

    /// Decides about a worker on probation by the outcome of its tracks; none while undecided.
    pub fn judge(
        &mut self,
        worker: &str,
        tracks: &[Job],
        registry: &WorkerRegistry,
        now: Timestamp,
    ) -> Option<Verdict> {
        let has_company = self.has_company(worker, registry);
        let record = self.records.get_mut(worker)?;
        let Status::OnProbation { since, company_seen } = &mut record.status else { return None };
        if has_company {
            *company_seen = now;
        }
        let count = |wanted| {
            let others =
                tracks.iter().filter_map(|job| Some((job.holder.as_deref()?, opinion_of_others(job, worker)?)));
            others.filter(|(by, opinion)| *opinion == wanted && is_believed(by, *opinion, registry)).count()
        };
        if count(Opinion::Fine) >= DECISIVE_TRACKS {
            let status = Status::SetAside { is_made_good: false, has_lied: false };
            *record = Record { status, ..Record::default() };
            return Some(Verdict::SetAside);
        }
        let is_unheard =
            since.plus_seconds(PROBATION_SECONDS) <= now || company_seen.plus_seconds(JUDGE_WAIT_SECONDS) <= now;
        if count(Opinion::Bad) < DECISIVE_TRACKS && !is_unheard {
            return None;
        }
        self.records.remove(worker);
        Some(Verdict::Cleared)
    }

    /// The workers that were set aside, or have failed something since, and whose failures must be queued again now: see
    /// [`Job::discount_failure`]. Each is returned once; a caller that fails must call [`Reputation::put_off`]. The flag
    /// says whether the worker has lied, so that the tracks it completed must be done again too ([`Job::retract`]).
    #[must_use = "what they have failed stays failed otherwise"]
    pub fn to_make_good(&mut self) -> Vec<(String, bool)> {
        let mut names = Vec::new();
        for (name, record) in &mut self.records {
            if let Status::SetAside { is_made_good: is_made_good @ false, has_lied } = &mut record.status {
                *is_made_good = true;
                names.push((name.clone(), *has_lied));
            }
        }
        names
    }

    /// Marks this worker's failures as still to be queued again.
    pub fn put_off(&mut self, worker: &str) {
        if let Some(Record { status: Status::SetAside { is_made_good, .. }, .. }) = self.records.get_mut(worker) {
            *is_made_good = false;
        }
    }
}

/// Whether a worker's opinion counts. "Bad" counts only from a worker that has finished another track here: otherwise two
/// workers that fail everything would clear each other.
fn is_believed(worker: &str, opinion: Opinion, registry: &WorkerRegistry) -> bool {
    opinion == Opinion::Fine || registry.iter().any(|connected| connected.name == worker && connected.done > 0)
}

/// Another worker's opinion of a track.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opinion {
    Fine,
    Bad,
}

fn opinion_of_others(job: &Job, suspect: &str) -> Option<Opinion> {
    let by_another = job.holder.as_deref().is_some_and(|holder| holder != suspect);
    match job.state {
        State::Done if by_another => Some(Opinion::Fine),
        State::Failed if by_another => Some(Opinion::Bad),
        State::Queued { .. } if by_another && job.answered => Some(Opinion::Bad),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use chaarfm_domain::{Device, Failure, FailureKind, WorkerKind};
    use chaarfm_protocol::Capacity;

    use super::*;
    use crate::{MAX_OPINIONS, Worker};

    const T0: Timestamp = Timestamp(1_000_000);

    /// A registry of workers with these names.
    fn registry(names: &[&str]) -> WorkerRegistry {
        let mut registry = WorkerRegistry::default();
        for (id, name) in (1..).zip(names) {
            let device = Device { backend: "flex".into(), name: "CPU".into() };
            let capacity = Capacity { jobs: 2, max_audio_bytes: 1 };
            let (kind, agent) = (WorkerKind::Native, "test".to_owned());
            registry.join(Worker::new(id, (*name).to_owned(), kind, device, agent, capacity, T0));
        }
        registry
    }

    /// A worker fails these tracks for reasons other than the storage; true when that puts it on probation.
    fn fails(
        reputation: &mut Reputation,
        worker: &str,
        tracks: RangeInclusive<JobId>,
        registry: &WorkerRegistry,
    ) -> bool {
        let mut fail = |id| reputation.failed(worker, &Job::new(id), Fault::TrackOrWorker, registry, T0);
        tracks.filter(|id| fail(*id)).count() > 0
    }

    /// A worker fails a track that it was given at second `given`, for reasons that may include the storage.
    fn misses(reputation: &mut Reputation, worker: &str, id: JobId, given: u64, registry: &WorkerRegistry) -> bool {
        let fault = Fault::Storage { given: Some(at(given)) };
        reputation.failed(worker, &Job::new(id), fault, registry, at(given + 1))
    }

    fn at(seconds: u64) -> Timestamp {
        T0.plus_seconds(seconds)
    }

    /// "w" has failed tracks 1 to 5, and "v" is connected as judge.
    fn suspected() -> (Reputation, WorkerRegistry) {
        let (mut reputation, registry) = (Reputation::default(), registry(&["v", "w"]));
        assert!(!fails(&mut reputation, "w", 1..=4, &registry));
        assert!(!fails(&mut reputation, "w", 4..=4, &registry), "twice the same track is one");
        assert!(fails(&mut reputation, "w", 5..=5, &registry));
        assert!(!fails(&mut reputation, "w", 6..=6, &registry), "once is enough");
        assert_eq!(reputation.tracks_in_doubt("w"), [1, 2, 3, 4, 5]);
        (reputation, registry)
    }

    /// The tracks that "w" has failed, with the outcomes of "v".
    fn tracks(ends: [Option<Result<(), FailureKind>>; 5]) -> Vec<Job> {
        let failure = |kind| Failure { kind, message: String::new() };
        let track = |(id, end): (JobId, Option<_>)| {
            let mut job = Job::new(id);
            job.lease("a".into(), "w", T0).unwrap();
            job.fail("a", &failure(FailureKind::Permanent), T0).unwrap();
            job.request_second_opinion("w", T0).unwrap();
            let Some(end) = end else { return job };
            job.lease("b".into(), "v", T0).unwrap();
            match end {
                Ok(()) => job.complete("b").unwrap(),
                Err(kind) => job.fail("b", &failure(kind), T0).unwrap(),
            };
            job
        };
        (1..).zip(ends).map(track).collect()
    }

    #[test]
    fn a_worker_is_set_aside_once_and_again_only_for_lying() {
        let mut reputation = Reputation::default();
        assert!(reputation.set_aside("w", false) && !reputation.set_aside("w", false));
        assert_eq!(reputation.to_make_good(), [("w".to_owned(), false)]);
        assert!(reputation.set_aside("w", true), "its results have to be done again as well");
        assert_eq!(reputation.to_make_good(), [("w".to_owned(), true)]);
        assert!(!reputation.set_aside("w", true) && !reputation.set_aside("w", false));
        assert!(reputation.to_make_good().is_empty(), "what has been made good stays so");
        assert_eq!(reputation.all_set_aside(), BTreeMap::from([("w".to_owned(), true)]));
        assert_eq!((reputation.was_set_aside("w"), reputation.was_set_aside("v")), (Some(true), None));
    }

    #[test]
    fn who_fails_what_others_do_is_set_aside() {
        let (mut reputation, registry) = suspected();
        assert_eq!(reputation.standing("w"), Standing::OnProbation);
        assert_eq!(reputation.on_probation(), [("w".to_owned(), vec![1, 2, 3, 4, 5])]);
        let two = tracks([Some(Ok(())), None, Some(Ok(())), None, Some(Err(FailureKind::Permanent))]);
        assert_eq!(reputation.judge("w", &two, &registry, T0), None);
        let three = tracks([Some(Ok(())), Some(Ok(())), Some(Ok(())), None, None]);
        assert_eq!(reputation.judge("w", &three, &registry, T0), Some(Verdict::SetAside));
        reputation.succeeded("w", None, T0);
        assert!(!fails(&mut reputation, "w", 6..=20, &registry));
        assert_eq!(reputation.standing("w"), Standing::SetAside, "whatever comes late");
        assert_eq!(reputation.standing("v"), Standing::Good);
        assert_eq!((reputation.on_probation(), reputation.judge("w", &three, &registry, T0)), (vec![], None));
    }

    #[test]
    fn what_was_failed_by_who_is_set_aside_is_made_good_until_that_is_done() {
        let (mut reputation, registry) = suspected();
        assert_eq!(reputation.to_make_good(), []);
        let fine = tracks([Some(Ok(())), Some(Ok(())), Some(Ok(())), None, None]);
        assert_eq!(reputation.judge("w", &fine, &registry, T0), Some(Verdict::SetAside));
        assert_eq!(reputation.to_make_good(), [("w".to_owned(), false)]);
        assert_eq!(reputation.to_make_good(), [], "somebody is at it");
        reputation.put_off("w");
        assert_eq!(reputation.to_make_good(), [("w".to_owned(), false)], "the database was away");
        assert!(!fails(&mut reputation, "w", 6..=6, &registry));
        assert_eq!(reputation.to_make_good(), [("w".to_owned(), false)], "it had one more in its hands");
        reputation.put_off("v");
        assert_eq!(reputation.to_make_good(), []);
        assert!(reputation.set_aside("u", true));
        for delivered in ["before", "what it still had in its hands"] {
            assert_eq!(reputation.to_make_good(), [("u".to_owned(), true)], "it has lied: {delivered}");
            assert_eq!(reputation.to_make_good(), [], "somebody is at it");
            reputation.succeeded("u", None, T0);
        }
    }

    #[test]
    fn judges_may_be_elsewhere() {
        let (mut reputation, alone) = (Reputation::default(), registry(&["w"]));
        assert!(reputation.is_spotless() && !fails(&mut reputation, "w", 1..=100, &alone), "nobody is anywhere");
        assert!(!reputation.is_spotless());
        reputation.note_elsewhere(true, Timestamp::ZERO, T0);
        assert!(fails(&mut reputation, "w", 101..=105, &alone));
        assert_eq!(reputation.judge("w", &[], &alone, at(JUDGE_WAIT_SECONDS)), None, "somebody is there to tell");
        reputation.note_elsewhere(false, Timestamp::ZERO, T0);
        assert_eq!(reputation.judge("w", &[], &alone, at(2 * JUDGE_WAIT_SECONDS)), Some(Verdict::Cleared));

        assert!(!misses(&mut reputation, "w", 1, 10, &alone), "that was at 11 s");
        reputation.note_elsewhere(true, at(10), at(20));
        assert!(!(2..100).any(|id| misses(&mut reputation, "w", id, 30, &alone)), "what was done was given out before");
        reputation.note_elsewhere(true, at(20), at(30));
        assert!(!(100..200).any(|id| misses(&mut reputation, "w", id, 30, &alone)), "or that clock is ahead");
        reputation.note_elsewhere(true, at(21), at(40));
        assert!(!misses(&mut reputation, "w", 200, 39, &alone), "it was given this one before");
        let mut seconds = (40..).step_by(20);
        let mut miss_one_more = |id| {
            let second = seconds.next().unwrap();
            let is_suspicious = misses(&mut reputation, "w", id, second, &alone);
            reputation.note_elsewhere(true, at(second + 11), at(second + 15));
            is_suspicious
        };
        assert_eq!([201, 202, 203, 204, 205].map(&mut miss_one_more), [false, false, false, false, true]);
    }

    #[test]
    fn who_fails_what_others_fail_as_well_is_innocent() {
        let (mut reputation, mut registry) = suspected();
        let bad = [Some(Err(FailureKind::Permanent)), Some(Err(FailureKind::Passing)), Some(Ok(())), None, None];
        assert_eq!(reputation.judge("w", &tracks(bad), &registry, T0), None);
        let bad = [bad[0], bad[1], bad[2], bad[0], None];
        assert_eq!(reputation.judge("w", &tracks(bad), &registry, T0), None, "\"v\" has done nothing yet");
        registry.count_done(1);
        assert_eq!(reputation.judge("w", &tracks(bad), &registry, T0), Some(Verdict::Cleared));
        assert!(!fails(&mut reputation, "w", 6..=9, &registry));
        assert_eq!(reputation.standing("w"), Standing::Good, "it begins anew");
    }

    #[test]
    fn a_track_that_many_have_failed_is_held_against_nobody() {
        let (mut reputation, registry) = (Reputation::default(), registry(&["v", "w"]));
        for id in 1..100 {
            let job = Job { reopened: MAX_OPINIONS - 1, ..Job::new(id) };
            assert!(!reputation.failed("w", &job, Fault::TrackOrWorker, &registry, T0));
        }
    }

    #[test]
    fn tracks_that_are_broken_for_certain_are_held_against_nobody() {
        let (mut reputation, registry) = (Reputation::default(), registry(&["v", "w"]));
        assert!(!(1..100).any(|id| reputation.failed("w", &Job::new(id), Fault::Track, &registry, T0)));
        assert!(reputation.is_spotless());
    }

    #[test]
    fn a_success_ends_the_row() {
        let (mut reputation, registry) = (Reputation::default(), registry(&["v", "w"]));
        for id in 1..100 {
            assert!(!fails(&mut reputation, "w", id..=id, &registry));
            if id % 4 == 0 {
                reputation.succeeded("w", None, T0);
            }
        }
        let (mut reputation, _) = suspected();
        reputation.succeeded("w", None, T0);
        assert_eq!(reputation.standing("w"), Standing::Good, "also when it comes out of its hands only now");
    }

    #[test]
    fn whom_nobody_can_judge_goes_on() {
        let (alone, together) = (registry(&["w"]), registry(&["v", "w"]));
        let mut reputation = Reputation::default();
        assert!(!fails(&mut reputation, "w", 1..=100, &alone));
        assert!(!fails(&mut reputation, "w", 101..=104, &together));
        assert!(fails(&mut reputation, "w", 105..=105, &together), "since somebody has come");
        assert_eq!(reputation.on_probation(), [("w".to_owned(), vec![101, 102, 103, 104, 105])]);

        assert_eq!(reputation.judge("w", &[], &together, at(20)), None);
        assert_eq!(reputation.judge("w", &[], &alone, at(20 + JUDGE_WAIT_SECONDS - 1)), None);
        assert_eq!(reputation.judge("w", &[], &alone, at(20 + JUDGE_WAIT_SECONDS)), Some(Verdict::Cleared));

        let (mut reputation, registry) = suspected();
        assert_eq!(reputation.judge("w", &[], &registry, at(PROBATION_SECONDS - 1)), None);
        assert_eq!(reputation.judge("w", &[], &registry, at(PROBATION_SECONDS)), Some(Verdict::Cleared));
    }

    #[test]
    fn while_the_storage_is_away_nobody_is_to_blame() {
        const WORKERS: [&str; 4] = ["s", "t", "v", "w"];
        let (mut reputation, registry) = (Reputation::default(), registry(&WORKERS));
        for second in 10..30 {
            for (place, worker) in (0..).zip(WORKERS) {
                assert!(
                    !misses(&mut reputation, worker, 10 * second as JobId + place, second, &registry),
                    "{worker} {second}"
                );
            }
            // A long track whose file was fetched before the outage: completing it proves nothing.
            reputation.succeeded("u", Some(at(9)), at(second));
        }
        // The outage ends. A worker without a completed track is not to blame yet, nor for tracks it was given before.
        reputation.succeeded("t", Some(at(31)), at(60));
        assert_eq!((reputation.on_probation(), reputation.done_since()), (vec![], at(31)));
        assert!(!(1..=100).any(|id| misses(&mut reputation, "s", id, 59, &registry)));
        assert!(!(101..200).any(|id| misses(&mut reputation, "s", id, 60, &registry)), "that proves it once");
        assert_eq!(reputation.tracks_in_doubt("s"), [101]);
        reputation.succeeded("t", Some(at(60)), at(62));
        assert!(!misses(&mut reputation, "s", 199, 65, &registry));
        assert_eq!(reputation.tracks_in_doubt("s"), [101], "that was given out before");
        let mut miss_what_others_do = |worker, id, second| {
            reputation.succeeded("t", Some(at(second)), at(second + 5));
            misses(&mut reputation, worker, id, second + 5, &registry)
        };
        let rest = [(200, 70), (201, 80), (201, 90), (202, 100)];
        assert_eq!(rest.map(|(id, second)| miss_what_others_do("s", id, second)), [false; 4], "twice the same is one");
        assert!(!miss_what_others_do("w", 300, 110), "each has its own row");
        assert!(miss_what_others_do("s", 203, 120));
        let fine = tracks([Some(Ok(())), Some(Ok(())), Some(Ok(())), None, None]);
        assert_eq!(reputation.judge("s", &fine, &registry, at(130)), Some(Verdict::SetAside));
    }

    #[test]
    fn two_suspects_do_not_judge_each_other() {
        let (mut reputation, registry) = (Reputation::default(), registry(&["v", "w"]));
        assert!(fails(&mut reputation, "v", 1..=5, &registry));
        assert!(!fails(&mut reputation, "w", 11..=100, &registry), "somebody has to go on");
        assert_eq!(reputation.judge("v", &[], &registry, at(PROBATION_SECONDS - 1)), None);
    }
}
