//! Authentication and authorisation.
//!
//! Only a credential gives a role: a browser's cookie, which a one-time link has set, or a token in
//! `Authorization: Bearer`. [`gate`] identifies the client as a [`Principal`]; the right to give commands is an [`Owner`],
//! which only the gate can create. Workers are admitted by codes and keys, and answer jobs with their leases, which the
//! gate does not check. The permissions of each role are in [`routes`] only.

mod cookies;
mod gate;
mod manage;
mod owner;
mod page;
mod routes;
mod secret;
mod worker;

pub use manage::{add_token, list_tokens, new_link, revoke_token};

pub(crate) use cookies::browser_cookie;
pub(crate) use gate::{Identities, Principal, admit};
pub(crate) use manage::{Link, TokenError, TokenName, make_link, make_token, open_link, token_view};
pub(crate) use owner::Owner;
pub(crate) use page::{Closed, closed};
pub(crate) use routes::{Access, describe};
pub(crate) use worker::hash_of;
