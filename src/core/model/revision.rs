//! A commit of the config repo.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::shown::short_id;

/// A commit on a branch, shown as `main@sha1:<40 hex>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// The branch that it was read from.
    pub branch: String,
    /// The commit's id, 40 hexadecimal digits.
    pub commit: String,
}

impl Revision {
    /// The first digits of the commit, enough for a person.
    pub fn short(&self) -> &str {
        short_id(&self.commit)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@sha1:{}", self.branch, self.commit)
    }
}

/// The text is not `branch@sha1:<40 hex>`.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a revision; one is written main@sha1: and 40 hexadecimal digits")]
pub struct NotARevision(String);

impl FromStr for Revision {
    type Err = NotARevision;

    fn from_str(text: &str) -> Result<Self, NotARevision> {
        let wrong = || NotARevision(text.to_owned());
        let (branch, commit) = text.rsplit_once("@sha1:").ok_or_else(wrong)?;
        let is_id = commit.len() == 40 && commit.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if branch.is_empty() || !is_id {
            return Err(wrong());
        }
        Ok(Self { branch: branch.to_owned(), commit: commit.to_owned() })
    }
}

impl Serialize for Revision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Revision {
    fn schema_name() -> Cow<'static, str> {
        "Revision".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^.+@sha1:[0-9a-f]{40}$", "description": "A commit on a branch."})
    }
}

impl<'de> Deserialize<'de> for Revision {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
