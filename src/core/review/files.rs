//! What changes in a tenant's config files, line by line.
//!
//! A file in which something looks like a secret is refused when it is compiled, so none gets here.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use similar::{ChangeTag, TextDiff};

use crate::model::{Tenant, files::ConfigFile, shown::shortened};

/// Lines around a change.
const CONTEXT: usize = 2;

/// The most lines that are shown of one file, and characters of one line.
const MAX_SHOWN: usize = 40;
const MAX_WIDTH: usize = 160;

/// The most lines of both sides that are compared. A comparison takes time by their number and by how many differ.
const MAX_COMPARED: usize = 10_000;

/// A config file that is another one now.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct FileChange {
    /// Its path below /config.
    pub path: String,
    /// What differs, each line behind `+`, `-` or a space, or `@` with words where there is nothing to compare or where
    /// some are left out.
    pub lines: Vec<String>,
}

/// The files of a tenant that differ, by path. What is new or gone differs as a whole.
pub(super) fn changes(before: &Tenant, after: &Tenant) -> Vec<FileChange> {
    fn by_path(tenant: &Tenant) -> BTreeMap<&str, &ConfigFile> {
        tenant.files.iter().map(|file| (file.path.as_str(), file)).collect()
    }
    let (before, after) = (by_path(before), by_path(after));
    let paths: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    let change = |path: &str| {
        let (before, after) = (before.get(path).map(|file| &file.content), after.get(path).map(|file| &file.content));
        let lines = || lines(before.map_or(&[], |content| &content.bytes), after.map_or(&[], |content| &content.bytes));
        (before != after).then(|| FileChange { path: path.to_owned(), lines: lines() })
    };
    paths.into_iter().filter_map(change).collect()
}

fn lines(before: &[u8], after: &[u8]) -> Vec<String> {
    let sizes = format!("{} bytes, then {}", before.len(), after.len());
    let (Ok(before), Ok(after)) = (std::str::from_utf8(before), std::str::from_utf8(after)) else {
        return vec![format!("@ no text: {sizes}")];
    };
    if before.lines().count() + after.lines().count() > MAX_COMPARED {
        return vec![format!("@ too long to compare: {sizes}")];
    }
    let diff = TextDiff::from_lines(before, after);
    let mut all = Vec::new();
    for (index, group) in diff.grouped_ops(CONTEXT).iter().enumerate() {
        if index > 0 {
            all.push("@".to_owned());
        }
        for change in group.iter().flat_map(|part| diff.iter_changes(part)) {
            let sign = match change.tag() {
                ChangeTag::Equal => ' ',
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
            };
            all.push(format!("{sign}{}", shortened(change.value().trim_end_matches(['\n', '\r']), MAX_WIDTH)));
        }
    }
    if all.len() > MAX_SHOWN {
        let left_out = all.len() - MAX_SHOWN;
        all.truncate(MAX_SHOWN);
        all.push(format!("@ {left_out} lines more"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_with_what_is_around_it() {
        let before = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n";
        assert_eq!(
            lines(before.as_bytes(), before.replace('b', "B").replace('j', "J").as_bytes()),
            [" a", "-b", "+B", " c", " d", "@", " h", " i", "-j", "+J"]
        );
        assert_eq!(lines(b"", b"a\n"), ["+a"]);
        assert_eq!(lines(b"a\n", b""), ["-a"]);
    }

    #[test]
    fn what_cannot_be_shown_is_said() {
        assert_eq!(lines(b"\xFF", b"a"), ["@ no text: 1 bytes, then 1"]);
        let long = "a\n".repeat(MAX_COMPARED);
        assert_eq!(lines(b"b\n", long.as_bytes()), ["@ too long to compare: 2 bytes, then 20000"]);
        let many = lines(b"", "a\n".repeat(50).as_bytes());
        assert_eq!((many.len(), many.last().map(String::as_str)), (41, Some("@ 10 lines more")));
        let [gone, wide] = &lines(b"b\n", "ä".repeat(200).as_bytes())[..] else { panic!("two lines") };
        assert_eq!((gone.as_str(), wide.chars().count()), ("-b", MAX_WIDTH + 2));
    }
}
