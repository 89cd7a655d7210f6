//! Repositories of a form that is not read, in words that say what to do.

use super::text::plain;

/// The only names of objects that are read.
pub(super) const SHA1: &str = "sha1";

/// Why a repository whose objects have other names is not read.
pub(super) fn of_names(format: &str) -> String {
    format!(
        "its objects have names of {}, and those of {SHA1} alone are read; use a repository that `git init \
         --object-format={SHA1}` makes, into which `git fast-export --all` and `git fast-import` take the history",
        plain(format)
    )
}

/// What of the form git complains of; `None` where it complains of something else.
pub(super) fn complaint(said: &str) -> Option<String> {
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    if let Some((_, server)) = said.split_once("mismatched algorithms: ") {
        let format =
            server.lines().next().and_then(|line| line.split_once("server ")).map_or("another kind", |it| it.1);
        return Some(of_names(format.trim()));
    }
    if let Some(at) = lines.iter().position(|line| line.contains("unknown repository extension")) {
        // One stands on a line of its own, or after the words.
        let same = lines.get(at).and_then(|line| line.split_once("extension found: "));
        let name = same.map(|it| it.1).or_else(|| lines.get(at + 1).copied()).unwrap_or_default();
        return Some(format!(
            "neither libgit2 nor the installed git knows its extension {:?}; a newer git may know it, or the repository \
             can do without it",
            plain(name)
        ));
    }
    let is_newer = lines.iter().any(|line| line.to_lowercase().contains("expected git repo version"));
    is_newer.then(|| "its form is newer than the installed git; install a newer git".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_that_is_not_read_is_told_with_what_to_do() {
        for (said, words) in [
            ("fatal: mismatched algorithms: client sha1; server sha256\n", "its objects have names of sha256"),
            ("fatal: unknown repository extension found:\n\tfoo\nfatal: Could not read\n", "its extension \"foo\""),
            ("warning: unknown repository extensions found:\n\tfoo\n\tbar\n", "its extension \"foo\""),
            ("fatal: Expected git repo version <= 1, found 2\n", "install a newer git"),
        ] {
            assert!(complaint(said).is_some_and(|why| why.contains(words)), "{said}: {:?}", complaint(said));
        }
        assert_eq!(complaint("fatal: not a git repository\n"), None);
    }
}
