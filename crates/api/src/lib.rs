//! What pages and programs get from a coordinator over HTTP, and what they send: one type for each body of JSON.
//!
//! The server's OpenAPI document is made of these types. A page shows the latest [`SessionView`], and keeps no state of its
//! own. Leaves out what workers and coordinators say to each other, which is `chaarfm-protocol`, and everything that acts.

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
