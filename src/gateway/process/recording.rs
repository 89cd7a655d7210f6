//! Refusals on their way into the journal of the gateway's own folder.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time::sleep};

use crate::{
    host::Lock,
    journal::{self, Journal},
    listening::shared::Shared,
    model::{Entry, host::JournalLimits},
};

/// How often it is looked at whether something is to be written.
const TICK: Duration = Duration::from_secs(5);

/// How long another gateway, which this one takes over from, may write on.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// Writes refusals into the journal of the gateway's own folder until `end`, and then what is left. Where
/// that cannot be written, it is tried again, and nobody is let through for it.
pub(crate) async fn record(gateway: Arc<Shared>, state: PathBuf, mut end: oneshot::Receiver<()>) {
    let refusals = &gateway.refusals;
    let (_lock, journal) = tokio::select! {
        opened = open_at_last(&state, refusals.limits) => opened,
        _ = &mut end => return,
    };
    let due = |all| refusals.due(Instant::now(), gateway.tenants.count(), all);
    loop {
        write(&journal, due(false)).await;
        tokio::select! {
            () = refusals.fresh.notified() => {}
            () = sleep(TICK) => {}
            _ = &mut end => return write(&journal, due(true)).await,
        }
    }
}

async fn open_at_last(state: &Path, limits: JournalLimits) -> (Lock, Journal) {
    let folder = journal::folder(state);
    loop {
        match open(state, &folder, limits).await {
            Ok(journal) => return journal,
            Err(error) => tracing::error!(error = format!("{error:#}"), "the journal of refusals cannot be written"),
        }
        sleep(TICK).await;
    }
}

async fn open(state: &Path, folder: &Path, limits: JournalLimits) -> anyhow::Result<(Lock, Journal)> {
    let lock =
        Lock::wait(state, LOCK_TIMEOUT, |held| tracing::info!(%held, "waiting for the journal of refusals")).await?;
    let folder = folder.to_owned();
    let (journal, _) = tokio::task::spawn_blocking(move || Journal::open(&folder, limits)).await??;
    Ok((lock, journal))
}

async fn write(journal: &Journal, entries: Vec<Entry>) {
    let written = entries.into_iter().map(|entry| journal.append(entry));
    for result in futures_util::future::join_all(written).await {
        if let Err(error) = result {
            tracing::error!(%error, "a refusal could not be recorded");
        }
    }
}
