//! The way in: a process that listens on the host and is the only one that reaches tenants from there.
//!
//! It recognizes by a request's host name or path which tenant it is for, asks who comes for a token, has the daemon wake a
//! tenant that does not run, and passes the request on over the gateway's proxy core. It has neither the engine's socket
//! nor any credential of an upstream, and no tenant has a published port: sockets towards tenants are made in the
//! namespace where their networks end.

pub mod daemon;
pub mod deciding;
pub mod process;
pub mod waking;

mod answer;
mod counters;
mod in_flight;
mod listening;
mod own;
mod page;
mod places;
mod requests;
mod served;
mod shared;
mod verified;

use tenantd_core::model;
use tenantd_gateway as gateway;
use tenantd_host as host;

pub use process::{RunError, run, socket};
