//! What is done about a commit: accept, hold or refuse it, go back to an older declaration.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    Daemon,
    fleet::{Declaration, Fleet},
    intake::{self, Candidate, Declared, Refused, SourceNews},
    state::{Accepted, Pin, State, Waits},
};
use crate::{
    engine::CallError,
    model::{
        Desired, Entry, Revision, TenantName,
        host::{NotifyEvent, VerifyMode},
        record::{RevisionRecord, Trigger, Verdict},
        status::HeldRevision,
    },
    plan::guard::{self, Hold},
    reconcile::Failure,
    source::Mirror,
    web::Refusal,
};

/// A commit that waits for an operator.
pub(super) struct Held {
    plan: String,
    revision: Revision,
    declared: Declared,
}

/// How long the engine's events may take to arrive.
const NEWS: Duration = Duration::from_millis(100);

/// How many failures of one declaration make it bad, where one alone may have another cause.
const FAULTS: u32 = 3;

/// How many tenants that are gone are remembered.
const MOST_DEPARTED: usize = 100_000;

/// What each of these commits declares of its tenant. One that cannot be read is left out.
fn older(mirror: &Mirror, wanted: BTreeMap<String, Revision>) -> BTreeMap<String, Declaration> {
    let mut trees: BTreeMap<String, Option<Desired>> = BTreeMap::new();
    let found = wanted.into_iter().filter_map(|(name, revision)| {
        let commit = &revision.commit;
        let tree = trees.entry(commit.clone()).or_insert_with(|| intake::read(mirror, commit).ok());
        let tenant = tree.as_ref()?.tenants.get(name.as_str())?.clone();
        Some((name, Declaration { tenant, revision }))
    });
    found.collect()
}

impl Daemon {
    /// Puts the commit in force again that was in force when the daemon ended.
    pub(super) async fn restore(&mut self) {
        let Some(accepted) = self.state.accepted.clone() else { return };
        let pinned = |pick: fn(&Pin) -> Option<&Revision>| -> BTreeMap<String, Revision> {
            self.state.pins.iter().filter_map(|(name, pin)| Some((name.clone(), pick(pin)?.clone()))).collect()
        };
        let wanted = [pinned(|pin| pin.good.as_ref()), pinned(|pin| pin.waits.as_ref()?.at.as_ref())];
        let (mirror, commit) = (Arc::clone(&self.mirror), accepted.revision.commit.clone());
        let read = tokio::task::spawn_blocking(move || {
            let desired = intake::read(&mirror, &commit)?;
            let declarations = wanted.map(|wanted| older(&mirror, wanted));
            Ok::<_, crate::source::SourceError>((desired, declarations))
        });
        match read.await {
            Ok(Ok((desired, [good, kept]))) if desired.policy_usable => {
                let revision = accepted.revision.clone();
                self.source.findings = desired.findings.iter().map(ToString::to_string).collect();
                let fleet = Fleet::new(revision, Arc::new(desired), &self.state.pins, good, kept);
                let on_trial = |(name, pin): (&String, &Pin)| {
                    (pin.bad.is_none() && !fleet.older.contains_key(name)).then(|| name.clone())
                };
                for name in self.state.pins.iter().filter_map(on_trial).collect::<Vec<_>>() {
                    // It may have ended before the declaration was carried out.
                    self.run_of(&name).reached = Some(false);
                }
                self.fleet = Some(fleet);
                self.source.applied = Some(accepted.revision);
                self.source.signer = accepted.signer;
                self.survey_trigger = Some(Trigger::Start);
            }
            Ok(Ok(_)) => tracing::error!(revision = %accepted.revision, "the commit in force has errors in its policy"),
            Ok(Err(e)) => {
                tracing::error!(revision = %accepted.revision, error = crate::fault::chain(&e), "cannot read the commit in force; waiting for the source");
            }
            Err(e) => tracing::error!(error = %e, "cannot read the commit in force"),
        }
    }

