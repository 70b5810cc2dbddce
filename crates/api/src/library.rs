//! Libraries and models that a session can use.

use serde::{Deserialize, Serialize};

/// A folder or a bucket that the coordinator offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LibraryView {
    /// Its name: as given by its owner, or the last part of its location, made unique.
    pub name: String,
    /// Why it is unavailable, if it is. No session can start with it then.
    #[serde(default)]
    pub problem: Option<String>,
}

/// A library to add.
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
    /// Why it will be missing after the coordinator restarts, if so.
    pub problem: Option<String>,
}

/// A model that the coordinator serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelView {
    /// Its name, such as `msd-musicnn`.
    pub name: String,
    /// A description for people.
    pub description: String,
    /// Whether sessions use it when they request no model.
    pub default: bool,
}
