//! What Docker does not do on a host: workspaces, secrets, the gateway's namespace, the lock, and the
//! end of stuck runtimes.

mod lock;
pub mod namespace;
mod reap;
pub mod secret;
pub mod users;
mod workspace;

pub use lock::{Lock, LockError};
pub use reap::{reap, runtime_works_on};
pub use workspace::{WorkspaceError, Workspaces};
