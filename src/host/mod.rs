//! What Docker does not do on a host: workspaces, the lock, and the end of stuck runtimes.

mod lock;
mod reap;
mod workspace;

pub use lock::{Lock, LockError};
pub use reap::reap;
pub use workspace::{WorkspaceError, Workspaces};