    pub(super) async fn source_news(&mut self, news: SourceNews) {
        self.metrics.fetched(!matches!(news, SourceNews::Failed(_)));
        match news {
            SourceNews::Failed(error) => {
                if self.source.error.as_ref() != Some(&error) {
                    tracing::warn!(error, "the config repo cannot be read; the last commit stays in force");
                }
                self.source.error = Some(error);
            }
            SourceNews::Unchanged => self.source_answered(),
            SourceNews::Candidate(candidate) => {
                self.source_answered();
                self.source.seen = Some(candidate.revision.clone());
                self.decide(*candidate).await;
            }
        }
    }

    fn source_answered(&mut self) {
        self.source.error = None;
        self.source.fetched = Some(Timestamp::now());
    }

    /// Decides about a commit.
    pub(super) async fn decide(&mut self, candidate: Candidate) {
        let Candidate { revision, verdict } = candidate;
        self.held = None;
        self.source.held = None;
        match verdict {
            Err(refused) => self.refuse(revision, refused).await,
            Ok(declared) => {
                self.note_signer(declared.signer.as_deref());
                if self.fleet.as_ref().is_some_and(|fleet| fleet.revision == revision) {
                    self.source.findings = declared.desired.findings.iter().map(ToString::to_string).collect();
                    return;
                }
                if self.fleet.is_none() && !self.surveyed {
                    // What a first commit would remove is known only once the engine was looked at.
                    self.pending = Some(Candidate { revision, verdict: Ok(declared) });
                    return;
                }
                match self.hold(&declared) {
                    Some(hold) => self.keep_waiting(revision, declared, hold).await,
                    None => drop(self.accept(revision, declared, None).await),
                }
            }
        }
    }

    fn note_signer(&mut self, signer: Option<&str>) {
        self.source_verified = match (self.host.verify.mode, signer) {
            (VerifyMode::None, _) => None,
            (_, signer) => Some(Ok(signer.unwrap_or("a signer").to_owned())),
        };
    }

    async fn refuse(&mut self, revision: Revision, refused: Refused) {
        if refused.kind == "Unverified" {
            self.source_verified = Some(Err(refused.reason.clone()));
        }
        self.source.held = Some(HeldRevision {
            revision: revision.clone(),
            reason: refused.reason.clone(),
            plan: None,
            tenants: Vec::new(),
        });
        self.source.findings = refused.findings.iter().map(ToString::to_string).collect();
        if self.refused.as_ref() == Some(&revision.commit) {
            return;
        }
        self.refused = Some(revision.commit.clone());
        tracing::warn!(%revision, kind = refused.kind, reason = refused.reason, "refused a commit; the last one stays in force");
        self.metrics.judged(Verdict::Refused);
        self.tell(NotifyEvent::Held, None, &format!("{revision} is refused: {}", refused.reason));
        self.record(Entry::Revision(RevisionRecord {
            revision,
            verdict: Verdict::Refused,
            signer: None,
            reason: Some(refused.reason),
            tenants: Vec::new(),
            plan: None,
            by: None,
        }))
        .await;
    }

    /// Why a commit needs an operator, if it does.
    fn hold(&self, declared: &Declared) -> Option<Hold> {
        let fleet = self.fleet.as_ref();
        let mut known: BTreeSet<String> = self.present.clone();
        if let Some(fleet) = fleet {
            known.extend(fleet.effective.tenants.keys().map(TenantName::to_string));
        }
        let guards = Fleet::guards(fleet, &declared.desired, self.host.guards);
        let hold = guard::hold(&known, &declared.desired, guards);
        if declared.rewound {
            let reason = "it does not descend from the commit in force: an old signed commit may have been put back";
            return Some(Hold {
                reason: reason.to_owned(),
                removed: hold.map(|hold| hold.removed).unwrap_or_default(),
            });
        }
        hold
    }

