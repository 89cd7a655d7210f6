//! Keeps a Docker Engine's tenants as a git repository declares them.
//!
//! A pure core, `model`, `spec` and `plan`, decides; thin shells around it read the repository
//! (`source`), speak with the engine (`engine`) and the kernel (`host`), carry a plan out
//! (`reconcile`) and talk with people (`cli`). `docs/architecture.md` says more.

// Both macros panic where nobody reads any more; `cli::output` does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod audit;
pub mod cli;
pub mod daemon;
pub mod engine;
mod fault;
pub mod gateway;
pub mod host;
pub mod journal;
pub mod metrics;
pub mod model;
pub mod notify;
pub mod plan;
pub mod reconcile;
pub mod review;
mod signals;
pub mod snapshot;
pub mod source;
pub mod spec;
pub mod web;
