//! A report as people and programs read it.

mod csv;
mod document;
mod html;
mod markdown;
mod markup;
mod text;
mod timeline_chart;

pub use csv::csv;
pub use html::html;
pub use markdown::markdown;
pub use text::text;
