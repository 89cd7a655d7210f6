//! What is known of the config repo, and which of its commits wait.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    in_force::mirror,
    intake::{Candidate, Declared, Intake},
};
use crate::{
    model::{
        Desired, Host, Revision,
        host::{Source, VerifyMode},
        status::{HeldRevision, SourceStatus},
    },
    source::{Mirror, shown_url},
};

/// A commit that waits for an operator.
pub(super) struct Held {
    /// The id that lets it in.
    pub(super) plan: String,
    /// The removals that are shown of it.
    pub(super) removed: Vec<String>,
    pub(super) revision: Revision,
    pub(super) declared: Declared,
}

pub(super) struct ConfigRepo {
    pub(super) mirror: Arc<Mirror>,
    pub(super) intake: Intake,
    /// The commit in force, from which the intake counts signatures.
    accepted: watch::Sender<Option<String>>,
    pub(super) status: SourceStatus,
    /// What the signatures of the newest commit said; `None` where they are not checked.
    pub(super) verified: Option<Result<String, String>>,
    /// A commit that is judged when the engine was observed, or the state can be kept.
    pub(super) pending: Option<Candidate>,
    pub(super) held: Option<Held>,
    /// The commit whose refusal is on record.
    refused: Option<String>,
}

impl ConfigRepo {
    /// Begins to follow it.
    pub(super) async fn begin(host: &Arc<Host>, source: &Source, accepted: Option<String>) -> anyhow::Result<Self> {
        let mirror = Arc::new(open_mirror(host, source).await?);
        let (accepted, now) = watch::channel(accepted);
        Ok(Self {
            intake: Intake::begin(Arc::clone(host), source.clone(), Arc::clone(&mirror), now),
            mirror,
            accepted,
            status: SourceStatus { url: shown_url(&source.url), ..SourceStatus::default() },
            verified: None,
            pending: None,
            held: None,
            refused: None,
        })
    }

    /// Follows it by new settings, in another mirror if there is one. What waits was judged by the former settings.
    pub(super) fn follow_anew(&mut self, host: &Arc<Host>, source: &Source, mirror: Option<Mirror>) {
        if let Some(mirror) = mirror {
            self.mirror = Arc::new(mirror);
        }
        self.status.url = shown_url(&source.url);
        (self.refused, self.pending) = (None, None);
        self.nothing_is_held();
        let (mirror, accepted) = (Arc::clone(&self.mirror), self.accepted.subscribe());
        self.intake = Intake::begin(Arc::clone(host), source.clone(), mirror, accepted);
    }

    /// It answered.
    pub(super) fn answered(&mut self) {
        self.status.error = None;
        self.status.fetched = Some(Timestamp::now());
    }

    /// It did not answer. Whether that is news.
    pub(super) fn failed(&mut self, error: String) -> bool {
        let is_news = self.status.error.as_ref() != Some(&error);
        self.status.error = Some(error);
        is_news
    }

    /// Takes note of what the signatures of the newest commit said.
    pub(super) fn verified(&mut self, mode: VerifyMode, signer: Option<&str>) {
        self.verified = match mode {
            VerifyMode::None => None,
            VerifyMode::Head | VerifyMode::All => Some(Ok(signer.unwrap_or("a signer").to_owned())),
        };
    }

    pub(super) fn show_findings(&mut self, desired: &Desired) {
        self.status.findings = desired.findings.iter().map(ToString::to_string).collect();
    }

    pub(super) fn nothing_is_held(&mut self) {
        (self.held, self.status.held) = (None, None);
    }

    /// A commit is in force, and has been before.
    pub(super) fn is_in_force(&mut self, revision: Revision, signer: Option<String>, desired: &Desired) {
        self.show_findings(desired);
        self.status.applied = Some(revision);
        self.status.signer = signer;
    }

    /// A commit came into force.
    pub(super) fn came_into_force(&mut self, revision: &Revision, signer: Option<String>, desired: &Desired) {
        self.refused = None;
        self.is_in_force(revision.clone(), signer, desired);
        self.accepted.send_replace(Some(revision.commit.clone()));
    }

    /// A commit waits for an operator.
    pub(super) fn hold(&mut self, held: Held, reason: String) {
        self.status.held = Some(HeldRevision {
            revision: held.revision.clone(),
            reason,
            plan: Some(held.plan.clone()),
            tenants: held.removed.clone(),
        });
        self.held = Some(held);
    }

    /// A commit is refused. Whether that is news.
    pub(super) fn refuse(&mut self, revision: &Revision, reason: &str, findings: Vec<String>) -> bool {
        self.status.held = Some(HeldRevision {
            revision: revision.clone(),
            reason: reason.to_owned(),
            plan: None,
            tenants: Vec::new(),
        });
        self.status.findings = findings;
        self.refused.replace(revision.commit.clone()).as_ref() != Some(&revision.commit)
    }
}

/// Opens, or makes, the mirror of a config repo.
pub(super) async fn open_mirror(host: &Host, source: &Source) -> anyhow::Result<Mirror> {
    let (folder, source): (PathBuf, _) = (mirror(&host.data_root), source.clone());
    let opened = tokio::task::spawn_blocking(move || Mirror::open(&folder, &source)).await;
    opened.context("cannot open the mirror of the config repo")?.context("cannot open the mirror of the config repo")
}
