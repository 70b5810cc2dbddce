//! The invitations and the keys of workers in the store.

use std::collections::BTreeMap;

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::{InvitationId, PairingCode, SessionId};

use super::{Store, ask};
use crate::{
    error::Stored,
    invitations::{FreshInvitation, Invitation, Invited, Origin},
};

impl Store {
    /// Whether a worker is admitted: by its key, whose hash is `key`, or else by its code. A refusal always looks the same
    /// and takes the same work, whatever is wrong with key and code.
    pub async fn invited(&self, code: Option<&PairingCode>, key: &str, now: Timestamp) -> Stored<Option<Invited>> {
        let code = code.map(ToString::to_string).unwrap_or_default();
        ask!(self, engine => engine.invited(&code, key, now))
    }

    /// Registers a worker that joins for the first time. False if the invitation admits no new workers any more.
    pub async fn use_invitation(&self, id: InvitationId, key: &str, address: &str, now: Timestamp) -> Stored<bool> {
        ask!(self, engine => engine.use_invitation(id, key, address, now))
    }

    /// A session's invitations, in the order of their creation.
    pub async fn invitations(&self, session: SessionId) -> Stored<Vec<Invitation>> {
        ask!(self, engine => engine.invitations(session))
    }

    /// Adds an invitation. None if the session has the maximum number already.
    pub async fn add_invitation(&self, fresh: FreshInvitation<'_>) -> Stored<Option<Invitation>> {
        ask!(self, engine => engine.add_invitation(fresh))
    }

    /// Gives an invitation another code, valid until `expires`. Workers that have joined stay. False if the session has no
    /// such invitation, or it has been revoked.
    pub async fn rotate_invitation(
        &self,
        session: SessionId,
        id: InvitationId,
        code: PairingCode,
        expires: Timestamp,
    ) -> Stored<bool> {
        ask!(self, engine => engine.rotate_invitation(session, id, code, expires))
    }

    /// Revokes an invitation, also for the workers that have joined by it. False if the session has no such invitation, or
    /// it has been revoked already.
    pub async fn revoke_invitation(&self, session: SessionId, id: InvitationId, now: Timestamp) -> Stored<bool> {
        ask!(self, engine => engine.revoke_invitation(session, id, now))
    }

    /// Stores that the worker with this key hash is set aside, and whether it has lied. Once true, `has_lied` stays true.
    pub async fn set_key_aside(&self, key: &str, has_lied: bool) -> Stored<()> {
        ask!(self, engine => engine.set_key_aside(key, has_lied))
    }

    /// The hashes of the keys in a session that are set aside, and whether their workers have lied.
    pub async fn keys_set_aside(&self, session: SessionId) -> Stored<BTreeMap<String, bool>> {
        ask!(self, engine => engine.keys_set_aside(session))
    }

    /// The origin of the worker with this key hash.
    pub async fn origin(&self, key: &str) -> Stored<Option<Origin>> {
        ask!(self, engine => engine.origin(key))
    }
}