    async fn keep_waiting(&mut self, revision: Revision, declared: Declared, hold: Hold) {
        let plan = guard::hold_id(&revision.commit, &hold);
        self.source.held = Some(HeldRevision {
            revision: revision.clone(),
            reason: hold.reason.clone(),
            plan: Some(plan.clone()),
            tenants: hold.removed.clone(),
        });
        tracing::warn!(%revision, reason = hold.reason, plan, tenants = hold.removed.join(", "), "holding a commit; `tenantd approve` lets it in");
        self.metrics.judged(Verdict::Held);
        self.tell(
            NotifyEvent::Held,
            None,
            &format!("{revision} is held: {}; `tenantd approve {plan}` lets it in", hold.reason),
        );
        self.record(Entry::Revision(RevisionRecord {
            revision: revision.clone(),
            verdict: Verdict::Held,
            signer: declared.signer.clone(),
            reason: Some(hold.reason),
            tenants: hold.removed,
            plan: Some(plan.clone()),
            by: None,
        }))
        .await;
        self.held = Some(Held { plan, revision, declared });
    }

    /// Lets a held commit in.
    pub(super) async fn approve(&mut self, plan: &str, by: &str) -> Result<String, Refusal> {
        match self.held.take() {
            None => Err(Refusal::not_found("no commit is held; a newer one may have taken its place")),
            Some(held) if held.plan != plan => {
                let waiting = format!("the held commit has the plan id {}, not {plan}", held.plan);
                self.held = Some(held);
                Err(Refusal::conflict(waiting))
            }
            Some(Held { revision, declared, .. }) => {
                // What it would remove may be more by now than what was agreed to.
                if let Some(hold) = self.hold(&declared)
                    && guard::hold_id(&revision.commit, &hold) != plan
                {
                    self.keep_waiting(revision, declared, hold).await;
                    return Err(Refusal::conflict(
                        "what the commit would remove has changed; `tenantd status` shows it",
                    ));
                }
                let shown = revision.to_string();
                if self.accept(revision, declared, Some((plan, by))).await {
                    self.source.held = None;
                    Ok(shown)
                } else {
                    let error = self.state_error.clone().unwrap_or_default();
                    Err(Refusal::unavailable(format!("the state cannot be kept, so nothing was changed: {error}")))
                }
            }
        }
    }

