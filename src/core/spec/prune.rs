//! Takes entries out of an allowlist, and leaves everything else of the file as it was written.

use std::{collections::BTreeSet, ops::Range};

use super::{decode::decode, files::TenantFile};
use crate::model::{Destination, Span};

/// The entries of a tenant file's allowlist, and the line of each, counted from 1.
pub fn allowlist(path: &str, bytes: &[u8]) -> Vec<(Destination, u32)> {
    spans(path, bytes).into_iter().map(|(destination, span)| (destination, span.line)).collect()
}

/// A tenant file without these entries of its allowlist. `None` where it is written in a way that they
/// cannot be taken out of, so that somebody has to.
pub fn without(path: &str, text: &str, removed: &BTreeSet<Destination>) -> Option<String> {
    let entries = spans(path, text.as_bytes());
    let mut pruned = text.to_owned();
    for (destination, span) in entries.iter().rev() {
        if removed.contains(destination) {
            let place = place(&pruned, *span)?;
            pruned.replace_range(removal(&pruned, place), "");
        }
    }
    let left: Vec<&Destination> =
        entries.iter().map(|(destination, _)| destination).filter(|one| !removed.contains(*one)).collect();
    if left.is_empty() {
        pruned = emptied(&pruned);
    }
    // Whatever was cut, the file must say just what is left.
    let said = spans(path, pruned.as_bytes());
    let (file, findings) = decode::<TenantFile>(path, pruned.as_bytes());
    let holds = file.is_some_and(|file| file.allowlist.is_some()) && findings.is_empty();
    (holds && said.iter().map(|(destination, _)| destination).eq(left)).then_some(pruned)
}

fn spans(path: &str, bytes: &[u8]) -> Vec<(Destination, Span)> {
    let (file, _) = decode::<TenantFile>(path, bytes);
    let entries = file.and_then(|file| file.allowlist).and_then(|list| list.value).unwrap_or_default();
    entries.into_iter().filter_map(|entry| Some((entry.value?, entry.span))).collect()
}

/// Where a value stands, in bytes.
fn place(text: &str, span: Span) -> Option<Range<usize>> {
    let line = text.split_inclusive('\n').take(usize::try_from(span.line).ok()?.checked_sub(1)?).map(str::len).sum();
    let rest: &str = text.get(line..)?;
    let at = |column: usize| rest.char_indices().map(|(at, _)| at).chain([rest.len()]).nth(column);
    let from = usize::try_from(span.column).ok()?.checked_sub(1)?;
    let to = from.checked_add(usize::try_from(span.length).ok()?)?;
    Some(line + at(from)?..line + at(to)?)
}

/// What goes along with an entry: its line, or its comma.
fn removal(text: &str, entry: Range<usize>) -> Range<usize> {
    let (before, after) = (text.get(..entry.start).unwrap_or_default(), text.get(entry.end..).unwrap_or_default());
    let line = before.rfind('\n').map_or(0, |at| at + 1);
    let indent = before.get(line..).unwrap_or_default().trim();
    let line_end = entry.end + after.find('\n').map_or(after.len(), |at| at + 1);
    if indent == "-" {
        return line..line_end;
    }
    if let Some(rest) = after.trim_start().strip_prefix(',') {
        let has_more = !rest.split('\n').next().unwrap_or_default().trim_start().starts_with(['#']);
        let rest_of_line = rest.split('\n').next().unwrap_or_default().trim();
        if indent.is_empty() && (rest_of_line.is_empty() || !has_more) {
            return line..line_end;
        }
        let comma = text.len() - rest.len();
        return entry.start..comma + (rest.len() - rest.trim_start_matches([' ', '\t']).len());
    }
    // The last one takes the comma before it along.
    let start = before.trim_end().strip_suffix(',').map_or(entry.start, str::len);
    start..entry.end
}

/// Writes a block list without entries as an empty one.
fn emptied(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| match line.strip_prefix("allowlist:") {
        Some(rest) if !rest.trim_start().starts_with('[') => format!("allowlist: []{rest}"),
        _ => line.to_owned(),
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pruned(list: &str, removed: &[&str]) -> Option<String> {
        let head = "apiVersion: tenantd/v1\nkind: Tenant\ntenant: ant\n";
        let removed = removed.iter().filter_map(|one| one.parse().ok()).collect();
        let text = without("tenants/ant.yaml", &format!("{head}{list}"), &removed)?;
        text.strip_prefix(head).map(str::to_owned)
    }

    #[test]
    fn an_entry_goes_and_all_else_stays_as_it_was_written() {
        for (list, removed, left) in [
            (
                "allowlist:\n  - a.com:443 # why\n  # b\n  - b.com:443\n",
                &["a.com:443"][..],
                "allowlist:\n  # b\n  - b.com:443\n",
            ),
            (
                "allowlist:\n- a.com:443\n- \"b.com:443\"\ntier: x\n",
                &["b.com:443"],
                "allowlist:\n- a.com:443\ntier: x\n",
            ),
            ("allowlist:\n  - a.com:443\n  - b.com:443", &["b.com:443"], "allowlist:\n  - a.com:443\n"),
            ("allowlist: # all\n  - a.com:443\ntier: x\n", &["a.com:443"], "allowlist: [] # all\ntier: x\n"),
            ("allowlist: [a.com:443, 'b.com:443',c.com:443]\n", &["b.com:443"], "allowlist: [a.com:443, c.com:443]\n"),
            ("allowlist: [a.com:443, b.com:443]\n", &["b.com:443"], "allowlist: [a.com:443]\n"),
            ("allowlist: [a.com:443, b.com:443]\n", &["a.com:443"], "allowlist: [b.com:443]\n"),
            ("allowlist: [a.com:443, b.com:443]\n", &["a.com:443", "b.com:443"], "allowlist: []\n"),
            (
                "allowlist: [\n  a.com:443, # why\n  b.com:443,\n  c.com:443\n]\n",
                &["a.com:443", "c.com:443"],
                "allowlist: [\n  b.com:443\n]\n",
            ),
            ("allowlist:\r\n  - a.com:443\r\n  - b.com:443\r\n", &["a.com:443"], "allowlist:\r\n  - b.com:443\r\n"),
        ] {
            assert_eq!(pruned(list, removed).as_deref(), Some(left), "{list}");
        }
    }

    #[test]
    fn what_cannot_be_taken_out_is_left_to_people() {
        assert_eq!(pruned("allowlist:\n  -\n    a.com:443\n  - b.com:443\n", &["a.com:443"]), None);
    }
}
