//! What a tenant may reach, and how what it may not is called. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod authority;
pub mod decide;
pub mod in_force;
pub mod refusal;

pub use refusal::{Refusal, Rule};
