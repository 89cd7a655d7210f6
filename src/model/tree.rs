//! The files of a config repo at one moment.

use super::Finding;

/// What a source read, and what it could not.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Which moment: `main@sha1:<40 hex>`, or a word for a folder.
    pub revision: String,
    /// The files that could be read, sorted by their path.
    pub files: Vec<SourceFile>,
    /// What could not be read, and why: links, submodules, files beyond the bounds.
    pub findings: Vec<Finding>,
}

/// One file of a config repo.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its path in the repo, with `/` between its parts.
    pub path: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Tree {
    /// The file of a path, found by the order of the files.
    pub fn file(&self, path: &str) -> Option<&SourceFile> {
        let place = self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        self.files.get(place)
    }
}
