//! Tests against the simulated engine, and tests that need no engine at all.
//!
//! They run as root, since workspaces get an owner of their own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod blocked;
mod cli;
mod crash;
mod daemon;
mod egress;
mod fuzz;
mod goldens;
mod hanging;
mod install;
mod journal;
mod limits;
mod notify;
mod operator;
mod origin;
mod planning;
mod properties;
mod repo;
mod samples;
mod schema;
mod signatures;
mod source;
mod standing;
mod versions;
mod web;
mod world;
