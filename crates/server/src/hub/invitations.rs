//! Admission of workers: invitations, and the keys that workers have registered with them.

use std::sync::Arc;

use chaarfm_api::{InvitationView, NewInvitation};
use chaarfm_coordinator::Timestamp;
use chaarfm_domain::{AuditEvent, InvitationId, LogLevel};
use chaarfm_protocol::{PairingCode, RefusalReason};
use chaarfm_store::{
    FreshInvitation, INVITATION_DAYS, Invitation, Invited, Origin, SECONDS_PER_DAY, SessionRow, StoreError,
};

use super::{ActiveSession, CommandError, Denial, Hub, peer_snapshot::PeerSnapshot, workers::Guest};
use crate::audit::Event;

/// Longest name of an invitation.
pub(super) const MAX_NAME_CHARS: usize = 64;

/// Maximum number of connections per worker: a browser has one per Web Worker, a machine one per device.
const MAX_CONNECTIONS_PER_KEY: usize = 32;

/// Maximum validity of an invitation's code.
pub(super) const MAX_DAYS: u32 = 365;

impl Hub {
    /// The session and the invitation to which a worker's key, or else its code, gives access. None if neither is valid,
    /// whatever the reason.
    pub(crate) async fn invited(
        &self,
        code: Option<&PairingCode>,
        key: &str,
    ) -> Result<Option<(Arc<ActiveSession>, Invited)>, CommandError> {
        let Some(invited) = self.store.invited(code, key, self.now()).await? else { return Ok(None) };
        Ok(Some((self.session(&invited.session).await?, invited)))
    }

    /// Registers a worker that is about to join; the answer says why it may not.
    pub(super) async fn receive(
        &self,
        active: &ActiveSession,
        key: &str,
        guest: &Guest,
    ) -> Result<Option<Denial>, StoreError> {
        let Guest { invitation, is_known, address, .. } = guest;
        if let Some(max) = invitation.limits.max_workers
            && self.others_of(active, invitation.id, key).await? >= max
        {
            let message = format!("the invitation is for {max} workers at a time, and they are here");
            return Ok(Some(Denial::new(RefusalReason::Full, message)));
        }
        if active.count_of(key) >= MAX_CONNECTIONS_PER_KEY {
            let message = format!("this worker has {MAX_CONNECTIONS_PER_KEY} connections, and may have no more");
            return Ok(Some(Denial::new(RefusalReason::Full, message)));
        }
        if *is_known {
            return Ok(None);
        }
        // After a restart nobody is barred yet.
        if !active.knows_verdicts() {
            self.learn_verdicts(active).await?;
        }
        if active.is_barred(&Origin { invitation: invitation.id, address: address.clone() }) {
            let message =
                "a worker from here has been set aside: nobody new joins from here by this invitation for an hour";
            return Ok(Some(Denial::new(RefusalReason::Full, message)));
        }
        let is_in = self.store.use_invitation(invitation.id, key, address, self.now()).await?;
        if is_in {
            let event = Event { session: Some(active.id), actor: key, address };
            let by = format!("by invitation {}, {}", invitation.id, invitation.name);
            self.audit.note(self.now(), AuditEvent::Joined, &event, by);
        }
        Ok((!is_in).then(|| Denial::new(RefusalReason::UnknownCode, "the invitation is over")))
    }

    /// Number of connected workers of an invitation, here and elsewhere, without the one with this key.
    async fn others_of(&self, active: &ActiveSession, invitation: InvitationId, key: &str) -> Result<u64, StoreError> {
        let elsewhere = active.elsewhere.parts(&self.store, active.id, self.now()).await?;
        let elsewhere = elsewhere.iter().filter_map(|part| part.invited.get(&invitation));
        Ok(active.count_others_of(invitation, key) + elsewhere.sum::<u64>())
    }

    /// For a while, bars new workers of the same invitation from this worker's origin: otherwise a worker that was set
    /// aside could return with another key.
    pub(super) async fn bar(&self, active: &ActiveSession, name: &str) {
        match self.store.origin(name).await {
            Ok(origin) => origin.into_iter().for_each(|origin| active.bar(origin)),
            Err(error) => tracing::warn!("whoever was set aside may come again: {error}"),
        }
    }

