//! What Docker does not do on a host: workspaces, config files, egress paths, secrets, the lock, and the end of stuck
//! runtimes.

mod cache;
mod changes;
mod egress;
mod files;
pub mod key;
mod link;
mod listener;
mod lock;
pub mod modes;
pub mod namespace;
mod owner;
pub mod policies;
mod provided;
mod reap;
mod replace;
pub mod seal;
pub mod secret;
pub mod signals;
pub mod users;
mod version;
pub mod watch;
mod workspace;

use tenantd_core::{fault, model};

pub use cache::Cache;
pub use changes::{Changes, HostChange};
pub use egress::{EgressError, EgressPaths, engine_is_here};
pub use files::{ConfigFiles, FilesError};
pub use lock::{Lock, LockError};
pub use owner::{Owner, OwnerError};
pub use policies::{Policies, PolicyError, SecretsFile};
pub use provided::{ProvidedError, provide};
pub use reap::{reap, runtime_works_on};
pub use replace::replace;
pub use version::{DATA_VERSION, VersionError};
pub use workspace::{ArchiveStamp, WorkspaceError, Workspaces};
