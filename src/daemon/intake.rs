//! The way in for commits: fetch, judge signatures, read, compile. What is then done about them is
//! the daemon's to decide.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{Notify, mpsc, watch};

use crate::{
    fault::chain,
    model::{
        Desired, Finding, Host, Revision, Severity, TenantName,
        host::{Approvals, Source},
        policy::Retry,
        quantity::Timespan,
    },
    source::{Mirror, SourceError, VerifyError, Watch, local_path},
    spec,
};

/// The least time between two fetches: a push comes as many file events.
const SPACING: Duration = Duration::from_millis(50);

/// The first wait after a fetch that failed.
const FIRST_WAIT: Timespan = Timespan::seconds(1);

/// How many commits that approve something are read, newest first.
const MOST_APPROVALS: usize = 100;

/// What is told of the config repo.
pub(super) enum SourceNews {
    /// It was asked and has nothing new.
    Unchanged,
    /// It has a commit that was not judged before.
    Candidate(Box<Candidate>),
    /// It cannot be read.
    Failed(String),
}

/// A commit, judged.
pub(super) struct Candidate {
    pub(super) revision: Revision,
    pub(super) verdict: Result<Declared, Refused>,
}

/// A commit that can be carried out.
pub(super) struct Declared {
    /// Who signed it, where signatures are looked at.
    pub(super) signer: Option<String>,
    /// What it declares.
    pub(super) desired: Arc<Desired>,
    /// Whether it does not descend from the commit in force, where signatures are looked at: an old
    /// signed commit may have been put back by someone who cannot sign.
    pub(super) rewound: bool,
    /// Who approved what it loosens, by tenant.
    pub(super) approved: BTreeMap<String, String>,
}

/// Why a commit cannot be carried out.
pub(super) struct Refused {
    /// One word: `Unverified`, `InvalidPolicy` or `Unreadable`.
    pub(super) kind: &'static str,
    pub(super) reason: String,
    /// Its wrong files.
    pub(super) findings: Vec<Finding>,
}

/// Reads what a commit declares, as the daemon did when it accepted it.
pub(super) fn read(mirror: &Mirror, commit: &str) -> Result<Desired, SourceError> {
    mirror.read(commit).map(|tree| spec::compile(&tree))
}

