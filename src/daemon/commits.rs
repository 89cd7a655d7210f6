//! What is done about a commit: accept, hold or refuse it, go back to an older declaration.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::{
    Daemon,
    config_repo::Held,
    events::{
        CommitAccepted, CommitHeld, CommitRefused, DaemonEvent, NothingToGoBackTo, TenantApproved, TenantMarkedBad,
        TenantWaiting, WaitWithdrawn,
    },
    in_force::{
        self, Composition, Declaration, Failed, Fleet, Next, Pin, State, StateError, WaitChanges, Waits, some_of,
        stands_at,
    },
    intake::{Candidate, Declared, Refused, RefusedKind, SourceNews},
};
use crate::{
    fault::chain,
    host::signals,
    model::{Desired, Revision, record::Trigger},
    plan::guard::{self, Hold},
    source::Approval,
    web::{
        Refusal,
        operators::{Approve, Approved},
    },
};

/// What an operator agreed to.
#[derive(Clone, Copy)]
struct Agreement<'a> {
    plan: &'a str,
    by: &'a str,
    /// The removals that were shown.
    removed: &'a [String],
}

impl Daemon {
    /// Puts the commit in force again that was in force when the daemon ended.
    pub(super) async fn restore(&mut self) {
        let Some(accepted) = self.in_force.state().accepted.clone() else { return };
        let pins = self.in_force.state().pins.clone();
        let pinned = |pick: fn(&Pin) -> Option<Composition>| -> BTreeMap<String, Composition> {
            pins.iter().filter_map(|(name, pin)| Some((name.clone(), pick(pin)?))).collect()
        };
        let wanted = [pinned(Pin::stands_at), pinned(|pin| pin.good.clone())];
        let (mirror, commit) = (Arc::clone(&self.repo.mirror), accepted.revision.commit.clone());
        let read = tokio::task::spawn_blocking(move || {
            let desired = in_force::read(&mirror, &commit)?;
            let [stands, good] = in_force::declarations(&mirror, &wanted, in_force::AT_A_START);
            let [wanted, _] = wanted;
            let unknown: Vec<String> = wanted.into_keys().filter(|name| !stands.contains_key(name)).collect();
            Ok::<_, crate::source::SourceError>((desired, good, stands, unknown))
        });
        // At a start systemd waits for it, and later the watchdog.
        match self.signals.alive_while(signals::starting_while(read)).await {
            Ok(Ok((desired, good, stands, unknown))) if desired.policy_usable => {
                if !unknown.is_empty() {
                    let (tenants, most) = (some_of(&unknown), in_force::AT_A_START);
                    tracing::warn!(
                        tenants,
                        "what these stand at cannot be read, or is beyond the {most} commits that are read at a start; \
                         they are left as they are, until a commit declares them in a way that can be carried out"
                    );
                }
                let desired = Arc::new(desired);
                self.repo.is_in_force(accepted.revision.clone(), accepted.signer, &desired);
                // Each may have ended before the declaration in force was carried out.
                pins.keys().for_each(|name| self.tenants.may_not_be_reached(name));
                self.in_force.fleet = Some(Fleet::restored(accepted.revision, desired, &pins, good, stands));
                self.scan.because(Trigger::Start);
                // What cannot be read now may be readable later, and is not to be forgotten.
                if unknown.is_empty() {
                    self.judge_waiting().await;
                }
            }
            Ok(Ok(_)) => tracing::error!(revision = %accepted.revision, "the commit in force has errors in its policy"),
            Ok(Err(e)) => {
                tracing::error!(revision = %accepted.revision, error = chain(&e), "cannot read the commit in force; waiting for the source");
            }
            Err(e) => tracing::error!(error = %e, "cannot read the commit in force"),
        }
    }

    pub(super) async fn source_news(&mut self, news: SourceNews) {
        self.reporter.metrics.fetched(!matches!(news, SourceNews::Failed(_)));
        match news {
            SourceNews::Failed(error) => {
                if self.repo.failed(error.clone()) {
                    tracing::warn!(error, "the config repo cannot be read; the last commit stays in force");
                }
            }
            SourceNews::Unchanged => {
                self.repo.answered();
                self.restore_late().await;
            }
            SourceNews::Candidate(candidate) => {
                self.repo.answered();
                self.restore_late().await;
                self.repo.status.seen = Some(candidate.revision.clone());
                self.decide(*candidate).await;
            }
        }
    }

