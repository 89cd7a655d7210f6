//! Revocation: what was allowed when it began, and may be no longer.

use std::{pin::Pin, sync::Arc};

use tokio::sync::watch;

/// Ends when something must not go on, whatever comes.
pub type Revoked = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Ends when what is in force says that something may not go on, or when nothing is in force any more. It is judged
/// at once, and again with each change.
pub async fn revoked<T>(mut changes: watch::Receiver<Arc<T>>, may_go_on: impl Fn(&T) -> bool) {
    loop {
        if changes.has_changed().is_err() {
            return;
        }
        let in_force = Arc::clone(&changes.borrow_and_update());
        if !may_go_on(&in_force) || changes.changed().await.is_err() {
            return;
        }
    }
}
