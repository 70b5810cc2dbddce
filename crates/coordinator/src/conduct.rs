//! Whether a worker is to blame for the tracks it fails or hands back: what it failed in a row is given to others, and what
//! becomes of it there is the verdict.
//!
//! While the storage is away everybody fails, some later than others, and nobody is to blame. So a failure that may pass is
//! held against a worker only if somebody else has done a track from its beginning to its end since the first such failure of
//! the row, or since the last that was held against it, and it was given the failed track after that. An outage adds one at
//! most to anybody's row, for storage that comes and goes; a bad worker is found by five tracks that others do meanwhile.
//! Other failures say something about the worker or the track, and count while others are there to tell which. Where it is
//! certain that it is the track, nobody is to blame, however many there are.
//!
//! A worker is known by its name, the hash of its key, whichever connection it comes over. What others did is read from the
//! stored jobs, and what goes on at other coordinators is told now and then, so that their workers count as judges; but each
//! coordinator judges only the workers connected to it, and forgets its verdicts when it restarts. A worker that is lost while
//! it works is no worse for it here: that costs the job an attempt, and says nothing about how the worker analyses.

use std::collections::BTreeMap;

use chaarfm_domain::{JobId, Standing};

use crate::{Job, Roster, State, Timestamp};

/// A worker that has failed this many tracks in a row gets nothing more until others have tried them.
pub const SUSPICIOUS_FAILURES: usize = 5;

/// It is found wanting when others have done this many of them, and cleared when others have failed this many: most of the
/// five. One track done elsewhere proves little when the other four are broken files.
const DECISIVE_TRACKS: usize = 3;

/// It gets tracks again when there is no verdict after this long.
const PROBATION_SECONDS: u64 = 600;

/// It gets tracks again when nobody has been there to judge it for this long.
const JUDGE_WAIT_SECONDS: u64 = 30;

/// Workers remembered for failures, of one session: twice as many as it takes in. When there are more, those that are under
/// no suspicion are forgotten.
const MAX_RECORDS: usize = 20_000;

/// The clocks of coordinators may differ by this much.
const MAX_CLOCK_DIFFERENCE_MILLIS: u64 = 10_000;

/// How the workers of one session have behaved.
#[derive(Debug, Clone, Default)]
pub struct Conduct {
    /// By the worker's name. Who has none has failed nothing since it last did a track.
    records: BTreeMap<String, Record>,
    /// Of all tracks done here, when the one was given out that was given out last.
    done_since: Timestamp,
    /// Whether another coordinator has workers of the session that are given tracks.
    has_company_elsewhere: bool,
}

#[derive(Debug, Clone, Default)]
struct Record {
    /// When it failed something that the storage may be to blame for: for the first time, or the last time that this was held
    /// against it.
    since: Option<Timestamp>,
    /// When somebody else had first done a track that was given out after that.
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
        /// All that it was the last to fail is queued again, or about to be.
        is_made_good: bool,
    },
}

/// What may be at fault when a worker does not do a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The track: the worker has had the very file that a scan found, and says that no decoder makes anything of it. Another
    /// worker would say the same.
    Track,
    /// The track or the worker.
    TrackOrWorker,
    /// The storage as well, or the way to it.
    Storage {
        /// When the worker was given the track, if that is known.
        given: Option<Timestamp>,
    },
}

/// How a probation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Others do what this worker fails: it gets nothing more, and what it has failed is to be tried anew.
    SetAside,
    /// Others fail it as well, or nobody has told for long: the worker goes on, with a clean slate.
    Cleared,
}

impl Conduct {
    /// Notes that a worker has done a track, and when it was given that, if that is known.
    pub fn succeeded(&mut self, worker: &str, given: Option<Timestamp>, now: Timestamp) {
        if self.standing(worker) != Standing::SetAside {
            self.records.remove(worker);
        }
        if let Some(given) = given {
            self.done_since = self.done_since.max(given);
            self.note_done(given, now);
        }
    }

    /// Of all tracks done here, when the one was given out that was given out last; what other coordinators are to know.
    #[must_use]
    pub fn done_since(&self) -> Timestamp {
        self.done_since
    }

    /// Notes what another coordinator tells: whether it has workers that are given tracks, and its [`Conduct::done_since`].
    pub fn note_elsewhere(&mut self, has_company: bool, done_since: Timestamp, now: Timestamp) {
        self.has_company_elsewhere = has_company;
        self.note_done(Timestamp(done_since.0.saturating_sub(MAX_CLOCK_DIFFERENCE_MILLIS)), now);
    }

