//! A full scan, signed for those who plan elsewhere.

use std::{io, sync::Arc};

use jiff::Timestamp;

use super::{ObserveError, observe_all_but_images};
use crate::{
    engine::{CallError, Engine},
    host::key::{self, KeyError},
    model::{Host, Observed, Powers},
    snapshot::{self, Snapshot, SnapshotError},
};

/// Why a snapshot cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The engine or the host cannot be observed.
    #[error("cannot observe the engine")]
    Observe(#[from] ObserveError),
    /// Its images cannot be listed.
    #[error("cannot list the engine's images")]
    Images(#[from] CallError),
    /// It cannot be signed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It cannot be signed.
    #[error(transparent)]
    Sign(#[from] SnapshotError),
    /// The kernel has no random bytes.
    #[error("the kernel has no random bytes")]
    Random(#[from] io::Error),
}

/// Observes everything, and returns the text of a snapshot's file. `powers` are what tenants were asked to do.
///
/// # Errors
/// The engine does not answer, the data root cannot be read, or the host's key cannot sign.
pub async fn take_snapshot(engine: &Engine, host: &Host, powers: Arc<Powers>) -> Result<String, TakeError> {
    let key = key::open(host)?;
    let mut salt = [0; 32];
    key::random(&mut salt)?;
    let taken = Timestamp::now();
    let observed = Observed { powers, ..observe_all_but_images(engine, host).await? };
    let images = engine.all_images().await?;
    Ok(snapshot::sign(&Snapshot::new(host, observed, images, taken, &salt), &key)?)
}
