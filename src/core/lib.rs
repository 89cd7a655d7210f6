//! What tenantd decides, and nothing that reaches out: no file, no socket, no clock.

pub mod audit;
pub mod fault;
pub mod model;
pub mod plan;
pub mod review;
pub mod snapshot;
pub mod spec;