/// Follows a config repo.
pub(super) struct Intake {
    pub(super) news: mpsc::Receiver<SourceNews>,
    kick: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Intake {
    /// Begins to follow. `accepted` is the commit in force, from which signatures are counted.
    pub(super) fn begin(
        host: Arc<Host>,
        source: Source,
        mirror: Arc<Mirror>,
        accepted: watch::Receiver<Option<String>>,
    ) -> Self {
        let (sender, news) = mpsc::channel(8);
        let kick = Arc::new(Notify::new());
        let task = tokio::spawn(follow(host, source, mirror, accepted, sender, Arc::clone(&kick)));
        Self { news, kick, task }
    }

    /// Asks for a fetch now.
    pub(super) fn kick(&self) {
        self.kick.notify_one();
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    host: Arc<Host>,
    source: Source,
    mirror: Arc<Mirror>,
    accepted: watch::Receiver<Option<String>>,
    news: mpsc::Sender<SourceNews>,
    kick: Arc<Notify>,
) {
    let mut files = local_path(&source.url).map(|path| Watch::new(&path));
    let mut judged: Option<String> = None;
    let mut failures = 0u32;
    loop {
        if let Some(files) = &mut files {
            // Where it cannot be watched, the poll beside is what finds changes.
            if let Err(e) = files.ensure() {
                tracing::debug!(error = chain(&e), "the config repo is not watched");
            }
        }
        let begun = Instant::now();
        let told = match mirror.fetch().await {
            Ok(head) if judged.as_deref() == Some(&head) => Ok(SourceNews::Unchanged),
            Ok(head) => {
                let accepted = accepted.borrow().clone();
                let (mirror, host, branch) = (Arc::clone(&mirror), Arc::clone(&host), source.branch.clone());
                let commit = head.clone();
                let judging = tokio::task::spawn_blocking(move || judge(&mirror, &host, branch, commit, accepted));
                let candidate = judging.await.map_err(|e| e.to_string()).flatten();
                // One that could not be judged is tried again.
                judged = candidate.is_ok().then_some(head);
                candidate.map(|candidate| SourceNews::Candidate(Box::new(candidate)))
            }
            Err(e) => Err(chain(&e)),
        };
        failures = if told.is_ok() { 0 } else { failures.saturating_add(1) };
        if news.send(told.unwrap_or_else(SourceNews::Failed)).await.is_err() {
            return;
        }
        tokio::time::sleep(SPACING.saturating_sub(begun.elapsed())).await;
        let changed = async {
            match &mut files {
                Some(files) => files.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause(source.interval, failures)) => {}
            () = changed => {}
            () = kick.notified() => {}
        }
    }
}

/// How long until the next fetch, a tenth more or less: the interval, and less after a failure.
fn pause(interval: Timespan, failures: u32) -> Duration {
    let retry = Retry { initial: FIRST_WAIT, max: interval };
    let wait = if failures == 0 { interval.get() } else { retry.wait(failures) };
    wait.mul_f64(0.9 + fastrand::f64() / 5.0)
}

/// Judges a commit; an error says why that is not possible for now.
fn judge(
    mirror: &Mirror,
    host: &Host,
    branch: String,
    commit: String,
    accepted: Option<String>,
) -> Result<Candidate, String> {
    let verdict = declared(mirror, host, &commit, accepted.as_deref())?;
    Ok(Candidate { revision: Revision { branch, commit }, verdict })
}

fn declared(
    mirror: &Mirror,
    host: &Host,
    commit: &str,
    accepted: Option<&str>,
) -> Result<Result<Declared, Refused>, String> {
    let refused = |kind, reason| Ok(Err(Refused { kind, reason, findings: Vec::new() }));
    let (signer, rewound) = match mirror.verify(&host.verify, accepted, commit) {
        Ok(signer) => (signer, false),
        // Its signatures count; whether it may come back is for an operator to say.
        Err(VerifyError::Rewound { signer, .. }) => (signer, true),
        Err(error @ (VerifyError::Commit { .. } | VerifyError::Shallow(_))) => {
            return refused("Unverified", chain(&error));
        }
        Err(error) => return Err(chain(&error)),
    };
    let desired = match read(mirror, commit) {
        Ok(desired) => desired,
        Err(error @ (SourceError::PathMissing { .. } | SourceError::TooManyFiles)) => {
            return refused("Unreadable", chain(&error));
        }
        Err(error) => return Err(chain(&error)),
    };
    if !desired.policy_usable {
        let findings: Vec<Finding> =
            desired.findings.into_iter().filter(|finding| finding.severity == Severity::Error).collect();
        let first = findings.first().map_or_else(String::new, |finding| format!(": {finding}"));
        let reason =
            format!("fleet.yaml, tiers.yaml or the folder tenants has errors, so nobody's settings are known{first}");
        return Ok(Err(Refused { kind: "InvalidPolicy", reason: reason.replace('\n', "; "), findings }));
    }
    let approved = approved(mirror, host, commit, accepted, &desired).map_err(|e| chain(&e))?;
    Ok(Ok(Declared { signer, desired: Arc::new(desired), rewound, approved }))
}

/// The tenants whose declaration somebody approved who may, and who that was. An approval counts for what its own commit
/// declares: what a later one makes of the tenant needs another.
fn approved(
    mirror: &Mirror,
    host: &Host,
    commit: &str,
    accepted: Option<&str>,
    desired: &Desired,
) -> Result<BTreeMap<String, String>, SourceError> {
    let Approvals { approvers, needed } = &host.approvals;
    if needed.is_empty() {
        return Ok(BTreeMap::new());
    }
    let signers = host.verify.signers.iter().filter(|signer| approvers.contains(&signer.name));
    let approvals = mirror.approvals(&signers.cloned().collect::<Vec<_>>(), accepted, commit)?;
    let mut approved = BTreeMap::new();
    for approval in approvals.into_iter().take(MOST_APPROVALS) {
        let older = if approval.commit == commit { None } else { Some(read(mirror, &approval.commit)?) };
        let meant = older.as_ref().unwrap_or(desired);
        let named = |name: &TenantName| approval.tenants.as_ref().is_none_or(|some| some.contains(name.as_str()));
        for (name, tenant) in desired.tenants.iter().filter(|(name, _)| named(name)) {
            if meant.tenants.get(name) == Some(tenant) {
                approved.entry(name.to_string()).or_insert_with(|| approval.by.clone());
            }
        }
    }
    Ok(approved)
}
