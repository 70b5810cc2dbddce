//! The simulation's own record of each job: it checks every change of a row against the rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::AddAssign,
};

use chaarfm_coordinator::{Job, LAST_TRY, MAX_ATTEMPTS, MAX_LEASES, State, Timestamp};
use chaarfm_domain::SessionId;
use chaarfm_protocol::{JobId, LeaseToken};
use chaarfm_store::memory::{Entry, Rows};

use super::clock::Clock;

/// Waits for other workers and for the last worker, by number of tries, after a failure and after a loss. Deliberately
/// repeats the rules.
const SECONDS_AFTER_FAILURES: [[u64; 2]; 3] = [[0, 30], [30, 120], [120, 600]];
const SECONDS_AFTER_LOSSES: [[u64; 2]; 3] = [[0, 0], [0, 30], [30, 120]];
const SECONDS_AFTER_HAND_BACK: [u64; 2] = [0, 30];
const SECONDS_AFTER_DOUBT: [u64; 2] = [0, 600];

/// A wait counts from the decision, which may be this much earlier than its write.
const MAX_DECIDING_MILLIS: u64 = 3_000;

/// If nothing interferes, a worker with room gets a waiting job within this time: changes must trigger dispatch at once,
/// not only at the next sweep.
const PROMPT_MILLIS: u64 = 500;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    records: BTreeMap<JobId, Record>,
    /// When each worker was last told something that gave it room.
    rooms: BTreeMap<String, Timestamp>,
    /// How often each worker was told that its vector is stored.
    told_stored: BTreeMap<String, u64>,
    /// Workers that may be passed over because of how they behaved.
    pub(super) suspects: BTreeSet<String>,
    is_prompt: bool,
    /// The simulation has rules of its own: changes are traced, but not checked.
    only_traces: bool,
    pub(super) seen: Seen,
    /// The first violation of the rules.
    pub(super) violation: Option<String>,
    pub(super) trace: Trace,
}

/// What happens to the log of events.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Trace {
    #[default]
    Dropped,
    Printed,
    Kept(Vec<String>),
}

/// The simulation's record of a job.
#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    /// Failed tries since it was last queued as if it had never been tried.
    pub(super) tries: u32,
    /// All leases, however they ended.
    pub(super) leases: u32,
    /// A worker has called it broken, and the failure counted.
    pub(super) is_called_broken: bool,
    /// When it was last leased or resumed; and when it was last resumed after its lease had ended.
    pub(super) leased: Timestamp,
    pub(super) revived: Timestamp,
    /// The newest lease, until it is answered or handed back.
    open: Option<LeaseToken>,
    /// The last worker, and when other workers and that worker may have the job.
    last: String,
    free_at: [Timestamp; 2],
    /// When it was last queued.
    queued: Timestamp,
}

impl Record {
    fn wait(&mut self, seconds: [u64; 2], now: Timestamp) {
        let begin = Timestamp(now.0 - MAX_DECIDING_MILLIS);
        // Without a wait it is due on every clock.
        self.free_at = seconds.map(|seconds| if seconds == 0 { Timestamp::ZERO } else { begin.plus_seconds(seconds) });
    }

    /// When this worker may have the job.
    fn free_for(&self, worker: &str) -> Timestamp {
        if self.last == worker { self.free_at[0].max(self.free_at[1]) } else { self.free_at[0] }
    }

    fn lost(&mut self, now: Timestamp) {
        self.tries += 1;
        if let Some(seconds) = SECONDS_AFTER_LOSSES.get(self.tries as usize) {
            self.wait(*seconds, now);
        }
    }
}

macro_rules! seen {
    ($($what:ident)*) => {
        /// Number of occurrences of each event.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub(super) struct Seen {
            $(pub(super) $what: u64,)*
        }

        impl AddAssign for Seen {
            fn add_assign(&mut self, other: Self) {
                $(self.$what += other.$what;)*
            }
        }

        impl Seen {
            /// The events that never occurred.
            pub(super) fn missing(&self) -> Vec<&'static str> {
                [$((stringify!($what), self.$what)),*].into_iter().filter(|(_, n)| *n == 0).map(|(what, _)| what).collect()
            }
        }
    };
}

seen! {
    stored given_up renewed lost expired handed_back resumed resumed_after_loss late_results late_failures repeated_answers
    refused_answers invalid reopened last_tries takeovers doubted set_aside cleared database_outages storage_outages
    repeated_storage_outages crashes stops undone_questions lost_answers joins_during_claim results_during_expiry
    stops_during_renewal racing_claims seconds
}

