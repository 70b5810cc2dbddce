//! All stored rows.

use std::{collections::BTreeMap, sync::Arc};

use chaarfm_coordinator::{State, Timestamp};
use chaarfm_domain::{AuditEntry, InvitationId, JobId, JobState, SessionId};

use crate::{
    invitations::{FreshInvitation, Invitation, Origin},
    jobs::JobRow,
    scans::{SCAN_TTL_SECONDS, Scan},
    sessions::{NewSession, SessionRow},
    vectors::VectorRow,
};

/// All stored rows. A copy is cheap, as it shares what does not change.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    pub(super) sessions: Arc<BTreeMap<SessionId, Session>>,
    pub(super) jobs: Arc<BTreeMap<JobId, Arc<Entry>>>,
    pub(super) vectors: Arc<Vec<Arc<Kept>>>,
    last_session: i64,
    pub(super) guests: Arc<Guests>,
    pub(super) audit: Arc<Audit>,
    pub(super) last_job: JobId,
}

#[derive(Debug, Clone)]
pub(super) struct Session {
    /// Its job counts are filled in only when the session is read.
    pub(super) row: SessionRow,
    pub(super) ended: Option<Timestamp>,
    pub(super) scan: Scan,
    pub(super) scan_owner: Option<String>,
    pub(super) scan_deadline: Timestamp,
}

/// A job.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The stored row.
    pub row: JobRow,
    pub(super) session: SessionId,
    pub(super) scan: i64,
    pub(super) seconds: Option<f64>,
}

/// A vector.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) collection: String,
    pub(super) track_key: Option<String>,
    /// Hash of the key of the worker that made it.
    pub(super) worker: String,
    pub(super) row: VectorRow,
}

impl Rows {
    /// Every job, by number.
    pub fn jobs(&self) -> impl Iterator<Item = (JobId, &Arc<Entry>)> {
        self.jobs.iter().map(|(id, entry)| (*id, entry))
    }

    /// The changed jobs: each as it was before (none if new), and as it is now (none if deleted).
    pub fn changes<'a>(&'a self, before: &'a Self) -> Vec<(Option<&'a Entry>, Option<&'a Entry>)> {
        if Arc::ptr_eq(&self.jobs, &before.jobs) {
            return Vec::new();
        }
        let is_same = |id: &JobId, entry: &Arc<Entry>| before.jobs.get(id).is_some_and(|was| Arc::ptr_eq(was, entry));
        let changed = self.jobs.iter().filter(|(id, entry)| !is_same(id, entry));
        let changed = changed.map(|(id, entry)| (before.job(*id), Some(&**entry)));
        let gone =
            before.jobs.iter().filter(|(id, _)| !self.jobs.contains_key(id)).map(|(_, entry)| (Some(&**entry), None));
        changed.chain(gone).collect()
    }

    /// The owners of the running scans.
    pub fn scan_owners(&self) -> impl Iterator<Item = (SessionId, Option<&str>)> {
        let scanning = self.sessions.values().filter(|session| session.row.flags.scanning);
        scanning.map(|session| (session.row.id, session.scan_owner.as_deref()))
    }

    /// The job with that number.
    pub fn job(&self, id: JobId) -> Option<&Entry> {
        self.jobs.get(&id).map(Arc::as_ref)
    }

    /// Number of vectors of a content, in all collections.
    pub fn vectors_of(&self, content_hash: &str) -> usize {
        self.vectors.iter().filter(|kept| kept.row.content_hash == content_hash).count()
    }

    /// Every vector, and the key of the worker that made it.
    pub fn vectors(&self) -> impl Iterator<Item = (&str, &VectorRow)> {
        self.vectors.iter().map(|kept| (kept.worker.as_str(), &kept.row))
    }

    /// The session with that number, and its job counts.
    pub(super) fn session(&self, id: SessionId) -> Option<SessionRow> {
        let mut row = self.sessions.get(&id)?.row.clone();
        for entry in self.jobs.values().filter(|entry| entry.session == id) {
            let count = match JobState::from(entry.row.job.state) {
                JobState::Queued => &mut row.counts.queued,
                JobState::Leased => &mut row.counts.leased,
                JobState::Done => &mut row.counts.done,
                JobState::Failed => &mut row.counts.failed,
            };
            *count += 1;
        }
        Some(row)
    }

    pub(super) fn guests(&mut self) -> &mut Guests {
        Arc::make_mut(&mut self.guests)
    }

    pub(super) fn change_session(&mut self, id: SessionId) -> Option<&mut Session> {
        Arc::make_mut(&mut self.sessions).get_mut(&id)
    }

    /// The newest session that has not ended.
    pub(super) fn newest_session(&self) -> Option<SessionRow> {
        let newest = self.sessions.values().rev().find(|session| !session.row.flags.ended)?;
        self.session(newest.row.id)
    }

    pub(super) fn insert_session(&mut self, fresh: NewSession<'_>) -> SessionRow {
        self.last_session += 1;
        let row = fresh.row(SessionId(self.last_session));
        let scan = Scan {
            session: row.id,
            code: row.code,
            library: String::new(),
            collection: row.collection.clone(),
            model: row.model.clone(),
            number: 0,
            every_file: false,
        };
        let session = Session { row: row.clone(), ended: None, scan, scan_owner: None, scan_deadline: Timestamp::ZERO };
        Arc::make_mut(&mut self.sessions).insert(row.id, session);
        Arc::make_mut(&mut self.guests).invite(fresh.invitation(row.id));
        row
    }

    pub(super) fn is_running(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|session| !session.row.flags.paused && !session.row.flags.ended)
    }

    pub(super) fn put(&mut self, entry: Entry) {
        Arc::make_mut(&mut self.jobs).insert(entry.row.job.id, Arc::new(entry));
    }

    /// Drops some jobs of a session, and returns how many.
    pub(super) fn drop_jobs(&mut self, session: SessionId, is_meant: impl Fn(&Entry) -> bool) -> u64 {
        let before = self.jobs.len();
        Arc::make_mut(&mut self.jobs).retain(|_, entry| entry.session != session || !is_meant(entry));
        (before - self.jobs.len()) as u64
    }

    /// Marks all waiting jobs as failed.
    #[cfg(test)]
    pub(crate) fn fail_queued(&mut self) {
        for entry in Arc::make_mut(&mut self.jobs).values_mut() {
            if matches!(entry.row.job.state, State::Queued { .. }) {
                Arc::make_mut(entry).row.job.state = State::Failed;
            }
        }
    }

    pub(super) fn queued(&self, session: SessionId) -> impl Iterator<Item = &Entry> {
        let jobs = self.jobs.values().map(Arc::as_ref);
        jobs.filter(move |entry| entry.session == session && matches!(entry.row.job.state, State::Queued { .. }))
    }

    /// Another open job that will make the same vector.
    pub(super) fn open_job_like(&self, row: &JobRow) -> Option<&Entry> {
        let is_like = |other: &&Arc<Entry>| {
            let other = &other.row;
            other.job.id != row.job.id && is_open(other) && is_of(other, &row.collection, &row.model, &row.content_hash)
        };
        self.jobs.values().find(is_like).map(Arc::as_ref)
    }

    pub(super) fn has_vector(&self, collection: &str, model: &str, content_hash: &str) -> bool {
        self.vectors.iter().any(|kept| kept.is_of(collection, model, content_hash))
    }

    /// Stores a vector. False if the collection already has the same content.
    pub(super) fn insert_vector(&mut self, mut kept: Kept) -> bool {
        if self.has_vector(&kept.collection, &kept.row.model, &kept.row.content_hash) {
            return false;
        }
        kept.row.id = self.vectors.last().map_or(1, |last| last.row.id + 1);
        Arc::make_mut(&mut self.vectors).push(Arc::new(kept));
        true
    }

    /// The session of a scan, if the scan is still owned by this process.
    pub(super) fn scanning(&mut self, scan: &Scan, owner: &str) -> Option<&mut Session> {
        let session = self.change_session(scan.session)?;
        let is_this = session.scan.number == scan.number && session.scan_owner.as_deref() == Some(owner);
        is_this.then_some(session)
    }

    /// Extends a scan. False if the scan has been cancelled or taken over.
    pub(super) fn renew_scan(&mut self, scan: &Scan, owner: &str, now: Timestamp) -> bool {
        let session = self.scanning(scan, owner).filter(|session| session.row.flags.scanning);
        session.map(|session| session.scan_deadline = now.plus_seconds(SCAN_TTL_SECONDS)).is_some()
    }
}

