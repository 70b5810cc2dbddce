//! Whether a worker is to blame for the tracks it fails or hands back: what it failed in a row is given to others, and what
//! becomes of it there is the verdict.
//!
//! A failure is held against a worker only while somebody is there who has failed nothing since it last did a track. When
//! the storage is away, everybody fails, and then nobody is to blame; nor is anybody afterwards, when the first to do a
//! track again would find all others wanting.
//!
//! A worker is known by its name, whichever connection it comes over. What others did is read from the stored jobs, and
//! whether there are others on other coordinators is told now and then, so that these count as judges; but each coordinator
//! judges only the workers connected to it, and forgets its verdicts when it restarts. A worker that is lost while it works is no worse
//! for it here: that costs the job an attempt, and says nothing about how the worker analyses.

use std::collections::BTreeMap;

use chaarfm_protocol::{JobId, view::Standing};

use crate::{Job, Roster, State, Timestamp};

/// A worker that has failed this many tracks in a row gets nothing more until others have tried them.
pub const SUSPICIOUS_FAILURES: usize = 5;

/// It is set aside when others have done this many of them, and cleared when others have failed this many: most of the
/// five. One track done elsewhere proves little when the other four are broken files.
const DECISIVE_TRACKS: usize = 3;

/// It gets tracks again when there is no verdict after this long.
const PROBATION_SECONDS: u64 = 600;

/// It gets tracks again when nobody has been there to judge it for this long.
const JUDGE_WAIT_SECONDS: u64 = 30;

/// Workers remembered for failures, of one session: twice as many as it takes in. When there are more, those that are under
/// no suspicion are forgotten.
const MAX_RECORDS: usize = 20_000;

/// All workers are looked through for judges at most this often.
const JUDGES_INTERVAL_SECONDS: u64 = 1;

/// Judges that are remembered until then. When all of these have failed something, there is none for that moment.
const MAX_JUDGES: usize = 16;

/// How the workers of one session have behaved.
#[derive(Debug, Clone, Default)]
pub struct Conduct {
    /// By the worker's name. Who has none has failed nothing since it last did a track.
    records: BTreeMap<String, Record>,
    /// Some of the workers without a record, and when they were looked for.
    judges: Vec<String>,
    looked: Timestamp,
    /// When another coordinator was last seen to have such a worker; none when it has none any more.
    judge_elsewhere: Option<Timestamp>,
}

#[derive(Debug, Clone, Default)]
struct Record {
    /// The failures in a row that are held against it, each job once; at most [`SUSPICIOUS_FAILURES`].
    failures: Vec<JobId>,
    /// When the newest of them was.
    failed: Timestamp,
    status: Status,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Status {
    #[default]
    Good,
    OnProbation {
        since: Timestamp,
        judge_seen: Timestamp,
    },
    SetAside,
}

/// How a probation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Others do what this worker fails: it gets nothing more, and what it has failed is to be tried anew.
    SetAside,
    /// Others fail it as well, or there is nobody to tell: the worker goes on, with a clean slate.
    Cleared,
}

impl Conduct {
    /// Notes that a worker has done a track.
    pub fn succeeded(&mut self, worker: &str) {
        if self.standing(worker) != Standing::SetAside {
            self.records.remove(worker);
        }
    }

    /// Notes that a worker has failed a track, or handed it back. A track that has failed in many hands says nothing about
    /// this worker. True when it was one too many in a row: it is on probation from now on, and others are to try its
    /// [`Conduct::tracks_in_doubt`]: see [`Job::ask_others`].
    #[must_use = "what has failed for good has to be queued again, or there is never a verdict"]
    pub fn failed(&mut self, worker: &str, job: &Job, roster: &Roster, now: Timestamp) -> bool {
        if !job.has_room_for_opinions() {
            return false;
        }
        if self.records.len() >= MAX_RECORDS && !self.records.contains_key(worker) {
            self.records.retain(|_, record| record.status != Status::Good);
        }
        // In any case it is no judge from now on.
        self.records.entry(worker.to_owned()).or_default();
        let has_judge = self.has_judge(roster, now);
        let Some(record) = self.records.get_mut(worker).filter(|record| record.status == Status::Good) else {
            return false;
        };
        match self.judge_elsewhere {
            _ if has_judge => {}
            None => {
                // Its row may have begun when all the others' did.
                record.failures.clear();
                return false;
            }
            // What is known of others is some moments old, and they may fail as well by now: one failure counts for each time
            // that they are seen, so that a row takes longer than news of them.
            Some(seen) if seen <= record.failed => return false,
            Some(_) => {}
        }
        if record.failures.contains(&job.id) {
            return false;
        }
        record.failures.push(job.id);
        record.failed = now;
        let is_suspicious = record.failures.len() == SUSPICIOUS_FAILURES;
        if is_suspicious {
            record.status = Status::OnProbation { since: now, judge_seen: now };
        }
        is_suspicious
    }

    /// Whether nobody has failed anything since it last did a track: then it does not matter who is elsewhere.
    #[must_use]
    pub fn is_spotless(&self) -> bool {
        self.records.is_empty()
    }

