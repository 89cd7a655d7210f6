//! The kinds of resource that a tenant is made of.

use schemars::JsonSchema;
use serde::Serialize;

/// The kinds of resource that a tenant is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Its sandbox.
    Container,
    /// Its network.
    Network,
    /// Its files.
    Workspace,
    /// What it finds at /config.
    Files,
    /// Its egress path.
    Egress,
    /// What is archived of an earlier workspace.
    Archive,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Container, Self::Network, Self::Workspace, Self::Files, Self::Egress, Self::Archive];

    /// The word in plans.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Network => "network",
            Self::Workspace => "workspace",
            Self::Files => "files",
            Self::Egress => "egress",
            Self::Archive => "archive",
        }
    }
}
