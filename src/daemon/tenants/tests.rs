//! What follows from what happens to one tenant, event by event.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{ContainerEvent, Decision, Facts, Suspect, Tenants, UNHEALTHY, exits::Exits};
use crate::{
    daemon::workers::{Extent, ReconcileRequest, Reconciled},
    engine::CallError,
    model::{
        DriftMode, Obstacle, PlannedStep, Step, TenantPlan,
        observed::Health,
        plan::Blocked,
        policy::Retry,
        record::{Trigger, Why},
    },
    reconcile::{Failure, Known, Outcome},
};

const ANT: &str = "ant";
const SECOND: Duration = Duration::from_secs(1);

fn request(extent: Extent, now: Instant) -> ReconcileRequest {
    ReconcileRequest {
        name: ANT.to_owned(),
        desired: Arc::default(),
        revision: None,
        signer: None,
        trigger: Trigger::Start,
        since: now,
        reached: None,
        mode: DriftMode::Enabled,
        suspended: false,
        extent,
        known: Known::default(),
        hand: Rc::default(),
    }
}

fn facts() -> Facts {
    Facts {
        is_stale: false,
        is_limit_refused: false,
        is_mentioned: true,
        mode: DriftMode::Enabled,
        is_suspended: false,
        retry: Retry::default(),
    }
}

fn seen(plan: TenantPlan) -> Reconciled {
    Reconciled { plan, why: Why::Drift, outcome: None, contained: Vec::new() }
}

/// What was seen where one step is to be taken, and what taking it led to.
fn done(failure: Option<Failure>) -> Reconciled {
    let steps = vec![PlannedStep::alone(Step::Pause { container: "1".to_owned() })];
    let outcome = Outcome { tenant: ANT.to_owned(), failure, took: SECOND };
    Reconciled { outcome: Some(outcome), ..seen(TenantPlan { steps, ..TenantPlan::default() }) }
}

/// Takes the tenant, and hands in what work on it led to.
fn works(tenants: &mut Tenants, done: Reconciled, facts: &Facts, now: Instant) -> Vec<Decision> {
    tenants.mark(ANT, Trigger::Start, now, Duration::ZERO);
    assert_eq!(tenants.take(now, 9).len(), 1);
    tenants.work_ended(&request(Extent::Repair, now), &Ok(done), facts, now)
}

fn waits(tenants: &Tenants, now: Instant) -> bool {
    tenants.progress(ANT, now).1.is_some()
}

#[test]
fn a_repair_is_followed_by_an_observation_and_counts_as_a_failure_when_it_does_not_last() {
    let (mut tenants, now) = (Tenants::default(), Instant::now());
    for repair in 1..=3 {
        assert_eq!(works(&mut tenants, done(None), &facts(), now), [Decision::ReportOutcome]);
        assert_eq!(waits(&tenants, now), repair == 3, "after repair {repair}");
        assert!(tenants.next_due().is_some());
    }
    tenants.reset_backoff(ANT);
    assert_eq!(works(&mut tenants, seen(TenantPlan::default()), &facts(), now), []);
    assert_eq!(works(&mut tenants, done(None), &facts(), now), [Decision::ReportOutcome]);
    assert!(!waits(&tenants, now), "one that was as declared in between begins anew");
}

#[test]
fn work_that_another_declaration_overtook_is_done_again_and_judges_nothing() {
    let (mut tenants, now) = (Tenants::default(), Instant::now());
    let stale = Facts { is_stale: true, ..facts() };
    assert_eq!(works(&mut tenants, done(Some(Failure::Ended(1))), &stale, now), []);
    assert_eq!(works(&mut tenants, done(None), &stale, now), [Decision::ReportOutcome]);
    assert!(!tenants.get(ANT).is_some_and(|runtime| runtime.seen));
    assert_eq!((waits(&tenants, now), tenants.next_due()), (false, Some(now)));
}

#[test]
fn a_limit_that_is_refused_leads_to_a_new_container_at_once_but_not_twice() {
    let refused = || {
        let source = CallError::TimedOut { call: "update".to_owned(), deadline: SECOND };
        done(Some(Failure::LimitRefused { container: "1".to_owned(), source }))
    };
    let (mut tenants, now) = (Tenants::default(), Instant::now());
    works(&mut tenants, refused(), &Facts { is_limit_refused: true, ..facts() }, now);
    assert!(!waits(&tenants, now));
    works(&mut tenants, refused(), &facts(), now);
    assert!(waits(&tenants, now));
}

#[test]
fn containment_does_not_end_the_waiting_of_the_repair() {
    let (mut tenants, now) = (Tenants::default(), Instant::now());
    works(&mut tenants, done(Some(Failure::WorkspaceMissing)), &facts(), now);
    assert!(waits(&tenants, now));
    tenants.mark(ANT, Trigger::FullPass, now, Duration::ZERO);
    assert!(tenants.take(now, 9).iter().all(|taken| taken.waits));
    let contained = request(Extent::Contain(Vec::new()), now);
    tenants.work_ended(&contained, &Ok(done(None)), &facts(), now);
    assert!(waits(&tenants, now));
    let failure = tenants.get(ANT).and_then(|runtime| runtime.failure.clone());
    assert_eq!(failure.as_deref(), Some("the workspace is missing"), "why the repair waits is still so");
}

