//! Egress in the files: the host's settings of it, and a tenant's credentials and budget.

pub mod files;

mod host;
mod tenant;
pub(super) mod values;

pub(super) use host::{check, settings};
pub(super) use tenant::{budget, routes, sealed};
