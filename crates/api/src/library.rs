//! Libraries and models: what a session can start with.

use serde::{Deserialize, Serialize};

/// A folder or a bucket that the coordinator offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LibraryView {
    /// Its name: the one that its owner has given it, or the last part of where it is, made unique.
    pub name: String,
    /// Why it is absent, if it is. No session can start with it then.
    #[serde(default)]
    pub problem: Option<String>,
}

/// A library to be offered from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewLibrary {
    /// A folder's whole path on the coordinator's machine, or `s3://BUCKET/PREFIX`.
    pub location: String,
}

/// A library that was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AddedLibraryView {
    /// Its name.
    pub name: String,
    /// Why it will not be there when the coordinator is started anew, if it will not.
    pub problem: Option<String>,
}

/// A model the coordinator serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelView {
    /// Its name, such as `msd-musicnn`.
    pub name: String,
    /// What it is, for people.
    pub description: String,
    /// Whether sessions use it when none is asked for.
    pub default: bool,
}
