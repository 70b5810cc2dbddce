//! Notices that coordinators of one database send each other.

use chaarfm_domain::SessionId;

/// A notice from another coordinator about a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Something has changed: there may be work to hand out, or something new to show.
    Work(SessionId),
    /// Only the coordinator's view of its workers has changed.
    Presence(SessionId),
}

impl News {
    /// The session of the notice.
    pub fn session(self) -> SessionId {
        match self {
            Self::Work(session) | Self::Presence(session) => session,
        }
    }
}
