//! Text within markup.

use crate::{model::finding::printable, plan::render::escape};

/// Text that stands for itself: no markup, and nothing that a person cannot see.
pub(super) fn escaped(text: &str) -> String {
    escape(&printable(text))
}
