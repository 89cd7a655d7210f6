//! What each tenant uses: counted, bounded, shared, and recorded.

pub mod account;
pub mod counters;
pub mod ledger;
pub mod refusals;
pub mod usage;

pub(crate) mod buffers;
pub(crate) mod limits;

mod allowance;
mod share;
