//! Who asks, and what they may do.
//!
//! A role goes with a credential, and with nothing else: a browser's cookie, which a link of one use has set, or a token in
//! `Authorization: Bearer`. [`gate`] finds out who asks, a [`Principal`]; the right to command is an [`Owner`], which nothing
//! else makes. Workers are let in by codes and by keys of their own, and answer by their leases, which the gate does not look
//! at.
//! What each role may do stands in [`routes`], and nowhere else.

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
