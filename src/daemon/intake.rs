//! The way in for commits: fetch, judge signatures, read, compile. What is then done about them is
//! the daemon's to decide.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{Notify, mpsc, watch};

use super::in_force::{read, state_path};
use crate::{
    fault::chain,
    model::{
        Desired, Finding, Host, Revision, Severity,
        host::{Approvals, Source},
        policy::Retry,
        quantity::Timespan,
    },
    source::{ApprovalHistory, Mirror, SourceError, VerifyError, Watch, commits_in, local_path},
};

/// The least time between two fetches: a push comes as many file events.
const SPACING: Duration = Duration::from_millis(50);

/// The first wait after a fetch that failed.
const FIRST_WAIT: Timespan = Timespan::seconds(1);

/// What is reported of the config repo.
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
    /// The commit that was in force then: its signatures, descent and approvals were counted from there.
    pub(super) against: Option<String>,
    pub(super) verdict: Result<Declared, Refused>,
}

impl Candidate {
    /// Whether another commit came into force since it was judged. What is in force itself needs no other judgement.
    pub(super) fn is_overtaken(&self, in_force: Option<&String>) -> bool {
        self.against.as_ref() != in_force && Some(&self.revision.commit) != in_force
    }
}

/// A commit that can be carried out.
pub(super) struct Declared {
    /// Who signed it, where signatures are checked.
    pub(super) signer: Option<String>,
    /// What it declares.
    pub(super) desired: Arc<Desired>,
    /// Whether it does not descend from the commit in force, where signatures are checked: an old
    /// signed commit may have been put back by someone who cannot sign.
    pub(super) non_fast_forward: bool,
    /// Its approvals, counted from the commit that was in force when it was judged.
    pub(super) approvals: ApprovalHistory,
}

/// What kind of reason a refusal of a commit has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusedKind {
    /// Its signatures do not count.
    Unverified,
    /// What it says for all tenants is wrong.
    InvalidPolicy,
    /// It cannot be read.
    Unreadable,
    /// With it, the state would be too large to be kept.
    TooMuchState,
}

impl RefusedKind {
    /// Its word in the log.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Unverified => "Unverified",
            Self::InvalidPolicy => "InvalidPolicy",
            Self::Unreadable => "Unreadable",
            Self::TooMuchState => "TooMuchState",
        }
    }
}

/// Why a commit cannot be carried out.
pub(super) struct Refused {
    pub(super) kind: RefusedKind,
    pub(super) reason: String,
    /// Its wrong files.
    pub(super) findings: Vec<Finding>,
}

/// Follows a config repo.
pub(super) struct Intake {
    pub(super) news: mpsc::Receiver<SourceNews>,
    fetch_now: Arc<Notify>,
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
        let fetch_now = Arc::new(Notify::new());
        let task = tokio::spawn(follow(host, source, mirror, accepted, sender, Arc::clone(&fetch_now)));
        Self { news, fetch_now, task }
    }

    /// Asks for a fetch now.
    pub(super) fn trigger_fetch(&self) {
        self.fetch_now.notify_one();
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
    fetch_now: Arc<Notify>,
) {
    let mut files = local_path(&source.url).map(|path| Watch::new(&path));
    // A head, and the commit in force that it was judged against.
    let mut judged: Option<(String, Option<String>)> = None;
    let mut failures = 0u32;
    loop {
        if let Some(files) = &mut files {
            // Where it cannot be watched, the poll beside is what finds changes.
            if let Err(e) = files.ensure() {
                tracing::debug!(error = chain(&e), "the config repo is not watched");
            }
        }
        let begun = Instant::now();
        let fetched = match mirror.fetch().await {
            Ok(head) if is_judged(judged.as_ref(), &head, accepted.borrow().as_deref()) => Ok(SourceNews::Unchanged),
            Ok(head) => {
                let accepted = accepted.borrow().clone();
                let against = accepted.clone();
                let (mirror, host, branch) = (Arc::clone(&mirror), Arc::clone(&host), source.branch.clone());
                let commit = head.clone();
                let judging = tokio::task::spawn_blocking(move || judge(&mirror, &host, branch, commit, accepted));
                let candidate = judging.await.map_err(|e| e.to_string()).flatten();
                // One that could not be judged is tried again.
                judged = candidate.is_ok().then_some((head, against));
                candidate.map(|candidate| SourceNews::Candidate(Box::new(candidate)))
            }
            Err(e) => Err(chain(&e)),
        };
        failures = if fetched.is_ok() { 0 } else { failures.saturating_add(1) };
        if news.send(fetched.unwrap_or_else(SourceNews::Failed)).await.is_err() {
            return;
        }
        // Not before the commit was judged: it does not wait for this.
        match commits_in(&state_path(&host.data_root)) {
            Ok(needed) => drop(mirror.maintain(needed).await),
            Err(error) => tracing::warn!(%error, "cannot read which commits are needed; none is dropped"),
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
            () = fetch_now.notified() => {}
        }
    }
}

