//! How much of one moment of a config repo is read.
//!
//! Whoever may push says how large a tree is, and a small push can say a lot: a folder of a hundred kilobytes may name
//! one file of 255 KiB eight thousand times, or another folder, and that one a third. What counts is therefore what the
//! reader does: each name that is walked and each byte that is read under a name, however often git keeps it.

use super::{
    SourceError,
    bound::{Bound, MAX_BYTES, MAX_FILES, MAX_NAMES, MAX_PATHS},
};
use crate::model::{
    Finding,
    tree::{TOO_LARGE, Tree, UNPARSED},
};

/// Whether no more files are in a tree than are read, with so many that are read later.
pub(super) fn is_within_bounds(tree: &Tree, later: usize) -> Result<(), SourceError> {
    if tree.files.len() + tree.findings.len() + later > MAX_FILES {
        return Err(SourceError::TooLarge(Bound::Files));
    }
    Ok(())
}

/// What may still be read.
pub(super) struct Budget {
    names: usize,
    paths: u64,
    bytes: u64,
}

impl Budget {
    pub(super) const fn new() -> Self {
        Self { names: MAX_NAMES, paths: MAX_PATHS, bytes: MAX_BYTES }
    }

    /// Takes a name that is walked, whatever is then done with it.
    pub(super) fn name(&mut self, path_length: usize) -> Result<(), SourceError> {
        self.names = self.names.checked_sub(1).ok_or(SourceError::TooLarge(Bound::Names))?;
        self.paths = self.paths.checked_sub(path_length as u64).ok_or(SourceError::TooLarge(Bound::Paths))?;
        Ok(())
    }

    /// Takes a file that is read to be compiled.
    pub(super) fn file(&mut self, size: u64) -> Result<(), SourceError> {
        self.bytes = self.bytes.checked_sub(size).ok_or(SourceError::TooLarge(Bound::Bytes))?;
        Ok(())
    }
}

/// Makes of a tree that is too large, or that git2 cannot parse, one without files that says so: it declares nothing that could be carried out, and
/// whoever reads many of them can go on.
pub(super) fn within(revision: String, read: Result<Tree, SourceError>) -> Result<Tree, SourceError> {
    match read {
        Err(SourceError::TooLarge(bound)) => {
            let help = "remove what does not belong there, or give each fleet a repository of its own";
            let finding = Finding::on_file(".", TOO_LARGE, bound.to_string(), help);
            Ok(Tree { revision, findings: vec![finding], ..Tree::default() })
        }
        Err(SourceError::Unparsed { id, source }) => {
            let message = format!("the object {id} cannot be parsed: {}", source.message());
            let finding = Finding::on_file(".", UNPARSED, message, "commit it anew with an ordinary git");
            Ok(Tree { revision, findings: vec![finding], ..Tree::default() })
        }
        other => other,
    }
}
