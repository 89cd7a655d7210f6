//! `tenantd apply`.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, IsTerminal, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    EXIT_ERROR, EXIT_OK,
    args::{Global, Source, Which},
    failure::Failure,
    output,
    plan::is_incomplete,
    setup::{self, Layout, Observation},
    terminal::readable,
};
use crate::{
    host::{EgressPaths, Lock, LockError, modes, users},
    journal::{self, Journal},
    model::{
        Entry, Host, Plan,
        quantity::Timespan,
        record::{Trigger, Why},
    },
    plan::{
        self,
        guard::plan_id,
        saved::{self, Saved},
    },
    reconcile::{self, Applied, Context, Event, Outcome, Recorder},
};

#[derive(Debug, clap::Args)]
pub struct Apply {
    /// The config repo; or a plan saved by `tenantd plan --out`, which is applied without asking, or refused
    #[arg(default_value = ".", value_name = "REPO|PLAN")]
    what: PathBuf,
    /// With a saved plan: the config repo
    #[arg(long, value_name = "PATH", default_value = ".")]
    repo: PathBuf,
    /// With a saved plan: refuse any but this one, by the whole id that `tenantd plan --out` printed
    #[arg(long, value_name = "ID")]
    plan_id: Option<String>,
    #[command(flatten)]
    which: Which,
    /// Do not ask; needed where there is no terminal
    #[arg(long, short)]
    yes: bool,
    /// How long to wait for another apply to end, such as 30s [default: refuse at once]
    #[arg(long, value_name = "TIME")]
    lock_timeout: Option<String>,
}

/// The largest saved plan that is read, in bytes.
const MAX_SAVED: u64 = 1 << 30;

pub fn run(command: &Apply, global: &Global) -> anyhow::Result<u8> {
    modes::keep_private();
    let host = setup::host(global)?;
    let lock_timeout = match &command.lock_timeout {
        Some(text) => text.parse::<Timespan>().context("--lock-timeout")?.get(),
        None => Duration::ZERO,
    };
    let layout = Layout::of(&command.which.path, global);
    setup::block_on(async {
        let _lock = lock(&host, lock_timeout).await?;
        EgressPaths::new(&host).begin().await.context("cannot use the gateway's folder and namespace")?;
        if command.what.is_file() {
            return carry_out_saved(command, &layout, &host).await;
        }
        if command.plan_id.is_some() {
            let what = format!("--plan-id is for a saved plan, and {} is none", command.what.display());
            return Err(Failure::asked(what).hint("name the file that `tenantd plan --out` wrote").into());
        }
        let source = Source { repo: command.what.clone(), which: command.which.clone() };
        let observation = setup::observe(&source, &layout, &host).await?;
        converge(command, &host, &observation).await
    })
}

/// Takes the lock, or waits for it as long as `timeout`.
async fn lock(host: &Host, lock_timeout: Duration) -> anyhow::Result<Lock> {
    let closed = modes::data_root(&host.data_root);
    closed.with_context(|| format!("cannot use the data root {}", host.data_root.display()))?;
    let waiting = |held: &LockError| output::message(&format!("waiting: {held}"));
    Lock::wait(&host.data_root, lock_timeout, waiting).await.map_err(|error| match error {
        LockError::Held { .. } => anyhow::Error::new(error).context("refused to apply beside another"),
        LockError::Version(_) | LockError::Io { .. } => error.into(),
    })
}

