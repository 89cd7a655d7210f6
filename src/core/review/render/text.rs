//! For a terminal.

use std::fmt::Write;

use super::{Effect, FileChange, Review, Sides, TenantChange, became, marked, summary, words};
use crate::{
    model::finding::printable,
    plan::render::{GREEN, RED, Style, YELLOW},
};

/// The whole review, ending with a newline.
pub fn text(review: &Review, sides: Sides<'_>, style: Style) -> String {
    let mut out = format!("Base: {}\nNow:  {}\n\n", sides.base, sides.now);
    if !review.fleet.is_empty() {
        out.push_str("  ~ the fleet's own policy changes\n");
        lines(&mut out, &review.fleet, style);
    }
    for one in &review.tenants {
        let (symbol, colour) = match one.change {
            TenantChange::Added => ("+", GREEN),
            TenantChange::Removed => ("-", RED),
            TenantChange::Changed => ("~", YELLOW),
            TenantChange::Held => ("!", RED),
        };
        let _ = writeln!(out, "  {} {} {}", style.paint(colour, symbol), one.tenant, became(one.change));
        lines(&mut out, &one.effects, style);
        one.files.iter().for_each(|file| diff(&mut out, file, style));
    }
    if review.is_empty() {
        out.push_str("No changes. Both sides declare the same.\n");
    } else {
        out.push_str(&summary(review));
        out.push('\n');
    }
    out
}

fn lines(out: &mut String, effects: &[Effect], style: Style) {
    let width = effects.iter().map(|effect| effect.mark.as_str().len()).max().unwrap_or(0);
    for effect in effects {
        let mark = marked(effect.mark, width, style);
        let _ = writeln!(out, "      {mark}  {}  ({}:{})", words(effect), effect.at.file, effect.at.span.line);
    }
    out.push('\n');
}

fn diff(out: &mut String, file: &FileChange, style: Style) {
    let _ = writeln!(out, "      {}", printable(&file.path));
    for line in &file.lines {
        let shown = printable(line);
        let shown = match line.as_bytes().first() {
            Some(b'+') => style.paint(GREEN, &shown),
            Some(b'-') => style.paint(RED, &shown),
            _ => shown,
        };
        let _ = writeln!(out, "        {shown}");
    }
    out.push('\n');
}
