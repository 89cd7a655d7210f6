//! Which version of the engine's API is spoken.

use std::{fmt, str::FromStr};

use serde::Deserialize;

/// A version of the engine's API, such as 1.41.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion(u32, u32);

impl ApiVersion {
    /// A path of this version of the API.
    pub(super) fn path(self, path: &str) -> String {
        format!("/v{self}{path}")
    }
}

/// The oldest version that has everything needed: Docker Engine 20.10.
pub const OLDEST: ApiVersion = ApiVersion(1, 41);

/// The newest version that is asked for. Docker Engine 29 refuses anything older, and every engine
/// since 25 still speaks it: the whole range from 20.10 on is covered by four versions.
pub const NEWEST: ApiVersion = ApiVersion(1, 44);

/// What an engine says of its versions.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Said {
    pub(super) version: String,
    api_version: String,
    #[serde(rename = "MinAPIVersion", default)]
    min_api_version: Option<String>,
}

/// Why no version of the API is common.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum VersionError {
    /// The engine is older than 20.10.
    #[error("Docker Engine {engine} speaks API {newest} at most; at least {OLDEST} is needed, which 20.10 has")]
    TooOld {
        /// The engine's version.
        engine: String,
        /// Its newest API.
        newest: ApiVersion,
    },
    /// The engine has given up everything that this version speaks.
    #[error("Docker Engine {engine} refuses API versions below {oldest}; {NEWEST} is the newest that is spoken here")]
    TooNew {
        /// The engine's version.
        engine: String,
        /// Its oldest API.
        oldest: ApiVersion,
    },
    /// The engine names a version that is none.
    #[error("the engine names the API version {0:?}, which is none")]
    Unreadable(String),
}

/// The newest version that both sides speak, where the engine's newest is enough to know: what its
/// oldest is matters only where it is newer than all that is spoken here.
pub(super) fn told_by_the_newest(newest: &str) -> Option<ApiVersion> {
    newest.parse().ok().filter(|newest| (OLDEST..=NEWEST).contains(newest))
}

/// The newest version that both sides speak.
pub(super) fn negotiate(said: &Said) -> Result<ApiVersion, VersionError> {
    let newest: ApiVersion = said.api_version.parse()?;
    let oldest = match said.min_api_version.as_deref() {
        None | Some("") => OLDEST,
        Some(text) => text.parse()?,
    };
    if newest < OLDEST {
        return Err(VersionError::TooOld { engine: said.version.clone(), newest });
    }
    if oldest > NEWEST {
        return Err(VersionError::TooNew { engine: said.version.clone(), oldest });
    }
    Ok(newest.min(NEWEST))
}

impl FromStr for ApiVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let parts = text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        parts.map(|(major, minor)| Self(major, minor)).ok_or_else(|| VersionError::Unreadable(text.to_owned()))
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiated(version: &str, newest: &str, oldest: Option<&str>) -> Result<String, VersionError> {
        let said = Said {
            version: version.to_owned(),
            api_version: newest.to_owned(),
            min_api_version: oldest.map(str::to_owned),
        };
        negotiate(&said).map(|api| api.to_string())
    }

    #[test]
    fn the_newest_common_version_is_spoken() {
        assert_eq!(negotiated("20.10.24", "1.41", Some("1.12")).as_deref(), Ok("1.41"));
        assert_eq!(negotiated("29.0.0", "1.52", Some("1.44")).as_deref(), Ok("1.44"));
    }

    #[test]
    fn an_engine_out_of_range_is_refused_with_what_is_needed() {
        assert!(matches!(negotiated("19.03.15", "1.40", Some("1.12")), Err(VersionError::TooOld { .. })));
        assert!(matches!(negotiated("33.0.0", "1.60", Some("1.50")), Err(VersionError::TooNew { .. })));
        assert!(matches!(negotiated("x", "abc", None), Err(VersionError::Unreadable(_))));
    }
}
