//! A plan as a person and as a program read it.

mod json;
mod text;

pub use json::json;
pub(crate) use text::{GREEN, RED, YELLOW, label, values};
pub use text::{Style, blocked_line, summary, text};