    /// Puts a commit in force. False where that cannot be kept: it waits then.
    async fn accept(&mut self, revision: Revision, declared: Declared, approved: Option<(&str, &str)>) -> bool {
        let returning = self.returning(&declared.desired).await;
        let (fleet, desired) = (self.fleet.as_ref(), &declared.desired);
        let loosened = Fleet::loosened(fleet, desired, &self.host.approvals, &returning);
        let (agreed, waiting): (BTreeMap<_, _>, BTreeMap<_, _>) =
            loosened.into_iter().partition(|(name, _)| declared.approved.contains_key(name));
        let agreed = agreed.into_iter().filter_map(|(name, waits)| {
            let by = declared.approved.get(&name)?.clone();
            Some(Entry::Approved { tenant: name, revision: revision.clone(), loosens: waits.loosens, by })
        });
        let agreed: Vec<Entry> = agreed.collect();
        let gone = fleet.into_iter().flat_map(|fleet| {
            let gone = fleet.effective.tenants.keys().filter(|name| !desired.mentions(name.as_str()));
            gone.map(|name| (name.to_string(), fleet.revision_of(name.as_str()).clone()))
        });
        let gone: Vec<(String, Revision)> = gone.collect();
        let change = Fleet::succeed(fleet, revision.clone(), Arc::clone(desired), &self.state.pins, waiting);
        let former = self.state.clone();
        self.state.pins = change.pins;
        self.state.departed.retain(|name, _| !change.fleet.effective.tenants.contains_key(name.as_str()));
        self.state.departed.extend(gone);
        while self.state.departed.len() > MOST_DEPARTED {
            self.state.departed.pop_first();
        }
        self.state.accepted = Some(Accepted { revision: revision.clone(), signer: declared.signer.clone() });
        if !self.save() {
            self.state = former;
            self.state_unsaved = false;
            match approved {
                Some((plan, _)) => self.held = Some(Held { plan: plan.to_owned(), revision, declared }),
                None => self.pending = Some(Candidate { revision, verdict: Ok(declared) }),
            }
            return false;
        }
        let verdict = if approved.is_some() { Verdict::Approved } else { Verdict::Accepted };
        tracing::info!(%revision, signer = declared.signer, changed = change.changed.len(), wrong = declared.desired.held.len(), "a commit is in force");
        self.metrics.judged(verdict);
        self.refused = None;
        self.source.applied = Some(revision.clone());
        self.source.signer.clone_from(&declared.signer);
        self.source.findings = declared.desired.findings.iter().map(ToString::to_string).collect();
        for name in &change.changed {
            let run = self.run_of(name);
            (run.reached, run.faults, run.exits, run.repairs) = (Some(false), 0, 0, 0);
            // How long it ran well with the former declaration proves nothing about this one.
            run.in_order = None;
            self.queue.forgive(name);
        }
        self.fleet = Some(change.fleet);
        self.accepted.send_replace(Some(revision.commit.clone()));
        self.record(Entry::Revision(RevisionRecord {
            revision: revision.clone(),
            verdict,
            signer: declared.signer,
            reason: None,
            tenants: Vec::new(),
            plan: approved.map(|(plan, _)| plan.to_owned()),
            by: approved.map(|(_, by)| by.to_owned()),
        }))
        .await;
        self.tell_who_waits(&former, agreed).await;
        self.hasten();
        self.survey_trigger = Some(Trigger::Commit { revision });
        self.survey_at = Some(Instant::now());
        true
    }

    /// The last declarations of tenants that a commit brings back, where that can need an approval.
    async fn returning(&self, next: &Desired) -> BTreeMap<String, Declaration> {
        let is_back = |name: &str| next.tenants.contains_key(name) && !self.host.approvals.needed.is_empty();
        let departed = self.state.departed.iter().filter(|(name, _)| is_back(name));
        let departed: BTreeMap<String, Revision> = departed.map(|(name, at)| (name.clone(), at.clone())).collect();
        if departed.is_empty() {
            return BTreeMap::new();
        }
        let mirror = Arc::clone(&self.mirror);
        tokio::task::spawn_blocking(move || older(&mirror, departed)).await.unwrap_or_default()
    }

    /// Tells of the tenants that wait for an approval since now, and of those that do no more.
    async fn tell_who_waits(&mut self, former: &State, agreed: Vec<Entry>) {
        let Some(revision) = self.fleet.as_ref().map(|fleet| fleet.revision.clone()) else { return };
        let is_agreed =
            |name: &str| agreed.iter().any(|entry| matches!(entry, Entry::Approved { tenant, .. } if tenant == name));
        let waits = |state: &State, name: &str| state.pins.get(name).is_some_and(|pin| pin.waits.is_some());
        let waited =
            former.pins.keys().filter(|name| waits(former, name) && !waits(&self.state, name) && !is_agreed(name));
        let over = waited.map(|name| Entry::Withdrawn { tenant: name.clone(), revision: revision.clone() });
        let over: Vec<Entry> = over.collect();
        for entry in agreed.into_iter().chain(over) {
            self.record(entry).await;
        }
        let known =
            |name: &str| former.pins.get(name).and_then(|pin| pin.waits.as_ref()).map(|waits| &waits.declaration);
        let waiting = self.state.pins.iter().filter_map(|(name, pin)| Some((name.clone(), pin.waits.clone()?)));
        let new: Vec<_> = waiting.filter(|(name, waits)| known(name) != Some(&waits.declaration)).collect();
        for (tenant, waits) in new {
            let text = waits.to_string();
            tracing::warn!(tenant, %revision, "{text}");
            self.tell(NotifyEvent::Held, Some(&tenant), &text);
            let Waits { loosens, approvers, at, .. } = waits;
            self.record(Entry::Waiting { tenant, revision: revision.clone(), at, loosens, approvers }).await;
        }
    }

