//! How strong a boundary a tenant runs behind.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The class of sandbox, weakest first: the order is the rank.
///
/// `host.yaml` maps each class that a host offers to a runtime that its engine has registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeClass {
    /// Namespaces and control groups on the host's kernel (runc).
    Container,
    /// System calls answered by a kernel in user space (runsc).
    Gvisor,
    /// A guest kernel on virtual hardware (Kata, Firecracker).
    Microvm,
}

impl RuntimeClass {
    /// All classes, weakest first.
    pub const ALL: [Self; 3] = [Self::Container, Self::Gvisor, Self::Microvm];

    /// The word in the files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Gvisor => "gvisor",
            Self::Microvm => "microvm",
        }
    }

    /// Whether limits and networks of a running sandbox can be changed without making it anew.
    ///
    /// runsc refuses `update` on a running sandbox, and its network stack does not see an interface
    /// that comes later; a guest kernel is held to the same.
    pub const fn changes_live(self) -> bool {
        matches!(self, Self::Container)
    }
}

impl fmt::Display for RuntimeClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
