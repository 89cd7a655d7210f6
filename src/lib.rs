//! Keeps a Docker Engine's tenants as a git repository declares them.
//!
//! A pure core, `model`, `spec` and `plan`, decides; thin shells around it read the repository
//! (`source`), speak with the engine (`engine`) and the kernel (`host`), carry a plan out
//! (`reconcile`) and talk with people (`cli`). `docs/architecture.md` says more.

// Both macros panic where nobody reads any more; `cli::output` does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod cli;
pub mod daemon;
pub mod engine;
pub mod metrics;
pub mod notify;
pub mod reconcile;
pub mod source;
pub mod web;

use tenantd_core::fault;
pub use tenantd_core::{audit, model, plan, review, snapshot, spec};
pub use tenantd_gateway as gateway;
pub use tenantd_host as host;
pub use tenantd_ingress as ingress;
pub use tenantd_journal as journal;
