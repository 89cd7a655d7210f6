//! What a tenant may reach, and how what it may not is called. Pure.

pub mod authority;
pub mod decide;
pub mod refusal;

pub use refusal::{Refusal, Rule};