    /// Notes whether another coordinator has a worker of the session that is under no doubt at all, as it last told.
    pub fn note_judge_elsewhere(&mut self, is_there: bool, now: Timestamp) {
        self.judge_elsewhere = is_there.then_some(now);
    }

    /// Whether a worker is under no doubt at all.
    #[must_use]
    pub fn is_innocent(&self, worker: &str) -> bool {
        !self.records.contains_key(worker)
    }

    /// Whether a worker is here that is under no doubt at all.
    fn has_judge(&mut self, roster: &Roster, now: Timestamp) -> bool {
        if self.looked.plus_seconds(JUDGES_INTERVAL_SECONDS) <= now || now < self.looked {
            let at_work = roster.iter().filter(|worker| worker.takes_jobs());
            let innocent = at_work.filter(|worker| self.is_innocent(&worker.name));
            self.judges = innocent.take(MAX_JUDGES).map(|worker| worker.name.clone()).collect();
            self.looked = now;
        }
        self.judges.retain(|name| !self.records.contains_key(name));
        !self.judges.is_empty()
    }

    /// Where a worker stands. Only one in good standing gets tracks.
    #[must_use]
    pub fn standing(&self, worker: &str) -> Standing {
        match self.records.get(worker).map(|record| record.status) {
            None | Some(Status::Good) => Standing::Good,
            Some(Status::OnProbation { .. }) => Standing::OnProbation,
            Some(Status::SetAside) => Standing::SetAside,
        }
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
        let has_judge = self.has_judge(roster, now) || self.judge_elsewhere.is_some();
        let record = self.records.get_mut(worker)?;
        let Status::OnProbation { since, judge_seen } = &mut record.status else { return None };
        if has_judge {
            *judge_seen = now;
        }
        let count = |wanted| tracks.iter().filter(|job| opinion_of_others(job, worker) == Some(wanted)).count();
        if count(Opinion::Fine) >= DECISIVE_TRACKS {
            *record = Record { status: Status::SetAside, ..Record::default() };
            return Some(Verdict::SetAside);
        }
        let is_unheard =
            since.plus_seconds(PROBATION_SECONDS) <= now || judge_seen.plus_seconds(JUDGE_WAIT_SECONDS) <= now;
        if count(Opinion::Bad) < DECISIVE_TRACKS && !is_unheard {
            return None;
        }
        // Nothing is held against it any more, but to judge others it has to do a track first.
        *record = Record::default();
        Some(Verdict::Cleared)
    }
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

    use chaarfm_protocol::{Capacity, Device, Failure, FailureKind, WorkerKind};

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

    /// A worker fails these tracks; true when it comes into doubt by that.
    fn fails(conduct: &mut Conduct, worker: &str, tracks: RangeInclusive<JobId>, roster: &Roster) -> bool {
        tracks.filter(|id| conduct.failed(worker, &Job::new(*id), roster, T0)).count() > 0
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
        conduct.succeeded("w");
        assert!(!fails(&mut conduct, "w", 6..=20, &roster));
        assert_eq!(conduct.standing("w"), Standing::SetAside, "whatever comes late");
        assert_eq!(conduct.standing("v"), Standing::Good);
        assert_eq!((conduct.on_probation(), conduct.judge("w", &three, &roster, T0)), (vec![], None));
    }

    #[test]
    fn judges_may_be_elsewhere_and_are_seen_there_now_and_then() {
        let (mut conduct, alone) = (Conduct::default(), roster(&["w"]));
        let at = |seconds| T0.plus_seconds(seconds);
        let fail = |conduct: &mut Conduct, id: JobId, seconds| conduct.failed("w", &Job::new(id), &alone, at(seconds));
        assert!(conduct.is_spotless() && !(1..100).any(|id| fail(&mut conduct, id, 0)), "nobody is anywhere");
        assert!(!conduct.is_spotless());
        for second in 1..=4 {
            conduct.note_judge_elsewhere(true, at(second));
            assert!(!(1..100).any(|id| fail(&mut conduct, 100 * second as JobId + id, second)), "one counts a second");
        }
        assert_eq!(conduct.tracks_in_doubt("w"), [101, 201, 301, 401]);
        let mut innocent = conduct.clone();
        innocent.note_judge_elsewhere(false, at(5));
        assert!(!fail(&mut innocent, 501, 5));
        assert_eq!(innocent.tracks_in_doubt("w"), [0; 0], "the others fail as well");
        conduct.note_judge_elsewhere(true, at(5));
        assert!(fail(&mut conduct, 501, 6));
        assert_eq!(conduct.judge("w", &[], &alone, at(6 + JUDGE_WAIT_SECONDS)), None, "somebody is there to tell");
    }

