//! Good manners: how much of a machine the worker takes, and when.
//!
//! The owner's wishes are [`Manners`]; the machine's present condition is a [`Situation`], which `probe.rs` finds out.
//! [`decide`] derives a [`State`] from both, and the [`Keeper`] enforces it: code that computes or fetches must pass
//! its [`Gate`] first. Not here: what happens to a track that has to wait for long, which the lane decides.

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

/// Longest pause that keeps the tracks: each then goes on where it was. In a longer pause the tracks are handed back,
/// which is free of cost for everybody. Far below the coordinator's limit for a job without progress.
pub(crate) const SHORT_PAUSE_SECONDS: u64 = chaarfm_protocol::limits::STALL_LIMIT_SECONDS / 2;
