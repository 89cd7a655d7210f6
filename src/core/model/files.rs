//! Config files: what the repo gives a tenant read-only at /config, and what lies on the host for that.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use data_encoding::HEXLOWER;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Where a tenant finds its config files.
pub const CONFIG: &str = "/config";

/// A file that a tenant is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigFile {
    /// Its path below /config, with `/` between its parts.
    pub path: String,
    /// What is in it.
    #[serde(rename = "content")]
    pub content: Content,
    /// How a change of it reaches the tenant.
    pub apply: Apply,
}

/// How a changed file reaches a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Apply {
    /// The tenant is made anew with it.
    #[default]
    Restart,
    /// It takes the place of the old one while the tenant runs.
    InPlace,
}

/// The bytes of a file. Plans and records show their hash alone.
#[derive(Clone, Debug)]
pub struct Content {
    /// The bytes, shared by all that hold them.
    pub bytes: Arc<[u8]>,
    /// Their hash, as [`digest`] writes it.
    pub digest: String,
}

impl Content {
    /// Bytes and their hash.
    pub fn new(bytes: Arc<[u8]>) -> Self {
        Self { digest: digest(&bytes), bytes }
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Content {}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.digest)
    }
}

/// A SHA-256 in 64 hexadecimal digits, as `sha256sum` prints it.
pub fn digest(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// The first digits of a [`digest`]: four bits each.
pub fn short_digest(bytes: &[u8], digits: usize) -> String {
    let mut all = digest(bytes);
    all.truncate(digits);
    all
}

/// What lies on the host as a tenant's config files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundFiles {
    /// The hash of each file, by its path.
    pub files: BTreeMap<String, String>,
    /// What lies there that is not as tenantd makes it, and why, by its path; `.` is the folder itself.
    pub foreign: BTreeMap<String, Cow<'static, str>>,
    /// The hashes that were last written: they distinguish what somebody changed by hand from what a commit changed.
    pub noted: BTreeMap<String, String>,
}
