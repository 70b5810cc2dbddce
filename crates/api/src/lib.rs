//! The HTTP interface between a coordinator and pages or programs: one type for each JSON body.
//!
//! The server's OpenAPI document is generated from these types. A page shows the latest [`SessionView`] and keeps no state
//! of its own. Leaves out the messages between workers and coordinators (`chaarfm-protocol`), and everything that acts.

mod audit;
mod collection;
mod download;
mod error;
mod invitation;
mod library;
mod session;
mod token;

pub use audit::AuditView;
pub use collection::{CollectionView, TrackPage, TrackView};
pub use download::{DownloadName, DownloadView, Packing, System};
pub use error::ErrorView;
pub use invitation::{InvitationView, NewInvitation};
pub use library::{AddedLibraryView, LibraryView, ModelView, NewLibrary};
pub use session::{
    AdvertisedAddressView, CurrentView, JobView, LogLine, ScanView, SessionView, StartRequest, WaitingView, WorkerView,
};
pub use token::{AddedTokenView, NewToken, TokenView};
