//! What is the matter with a file that something names, where it cannot be given.

use crate::model::tree::Carried;

/// Why what lies at a path, if anything does, is no file that can be used: the rule, what is wrong, and what to do.
pub(super) fn problem(path: &str, carried: Option<&Carried>) -> (&'static str, String, &'static str) {
    match carried {
        Some(Carried::TooLarge(size)) => {
            ("file-too-large", format!("{path} is {size} bytes long"), "keep it within 256 KiB")
        }
        Some(Carried::Beyond) => (
            "file-too-large",
            format!("{path} is not read: all under files/, schemas/ and rules/ is too large"),
            "keep it within 64 MiB together",
        ),
        Some(Carried::Link) => {
            ("symlink", format!("{path} is a symbolic link, and links are not followed"), "commit the file itself")
        }
        Some(Carried::Folder | Carried::Unreadable | Carried::File(_)) => (
            "not-a-file",
            format!("{path} is not a file that can be read"),
            "name a plain file; list those of a folder one by one",
        ),
        None => (
            "file-missing",
            format!("there is no file {path} in the repo"),
            "commit it, or correct the path; it is written from the top of the repo on",
        ),
    }
}
