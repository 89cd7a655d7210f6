//! What git's environment says of the repository that a command reads. In a hook it says where the objects lie that are not
//! let in yet. The daemon asks nobody: what it reads is its own mirror.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use super::place;

const FOLDER: &str = "GIT_DIR";
const ALTERNATES: &str = "GIT_ALTERNATE_OBJECT_DIRECTORIES";

/// What says where a repository, or a part of it, lies. It is meant for one repository.
const PLACES: [&str; 5] = [FOLDER, "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", ALTERNATES, "GIT_SHALLOW_FILE"];

/// All variables that are meant for one repository, other than those that hold settings.
pub(super) const LOCAL: [&str; 13] = [
    FOLDER,
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    ALTERNATES,
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_GRAFT_FILE",
    "GIT_REPLACE_REF_BASE",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_INTERNAL_SUPER_PREFIX",
];

/// Whether the environment speaks of the repository at a path: of the current folder's, where it names any, else of the
/// one that it names, else of whichever is read.
pub(super) fn speaks_of(path: &Path) -> bool {
    let set = |name: &&str| env::var_os(*name).is_some_and(|value| !value.is_empty());
    if !PLACES.iter().any(set) {
        return false;
    }
    let Some(named) = env::var_os(FOLDER).map(PathBuf::from).filter(|named| !named.as_os_str().is_empty()) else {
        return true;
    };
    let same = |one: &Path, other: &Path| one.canonicalize().is_ok_and(|one| other.canonicalize().ok() == Some(one));
    let is_here = env::current_dir().is_ok_and(|here| same(path, &here));
    is_here || place::own_folder(path).is_some_and(|folder| same(&folder, &named))
}

/// Whether the environment names the repository itself.
pub(super) fn names_folder() -> bool {
    env::var_os(FOLDER).is_some_and(|value| !value.is_empty())
}

/// The folders of further objects.
pub(super) fn alternates() -> Vec<PathBuf> {
    env::var_os(ALTERNATES).map(|list| split(&list)).unwrap_or_default()
}

/// The parts of a list with `:` between them. A part in quotation marks is written as C does it.
fn split(list: &OsStr) -> Vec<PathBuf> {
    let mut parts = Vec::new();
    let mut rest = list.as_bytes();
    while !rest.is_empty() {
        let (part, after) = unquoted(rest).unwrap_or_else(|| {
            let end = rest.iter().position(|byte| *byte == b':').unwrap_or(rest.len());
            (rest.get(..end).unwrap_or_default().to_vec(), rest.get(end..).unwrap_or_default())
        });
        if !part.is_empty() {
            parts.push(PathBuf::from(OsString::from_vec(part)));
        }
        rest = after.strip_prefix(b":").unwrap_or(after);
    }
    parts
}

/// A part in quotation marks, and what comes after it; `None` where it is none.
fn unquoted(list: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = list.strip_prefix(b"\"")?;
    let mut part = Vec::new();
    loop {
        let (first, after) = rest.split_first()?;
        rest = after;
        match first {
            b'"' => return (rest.is_empty() || rest.starts_with(b":")).then_some((part, rest)),
            b'\\' => {
                let (escaped, after) = rest.split_first()?;
                rest = after;
                part.push(match escaped {
                    b'a' => 7,
                    b'b' => 8,
                    b't' => b'\t',
                    b'n' => b'\n',
                    b'v' => 11,
                    b'f' => 12,
                    b'r' => b'\r',
                    b'"' | b'\\' => *escaped,
                    b'0'..=b'3' => {
                        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                        rest = rest.get(2..)?;
                        (escaped - b'0') * 64 + u8::from_str_radix(digits, 8).ok()?
                    }
                    _ => return None,
                });
            }
            byte => part.push(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_folders_is_split_as_git_writes_it() {
        let cases: [(&str, &[&str]); 8] = [
            ("", &[]),
            ("/a", &["/a"]),
            ("/a:/b c:d", &["/a", "/b c", "d"]),
            (":/a::", &["/a"]),
            (r#""/a:b":/c"#, &["/a:b", "/c"]),
            (r#""/a\"\\\t\303\244""#, &["/a\"\\\tä"]),
            // What only looks like a quotation is taken as it is.
            (r#""/a"b:/c"#, &[r#""/a"b"#, "/c"]),
            (r#""/a"#, &[r#""/a"#]),
        ];
        for (list, parts) in cases {
            assert_eq!(split(OsStr::new(list)), parts.iter().map(PathBuf::from).collect::<Vec<_>>(), "{list}");
        }
    }
}