    /// Puts the commit in force again that could not be read at the start: a fetch may have brought it back. Whatever is
    /// decided without it forgets what tenants go back to.
    async fn restore_late(&mut self) {
        if self.in_force.fleet.is_some() {
            return;
        }
        self.restore().await;
        if self.in_force.fleet.is_some() {
            self.scan.ask_without_reason(Instant::now());
            if let Some(candidate) = self.repo.pending.take() {
                self.decide(candidate).await;
            }
        }
    }

    /// Decides about a commit.
    pub(super) async fn decide(&mut self, candidate: Candidate) {
        let in_force = self.in_force.state().accepted.as_ref().map(|accepted| &accepted.revision.commit);
        if candidate.is_overtaken(in_force) {
            // It descends from, and is signed and approved since, what is in force no more.
            tracing::debug!(revision = %candidate.revision, "another commit came into force meanwhile; judging anew");
            self.repo.intake.trigger_fetch();
            return;
        }
        let Candidate { revision, against, verdict } = candidate;
        self.repo.nothing_is_held();
        match verdict {
            Err(refused) => self.refuse(revision, refused).await,
            Ok(declared) => {
                self.repo.verified(self.host.verify.mode, declared.signer.as_deref());
                if self.in_force.fleet.as_ref().is_some_and(|fleet| fleet.revision == revision) {
                    self.repo.show_findings(&declared.desired);
                    return;
                }
                if self.in_force.fleet.is_none() && !self.scan.is_complete() {
                    // What a first commit would remove is known only once the engine was observed.
                    self.repo.pending = Some(Candidate { revision, against, verdict: Ok(declared) });
                    return;
                }
                let next = self.next(&revision, &declared.desired, &declared.approvals.new).await;
                match self.in_force.hold(&declared.desired, declared.non_fast_forward, &next) {
                    Some(hold) => self.keep_waiting(revision, declared, hold).await,
                    None => drop(self.accept(revision, declared, next, None).await),
                }
            }
        }
    }

    async fn refuse(&mut self, revision: Revision, refused: Refused) {
        let Refused { kind, reason, findings } = refused;
        if kind == RefusedKind::Unverified {
            self.repo.verified = Some(Err(reason.clone()));
        }
        let findings = findings.iter().map(ToString::to_string).collect();
        if self.repo.refuse(&revision, &reason, findings) {
            let in_force = self.in_force.revision(None);
            self.reporter.report(&CommitRefused { revision, kind: kind.as_str(), reason, in_force }).await;
        }
    }

    async fn keep_waiting(&mut self, revision: Revision, declared: Declared, hold: Hold) {
        let plan = guard::hold_id(&revision.commit, &hold);
        let Hold { reason, removed } = hold;
        let event = CommitHeld {
            revision: revision.clone(),
            signer: declared.signer.clone(),
            reason: reason.clone(),
            removed: removed.clone(),
            plan: plan.clone(),
            in_force: self.in_force.revision(None),
        };
        self.repo.hold(Held { plan, removed, revision, declared }, reason);
        self.reporter.report(&event).await;
    }

    /// Lets a held commit in.
    pub(super) async fn approve(&mut self, Approve { plan }: Approve, by: String) -> Result<Approved, Refusal> {
        match self.repo.held.take() {
            None => Err(Refusal::not_found("no commit is held").hint("a newer one may have taken its place")),
            Some(held) if held.plan != plan => {
                // The right id is read beside what it lets in, and nowhere else.
                self.repo.held = Some(held);
                Err(Refusal::conflict("this is not the whole id of what is held now")
                    .hint("`tenantd status` shows the commit, what it would remove, and its id"))
            }
            Some(Held { revision, declared, removed, .. }) => {
                // What it would remove may be more by now than what was agreed to.
                let next = self.next(&revision, &declared.desired, &declared.approvals.new).await;
                if let Some(hold) = self.in_force.hold(&declared.desired, declared.non_fast_forward, &next)
                    && guard::hold_id(&revision.commit, &hold) != plan
                {
                    self.keep_waiting(revision, declared, hold).await;
                    return Err(
                        Refusal::conflict("what the commit would remove has changed").hint("`tenantd status` shows it")
                    );
                }
                let agreement = Agreement { plan: &plan, by: &by, removed: &removed };
                if self.accept(revision.clone(), declared, next, Some(agreement)).await {
                    self.repo.status.held = None;
                    Ok(Approved { plan, revision, by })
                } else {
                    Err(self.not_kept())
                }
            }
        }
    }