impl Entry {
    pub(super) fn is_for_the_file_of(&self, other: &Self) -> bool {
        (&self.row.library, &self.row.track.file) == (&other.row.library, &other.row.track.file)
    }
}

/// The audit record: its entries with their numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Audit {
    pub(super) entries: Vec<(i64, AuditEntry)>,
    pub(super) last: i64,
}

/// The invitations, and the keys of workers.
#[derive(Debug, Clone, Default)]
pub(super) struct Guests {
    pub(super) invitations: BTreeMap<InvitationId, Invitation>,
    pub(super) keys: BTreeMap<String, Origin>,
    /// The keys of workers that are set aside, and whether they have lied.
    pub(super) set_aside: BTreeMap<String, bool>,
    last: InvitationId,
}

impl Guests {
    pub(super) fn invite(&mut self, fresh: FreshInvitation<'_>) -> Invitation {
        self.last += 1;
        let invitation = Invitation {
            id: self.last,
            session: fresh.session,
            code: fresh.code,
            name: fresh.name.to_owned(),
            created: fresh.now,
            expires: fresh.expires,
            is_revoked: false,
            limits: fresh.limits,
            uses: 0,
            bytes: 0,
        };
        self.invitations.insert(self.last, invitation.clone());
        invitation
    }

    pub(super) fn allowance(&self, id: InvitationId) -> Option<u64> {
        self.invitations.get(&id)?.allowance()
    }

    pub(super) fn count_bytes(&mut self, id: InvitationId, bytes: u64) {
        if let Some(invitation) = self.invitations.get_mut(&id) {
            invitation.bytes += bytes;
        }
    }

    pub(super) fn forget(&mut self, session: SessionId) {
        self.invitations.retain(|_, invitation| invitation.session != session);
        let Self { invitations, keys, set_aside, .. } = self;
        keys.retain(|_, origin| invitations.contains_key(&origin.invitation));
        set_aside.retain(|key, _| keys.contains_key(key));
    }

    /// The invitation of this session, unless it has been revoked.
    pub(super) fn valid(&mut self, session: SessionId, id: InvitationId) -> Option<&mut Invitation> {
        self.invitations.get_mut(&id).filter(|invitation| invitation.session == session && !invitation.is_revoked)
    }
}

impl Kept {
    fn is_of(&self, collection: &str, model: &str, content_hash: &str) -> bool {
        self.collection == collection && self.row.model == model && self.row.content_hash == content_hash
    }
}

pub(super) fn is_open(row: &JobRow) -> bool {
    matches!(row.job.state, State::Queued { .. } | State::Leased { .. })
}

pub(super) fn is_of(row: &JobRow, collection: &str, model: &str, content_hash: &str) -> bool {
    row.collection == collection && row.model == model && row.content_hash == content_hash
}
