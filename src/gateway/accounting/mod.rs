//! What each tenant uses: counted, bounded, shared, and recorded.

pub mod account;
pub mod buffers;
pub mod counters;
pub mod ledger;
pub mod refusals;
pub mod usage;

pub(crate) mod limits;

mod allowance;
mod share;