async fn converge(command: &Apply, host: &Host, observation: &Observation) -> anyhow::Result<u8> {
    let only = command.which.tenant.as_deref();
    let Observation { tree, desired, engine, observed } = observation;
    let plan = setup::plan(host, desired, observed, only)?;
    output::plan(&plan, tree, observed, plan::commitment(desired, host, observed))?;
    let code = if is_incomplete(&plan, desired, only) { EXIT_ERROR } else { EXIT_OK };
    if plan.is_empty() {
        return Ok(code);
    }
    if !command.yes {
        if !confirmed()? {
            output::print("Apply cancelled; nothing was changed.\n")?;
            return Ok(EXIT_ERROR);
        }
        // What was confirmed is what was shown: a person may have read for a long time.
        let mut now = reconcile::observe(engine, host, desired).await.context("cannot observe the engine")?;
        now.powers = Arc::clone(&observed.powers);
        if setup::plan(host, desired, &now, only)? != plan {
            let what = "the engine has changed since the plan was shown, so nothing was changed";
            return Err(Failure::host(what).hint("apply again to see the new plan").into());
        }
    }
    carry_out(host, observation, &plan, code).await
}

/// Carries out a plan that was saved, or refuses it where anything has moved that it depends on.
async fn carry_out_saved(command: &Apply, layout: &Layout, host: &Host) -> anyhow::Result<u8> {
    let shown = command.what.display();
    let (saved, id) = read_saved(&command.what).with_context(|| format!("cannot use {shown}"))?;
    if command.plan_id.as_ref().is_some_and(|wanted| *wanted != id) {
        let what = format!("{shown} is refused: it is the plan {id}, and --plan-id names another");
        return Err(Failure::asked(what)
            .hint("take the file that was reviewed under the id that --plan-id names")
            .into());
    }
    let Which { rev, worktree, tenant, path } = &command.which;
    if rev != "HEAD" || *worktree || tenant.is_some() {
        let what = format!("{shown} says itself which commit and which tenants it is for");
        return Err(Failure::asked(what).hint("leave out --rev, --worktree and --tenant").into());
    }
    let which = Which { rev: saved.rev.clone(), worktree: false, tenant: saved.tenant.clone(), path: path.clone() };
    let observation = setup::observe(&Source { repo: command.repo.clone(), which }, layout, host).await?;
    let Observation { tree, desired, observed, .. } = &observation;
    if tree.commit() != Some(&saved.commit) {
        let Saved { commit, rev, .. } = &saved;
        let what = format!("{shown} is refused: it is for the commit {commit}, and {rev} is {} now", tree.revision);
        return Err(Failure::asked(what).hint("plan again and have that reviewed").into());
    }
    let mut plan = plan::plan(desired, host, observed);
    let moved = saved.moved(&plan, desired, observed);
    if !moved.is_empty() {
        moved.iter().for_each(|line| output::message(&format!("moved: {line}")));
        let what = format!("{shown} is refused, and nothing was changed: what it depends on has moved");
        return Err(Failure::asked(what).hint("plan again and have that reviewed").into());
    }
    plan.tenants.retain(|tenant| saved.tenants.contains_key(&tenant.tenant));
    output::plan(&plan, tree, observed, plan::commitment(desired, host, observed))?;
    let code = if plan.blocked().next().is_some() { EXIT_ERROR } else { EXIT_OK };
    carry_out(host, &observation, &plan, code).await
}

fn read_saved(path: &Path) -> anyhow::Result<(Saved, String)> {
    let mut text = String::new();
    File::open(path)?.take(MAX_SAVED).read_to_string(&mut text)?;
    Ok(saved::open(&text)?)
}

/// Carries out a plan that was shown. `code` is what to end with where all goes well.
async fn carry_out(host: &Host, observation: &Observation, plan: &Plan, code: u8) -> anyhow::Result<u8> {
    if plan.is_empty() {
        return Ok(code);
    }
    let recorder = recorder(host).await?;
    let mut applied = apply_recorded(host, observation, plan, &recorder).await;
    let refused = applied.refused_limits();
    if !refused.is_empty() {
        // A new container has the limits that the old one does not take.
        let again = replacing(host, observation, &refused).await?;
        applied.follow(apply_recorded(host, observation, &again, &recorder).await);
    }
    let failed = applied.outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    output::print(&closing(plan, &applied, failed))?;
    Ok(if failed > 0 { EXIT_ERROR } else { code })
}

