//! What a tenant's newest declaration waits for.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::Revision;

/// How many lines say what loosens in one declaration, and how many bytes each has. A review shows all of them, whole.
const MOST_LINES: usize = 10;
const LONGEST_LINE: usize = 200;

/// A declaration that loosens, and that nobody has approved yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::daemon) struct Waits {
    /// Its hash: another declaration is judged anew.
    pub(in crate::daemon) declaration: String,
    /// The commit whose declaration stays in force; `None` for a tenant that is new.
    pub(in crate::daemon) at: Option<Revision>,
    /// What loosens, each in a line.
    pub(in crate::daemon) loosens: Vec<String>,
    /// Who may approve it.
    pub(in crate::daemon) approvers: Vec<String>,
    /// The line that the approving commit must carry.
    #[serde(default)]
    pub(in crate::daemon) trailer: String,
    /// Approvals of this tenant that came and do not count, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::daemon) refused: Vec<String>,
}

impl Waits {
    /// The lines that say what loosens, as far as they are kept.
    pub(in crate::daemon) fn lines(all: impl ExactSizeIterator<Item = String>) -> Vec<String> {
        let more = all.len().saturating_sub(MOST_LINES);
        let mut lines: Vec<String> = all.take(MOST_LINES).map(cut).collect();
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        lines
    }
}

/// A line of a bounded length.
fn cut(mut line: String) -> String {
    if line.len() > LONGEST_LINE {
        let end = (0..=LONGEST_LINE).rev().find(|end| line.is_char_boundary(*end)).unwrap_or_default();
        line.truncate(end);
        line.push('…');
    }
    line
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { declaration: _, at: _, loosens, approvers, trailer, refused } = self;
        write!(
            f,
            "it waits for an approval of {}, by a signed commit with the line `{trailer}`; what loosens: {}",
            approvers.join(" or "),
            loosens.join(", ")
        )?;
        refused.iter().try_for_each(|why| write!(f, "; {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_loosens_is_kept_in_few_short_lines() {
        for (count, length, expected) in [(0, 1, 0), (10, 200, 10), (11, 201, 11), (100_000, 5_000, 11)] {
            let lines = Waits::lines((0..count).map(|_| "ä".repeat(length)));
            assert_eq!(lines.len(), expected);
            assert!(lines.iter().all(|line| line.len() <= LONGEST_LINE + '…'.len_utf8()));
            assert_eq!(
                lines.last().is_some_and(|last| *last == format!("and {} more", count.max(10) - 10)),
                count > 10
            );
        }
        let kept = "a".repeat(LONGEST_LINE);
        assert_eq!(Waits::lines([kept.clone(), format!("{kept}b")].into_iter()), [kept.clone(), format!("{kept}…")]);
    }
}