#[test]
fn what_is_in_the_way_is_said_once() {
    let (mut tenants, now) = (Tenants::default(), Instant::now());
    let blocked = |code| Blocked { code, reason: "r".to_owned(), help: "h".to_owned() };
    let plan = |code| seen(TenantPlan { blocked: Some(blocked(code)), ..TenantPlan::default() });
    for (code, news) in [(Obstacle::NameTaken, true), (Obstacle::NameTaken, false), (Obstacle::ImageMissing, true)] {
        let decisions = works(&mut tenants, plan(code), &facts(), now);
        assert_eq!(decisions.contains(&Decision::ReportBlocked(blocked(code))), news, "{code}");
    }
}

#[test]
fn one_whose_health_check_fails_is_blamed_only_for_what_it_was_started_with() {
    let (mut tenants, now) = (Tenants::default(), Instant::now());
    let ails = || seen(TenantPlan { health: Health::Unhealthy, ..TenantPlan::default() });
    tenants.declaration_changed(ANT, false, now);
    assert_eq!(works(&mut tenants, ails(), &facts(), now), [], "what ran before ails");
    tenants.container_event(ANT, ContainerEvent::Started, None, Retry::default(), now);
    assert_eq!(works(&mut tenants, ails(), &facts(), now), [Decision::MarkFailed(UNHEALTHY.to_owned())]);
}

#[test]
fn nothing_is_remembered_of_one_that_is_gone_and_that_nobody_declares() {
    let (mut tenants, now) = (Tenants::default(), Instant::now());
    let gone = Facts { is_mentioned: false, ..facts() };
    assert_eq!(works(&mut tenants, seen(TenantPlan::default()), &gone, now), [Decision::Forget]);
}

/// A tenant whose container started at a time and ended by itself a second later.
fn ended(start: Instant) -> Tenants {
    let mut tenants = Tenants::default();
    tenants.container_event(ANT, ContainerEvent::Started, None, Retry::default(), start);
    let died = ContainerEvent::Died { exit_code: Some(1) };
    let now = start + SECOND;
    assert_eq!(tenants.container_event(ANT, died, None, Retry::default(), now), Some(now));
    tenants
}

#[test]
fn an_end_is_blamed_on_the_declaration_once_the_runtime_is_known_to_work() {
    let start = Instant::now();
    let (mut tenants, now) = (ended(start), start + SECOND * 2);
    let untested = |_: &str| Some(Suspect::Untested("runc".to_owned()));
    let exits = tenants.judge_exits(false, None, untested, Retry::default(), now);
    assert!(exits.failed.is_empty() && exits.untested.contains("runc") && exits.check_at.is_some());
    assert!(waits(&tenants, now), "it is not started once more before that is known");
    let exits = tenants.judge_exits(false, None, |_| None, Retry::default(), now);
    assert_eq!(exits.failed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), [ANT]);
    assert!(!waits(&tenants, now));
    assert_eq!(tenants.judge_exits(false, None, |_| None, Retry::default(), now), Exits::default(), "once");
}

#[test]
fn an_end_that_something_else_explains_is_blamed_on_nobody() {
    let start = Instant::now();
    let now = start + SECOND * 2;
    let blames_nobody = |tenants: &mut Tenants, is_away, back, suspect: Option<Suspect>| {
        tenants.judge_exits(is_away, back, move |_| suspect.clone(), Retry::default(), now).failed.is_empty()
    };
    assert!(blames_nobody(&mut ended(start), false, None, Some(Suspect::Runtime)), "its runtime starts nothing");
    assert!(blames_nobody(&mut ended(start), true, None, None), "the engine is away");
    assert!(blames_nobody(&mut ended(start), false, Some(now), None), "the engine was away since it started");
    let mut tenants = ended(start);
    tenants.declaration_changed(ANT, false, now);
    assert!(blames_nobody(&mut tenants, false, None, None), "it was started with another declaration");

    let mut tenants = Tenants::default();
    for (event, at) in [(ContainerEvent::Started, start), (ContainerEvent::Killed, start + SECOND)] {
        tenants.container_event(ANT, event, None, Retry::default(), at);
    }
    let died = ContainerEvent::Died { exit_code: Some(137) };
    assert_eq!(tenants.container_event(ANT, died, None, Retry::default(), now), None, "somebody killed it");
    assert!(blames_nobody(&mut tenants, false, None, None));
}

#[test]
fn one_that_ends_soon_again_and_again_is_started_later_each_time() {
    let (mut tenants, mut now) = (Tenants::default(), Instant::now());
    let mut waited = Vec::new();
    for _ in 0..4 {
        tenants.container_event(ANT, ContainerEvent::Started, None, Retry::default(), now);
        now += SECOND;
        let died = ContainerEvent::Died { exit_code: None };
        tenants.container_event(ANT, died, None, Retry::default(), now);
        waited.push(waits(&tenants, now));
        tenants.judge_exits(false, None, |_| None, Retry::default(), now);
    }
    assert_eq!(waited, [false, false, true, true]);
}