    /// Tries again to put a commit in force that could not be kept.
    pub(super) async fn retry_pending(&mut self) {
        if self.state_error.is_some()
            && let Some(candidate) = self.pending.take()
        {
            self.decide(candidate).await;
        }
    }

    /// Counts a failure against the declaration in force, where it may be the declaration's own fault.
    pub(super) async fn fault(&mut self, name: &str, failure: &Failure, error: &str) {
        let run = self.run_of(name);
        if run.reached == Some(true) {
            return;
        }
        match failure {
            Failure::Ended(_) => {
                // Somebody may have ended it, of which the engine is about to tell.
                let due = Instant::now() + NEWS;
                run.exit = Some((due, error.to_owned()));
                self.next_tick = self.next_tick.min(due);
            }
            Failure::NotAsDeclared(_)
            | Failure::Engine { source: CallError::Refused { .. } | CallError::TimedOut { .. }, .. } => {
                run.faults += 1;
                if run.faults >= FAULTS {
                    self.condemn(name, error).await;
                }
            }
            _ => {}
        }
    }

    /// Marks the declaration in force of a tenant as bad, and has the tenant go back to the last good one.
    pub(super) async fn condemn(&mut self, name: &str, reason: &str) {
        let Some(fleet) = &mut self.fleet else { return };
        let on_trial =
            self.state.pins.get(name).is_some_and(|pin| pin.bad.is_none()) && !fleet.older.contains_key(name);
        if !on_trial {
            return;
        }
        let Some(back_to) = fleet.condemn(name, reason, &mut self.state.pins) else {
            tracing::warn!(tenant = name, "the last good declaration has a weaker runtime, so it does not stand in");
            return;
        };
        let revision = fleet.revision.clone();
        self.state_unsaved = true;
        let target = back_to.as_ref().map_or_else(|| "nothing; it is left as it is".to_owned(), ToString::to_string);
        tracing::warn!(tenant = name, %revision, reason, back_to = target, "a commit is bad for a tenant");
        self.tell(NotifyEvent::Failed, Some(name), &format!("{revision} is bad for it: {reason}; back to {target}"));
        self.record(Entry::Bad {
            tenant: name.to_owned(),
            revision: revision.clone(),
            back_to,
            reason: reason.to_owned(),
        })
        .await;
        let run = self.run_of(name);
        (run.reached, run.faults, run.repairs, run.exits, run.failure) = (Some(false), 0, 0, 0, None);
        run.in_order = None;
        self.queue.forgive(name);
        self.queue.mark(name, Trigger::Commit { revision }, Instant::now(), Duration::ZERO);
    }

    /// Ends the trial of declarations that have run well for long enough.
    pub(super) fn prove(&mut self) {
        let Some(fleet) = &mut self.fleet else { return };
        let after = fleet.declared.policy.healthy_after.get();
        let proven: Vec<String> = self
            .state
            .pins
            .iter()
            .filter(|(name, pin)| pin.bad.is_none() && fleet.effective.tenants.contains_key(name.as_str()))
            .filter(|(name, _)| !fleet.older.contains_key(*name))
            .filter(|(name, _)| {
                let in_order = self.runs.get(*name).filter(|run| run.is_in_order()).and_then(|run| run.in_order);
                in_order.is_some_and(|since| since.elapsed() >= after)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in proven {
            self.state.pins.remove(&name);
            fleet.good.remove(&name);
            self.state_unsaved = true;
        }
    }
}
