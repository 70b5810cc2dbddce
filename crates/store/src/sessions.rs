//! Stored sessions.

use chaarfm_coordinator::{Flags, Timestamp};
use chaarfm_domain::{Counts, InvitationLimits, LeftOutFiles, PairingCode, SessionId};

use crate::{
    SECONDS_PER_DAY,
    invitations::{FIRST_NAME, FreshInvitation, INVITATION_DAYS},
};

/// Maximum number of jobs of ended sessions deleted per transaction.
pub(crate) const MAX_PRUNED_JOBS: i64 = 1000;

/// A stored session, with its job counts.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRow {
    /// Its number.
    pub id: SessionId,
    /// Its code, which admits workers.
    pub code: PairingCode,
    /// Model of its jobs.
    pub model: String,
    /// Collection for its vectors.
    pub collection: String,
    /// The decisions of its owner.
    pub flags: Flags,
    /// Its jobs by state.
    pub counts: Counts,
    /// Files that the newest scan left out.
    pub left_out: Vec<LeftOutFiles>,
}

/// A session to create.
#[derive(Debug, Clone, Copy)]
pub struct NewSession<'a> {
    /// Its code, which admits workers.
    pub code: PairingCode,
    /// Model of its jobs.
    pub model: &'a str,
    /// Collection for its vectors.
    pub collection: &'a str,
    /// The current time.
    pub now: Timestamp,
}

impl NewSession<'_> {
    /// Its first invitation, which has the session's code.
    pub(crate) fn invitation(&self, session: SessionId) -> FreshInvitation<'static> {
        FreshInvitation {
            session,
            code: self.code,
            name: FIRST_NAME,
            limits: InvitationLimits::default(),
            now: self.now,
            expires: self.now.plus_seconds(u64::from(INVITATION_DAYS) * SECONDS_PER_DAY),
        }
    }

    /// The session as it is first stored.
    pub(crate) fn row(&self, id: SessionId) -> SessionRow {
        SessionRow {
            id,
            code: self.code,
            model: self.model.to_owned(),
            collection: self.collection.to_owned(),
            flags: Flags::default(),
            counts: Counts::default(),
            left_out: Vec::new(),
        }
    }
}
