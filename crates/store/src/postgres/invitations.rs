//! Invitations and the keys of workers.

use std::collections::BTreeMap;

use chaarfm_coordinator::Timestamp;
use chaarfm_domain::{InvitationId, InvitationLimits, PairingCode, SessionId};
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::Postgres;
use crate::{
    changes::Jobs,
    common::{millis, signed, unsigned},
    error::Stored,
    invitations::{FreshInvitation, Invitation, Invited, MAX_INVITATIONS, MAX_USES, Origin, invitations},
};

invitations!(Postgres, PgRow, PgConnection, pool, pool, "chaarfm.");
