//! A plan as a person and as a program read it.

mod json;
mod junit;
mod lines;
mod markdown;
mod text;

pub use json::{Document, json};
pub use junit::junit;
pub(crate) use junit::{Case, escape, report, wrong};
pub use lines::{Line, lines};
pub use markdown::markdown;
pub(crate) use markdown::{add_rows, code, fence, value};
pub(crate) use text::values;
pub use text::{BOLD, GREEN, PLAIN, Paint, RED, Style, YELLOW, aligned, blocked_line, padded, summary, text};
