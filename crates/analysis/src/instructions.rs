//! The vector instructions that the kernels use: the best that the machine has, found at run time.
//!
//! A browser compiles a whole program or refuses it, so there the choice is between two programs: one without and one with
//! relaxed SIMD, whose multiply-add is one instruction.

#[cfg_attr(all(feature = "relaxed-simd", target_family = "wasm"), path = "instructions/relaxed.rs")]
mod found;

pub(crate) use found::arch;