/// The circumstances of a row's change.
pub(super) struct Moment {
    /// The simulation's time.
    pub(super) now: Timestamp,
    /// The clock of the writing process.
    pub(super) clock: Clock,
    /// The writing process.
    pub(super) process: u64,
}

impl Ledger {
    /// `is_prompt` says whether nothing interferes, so that jobs must be handed out at once.
    pub(super) fn new(is_prompt: bool, trace: Trace) -> Self {
        Self { is_prompt, trace, ..Self::default() }
    }

    /// For a simulation with other rules.
    pub(super) fn only_tracing(trace: Trace) -> Self {
        Self { only_traces: true, trace, ..Self::default() }
    }

    pub(super) fn record(&self, id: JobId) -> &Record {
        &self.records[&id]
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        match &mut self.trace {
            Trace::Dropped => {}
            Trace::Printed => println!("{}", what()),
            Trace::Kept(lines) => lines.push(what()),
        }
    }

    pub(super) fn violation(&mut self, what: String) {
        self.note(|| format!("against the rules: {what}"));
        self.violation.get_or_insert(what);
    }

    /// A worker was told something that usually gives it room.
    pub(super) fn has_room(&mut self, worker: &str, now: Timestamp) {
        self.rooms.insert(worker.to_owned(), now);
    }

    /// A worker was told that its vector is stored.
    pub(super) fn count_stored(&mut self, worker: &str) {
        *self.told_stored.entry(worker.to_owned()).or_default() += 1;
    }

    pub(super) fn told_stored(&self, worker: &str) -> u64 {
        self.told_stored.get(worker).copied().unwrap_or_default()
    }

    /// Checks all changes of a transaction.
    pub(super) fn committed(&mut self, before: &Rows, after: &Rows, moment: &Moment) {
        if self.only_traces {
            for (_, is) in after.changes(before) {
                self.note_written(is, moment);
            }
            return;
        }
        for (was, is) in after.changes(before) {
            if let Err(what) = self.change(was, is, after, moment) {
                self.violation(format!("{what}: {:?} became {:?}", was.map(|e| &e.row.job), is.map(|e| &e.row.job)));
            }
        }
        let owner_before = before.scan_owners().next();
        let has_moved = |owner: &(SessionId, Option<&str>)| owner_before.is_some_and(|before| before != *owner);
        if after.scan_owners().next().filter(has_moved).is_some_and(|(_, owner)| owner.is_some()) {
            self.seen.takeovers += 1;
        }
    }

    fn note_written(&mut self, is: Option<&Entry>, moment: &Moment) {
        self.note(|| {
            format!("{} process {} writes {:?}", moment.now.0, moment.process, is.map(|entry| &entry.row.job))
        });
    }