    /// What a commit would put in force, with the approvals that came with it.
    async fn next(&mut self, revision: &Revision, desired: &Arc<Desired>, approvals: &[Approval]) -> Next {
        let returning = self.returning(desired).await;
        let present = &self.view.objects.present;
        self.in_force.next(revision, desired, approvals, &returning, present, &self.host)
    }

    /// Puts a commit in force. False where that cannot be kept: it waits then, or is refused where it is the commit that makes
    /// the state too large.
    async fn accept(
        &mut self,
        revision: Revision,
        declared: Declared,
        next: Next,
        approved: Option<Agreement<'_>>,
    ) -> bool {
        let removed = approved.map_or(&[][..], |agreed| agreed.removed);
        let signer = declared.signer.clone();
        let former = match self.in_force.accept(&next, signer.clone(), &declared.approvals, removed, &self.host) {
            Ok(former) => former,
            Err(error) => {
                self.not_accepted(revision, declared, approved, &error).await;
                return false;
            }
        };
        self.repo.came_into_force(&revision, signer.clone(), &declared.desired);
        let Next { change, agreed, .. } = next;
        let event = CommitAccepted {
            revision: revision.clone(),
            signer,
            changed: change.changed.len(),
            wrong: declared.desired.held.len(),
            approved: approved.map(|agreed| (agreed.plan.to_owned(), agreed.by.to_owned())),
        };
        self.put_in_force(change);
        self.reporter.report(&event).await;
        self.report_waits(&former, agreed).await;
        self.timer.hasten(Instant::now());
        self.scan.ask_because(Trigger::Commit { revision }, Instant::now());
        true
    }

    async fn not_accepted(
        &mut self,
        revision: Revision,
        declared: Declared,
        approved: Option<Agreement<'_>>,
        error: &StateError,
    ) {
        match (error, approved) {
            (StateError::TooMuch { .. }, _) => {
                // No other try helps, and the former state can be kept.
                let refused = Refused { kind: RefusedKind::TooMuchState, reason: chain(error), findings: Vec::new() };
                self.refuse(revision, refused).await;
            }
            (StateError::Io { .. } | StateError::TooLarge { .. } | StateError::Newer { .. }, Some(agreed)) => {
                let (plan, removed) = (agreed.plan.to_owned(), agreed.removed.to_vec());
                self.repo.held = Some(Held { plan, removed, revision, declared });
            }
            (StateError::Io { .. } | StateError::TooLarge { .. } | StateError::Newer { .. }, None) => {
                let accepted = self.in_force.state().accepted.as_ref();
                let against = accepted.map(|accepted| accepted.revision.commit.clone());
                self.repo.pending = Some(Candidate { revision, against, verdict: Ok(declared) });
            }
        }
    }

    /// Has all work go by other declarations, and tenants whose declaration is another one start with a clean record. Who waits by
    /// another `retry` than is in force now waits no longer.
    fn put_in_force(&mut self, change: in_force::FleetChange) {
        let (now, retry) = (Instant::now(), self.in_force.retry());
        for (name, starts_alike) in self.in_force.carry_out(change) {
            self.tenants.declaration_changed(&name, starts_alike, now);
        }
        if self.in_force.retry() != retry {
            self.tenants.reset_all_backoffs();
        }
    }

    /// Judges those who wait for an approval by settings that may have changed since their commit came into force.
    pub(super) async fn judge_waiting(&mut self) {
        let is_waiting = self.in_force.state().pins.values().any(|pin| pin.waits.is_some());
        let Some(fleet) = self.in_force.fleet.as_ref().filter(|_| is_waiting) else { return };
        let (revision, declared) = (fleet.revision.clone(), Arc::clone(&fleet.declared));
        let next = self.next(&revision, &declared, &[]).await;
        match self.in_force.judge_anew(&next) {
            Ok(None) => {}
            Ok(Some(former)) => {
                self.put_in_force(next.change);
                self.report_waits(&former, BTreeMap::new()).await;
                self.timer.hasten(Instant::now());
                self.scan.ask_without_reason(Instant::now());
            }
            Err(error) => tracing::warn!(
                error = chain(&error),
                "the state cannot be kept; who waits for an approval is judged anew by the next commit"
            ),
        }
    }

