//! Looking at the engine and the host, and carrying a plan out.

mod apply;
mod record;

use std::collections::BTreeSet;

pub use apply::{Applied, Event, Failure, Outcome, Worker, apply, describe};
pub use record::{Context, Recorder, chain, correction, correction_of, differences, drift_fields, why};

use crate::{
    engine::{CallError, Engine},
    host::{WorkspaceError, Workspaces, runtime_works_on},
    model::{
        Desired, Host, Observed, Tenant, TenantName,
        observed::{EngineFacts, ObservedContainer, RunState},
    },
};

/// Why the world could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The engine did not answer.
    #[error(transparent)]
    Engine(#[from] CallError),
    /// The data root cannot be read.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
}

/// Looks at everything that a plan for `desired` needs: the engine and the host's folders.
///
/// # Errors
/// The engine does not answer, or the data root cannot be read. One container that cannot be
/// inspected is no error; it is in the result.
pub async fn observe(engine: &Engine, host: &Host, desired: &Desired) -> Result<Observed, ObserveError> {
    let mut observed = observe_all_but_images(engine, host).await?;
    observe_images(engine, desired, &mut observed).await;
    Ok(observed)
}

/// The part of [`observe`] that can be done before anything is known of the declarations.
///
/// # Errors
/// As those of [`observe`].
pub async fn observe_all_but_images(engine: &Engine, host: &Host) -> Result<Observed, ObserveError> {
    let mut observed = engine.observe().await?;
    observed.workspaces = Workspaces::new(&host.data_root).list()?;
    tell_hung_starts(&mut observed);
    Ok(observed)
}

/// Looks at one tenant, and at the list of all networks. `facts` is what the engine said of itself.
///
/// # Errors
/// As those of [`observe`].
pub async fn observe_tenant(
    engine: &Engine,
    host: &Host,
    name: &TenantName,
    declared: Option<&Tenant>,
    facts: &EngineFacts,
) -> Result<Observed, ObserveError> {
    let images: BTreeSet<String> = declared.map(|tenant| tenant.image.to_string()).into_iter().collect();
    let (observed, images) = tokio::join!(engine.observe_tenant(name, facts), engine.images(&images));
    let mut observed = Observed { images, ..observed? };
    observed.workspaces = Workspaces::new(&host.data_root).look(name.as_str())?;
    tell_hung_starts(&mut observed);
    Ok(observed)
}

/// A container that does not run, does not answer, and whose runtime is at work hangs in a start that
/// nobody waits for any more. It was seen well enough to be made anew.
fn tell_hung_starts(observed: &mut Observed) {
    let not_running = |state| matches!(state, RunState::Created | RunState::Stopped);
    let (containers, unobserved) = (&mut observed.containers, &mut observed.unobserved);
    unobserved.retain_mut(|one| match one.listed.take() {
        Some(listed) if not_running(listed.state) && runtime_works_on(&listed.id) => {
            containers.push(ObservedContainer { state: RunState::Hung, ..listed });
            false
        }
        _ => true,
    });
}

/// The other part of [`observe`].
pub async fn observe_images(engine: &Engine, desired: &Desired, observed: &mut Observed) {
    let images: BTreeSet<String> = desired.tenants.values().map(|tenant| tenant.image.to_string()).collect();
    observed.images = engine.images(&images).await;
}