    fn note_done(&mut self, given: Timestamp, now: Timestamp) {
        for record in self.records.values_mut().filter(|record| record.since.is_some_and(|since| since <= given)) {
            record.others_did.get_or_insert(now);
        }
    }

    /// Notes that a worker has failed a track, or handed it back. A track that has failed in many hands says nothing about
    /// this worker. True when it was one too many in a row: it is on probation from now on, and others are to try its
    /// [`Conduct::tracks_in_doubt`]: see [`Job::ask_others`].
    #[must_use = "what has failed for good has to be queued again, or there is never a verdict"]
    pub fn failed(&mut self, worker: &str, job: &Job, fault: Fault, roster: &Roster, now: Timestamp) -> bool {
        if fault == Fault::Track {
            return false;
        }
        if self.records.len() >= MAX_RECORDS && !self.records.contains_key(worker) {
            self.records.retain(|_, record| record.status != Status::Good);
        }
        let has_company = self.has_company(worker, roster);
        let record = self.records.entry(worker.to_owned()).or_default();
        match &mut record.status {
            Status::Good => {}
            Status::OnProbation { .. } => return false,
            Status::SetAside { is_made_good } => {
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

    /// Whether nobody has failed anything since it last did a track: then it does not matter who is elsewhere.
    #[must_use]
    pub fn is_spotless(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether another worker is given tracks.
    fn has_company(&self, worker: &str, roster: &Roster) -> bool {
        let is_given_tracks = |name: &str| self.standing(name) == Standing::Good;
        let mut others = roster.iter().filter(|other| other.name != worker && other.takes_jobs());
        self.has_company_elsewhere || others.any(|other| is_given_tracks(&other.name))
    }

    /// Where a worker stands. Only one in good standing gets tracks.
    #[must_use]
    pub fn standing(&self, worker: &str) -> Standing {
        match self.records.get(worker).map(|record| record.status) {
            None | Some(Status::Good) => Standing::Good,
            Some(Status::OnProbation { .. }) => Standing::OnProbation,
            Some(Status::SetAside { .. }) => Standing::SetAside,
        }
    }

    /// A worker that was found to lie gets nothing more.
    pub fn set_aside(&mut self, worker: &str) {
        let status = Status::SetAside { is_made_good: false };
        self.records.insert(worker.to_owned(), Record { status, ..Record::default() });
    }

    /// The workers on probation, and the tracks that decide it: at most [`SUSPICIOUS_FAILURES`].
    #[must_use]
    pub fn on_probation(&self) -> Vec<(String, Vec<JobId>)> {
        let on_probation = self.records.iter().filter(|(name, _)| self.standing(name) == Standing::OnProbation);
        on_probation.map(|(name, record)| (name.clone(), record.failures.clone())).collect()
    }

    /// The failures in a row that are held against a worker.
    #[must_use]
    pub fn tracks_in_doubt(&self, worker: &str) -> Vec<JobId> {
        self.records.get(worker).map(|record| record.failures.clone()).unwrap_or_default()
    }

    /// Decides about a worker on probation by what has become of its tracks; none while that is open.
    pub fn judge(&mut self, worker: &str, tracks: &[Job], roster: &Roster, now: Timestamp) -> Option<Verdict> {
        let has_company = self.has_company(worker, roster);
        let record = self.records.get_mut(worker)?;
        let Status::OnProbation { since, company_seen } = &mut record.status else { return None };
        if has_company {
            *company_seen = now;
        }
        let count = |wanted| {
            let others =
                tracks.iter().filter_map(|job| Some((job.holder.as_deref()?, opinion_of_others(job, worker)?)));
            others.filter(|(by, opinion)| *opinion == wanted && is_believed(by, *opinion, roster)).count()
        };
        if count(Opinion::Fine) >= DECISIVE_TRACKS {
            *record = Record { status: Status::SetAside { is_made_good: false }, ..Record::default() };
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

    /// The workers that were set aside, or have failed something since, and whose failures are to be queued again now: see
    /// [`Job::acquit`]. They are named once; whoever does not get through with it has to [`Conduct::put_off`] it.
    #[must_use = "what they have failed stays failed otherwise"]
    pub fn to_make_good(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        for (name, record) in &mut self.records {
            if let Status::SetAside { is_made_good: is_made_good @ false } = &mut record.status {
                *is_made_good = true;
                names.push(name.clone());
            }
        }
        names
    }

    /// What this worker has failed is still to be queued again.
    pub fn put_off(&mut self, worker: &str) {
        if let Some(Record { status: Status::SetAside { is_made_good }, .. }) = self.records.get_mut(worker) {
            *is_made_good = false;
        }
    }
}

/// Whether it counts what a worker says of a track: that one is bad only from a worker that is known here to have done others.
/// Two that fail whatever they get would clear each other otherwise.
fn is_believed(worker: &str, opinion: Opinion, roster: &Roster) -> bool {
    opinion == Opinion::Fine || roster.iter().any(|connected| connected.name == worker && connected.done > 0)
}

/// What other workers say of a track.
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

    /// A roster of workers of these names.
    fn roster(names: &[&str]) -> Roster {
        let mut roster = Roster::default();
        for (id, name) in (1..).zip(names) {
            let device = Device { backend: "flex".into(), name: "CPU".into() };
            let capacity = Capacity { jobs: 2, max_audio_bytes: 1 };
            let (kind, agent) = (WorkerKind::Native, "test".to_owned());
            roster.join(Worker::new(id, (*name).to_owned(), kind, device, agent, capacity, T0));
        }
        roster
    }

    /// A worker fails these tracks, for no reason of the storage's; true when it comes into doubt by that.
    fn fails(conduct: &mut Conduct, worker: &str, tracks: RangeInclusive<JobId>, roster: &Roster) -> bool {
        let mut fail = |id| conduct.failed(worker, &Job::new(id), Fault::TrackOrWorker, roster, T0);
        tracks.filter(|id| fail(*id)).count() > 0
    }

    /// A worker fails a track that it was given at that second, as it does when the storage is away.
    fn misses(conduct: &mut Conduct, worker: &str, id: JobId, given: u64, roster: &Roster) -> bool {
        let fault = Fault::Storage { given: Some(at(given)) };
        conduct.failed(worker, &Job::new(id), fault, roster, at(given + 1))
    }

    fn at(seconds: u64) -> Timestamp {
        T0.plus_seconds(seconds)
    }

    /// "w" has failed tracks 1 to 5, and "v" is there to judge it.
    fn suspected() -> (Conduct, Roster) {
        let (mut conduct, roster) = (Conduct::default(), roster(&["v", "w"]));
        assert!(!fails(&mut conduct, "w", 1..=4, &roster));
        assert!(!fails(&mut conduct, "w", 4..=4, &roster), "twice the same track is one");
        assert!(fails(&mut conduct, "w", 5..=5, &roster));
        assert!(!fails(&mut conduct, "w", 6..=6, &roster), "once is enough");
        assert_eq!(conduct.tracks_in_doubt("w"), [1, 2, 3, 4, 5]);
        (conduct, roster)
    }

    /// Tracks that "w" has failed, and that then ended like this in the hands of "v".
    fn tracks(ends: [Option<Result<(), FailureKind>>; 5]) -> Vec<Job> {
        let failure = |kind| Failure { kind, message: String::new() };
        let track = |(id, end): (JobId, Option<_>)| {
            let mut job = Job::new(id);
            job.lease("a".into(), "w", T0).unwrap();
            job.fail("a", &failure(FailureKind::Permanent), T0).unwrap();
            job.ask_others("w", T0).unwrap();
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
    fn who_fails_what_others_do_is_set_aside() {
        let (mut conduct, roster) = suspected();
        assert_eq!(conduct.standing("w"), Standing::OnProbation);
        assert_eq!(conduct.on_probation(), [("w".to_owned(), vec![1, 2, 3, 4, 5])]);
        let two = tracks([Some(Ok(())), None, Some(Ok(())), None, Some(Err(FailureKind::Permanent))]);
        assert_eq!(conduct.judge("w", &two, &roster, T0), None);
        let three = tracks([Some(Ok(())), Some(Ok(())), Some(Ok(())), None, None]);
        assert_eq!(conduct.judge("w", &three, &roster, T0), Some(Verdict::SetAside));
        conduct.succeeded("w", None, T0);
        assert!(!fails(&mut conduct, "w", 6..=20, &roster));
        assert_eq!(conduct.standing("w"), Standing::SetAside, "whatever comes late");
        assert_eq!(conduct.standing("v"), Standing::Good);
        assert_eq!((conduct.on_probation(), conduct.judge("w", &three, &roster, T0)), (vec![], None));
    }

    #[test]
    fn what_was_failed_by_who_is_set_aside_is_made_good_until_that_is_done() {
        let (mut conduct, roster) = suspected();
        assert_eq!(conduct.to_make_good(), [""; 0]);
        let fine = tracks([Some(Ok(())), Some(Ok(())), Some(Ok(())), None, None]);
        assert_eq!(conduct.judge("w", &fine, &roster, T0), Some(Verdict::SetAside));
        assert_eq!(conduct.to_make_good(), ["w"]);
        assert_eq!(conduct.to_make_good(), [""; 0], "somebody is at it");
        conduct.put_off("w");
        assert_eq!(conduct.to_make_good(), ["w"], "the database was away");
        assert!(!fails(&mut conduct, "w", 6..=6, &roster));
        assert_eq!(conduct.to_make_good(), ["w"], "it had one more in its hands");
        conduct.put_off("v");
        assert_eq!(conduct.to_make_good(), [""; 0]);
    }

    #[test]
    fn judges_may_be_elsewhere() {
        let (mut conduct, alone) = (Conduct::default(), roster(&["w"]));
        assert!(conduct.is_spotless() && !fails(&mut conduct, "w", 1..=100, &alone), "nobody is anywhere");
        assert!(!conduct.is_spotless());
        conduct.note_elsewhere(true, Timestamp::ZERO, T0);
        assert!(fails(&mut conduct, "w", 101..=105, &alone));
        assert_eq!(conduct.judge("w", &[], &alone, at(JUDGE_WAIT_SECONDS)), None, "somebody is there to tell");
        conduct.note_elsewhere(false, Timestamp::ZERO, T0);
        assert_eq!(conduct.judge("w", &[], &alone, at(2 * JUDGE_WAIT_SECONDS)), Some(Verdict::Cleared));

        assert!(!misses(&mut conduct, "w", 1, 10, &alone), "that was at 11 s");
        conduct.note_elsewhere(true, at(10), at(20));
        assert!(!(2..100).any(|id| misses(&mut conduct, "w", id, 30, &alone)), "what was done was given out before");
        conduct.note_elsewhere(true, at(20), at(30));
        assert!(!(100..200).any(|id| misses(&mut conduct, "w", id, 30, &alone)), "or that clock is ahead");
        conduct.note_elsewhere(true, at(21), at(40));
        assert!(!misses(&mut conduct, "w", 200, 39, &alone), "it was given this one before");
        let mut seconds = (40..).step_by(20);
        let mut miss_one_more = |id| {
            let second = seconds.next().unwrap();
            let is_suspicious = misses(&mut conduct, "w", id, second, &alone);
            conduct.note_elsewhere(true, at(second + 11), at(second + 15));
            is_suspicious
        };
        assert_eq!([201, 202, 203, 204, 205].map(&mut miss_one_more), [false, false, false, false, true]);
    }

    #[test]
    fn who_fails_what_others_fail_as_well_is_innocent() {
        let (mut conduct, mut roster) = suspected();
        let bad = [Some(Err(FailureKind::Permanent)), Some(Err(FailureKind::Passing)), Some(Ok(())), None, None];
        assert_eq!(conduct.judge("w", &tracks(bad), &roster, T0), None);
        let bad = [bad[0], bad[1], bad[2], bad[0], None];
        assert_eq!(conduct.judge("w", &tracks(bad), &roster, T0), None, "\"v\" has done nothing yet");
        roster.count_done(1);
        assert_eq!(conduct.judge("w", &tracks(bad), &roster, T0), Some(Verdict::Cleared));
        assert!(!fails(&mut conduct, "w", 6..=9, &roster));
        assert_eq!(conduct.standing("w"), Standing::Good, "it begins anew");
    }

    #[test]
    fn a_track_that_many_have_failed_is_held_against_nobody() {
        let (mut conduct, roster) = (Conduct::default(), roster(&["v", "w"]));
        for id in 1..100 {
            let job = Job { reopened: MAX_OPINIONS - 1, ..Job::new(id) };
            assert!(!conduct.failed("w", &job, Fault::TrackOrWorker, &roster, T0));
        }
    }

    #[test]
    fn tracks_that_are_broken_for_certain_are_held_against_nobody() {
        let (mut conduct, roster) = (Conduct::default(), roster(&["v", "w"]));
        assert!(!(1..100).any(|id| conduct.failed("w", &Job::new(id), Fault::Track, &roster, T0)));
        assert!(conduct.is_spotless());
    }

    #[test]
    fn a_success_ends_the_row() {
        let (mut conduct, roster) = (Conduct::default(), roster(&["v", "w"]));
        for id in 1..100 {
            assert!(!fails(&mut conduct, "w", id..=id, &roster));
            if id % 4 == 0 {
                conduct.succeeded("w", None, T0);
            }
        }
        let (mut conduct, _) = suspected();
        conduct.succeeded("w", None, T0);
        assert_eq!(conduct.standing("w"), Standing::Good, "also when it comes out of its hands only now");
    }

    #[test]
    fn whom_nobody_can_judge_goes_on() {
        let (alone, together) = (roster(&["w"]), roster(&["v", "w"]));
        let mut conduct = Conduct::default();
        assert!(!fails(&mut conduct, "w", 1..=100, &alone));
        assert!(!fails(&mut conduct, "w", 101..=104, &together));
        assert!(fails(&mut conduct, "w", 105..=105, &together), "since somebody has come");
        assert_eq!(conduct.on_probation(), [("w".to_owned(), vec![101, 102, 103, 104, 105])]);

        assert_eq!(conduct.judge("w", &[], &together, at(20)), None);
        assert_eq!(conduct.judge("w", &[], &alone, at(20 + JUDGE_WAIT_SECONDS - 1)), None);
        assert_eq!(conduct.judge("w", &[], &alone, at(20 + JUDGE_WAIT_SECONDS)), Some(Verdict::Cleared));

        let (mut conduct, roster) = suspected();
        assert_eq!(conduct.judge("w", &[], &roster, at(PROBATION_SECONDS - 1)), None);
        assert_eq!(conduct.judge("w", &[], &roster, at(PROBATION_SECONDS)), Some(Verdict::Cleared));
    }

    #[test]
    fn while_the_storage_is_away_nobody_is_to_blame() {
        const WORKERS: [&str; 4] = ["s", "t", "v", "w"];
        let (mut conduct, roster) = (Conduct::default(), roster(&WORKERS));
        for second in 10..30 {
            for (place, worker) in (0..).zip(WORKERS) {
                assert!(
                    !misses(&mut conduct, worker, 10 * second as JobId + place, second, &roster),
                    "{worker} {second}"
                );
            }
            // A long track whose file was there before: that it is done proves nothing.
            conduct.succeeded("u", Some(at(9)), at(second));
        }
        // It passes. Who has not got through with a track again is not to blame yet, nor for what it was given before.
        conduct.succeeded("t", Some(at(31)), at(60));
        assert_eq!((conduct.on_probation(), conduct.done_since()), (vec![], at(31)));
        assert!(!(1..=100).any(|id| misses(&mut conduct, "s", id, 59, &roster)));
        assert!(!(101..200).any(|id| misses(&mut conduct, "s", id, 60, &roster)), "that proves it once");
        assert_eq!(conduct.tracks_in_doubt("s"), [101]);
        conduct.succeeded("t", Some(at(60)), at(62));
        assert!(!misses(&mut conduct, "s", 199, 65, &roster));
        assert_eq!(conduct.tracks_in_doubt("s"), [101], "that was given out before");
        let mut miss_what_others_do = |worker, id, second| {
            conduct.succeeded("t", Some(at(second)), at(second + 5));
            misses(&mut conduct, worker, id, second + 5, &roster)
        };
        let rest = [(200, 70), (201, 80), (201, 90), (202, 100)];
        assert_eq!(rest.map(|(id, second)| miss_what_others_do("s", id, second)), [false; 4], "twice the same is one");
        assert!(!miss_what_others_do("w", 300, 110), "each has its own row");
        assert!(miss_what_others_do("s", 203, 120));
        let fine = tracks([Some(Ok(())), Some(Ok(())), Some(Ok(())), None, None]);
        assert_eq!(conduct.judge("s", &fine, &roster, at(130)), Some(Verdict::SetAside));
    }

    #[test]
    fn two_suspects_do_not_judge_each_other() {
        let (mut conduct, roster) = (Conduct::default(), roster(&["v", "w"]));
        assert!(fails(&mut conduct, "v", 1..=5, &roster));
        assert!(!fails(&mut conduct, "w", 11..=100, &roster), "somebody has to go on");
        assert_eq!(conduct.judge("v", &[], &roster, at(PROBATION_SECONDS - 1)), None);
    }
}
