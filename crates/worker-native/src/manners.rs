//! Good manners: how much of a machine the worker takes, and when.
//!
//! The owner's wishes are [`Manners`]; what the machine is like at the moment is a [`Situation`], which `probe.rs` finds out.
//! [`decide`] makes a [`State`] of both, and the [`Keeper`] sees to it that this is what happens: whoever computes or fetches
//! passes its [`Gate`]. Leaves out what becomes of a track that has to wait for long, which is the lane's.

mod decide;
mod duty;
mod gate;
mod keeper;
mod priority;
mod probe;
mod schedule;
mod settings;
mod traffic;

pub(crate) use self::{
    decide::State,
    duty::Duty,
    gate::{Gate, Permit},
    keeper::{Keeper, Overview},
    priority::lower as lower_priority,
    schedule::Window,
    settings::{ByteCount, Manners, Percent},
};

/// A pause that lasts no longer than this loses nothing: the track goes on where it was. When it lasts longer the tracks are
/// handed back, which costs nobody anything. Far below the coordinator's limit for a job that stands still.
pub(crate) const SHORT_PAUSE_SECONDS: u64 = chaarfm_protocol::limits::STALL_LIMIT_SECONDS / 2;
