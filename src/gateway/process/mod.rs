//! The process: what it gives up, how it begins and ends, and how it is asked.

pub mod control;
pub mod privilege;

mod metrics;
mod recording;
mod run;

pub use run::{RunError, prepare, run, socket};
