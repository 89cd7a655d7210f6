//! Containers that end: by themselves, by somebody's doing, or because their runtime fails.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{
    Tenants,
    runtime::{RAPID, TenantRuntime},
};
use crate::model::policy::Retry;

/// How many rapid exits are repaired at once.
const FREE_EXITS: u32 = 2;

/// How soon it is looked again whether a runtime was tested.
const TESTED: Duration = Duration::from_millis(500);

/// What happened to a tenant's container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum ContainerEvent {
    Started,
    Killed,
    Died {
        exit_code: Option<i64>,
    },
    /// Anything else.
    Other,
}

/// Why a tenant's end is not blamed on its declaration at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Suspect {
    /// The runtime was not tested since.
    Untested(String),
    /// The runtime was tested since, and starts nothing.
    Runtime,
}

/// What is to be done about containers that ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::daemon) struct Exits {
    /// Tenants whose declaration in force is to be judged as bad if it is not confirmed healthy yet, each with the reason.
    pub(in crate::daemon) failed: Vec<(String, String)>,
    /// Runtimes to be tested before anybody is blamed.
    pub(in crate::daemon) untested: BTreeSet<String>,
    /// When others may be judged.
    pub(in crate::daemon) check_at: Option<Instant>,
}

impl Exits {
    fn check_at(&mut self, at: Instant) {
        self.check_at = Some(self.check_at.map_or(at, |earlier| earlier.min(at)));
    }
}

impl Tenants {
    /// Something happened to a tenant's own container. The engine's events arrive since `back`. Returns when its exit may be
    /// judged, if it ended by itself.
    pub(in crate::daemon) fn container_event(
        &mut self,
        tenant: &str,
        event: ContainerEvent,
        back: Option<Instant>,
        retry: Retry,
        now: Instant,
    ) -> Option<Instant> {
        // What ends while it is worked on may have been ended, or not have begun, by that: but for what ran before and whose
        // end is only heard of now.
        let stepped = self.in_hand.get(tenant).filter(|hand| hand.has_stepped()).map(|hand| hand.begun());
        let runtime = self.runtime(tenant);
        match event {
            // Whoever killed what ran before has no part in what becomes of this.
            ContainerEvent::Started => {
                (runtime.started, runtime.killed, runtime.has_ended) = (Some(now), None, false);
            }
            ContainerEvent::Killed => (runtime.killed, runtime.exit) = (Some(now), None),
            ContainerEvent::Died { exit_code } => {
                let is_first = !std::mem::replace(&mut runtime.has_ended, true);
                let ran_before = |begun| is_first && runtime.started.is_some_and(|started| started < begun);
                if stepped.is_none_or(ran_before) && !runtime.end_is_explained(back, now) {
                    self.exited(tenant, exit_code, retry, now);
                    return Some(now);
                }
            }
            ContainerEvent::Other => {}
        }
        None
    }

    /// A container of a tenant's was started, or ended. Nobody reaches one that has ended: another one may have its address
    /// before that is observed. True where that is news.
    pub(in crate::daemon) fn container_runs(&mut self, tenant: &str, container: &str, runs: bool) -> bool {
        let runtime = self.runtime(tenant);
        if runs {
            runtime.ended.take_if(|ended| ended == container);
            return false;
        }
        runtime.ended = Some(container.to_owned());
        runtime.located.take_if(|located| located.container == container).is_some()
    }

    /// A container ended by itself. It may do so again: its next starts are slowed down.
    fn exited(&mut self, tenant: &str, code: Option<i64>, retry: Retry, now: Instant) {
        let runtime = self.runtime(tenant);
        runtime.exits = if runtime.has_just_started(now) { runtime.exits + 1 } else { 0 };
        let exits = runtime.exits;
        let code = code.map_or_else(String::new, |code| format!(" with exit code {code}"));
        let reason = format!("its container ended by itself{code}; `tenantd logs` shows what it printed");
        runtime.exit = Some((now, reason));
        if exits > FREE_EXITS {
            self.back_off(tenant, exits - FREE_EXITS, retry, now);
        }
    }

    /// Judges the exits that may be judged by now. A tenant that ended while its declaration was not confirmed healthy yet did not
    /// become healthy, unless its runtime is to blame: `suspect` says whether that is so of one that had just started.
    pub(in crate::daemon) fn judge_exits(
        &mut self,
        is_away: bool,
        back: Option<Instant>,
        suspect: impl Fn(&str) -> Option<Suspect>,
        retry: Retry,
        now: Instant,
    ) -> Exits {
        let (mut exits, mut held) = (Exits::default(), Vec::new());
        for (name, runtime) in &mut self.runtimes {
            match &runtime.exit {
                None => continue,
                Some((due, _)) if *due > now => {
                    exits.check_at(*due);
                    continue;
                }
                Some(_) => {}
            }
            let counts = !is_away && !runtime.end_is_explained(back, now) && runtime.ran_as_declared();
            // What ended soon after its start may have had no chance, which counts before a commit is blamed.
            match suspect(name).filter(|_| counts && runtime.has_just_started(now)) {
                Some(Suspect::Untested(by)) => {
                    exits.untested.insert(by);
                    if runtime.exits <= FREE_EXITS && !runtime.held {
                        runtime.held = true;
                        held.push(name.clone());
                    }
                    exits.check_at(now + TESTED);
                }
                // It is no fault of the tenant's.
                Some(Suspect::Runtime) => runtime.exit = None,
                None => {
                    let reason = runtime.exit.take().map(|(_, reason)| reason).unwrap_or_default();
                    if counts {
                        exits.failed.push((name.clone(), reason));
                    }
                }
            }
        }
        // It is not started once more before that is known.
        held.iter().for_each(|name| self.back_off(name, 1, retry, now));
        let is_known = |runtime: &TenantRuntime| runtime.exit.is_none() && runtime.held;
        let Self { runtimes, queue, .. } = self;
        for (name, runtime) in runtimes.iter_mut().filter(|(_, runtime)| is_known(runtime)) {
            runtime.held = false;
            queue.reset_backoff(name);
        }
        exits
    }

    /// From when on a test of a runtime says something of what ended by now.
    pub(in crate::daemon) fn tested_since(now: Instant) -> Instant {
        now.checked_sub(RAPID).unwrap_or(now)
    }
}
