//! The files of a config repo at one moment.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Finding;

/// The largest file of a config repo that is read, in bytes. A tenant file is a few hundred.
pub const MAX_FILE: u64 = 256 << 10;

/// The rule of a finding that says that a whole tree is too large to be read.
pub const TOO_LARGE: &str = "too-large";

/// The rule of a finding that says that an object of a whole tree cannot be parsed.
pub const UNPARSED: &str = "unparsed";

/// What a source read, and what it could not.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Which moment: `main@sha1:<40 hex>`, or a word for a folder.
    pub revision: String,
    /// The files that could be read, sorted by their path.
    pub files: Vec<SourceFile>,
    /// What lies under `files/`, `schemas/` and `rules/`, by its path in the repo: tenants' files and `fleet.yaml` name it.
    pub carried: Arc<BTreeMap<String, Carried>>,
    /// What could not be read, and why: links, submodules, files beyond the bounds.
    pub findings: Vec<Finding>,
}

impl Tree {
    /// The commit that it is of, in hexadecimal digits; `None` for a folder.
    pub fn commit(&self) -> Option<&str> {
        let (_, commit) = self.revision.rsplit_once(':')?;
        (commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(commit)
    }
}

/// Something that is given on as it is, where a tenant's file names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// A file that was read.
    File(Arc<[u8]>),
    /// A file of so many bytes, which are too many.
    TooLarge(u64),
    /// A file that is beyond what all together may have.
    Beyond,
    /// A folder.
    Folder,
    /// A symbolic link. It is not followed.
    Link,
    /// A submodule, a device, or a file that cannot be read.
    Unreadable,
}

/// Who changed a config repo, and when.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Moment {
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
    /// When it was committed.
    pub time: Timestamp,
    /// Who wrote the change.
    pub author: Person,
    /// Who committed it.
    pub committer: Person,
    /// The first line of its message, as it stands there.
    pub subject: String,
    /// Who signed it.
    pub signature: Signature,
    /// The authors of what a merge brought in; empty for any other commit.
    pub merged: Vec<Person>,
}

/// Somebody, as a commit names them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Person {
    /// Their name.
    pub name: String,
    /// Their address.
    pub email: String,
}

/// A time when a branch was set to a commit that does not descend from the one before.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Rewritten {
    /// When.
    pub time: Timestamp,
    /// The commit that it was at.
    pub from: String,
    /// The one that it was set to.
    pub to: String,
}

/// What is known of a commit's signature.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "kind", content = "of", rename_all = "lowercase")]
pub enum Signature {
    /// There is none.
    None,
    /// It is this signer's, of those that `host.yaml` lists.
    By(String),
    /// There is one of this kind, and nobody to check it against.
    Unknown(String),
    /// It does not count, for this reason.
    Bad(String),
}

/// One file of a config repo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path in the repo, with `/` between its parts.
    pub path: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The tenant that a path under `tenants` is, or is meant to be, wherever it lies there: its last part up to the first
/// dot.
pub fn tenant_of(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split('.').next().unwrap_or(name)
}

impl Tree {
    /// The file of a path, found by the order of the files.
    pub fn file(&self, path: &str) -> Option<&SourceFile> {
        let place = self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        self.files.get(place)
    }
}
