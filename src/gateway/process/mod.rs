//! The process: what it gives up, how it begins and ends, and how it is asked.

pub mod privilege;

mod control;
mod metrics;
mod recording;
mod run;

pub use control::socket;
pub use run::{RunError, prepare, run};
