//! Which commits stay in the mirror whatever becomes of the branch.

use std::{collections::BTreeSet, fs, io, path::Path};

use git2::{ErrorCode, Oid, Repository};

use super::{
    Mirror, SourceError,
    fetch::{HEAD, KEPT},
};

/// The commits that a file names, in whatever place of it: words of 40 hexadecimal digits. So what is added to the file
/// later is kept as well. None where there is no such file.
///
/// # Errors
/// The file cannot be read.
pub fn commits_in(file: &Path) -> io::Result<BTreeSet<String>> {
    let text = match fs::read_to_string(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        text => text?,
    };
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let is_commit = |word: &&str| word.len() == 40 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    Ok(words.filter(is_commit).map(str::to_owned).collect())
}

impl Mirror {
    /// Forgets the head, unless it is one of these commits. The next fetch finds it again.
    pub(super) fn forget_head(&self, needed: &BTreeSet<String>) -> Result<(), SourceError> {
        let repository = self.repository()?;
        match repository.find_reference(HEAD) {
            Ok(head) if head.target().is_some_and(|id| needed.contains(&id.to_string())) => Ok(()),
            Ok(mut head) => head.delete(),
            Err(e) if e.code() == ErrorCode::NotFound => Ok(()),
            Err(e) => Err(e),
        }
        .map_err(|e| self.damaged(e))
    }

    /// Sees to it that git takes these commits, and all that led to them, for needed, and no others beside the head.
    pub(super) fn keep(&self, commits: &BTreeSet<String>) -> Result<(), SourceError> {
        let repository = self.repository()?;
        let damaged = |e| self.damaged(e);
        let ids = commits.iter().filter_map(|id| Oid::from_str(id).ok());
        let wanted: BTreeSet<Oid> = ids.filter(|id| repository.find_commit(*id).is_ok()).collect();
        let led_to_head = before_head(&repository).map_err(damaged)?;
        let wanted: BTreeSet<Oid> = wanted.difference(&led_to_head).copied().collect();
        let there = repository.references_glob(&format!("{KEPT}*")).map_err(damaged)?;
        for reference in there {
            let mut reference = reference.map_err(damaged)?;
            if reference.target().is_none_or(|id| !wanted.contains(&id)) {
                reference.delete().map_err(damaged)?;
            }
        }
        for id in wanted {
            repository.reference(&format!("{KEPT}{id}"), id, true, "kept").map_err(damaged)?;
        }
        Ok(())
    }
}

/// The head and all commits that led to it.
fn before_head(repository: &Repository) -> Result<BTreeSet<Oid>, git2::Error> {
    let head = match repository.refname_to_id(HEAD) {
        Err(e) if e.code() == ErrorCode::NotFound => return Ok(BTreeSet::new()),
        head => head?,
    };
    let mut walk = repository.revwalk()?;
    walk.push(head)?;
    walk.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_found_wherever_they_stand() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("state.json");
        assert!(commits_in(&file)?.is_empty());
        let [a, b] = ["a".repeat(40), "0123456789".repeat(4)];
        fs::write(
            &file,
            format!("{{\"x\":\"main@sha1:{a}\",\"{b}\":[\"{}\",\"{}\"]}}", "c".repeat(64), "g".repeat(40)),
        )?;
        assert_eq!(commits_in(&file)?, BTreeSet::from([a, b]));
        Ok(())
    }
}
