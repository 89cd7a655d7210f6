//! The way out: a process that is the only one to which a tenant's packets lead.
//!
//! It listens in a network namespace without any uplink, where each tenant's network ends, and dials
//! from the host's. Between the two there is no path for a packet: what gets through was read, decided
//! and written, byte by byte. Decisions are pure; everything around them is not.

pub mod authority;
pub mod client;
pub mod decide;
pub mod dial;
pub mod dns;
pub mod head;
pub mod hello;
pub mod ledger;
pub mod privilege;
pub mod refusal;
pub mod refusals;
pub mod reply;
pub mod routes;
pub mod shared;
pub mod usage;

mod allowance;
mod answer;
mod buffers;
mod control;
mod gathered;
mod guard;
mod http;
mod inside;
mod limits;
mod listeners;
mod names;
mod race;
mod recording;
mod relay;
mod resolve;
mod resolved;
mod run;
mod serve;
mod share;
mod tenants;
mod waiting;
mod websocket;
mod wire;

use tenantd_core::{fault, model};
use tenantd_host as host;
use tenantd_journal as journal;

pub use answer::status;
pub use client::{Client, InForce};
pub use control::socket;
pub use limits::Pools;
pub use refusal::{Refusal, Rule};
pub use run::{RunError, prepare, run};
pub use shared::Shared;
