//! A real coordinator on a real port, with workers that follow a test's script instead of analysing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod audit;
mod buckets;
mod harness;
mod interface;
mod invitations;
mod leases;
mod library;
mod limits;
mod log;
mod metrics;
mod outage;
mod roles;
#[path = "../s3/mod.rs"]
mod s3;
mod several;
mod start;
mod stop;
mod tls;
mod verification;

use chaarfm_test_postgres as postgres;
