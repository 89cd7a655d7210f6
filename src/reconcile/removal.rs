//! Removing a container that may hang.

use std::{pin::pin, time::Duration};

use crate::{
    engine::{CallError, Engine},
    host::reap,
};

/// How long a removal may take before the container's runtime is killed.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Removes a container. Where that takes long its runtime is killed: it hangs in its start, or it is
/// gVisor's and paused, for which the engine waits ten seconds.
pub(super) async fn remove_hung(engine: &Engine, id: &str) -> Result<(), CallError> {
    let mut removal = pin!(engine.remove_container(id));
    match tokio::time::timeout(REMOVAL_TIMEOUT, &mut removal).await {
        Ok(result) => result,
        Err(_) => {
            reap(id).await;
            removal.await
        }
    }
}
