//! A plan as a person and as a program read it.

mod json;
mod junit;
mod lines;
mod markdown;
mod text;

pub use json::json;
pub(crate) use junit::escape;
pub use junit::junit;
pub use lines::{Line, lines};
pub use markdown::markdown;
pub(crate) use markdown::{add_rows, code, value};
pub(crate) use text::values;
pub use text::{GREEN, RED, Style, YELLOW, aligned, blocked_line, summary, text};
