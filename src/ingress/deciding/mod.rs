//! Decisions about a request, each of which is a function of what it says and of what is in force. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod admission;
pub mod browser;
pub mod credential;
pub mod headers;
pub mod target;
