//! Invitations and the keys of workers.

use std::collections::BTreeMap;

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::{InvitationId, InvitationLimits, PairingCode, SessionId};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::Sqlite;
use crate::{
    changes::Jobs,
    common::{millis, signed, unsigned},
    error::Stored,
    invitations::{FreshInvitation, Invitation, Invited, MAX_INVITATIONS, MAX_USES, Origin, invitations},
};

invitations!(Sqlite, SqliteRow, SqliteConnection, reader, writer, "");
