//! A report as people and programs read it.

mod csv;
mod document;
mod html;
mod lanes;
mod markdown;
mod markup;
mod text;

pub use csv::csv;
pub use html::html;
pub use markdown::markdown;
pub use text::text;
