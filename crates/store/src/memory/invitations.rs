//! Invitations and workers' keys.

use std::collections::BTreeMap;

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::{InvitationId, PairingCode, SessionId};

use super::{Memory, rows::Rows};
use crate::{
    error::Stored,
    invitations::{FreshInvitation, Invitation, Invited, MAX_INVITATIONS, Origin},
};

impl Memory {
    pub(crate) async fn invited(&self, code: &str, key: &str, now: Timestamp) -> Stored<Option<Invited>> {
        let rows = self.read().await;
        let guests = &rows.guests;
        let known = guests.keys.get(key).and_then(|origin| guests.invitations.get(&origin.invitation));
        let is_current = |invitation: &&Invitation| !rows.sessions[&invitation.session].row.flags.ended;
        let known = known.filter(|invitation| !invitation.is_revoked).filter(is_current);
        let new = || {
            let with_code = guests.invitations.values().find(|invitation| invitation.code.to_string() == code);
            with_code.filter(|invitation| invitation.is_open(now)).filter(is_current)
        };
        Ok(known.or_else(new).map(|invitation| Invited {
            invitation: invitation.clone(),
            session: rows.sessions[&invitation.session].row.code,
            is_known: known.is_some(),
            set_aside: known.and_then(|_| guests.set_aside.get(key).copied()),
        }))
    }

    pub(crate) async fn use_invitation(
        &self,
        id: InvitationId,
        key: &str,
        address: &str,
        now: Timestamp,
    ) -> Stored<bool> {
        let note = |rows: &mut Rows| {
            let guests = rows.guests();
            if guests.keys.get(key).is_some_and(|origin| origin.invitation == id)
                && guests.invitations.get(&id).is_some_and(|invitation| !invitation.is_revoked)
            {
                return true;
            }
            let open = guests.invitations.get_mut(&id).filter(|invitation| invitation.is_open(now));
            let Some(invitation) = open else { return false };
            invitation.uses += 1;
            guests.keys.insert(key.to_owned(), Origin { invitation: id, address: address.to_owned() });
            true
        };
        Ok(self.write(note).await)
    }

    pub(crate) async fn invitations(&self, session: SessionId) -> Stored<Vec<Invitation>> {
        let rows = self.read().await;
        let all = rows.guests.invitations.values();
        Ok(all.filter(|invitation| invitation.session == session).cloned().collect())
    }

    pub(crate) async fn add_invitation(&self, fresh: FreshInvitation<'_>) -> Stored<Option<Invitation>> {
        let add = |rows: &mut Rows| {
            let guests = rows.guests();
            let there = guests.invitations.values().filter(|invitation| invitation.session == fresh.session).count();
            (there < MAX_INVITATIONS as usize).then(|| guests.invite(fresh))
        };
        Ok(self.write(add).await)
    }

    pub(crate) async fn rotate_invitation(
        &self,
        session: SessionId,
        id: InvitationId,
        code: PairingCode,
        expires: Timestamp,
    ) -> Stored<bool> {
        let rotate = |rows: &mut Rows| {
            let valid = rows.guests().valid(session, id);
            valid.map(|invitation| (invitation.code, invitation.expires) = (code, expires)).is_some()
        };
        Ok(self.write(rotate).await)
    }

    pub(crate) async fn revoke_invitation(
        &self,
        session: SessionId,
        id: InvitationId,
        _now: Timestamp,
    ) -> Stored<bool> {
        let revoke =
            |rows: &mut Rows| rows.guests().valid(session, id).map(|invitation| invitation.is_revoked = true).is_some();
        Ok(self.write(revoke).await)
    }

    pub(crate) async fn set_key_aside(&self, key: &str, has_lied: bool) -> Stored<()> {
        let note = |rows: &mut Rows| {
            let guests = rows.guests();
            if guests.keys.contains_key(key) {
                *guests.set_aside.entry(key.to_owned()).or_default() |= has_lied;
            }
        };
        self.write(note).await;
        Ok(())
    }

    pub(crate) async fn keys_set_aside(&self, session: SessionId) -> Stored<BTreeMap<String, bool>> {
        let rows = self.read().await;
        let guests = &rows.guests;
        let is_of_session = |key: &String| {
            let invitation = guests.keys.get(key).and_then(|origin| guests.invitations.get(&origin.invitation));
            invitation.is_some_and(|invitation| invitation.session == session)
        };
        let keys = guests.set_aside.iter().filter(|(key, _)| is_of_session(key));
        Ok(keys.map(|(key, has_lied)| (key.clone(), *has_lied)).collect())
    }

    pub(crate) async fn origin(&self, key: &str) -> Stored<Option<Origin>> {
        Ok(self.read().await.guests.keys.get(key).cloned())
    }
}