    fn change(
        &mut self,
        was: Option<&Entry>,
        is: Option<&Entry>,
        rows: &Rows,
        moment: &Moment,
    ) -> Result<(), &'static str> {
        self.note_written(is, moment);
        let Some(is) = is else { return Err("a job is gone") };
        let job = &is.row.job;
        let Some(was) = was else {
            let record = Record { queued: moment.now, ..Record::default() };
            self.records.insert(job.id, record);
            return if matches!(job.state, State::Queued { .. }) { Ok(()) } else { Err("a job begins in another way") };
        };
        if was.row == is.row {
            // A repeated answer writes the row back unchanged.
            self.seen.repeated_answers += 1;
            return Ok(());
        }
        let mut record = self.records.remove(&job.id).expect("each job has a record");
        let vectors = rows.vectors_of(&is.row.content_hash);
        let changed = self.transition(&was.row.job, job, &mut record, vectors, moment);
        let counts = (record.tries, record.leases);
        let is_due = record.is_called_broken || record.tries == MAX_ATTEMPTS || record.leases == MAX_LEASES;
        self.records.insert(job.id, record);
        changed?;
        if counts != (job.attempts, job.leases) || job.attempts > MAX_ATTEMPTS || job.leases > MAX_LEASES {
            return Err("a try or a lease was not counted once");
        }
        match job.state {
            State::Failed if !is_due => Err("it is given up before its time"),
            State::Failed if job.error.as_ref().is_none_or(|error| error.trim().is_empty()) => {
                Err("it fails for no reason")
            }
            _ => Ok(()),
        }
    }

    fn transition(
        &mut self,
        was: &Job,
        is: &Job,
        record: &mut Record,
        vectors: usize,
        moment: &Moment,
    ) -> Result<(), &'static str> {
        let (now, local) = (moment.now, moment.clock.now());
        let is_same_lease = was.token == is.token;
        let has_answer = is.answered && !was.answered;
        if matches!(is.state, State::Queued { .. }) {
            record.queued = now;
        }
        match (was.state, is.state) {
            (State::Queued { not_before: due, .. }, State::Leased { .. }) if !is_same_lease => {
                let (Some(holder), Some(token)) = (&is.holder, &is.token) else { return Err("nobody has leased it") };
                self.claim(record, holder, due, moment)?;
                record.open = Some(token.clone());
                record.last.clone_from(holder);
                record.leased = now;
                record.leases += 1;
            }
            (State::Queued { .. }, State::Leased { .. }) => {
                if is.leases == was.leases {
                    return Err("a lease that has ended is renewed");
                }
                if record.open.is_none() || record.open != is.token {
                    return Err("a lease that is over is taken up again");
                }
                (record.leased, record.revived) = (now, now);
                record.leases += 1;
                record.tries = record.tries.saturating_sub(1);
                self.seen.resumed_after_loss += 1;
            }
            (State::Leased { deadline: before }, State::Leased { deadline: after }) => {
                if !is_same_lease || after < before {
                    return Err("a lease was cut short");
                }
                if is.leases == was.leases {
                    self.seen.renewed += 1;
                } else {
                    record.leased = now;
                    record.leases += 1;
                    self.seen.resumed += 1;
                }
            }
            (State::Leased { .. }, State::Queued { .. } | State::Failed) if is.token.is_none() => {
                record.open = None;
                record.wait(SECONDS_AFTER_HAND_BACK, local);
                self.has_room(was.holder.as_deref().unwrap_or_default(), now);
                self.seen.handed_back += 1;
            }
            (State::Leased { .. }, State::Queued { .. } | State::Failed) if has_answer => {
                record.open = None;
                if is.state == State::Failed && is.attempts == was.attempts {
                    record.is_called_broken = true;
                } else {
                    record.tries += 1;
                }
                if let Some(seconds) = SECONDS_AFTER_FAILURES.get(record.tries as usize) {
                    record.wait(*seconds, local);
                }
            }
            (State::Leased { .. }, State::Queued { .. } | State::Failed) if is_same_lease => {
                record.lost(local);
                self.has_room(was.holder.as_deref().unwrap_or_default(), now);
                if is.error.as_deref() == Some("it did not move on") {
                    self.seen.expired += 1;
                } else {
                    self.seen.lost += 1;
                }
            }
            // A late answer was counted when its lease ended.
            (State::Queued { .. }, State::Queued { .. } | State::Failed) if has_answer && record.open == is.token => {
                record.open = None;
                record.is_called_broken = is.state == State::Failed;
                if let Some(seconds) = SECONDS_AFTER_FAILURES.get(record.tries as usize) {
                    record.wait(*seconds, local);
                }
                self.seen.late_failures += 1;
            }
            (State::Queued { .. } | State::Leased { .. }, State::Done)
                if has_answer && record.open.is_some() && record.open == is.token =>
            {
                record.open = None;
                if vectors != 1 {
                    return Err("what is done has one vector");
                }
                self.seen.late_results += u64::from(was.deadline().is_none());
            }
            (State::Failed, State::Queued { .. }) if is.reopened >= was.reopened => {
                (record.tries, record.is_called_broken) = (0, false);
                record.wait(SECONDS_AFTER_DOUBT, local);
                self.seen.reopened += 1;
            }
            _ => return Err("this cannot become that"),
        }
        Ok(())
    }

    /// Whether a worker may be given the job.
    fn claim(&mut self, record: &Record, holder: &str, due: Timestamp, moment: &Moment) -> Result<(), &'static str> {
        let (now, local) = (moment.now, moment.clock.now());
        if record.free_for(holder) > local {
            return Err("it is handed out too early");
        }
        if record.tries >= MAX_ATTEMPTS {
            return Err("it has had all its tries");
        }
        self.seen.last_tries += u64::from(record.tries == LAST_TRY);
        // A job in its retry wait is found only by a sweep; to a slow clock, every job seems to be waiting.
        let had_waited = due.0 <= record.queued.0 + moment.clock.ahead_millis;
        let is_at_once = had_waited && record.free_for(holder) == Timestamp::ZERO && record.tries < LAST_TRY;
        let room = self.rooms.get(holder).filter(|_| is_at_once && self.is_prompt && !self.suspects.contains(holder));
        let waited = room.map_or(0, |room| now.millis_since(record.queued.max(*room)));
        if waited > PROMPT_MILLIS {
            self.note(|| format!("{holder} has waited for {waited} ms"));
            return Err("a worker with room and a job waited for each other for too long");
        }
        Ok(())
    }
}
