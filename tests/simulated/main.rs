//! Tests against the simulated engine, and tests that need no engine at all.
//!
//! They run as root, since workspaces get an owner of their own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod blocked;
mod cli;
mod crash;
mod daemon;
mod documented;
mod egress;
mod engine_defaults;
mod explain;
mod files;
mod followed;
mod fuzz;
mod goldens;
mod hanging;
mod history;
mod install;
mod journal;
mod limits;
mod lookalikes;
mod marks;
mod modes;
mod notify;
mod operator;
mod origin;
mod payloads;
mod peers;
mod planning;
mod policy;
mod power;
mod properties;
mod repo;
mod report;
mod repositories;
mod review;
mod samples;
mod saved;
mod schema;
mod selftest;
mod signatures;
mod snapshot;
mod source;
mod statuses;
mod tampering;
mod terminal;
mod versions;
mod web;
mod workspaces;
mod world;
