//! What Docker does not do on a host: workspaces, the lock, and the end of stuck runtimes.

mod lock;
mod reap;
mod workspace;

pub use lock::{Lock, LockError};
pub use reap::{reap, runtime_works_on};
pub use workspace::{WorkspaceError, Workspaces};