    #[test]
    fn who_fails_what_others_fail_as_well_is_innocent() {
        let (mut conduct, roster) = suspected();
        let bad = [Some(Err(FailureKind::Permanent)), Some(Err(FailureKind::Passing)), Some(Ok(())), None, None];
        assert_eq!(conduct.judge("w", &tracks(bad), &roster, T0), None);
        let bad = [bad[0], bad[1], bad[2], bad[0], None];
        assert_eq!(conduct.judge("w", &tracks(bad), &roster, T0), Some(Verdict::Cleared));
        assert!(!fails(&mut conduct, "w", 6..=9, &roster));
        assert_eq!(conduct.standing("w"), Standing::Good, "it begins anew");
        let later = T0.plus_seconds(JUDGES_INTERVAL_SECONDS);
        let held = (20..30).filter(|id| conduct.failed("v", &Job::new(*id), &roster, later)).count();
        assert_eq!(held, 0, "but who was cleared is no judge yet");
    }

    #[test]
    fn a_track_that_many_have_failed_is_held_against_nobody() {
        let (mut conduct, roster) = (Conduct::default(), roster(&["v", "w"]));
        for id in 1..100 {
            assert!(!conduct.failed("w", &Job { reopened: MAX_OPINIONS - 1, ..Job::new(id) }, &roster, T0));
        }
        assert!(fails(&mut conduct, "v", 1..=5, &roster), "and its worker may judge");
    }

    #[test]
    fn a_success_ends_the_row() {
        let (mut conduct, roster) = (Conduct::default(), roster(&["v", "w"]));
        for id in 1..100 {
            assert!(!fails(&mut conduct, "w", id..=id, &roster));
            if id % 4 == 0 {
                conduct.succeeded("w");
            }
        }
        let (mut conduct, _) = suspected();
        conduct.succeeded("w");
        assert_eq!(conduct.standing("w"), Standing::Good, "also when it comes out of its hands only now");
    }

    #[test]
    fn whom_nobody_can_judge_goes_on() {
        let (alone, together) = (roster(&["w"]), roster(&["v", "w"]));
        let mut conduct = Conduct::default();
        let at = |seconds| T0.plus_seconds(seconds);
        assert!(!fails(&mut conduct, "w", 1..=100, &alone));
        let mut fails_at = |id, second| conduct.failed("w", &Job::new(id), &together, at(second));
        assert_eq!([101, 102, 103, 104, 105].map(|id| fails_at(id, 1)), [false, false, false, false, true]);
        assert_eq!(
            conduct.on_probation(),
            [("w".to_owned(), vec![101, 102, 103, 104, 105])],
            "since somebody has come"
        );

        assert_eq!(conduct.judge("w", &[], &together, at(20)), None);
        assert_eq!(conduct.judge("w", &[], &alone, at(20 + JUDGE_WAIT_SECONDS - 1)), None);
        assert_eq!(conduct.judge("w", &[], &alone, at(20 + JUDGE_WAIT_SECONDS)), Some(Verdict::Cleared));

        let (mut conduct, roster) = suspected();
        assert_eq!(conduct.judge("w", &[], &roster, at(PROBATION_SECONDS - 1)), None);
        assert_eq!(conduct.judge("w", &[], &roster, at(PROBATION_SECONDS)), Some(Verdict::Cleared));
    }

    #[test]
    fn while_everybody_fails_nobody_is_to_blame() {
        const WORKERS: [&str; 4] = ["s", "t", "v", "w"];
        let (mut conduct, roster) = (Conduct::default(), roster(&WORKERS));
        for id in 1..=20 {
            for (place, worker) in (0..).zip(WORKERS) {
                let now = T0.plus_seconds(id as u64);
                assert!(!conduct.failed(worker, &Job::new(10 * id + place), &roster, now), "{worker} at {id} s");
            }
        }
        // It passes, and the first one is at work again.
        conduct.succeeded("t");
        assert_eq!(conduct.on_probation(), []);
        for id in 1..=SUSPICIOUS_FAILURES as JobId {
            let is_last = id == SUSPICIOUS_FAILURES as JobId;
            assert_eq!(conduct.failed("s", &Job::new(id), &roster, T0.plus_seconds(30)), is_last, "{id}");
        }
    }

    #[test]
    fn who_fails_is_no_judge() {
        let (mut conduct, roster) = suspected();
        let at = |seconds| T0.plus_seconds(seconds);
        assert!(!conduct.failed("v", &Job::new(7), &roster, at(10)));
        assert_eq!(conduct.judge("w", &[], &roster, at(10)), None);
        assert_eq!(conduct.judge("w", &[], &roster, at(JUDGE_WAIT_SECONDS)), Some(Verdict::Cleared));
    }

    #[test]
    fn the_judges_are_looked_for_now_and_then() {
        let names: Vec<String> = (0..MAX_JUDGES + 2).map(|number| format!("v{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).chain(["w"]).collect();
        let (mut conduct, roster) = (Conduct::default(), roster(&names));
        for name in &names[..=MAX_JUDGES] {
            assert!(!conduct.failed(name, &Job::new(1), &roster, T0));
        }
        assert!(!fails(&mut conduct, "w", 1..=5, &roster), "one is left, but who would look through all each time?");
        let later = T0.plus_seconds(JUDGES_INTERVAL_SECONDS);
        let held = (1..=5).filter(|id| conduct.failed("w", &Job::new(*id), &roster, later)).count();
        assert_eq!((held, conduct.standing("w")), (1, Standing::OnProbation));
    }
}
