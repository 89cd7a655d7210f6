//! Egress: a process that is the only one to which a tenant's packets lead.
//!
//! It listens in a network namespace without any uplink, where each tenant's network ends, and dials
//! from the host's. Between the two there is no path for a packet: what gets through was read, decided
//! and written, byte by byte. Decisions are pure; everything around them is not.

pub mod accounting;
pub mod client;
pub mod listening;
pub mod names;
pub mod policy;
pub mod process;
pub mod protocols;
pub mod proxy;
pub mod routes;

use tenantd_core::{fault, model};
use tenantd_host as host;
use tenantd_journal as journal;

pub use accounting::limits::{Lease, Pools};
pub use client::Client;
pub use listening::shared::Shared;
pub use policy::{Refusal, Rule, in_force::InForce};
pub use process::{RunError, prepare, run, socket};
pub use proxy::answer::status;