    /// The last declarations of tenants that a commit brings back, where that can need an approval.
    async fn returning(&mut self, next: &Desired) -> BTreeMap<String, Declaration> {
        let is_back = |name: &str| next.tenants.contains_key(name) && !self.host.approvals.needed.is_empty();
        let removed = self.in_force.state().removed.iter().filter(|(name, _)| is_back(name));
        let removed: BTreeMap<String, Composition> = removed.map(|(name, at)| (name.clone(), at.clone())).collect();
        if removed.is_empty() {
            return BTreeMap::new();
        }
        let mirror = Arc::clone(&self.repo.mirror);
        let read = tokio::task::spawn_blocking(move || {
            let wanted = std::array::from_ref(&removed);
            let [declarations] = in_force::declarations(&mirror, wanted, in_force::RETURNING);
            let unknown: Vec<String> = removed.into_keys().filter(|name| !declarations.contains_key(name)).collect();
            (declarations, unknown)
        });
        let (declarations, unknown) = self.signals.alive_while(read).await.unwrap_or_default();
        if !unknown.is_empty() {
            let (tenants, most) = (some_of(&unknown), in_force::RETURNING);
            tracing::warn!(
                tenants,
                "the last declarations of these cannot be read, or are beyond the {most} commits that are read for one \
                 commit; they are judged as new"
            );
        }
        declarations
    }

    /// Tells of the tenants that wait for an approval since now, and of those that do no more.
    async fn report_waits(&mut self, former: &State, agreed: BTreeMap<String, (String, Waits)>) {
        let Some(revision) = self.in_force.revision(None) else { return };
        let WaitChanges { begun, withdrawn } = self.in_force.wait_changes(former, |name| agreed.contains_key(name));
        let mut events: Vec<Box<dyn DaemonEvent>> = Vec::new();
        for (tenant, (by, waits)) in agreed {
            let revision = revision.clone();
            events.push(Box::new(TenantApproved { tenant, revision, loosens: waits.loosens, by }));
        }
        for tenant in withdrawn {
            events.push(Box::new(WaitWithdrawn { tenant, revision: revision.clone() }));
        }
        for (tenant, waits, stands) in begun {
            events.push(Box::new(TenantWaiting {
                text: format!("{waits}; {}", stands_at(stands.as_ref())),
                in_force: self.in_force.revision(Some(&tenant)),
                tenant,
                revision: revision.clone(),
                stands,
                loosens: waits.loosens,
                approvers: waits.approvers,
            }));
        }
        // One tier may have thousands wait: they do not cost the loop a write each.
        self.reporter.report_all(&events, &mut self.signals).await;
    }

    /// Tries again to put a commit in force that could not be kept.
    pub(super) async fn retry_pending(&mut self) {
        // Where none is in force, it may be the first observation of the engine that is waited for.
        if (self.scan.is_complete() || self.in_force.fleet.is_some())
            && let Some(candidate) = self.repo.pending.take()
        {
            self.decide(candidate).await;
        }
    }

    /// Marks the declaration in force of a tenant as bad, and has the tenant go back to what last ran well, as far as that
    /// is not looser.
    pub(super) async fn mark_failed(&mut self, name: &str, reason: &str) {
        match self.in_force.mark_failed(name, reason) {
            Failed::NotOnTrial => {}
            Failed::NothingElse => self.reporter.report(&NothingToGoBackTo { tenant: name, reason }).await,
            Failed::BackTo { revision, back_to } => {
                let event = TenantMarkedBad {
                    tenant: name.to_owned(),
                    revision: revision.clone(),
                    back_to,
                    reason: reason.to_owned(),
                    in_force: self.in_force.revision(Some(name)),
                };
                self.reporter.report(&event).await;
                self.tenants.went_back(name, Trigger::Commit { revision }, Instant::now());
            }
        }
    }
}
