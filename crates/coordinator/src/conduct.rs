//! Whether a worker is to blame for the tracks it fails: what it failed in a row is given to others, and what becomes of
//! it there is the verdict.
//!
//! A worker is known by its name, whichever connection it comes over. What others did is read from the stored jobs, so
//! that the workers of other coordinators on the same database count as judges; but each coordinator judges only the
//! workers connected to it, and forgets its verdicts when it restarts. A worker that is lost while it works is no worse
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

/// Workers remembered for failures, of one session. When there are more, those that are under no suspicion are forgotten.
const MAX_RECORDS: usize = 10_000;

/// How the workers of one session have behaved.
#[derive(Debug, Clone, Default)]
pub struct Conduct {
    /// By the worker's name. Who has none has failed nothing lately.
    records: BTreeMap<String, Record>,
}

#[derive(Debug, Clone, Default)]
struct Record {
    /// The newest failures in a row, each job once; at most [`SUSPICIOUS_FAILURES`].
    failures: Vec<JobId>,
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

    /// Notes that a worker has failed a track. A track that has failed in many hands says nothing about this worker.
    pub fn failed(&mut self, worker: &str, job: &Job) {
        if self.records.len() >= MAX_RECORDS {
            self.records.retain(|_, record| record.status != Status::Good);
        }
        let record = self.records.entry(worker.to_owned()).or_default();
        if record.status != Status::Good || record.failures.contains(&job.id) || !job.has_room_for_opinions() {
            return;
        }
        if record.failures.len() == SUSPICIOUS_FAILURES {
            record.failures.remove(0);
        }
        record.failures.push(job.id);
    }

    /// Puts on probation who has failed too many tracks in a row, except while nobody is there to judge it, and returns the
    /// names. Others are to try what these have failed: see [`Job::ask_others`].
    #[must_use = "what has failed for good has to be queued again, or there is never a verdict"]
    pub fn suspect(&mut self, roster: &Roster, now: Timestamp) -> Vec<String> {
        let is_suspicious =
            |record: &Record| record.status == Status::Good && record.failures.len() == SUSPICIOUS_FAILURES;
        let suspicious = self.records.iter().filter(|(_, record)| is_suspicious(record));
        let mut names: Vec<String> = suspicious.map(|(name, _)| name.clone()).collect();
        names.retain(|name| {
            let has_judge = self.has_judge(name, roster);
            if let Some(record) = self.records.get_mut(name).filter(|_| has_judge) {
                record.status = Status::OnProbation { since: now, judge_seen: now };
            }
            has_judge
        });
        names
    }

    /// Whether another worker in good standing is there.
    fn has_judge(&self, suspect: &str, roster: &Roster) -> bool {
        let mut others = roster.iter().filter(|worker| worker.name != suspect);
        others.any(|worker| self.standing(&worker.name) == Standing::Good)
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

    /// The workers on probation, and the tracks that decide it.
    #[must_use]
    pub fn on_probation(&self) -> Vec<(String, Vec<JobId>)> {
        let on_probation = self.records.iter().filter(|(name, _)| self.standing(name) == Standing::OnProbation);
        on_probation.map(|(name, record)| (name.clone(), record.failures.clone())).collect()
    }

    /// Decides about a worker on probation by what has become of its tracks; none while that is open.
    pub fn judge(&mut self, worker: &str, tracks: &[Job], roster: &Roster, now: Timestamp) -> Option<Verdict> {
        let has_judge = self.has_judge(worker, roster);
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
        self.records.remove(worker);
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

    /// "w" fails these tracks.
    fn fail(conduct: &mut Conduct, tracks: RangeInclusive<JobId>) {
        tracks.for_each(|id| conduct.failed("w", &Job::new(id)));
    }

    /// "w" has failed tracks 1 to 5, and "v" is there to judge it.
    fn suspected() -> (Conduct, Roster) {
        let (mut conduct, roster) = (Conduct::default(), roster(&["v", "w"]));
        fail(&mut conduct, 1..=4);
        fail(&mut conduct, 4..=4);
        assert_eq!(conduct.suspect(&roster, T0), [""; 0], "twice the same track is one");
        fail(&mut conduct, 5..=5);
        assert_eq!(conduct.suspect(&roster, T0), ["w"]);
        assert_eq!(conduct.suspect(&roster, T0), [""; 0]);
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
        fail(&mut conduct, 6..=20);
        assert_eq!(conduct.standing("w"), Standing::SetAside, "whatever comes late");
        assert_eq!(conduct.standing("v"), Standing::Good);
        assert_eq!((conduct.on_probation(), conduct.judge("w", &three, &roster, T0)), (vec![], None));
    }

    #[test]
    fn who_fails_what_others_fail_as_well_is_innocent() {
        let (mut conduct, roster) = suspected();
        let bad = [Some(Err(FailureKind::Permanent)), Some(Err(FailureKind::Passing)), Some(Ok(())), None, None];
        assert_eq!(conduct.judge("w", &tracks(bad), &roster, T0), None);
        let bad = [bad[0], bad[1], bad[2], bad[0], None];
        assert_eq!(conduct.judge("w", &tracks(bad), &roster, T0), Some(Verdict::Cleared));
        fail(&mut conduct, 6..=9);
        assert_eq!((conduct.suspect(&roster, T0), conduct.standing("w")), (vec![], Standing::Good), "it begins anew");
    }

    #[test]
    fn a_track_that_many_have_failed_is_held_against_nobody() {
        let mut conduct = Conduct::default();
        for id in 1..100 {
            conduct.failed("w", &Job { reopened: MAX_OPINIONS - 1, ..Job::new(id) });
        }
        assert_eq!(conduct.suspect(&roster(&["v", "w"]), T0), [""; 0]);
    }

    #[test]
    fn a_success_ends_the_row() {
        let (mut conduct, roster) = (Conduct::default(), roster(&["v", "w"]));
        for id in 1..100 {
            fail(&mut conduct, id..=id);
            assert_eq!(conduct.suspect(&roster, T0), [""; 0]);
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
        fail(&mut conduct, 1..=100);
        assert_eq!(conduct.suspect(&alone, T0), [""; 0]);
        assert_eq!(conduct.suspect(&together, T0), ["w"], "somebody has come");
        assert_eq!(conduct.on_probation(), [("w".to_owned(), vec![96, 97, 98, 99, 100])]);

        let at = |seconds| T0.plus_seconds(seconds);
        assert_eq!(conduct.judge("w", &[], &together, at(20)), None);
        assert_eq!(conduct.judge("w", &[], &alone, at(20 + JUDGE_WAIT_SECONDS - 1)), None);
        assert_eq!(conduct.judge("w", &[], &alone, at(20 + JUDGE_WAIT_SECONDS)), Some(Verdict::Cleared));

        let (mut conduct, roster) = suspected();
        assert_eq!(conduct.judge("w", &[], &roster, at(PROBATION_SECONDS - 1)), None);
        assert_eq!(conduct.judge("w", &[], &roster, at(PROBATION_SECONDS)), Some(Verdict::Cleared));
    }

    #[test]
    fn two_suspects_do_not_judge_each_other() {
        let (mut conduct, roster) = (Conduct::default(), roster(&["v", "w"]));
        for id in 1..=5 {
            conduct.failed("v", &Job::new(id));
            conduct.failed("w", &Job::new(10 + id));
        }
        assert_eq!(conduct.suspect(&roster, T0), ["v"], "somebody has to go on");
    }
}