/// Whether a head needs no judging: it is in force, or was judged against what is.
fn is_judged(judged: Option<&(String, Option<String>)>, head: &str, in_force: Option<&str>) -> bool {
    judged.is_some_and(|(known, against)| known == head && (in_force == Some(head) || against.as_deref() == in_force))
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
    Ok(Candidate { revision: Revision { branch, commit }, against: accepted, verdict })
}

fn declared(
    mirror: &Mirror,
    host: &Host,
    commit: &str,
    accepted: Option<&str>,
) -> Result<Result<Declared, Refused>, String> {
    let refused = |kind, reason| Ok(Err(Refused { kind, reason, findings: Vec::new() }));
    let (signer, non_fast_forward) = match mirror.verify(&host.verify, accepted, commit) {
        Ok(signer) => (signer, false),
        // Its signatures count; whether it may come back is for an operator to say.
        Err(VerifyError::NonFastForward { signer, .. }) => (signer, true),
        Err(error @ (VerifyError::Commit { .. } | VerifyError::Shallow(_))) => {
            return refused(RefusedKind::Unverified, chain(&error));
        }
        Err(VerifyError::Source(error @ SourceError::Unparsed { .. })) => {
            return refused(RefusedKind::Unreadable, chain(&error));
        }
        Err(error) => return Err(chain(&error)),
    };
    let desired = match read(mirror, commit) {
        Ok(desired) => desired,
        Err(error @ (SourceError::PathMissing { .. } | SourceError::Unparsed { .. })) => {
            return refused(RefusedKind::Unreadable, chain(&error));
        }
        Err(error) => return Err(chain(&error)),
    };
    if !desired.policy_usable {
        let findings: Vec<Finding> =
            desired.findings.into_iter().filter(|finding| finding.severity == Severity::Error).collect();
        let first = findings.first().map_or_else(String::new, |finding| format!(": {finding}"));
        let reason =
            format!("fleet.yaml, tiers.yaml or the folder tenants has errors, so nobody's settings are known{first}");
        return Ok(Err(Refused { kind: RefusedKind::InvalidPolicy, reason: reason.replace('\n', "; "), findings }));
    }
    let approvals = approvals(mirror, host, commit, accepted).map_err(|e| chain(&e))?;
    Ok(Ok(Declared { signer, desired: Arc::new(desired), non_fast_forward, approvals }))
}

/// The approvals that came with a commit, where the host asks for any.
fn approvals(
    mirror: &Mirror,
    host: &Host,
    commit: &str,
    accepted: Option<&str>,
) -> Result<ApprovalHistory, SourceError> {
    let Approvals { approvers, needed, .. } = &host.approvals;
    if needed.is_empty() {
        return Ok(ApprovalHistory { complete: true, ..ApprovalHistory::default() });
    }
    let signers = host.verify.signers.iter().filter(|signer| approvers.contains(&signer.name));
    mirror.approvals(&signers.cloned().collect::<Vec<_>>(), accepted, commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMITS: [&str; 3] = ["a", "b", "c"];

    /// Every head, judged against every commit, with every commit in force afterwards.
    #[test]
    fn a_head_counts_as_judged_only_against_what_is_in_force() {
        let some = || COMMITS.into_iter().map(Some).chain([None]);
        for head in COMMITS {
            assert!(!is_judged(None, head, Some(head)), "a head that was never judged is not known");
            for (against, in_force) in some().flat_map(|against| some().map(move |now| (against, now))) {
                let refused = Refused { kind: RefusedKind::Unverified, reason: String::new(), findings: Vec::new() };
                let candidate = Candidate {
                    revision: Revision { branch: "main".to_owned(), commit: head.to_owned() },
                    against: against.map(str::to_owned),
                    verdict: Err(refused),
                };
                let counts = against == in_force || in_force == Some(head);
                assert_eq!(candidate.is_overtaken(in_force.map(str::to_owned).as_ref()), !counts);
                let judged = (head.to_owned(), against.map(str::to_owned));
                for other in COMMITS {
                    assert_eq!(is_judged(Some(&judged), other, in_force), other == head && counts);
                }
            }
        }
    }
}