    /// Creates an invitation to a session.
    pub(crate) async fn invite(
        &self,
        active: &ActiveSession,
        wish: NewInvitation,
    ) -> Result<InvitationView, CommandError> {
        self.expect_open(active).await?;
        let name = wish.name.trim();
        let is_name = !name.is_empty() && name.chars().count() <= MAX_NAME_CHARS && !name.chars().any(char::is_control);
        let days = wish.days.unwrap_or(INVITATION_DAYS);
        let limits = wish.limits();
        if !is_name
            || !(1..=MAX_DAYS).contains(&days)
            || [limits.max_workers, limits.max_uses, limits.max_bytes].contains(&Some(0))
        {
            return Err(CommandError::NoInvitation);
        }
        let now = self.now();
        let fresh = FreshInvitation {
            session: active.id,
            code: self.fresh_code(),
            name,
            limits,
            now,
            expires: now.plus_seconds(u64::from(days) * SECONDS_PER_DAY),
        };
        let added = self.store.add_invitation(fresh).await?.ok_or(CommandError::TooManyInvitations)?;
        active.log(LogLevel::Info, format!("there is a new invitation: {name}"));
        self.wake_all(active);
        Ok(view_of(added, &PeerSnapshot::default(), now))
    }

    /// Gives an invitation a new code, valid as long as a new invitation's. Workers that joined with the old code stay.
    pub(crate) async fn rotate_invitation(&self, active: &ActiveSession, id: InvitationId) -> Result<(), CommandError> {
        self.expect_open(active).await?;
        let expires = self.now().plus_seconds(u64::from(INVITATION_DAYS) * SECONDS_PER_DAY);
        if !self.store.rotate_invitation(active.id, id, self.fresh_code(), expires).await? {
            return Err(CommandError::UnknownInvitation(id));
        }
        active.log(LogLevel::Info, format!("invitation {id} has another code"));
        self.wake_all(active);
        Ok(())
    }

    /// Revokes an invitation and disconnects its workers.
    pub(crate) async fn revoke_invitation(&self, active: &ActiveSession, id: InvitationId) -> Result<(), CommandError> {
        self.expect_open(active).await?;
        if !self.store.revoke_invitation(active.id, id, self.now()).await? {
            return Err(CommandError::UnknownInvitation(id));
        }
        active.log(LogLevel::Info, format!("invitation {id} is revoked"));
        active.dismiss(id, &revoked().into());
        self.wake_all(active);
        Ok(())
    }

    /// Disconnects workers whose invitations were revoked on another coordinator, or here while they were joining.
    pub(super) async fn dismiss_uninvited(&self) -> Result<(), StoreError> {
        for active in self.active_sessions().iter().filter(|active| active.worker_count() > 0) {
            let invitations = self.store.invitations(active.id).await?;
            for invitation in invitations.iter().filter(|invitation| invitation.is_revoked) {
                active.dismiss(invitation.id, &revoked().into());
            }
        }
        Ok(())
    }

    /// A session's invitations for its view.
    pub(super) async fn invitation_views(
        &self,
        row: &SessionRow,
        peer_snapshot: &PeerSnapshot,
    ) -> Result<Vec<InvitationView>, StoreError> {
        let invitations = self.store.invitations(row.id).await?;
        let now = self.now();
        Ok(invitations.into_iter().map(|invitation| view_of(invitation, peer_snapshot, now)).collect())
    }
}

fn revoked() -> Denial {
    Denial::new(RefusalReason::UnknownCode, "the invitation has been revoked")
}

fn view_of(invitation: Invitation, peer_snapshot: &PeerSnapshot, now: Timestamp) -> InvitationView {
    InvitationView {
        id: invitation.id,
        code: invitation.code,
        created_at_ms: invitation.created.0,
        expires_at_ms: invitation.expires.0,
        is_revoked: invitation.is_revoked,
        is_open: invitation.is_open(now),
        limits: invitation.limits,
        uses: invitation.uses,
        bytes: invitation.bytes,
        workers: peer_snapshot.invited.get(&invitation.id).copied().unwrap_or_default(),
        name: invitation.name,
    }
}
