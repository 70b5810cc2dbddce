//! What coordinators of one database tell each other.

use chaarfm_domain::SessionId;

/// A notice from another coordinator about a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Something has happened: there may be work to hand out, or something else to show.
    Work(SessionId),
    /// Only what the coordinator shows of its workers has changed.
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
