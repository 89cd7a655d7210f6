//! What Docker does not do on a host: workspaces, ways out, secrets, the lock, and the end of stuck
//! runtimes.

mod egress;
mod link;
mod lock;
pub mod namespace;
mod policies;
mod reap;
pub mod secret;
pub mod users;
mod workspace;

pub use egress::{EgressError, WaysOut, engine_is_here};
pub use lock::{Lock, LockError};
pub use policies::{Policies, PolicyError};
pub use reap::{reap, runtime_works_on};
pub use workspace::{WorkspaceError, Workspaces};
