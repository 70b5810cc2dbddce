//! Sessions as they are stored.

use chaarfm_coordinator::{Flags, Timestamp};
use chaarfm_domain::{Counts, InvitationLimits, LeftOutFiles, PairingCode, SessionId};

use crate::{
    SECONDS_PER_DAY,
    invitations::{FIRST_NAME, FreshInvitation, INVITATION_DAYS},
};

/// Most jobs of ended sessions that one transaction deletes.
pub(crate) const MAX_PRUNED_JOBS: i64 = 1000;

/// A session as it is stored, with its jobs counted.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRow {
    /// Its number.
    pub id: SessionId,
    /// What lets workers in.
    pub code: PairingCode,
    /// Model that its jobs ask for.
    pub model: String,
    /// Collection that its vectors go to.
    pub collection: String,
    /// The decisions of its owner.
    pub flags: Flags,
    /// Its jobs by state.
    pub counts: Counts,
    /// Files that the newest scan left out.
    pub left_out: Vec<LeftOutFiles>,
}

/// A session that is to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewSession<'a> {
    /// What lets workers in.
    pub code: PairingCode,
    /// Model that its jobs are to ask for.
    pub model: &'a str,
    /// Collection that its vectors are to go to.
    pub collection: &'a str,
    /// The moment.
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

    /// The session as it is stored at first.
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