async fn apply_recorded(host: &Host, observation: &Observation, plan: &Plan, recorder: &Recorder) -> Applied {
    let Observation { tree, engine, .. } = observation;
    let context = Context {
        trigger: Trigger::Operator { by: users::current() },
        why: Why::Intent,
        live: None,
        revision: Some(tree.revision.clone()),
        signer: None,
        plan: plan_id(Some(&tree.revision), &plan.tenants),
    };
    let progress = Progress::new(plan);
    let record = Some((recorder, &context));
    let applied = reconcile::apply(engine, host, plan, record, &|event| progress.report(&event)).await;
    progress.end();
    applied
}

/// A plan for the tenants whose containers the engine refused to lower the limits of.
async fn replacing(host: &Host, observation: &Observation, refused: &BTreeMap<String, String>) -> anyhow::Result<Plan> {
    let Observation { desired, engine, observed: before, .. } = observation;
    let mut observed = reconcile::observe(engine, host, desired).await.context("cannot observe the engine")?;
    observed.powers = Arc::clone(&before.powers);
    observed.refused_limits = refused.values().cloned().collect();
    let mut plan = plan::plan(desired, host, &observed);
    plan.tenants.retain(|tenant| refused.contains_key(&tenant.tenant));
    Ok(plan)
}

/// What writes the steps to the journal that the daemon writes to as well.
async fn recorder(host: &Host) -> anyhow::Result<Recorder> {
    let (journal, _) = Journal::open(&journal::folder(&host.data_root), host.journal)?;
    journal
        .append(Entry::Started { program: "apply".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })
        .await?;
    Ok(Recorder::new(journal))
}

fn closing(plan: &Plan, applied: &Applied, failed: usize) -> String {
    let (done, blocked) = (applied.outcomes.len() - failed, plan.blocked().count());
    let word = if failed + blocked == 0 { "complete" } else { "incomplete" };
    let plural = if done == 1 { "" } else { "s" };
    format!("\nApply {word}: {done} tenant{plural} converged, {failed} failed, {blocked} blocked.\n")
}

/// Asks on a terminal. Without one there is nobody to ask.
fn confirmed() -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(Failure::asked("there is no terminal to ask on").hint("--yes applies without asking").into());
    }
    output::print("\nDo you want to apply these changes? Only \"yes\" is accepted: ")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// Tells what happens: a bar on a terminal, plain lines elsewhere, and a line for each tenant.
struct Progress {
    bar: Option<ProgressBar>,
    failures: RefCell<Vec<String>>,
}

impl Progress {
    fn new(plan: &Plan) -> Self {
        let total = plan.tenants.iter().filter(|tenant| tenant.will_change()).count();
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total as u64);
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} tenants  {elapsed}  {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, failures: RefCell::default() }
    }

    fn report(&self, event: &Event<'_>) {
        match event {
            Event::Step { tenant, step } => match &self.bar {
                Some(bar) => bar.set_message(readable(&format!("{tenant}: {}", step.def().words), false).into_owned()),
                None => self.line(&format!("{tenant}: {}", step.def().words)),
            },
            Event::Done(outcome) => {
                self.outcome(outcome);
                if let Some(bar) = &self.bar {
                    bar.inc(1);
                }
            }
        }
    }

    fn outcome(&self, outcome: &Outcome) {
        let (tenant, seconds) = (&outcome.tenant, outcome.took.as_secs_f32());
        match &outcome.failure {
            None => self.line(&format!("{tenant}: converged after {seconds:.1}s")),
            Some(failure) => {
                let line = format!("{tenant}: failed after {seconds:.1}s: {}", crate::fault::chain(failure));
                self.line(&line);
                self.failures.borrow_mut().push(line);
            }
        }
    }

    fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(readable(line, false)),
            // The work goes on where nobody reads any more.
            None => drop(output::print(&format!("{line}\n"))),
        }
    }

    /// Repeats the failures on standard error, where a long run has scrolled them away.
    fn end(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        for line in self.failures.take() {
            output::message(&format!("error: {line}"));
        }
    }
}
