//! `tenantd apply`.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, BufRead, IsTerminal, Read},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;

use super::{
    EXIT_ERROR, EXIT_OK,
    args::{Apply, Global, Source, Which},
    output,
    plan::is_incomplete,
    setup::{self, Look},
};
use crate::{
    host::{Lock, LockError, users},
    journal::{self, Journal},
    model::{
        Entry, Host, Plan,
        quantity::Timespan,
        record::{Trigger, Why},
    },
    plan::{
        self,
        guard::plan_id,
        saved::{Saved, VERSION},
    },
    reconcile::{self, Applied, Context, Event, Outcome, Recorder, describe},
};

/// The largest saved plan that is read, in bytes.
const MAX_SAVED: u64 = 1 << 30;

pub fn run(command: &Apply, global: &Global) -> anyhow::Result<u8> {
    let host = setup::host(global)?;
    let patience = match &command.lock_timeout {
        Some(text) => text.parse::<Timespan>().context("--lock-timeout")?.get(),
        None => Duration::ZERO,
    };
    setup::block_on(async {
        let _lock = lock(&host, patience).await?;
        if command.what.is_file() {
            return saved(command, &host).await;
        }
        let source = Source { repo: command.what.clone(), which: command.which.clone() };
        let look = setup::look(&source, &host).await?;
        converge(command, &host, &look).await
    })
}

/// Takes the lock, or waits for it as long as patience.
async fn lock(host: &Host, patience: Duration) -> anyhow::Result<Lock> {
    let waiting = |held: &LockError| output::tell(&format!("waiting: {held}"));
    Lock::wait(&host.data_root, patience, waiting).await.map_err(|error| match error {
        LockError::Held { .. } => {
            anyhow::Error::new(error).context("refused to apply beside another; --lock-timeout waits for it")
        }
        LockError::Io { .. } => error.into(),
    })
}

async fn converge(command: &Apply, host: &Host, look: &Look) -> anyhow::Result<u8> {
    let only = command.which.tenant.as_deref();
    let Look { tree, desired, engine, observed } = look;
    let plan = setup::plan(host, desired, observed, only)?;
    output::plan(&plan, tree, observed, plan::promise(desired, host, observed))?;
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
        let now = reconcile::observe(engine, host, desired).await.context("cannot observe the engine")?;
        if setup::plan(host, desired, &now, only)? != plan {
            bail!(
                "the engine has changed since the plan was shown, so nothing was changed; apply again to see the new plan"
            );
        }
    }
    carry_out(host, look, &plan, code).await
}

/// Carries out a plan that was saved, or refuses it where anything has moved that it depends on.
async fn saved(command: &Apply, host: &Host) -> anyhow::Result<u8> {
    let shown = command.what.display();
    let saved = read_saved(&command.what).with_context(|| format!("cannot use {shown}"))?;
    let Which { rev, worktree, tenant } = &command.which;
    if rev != "HEAD" || *worktree || tenant.is_some() {
        bail!("{shown} says itself which commit and which tenants it is for");
    }
    let which = Which { rev: saved.rev.clone(), worktree: false, tenant: saved.tenant.clone() };
    let look = setup::look(&Source { repo: command.repo.clone(), which }, host).await?;
    let Look { tree, desired, observed, .. } = &look;
    if tree.commit() != Some(&saved.commit) {
        bail!("{shown} is refused: it is for the commit {}, and {} is {} now", saved.commit, saved.rev, tree.revision);
    }
    let mut plan = plan::plan(desired, host, observed);
    let moved = saved.moved(&plan, desired, observed);
    if !moved.is_empty() {
        moved.iter().for_each(|line| output::tell(&format!("moved: {line}")));
        bail!("{shown} is refused, and nothing was changed: plan again");
    }
    plan.tenants.retain(|tenant| saved.tenants.contains_key(&tenant.tenant));
    output::plan(&plan, tree, observed, plan::promise(desired, host, observed))?;
    let code = if plan.blocked().next().is_some() { EXIT_ERROR } else { EXIT_OK };
    carry_out(host, &look, &plan, code).await
}

fn read_saved(path: &Path) -> anyhow::Result<Saved> {
    #[derive(Deserialize)]
    struct Document {
        saved: Saved,
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SAVED).read_to_end(&mut bytes)?;
    let Document { saved } = serde_json::from_slice(&bytes).context("it is no plan that `tenantd plan --out` saved")?;
    if saved.version != VERSION {
        bail!("it is a plan of version {}, and this tenantd carries out version {VERSION}", saved.version);
    }
    Ok(saved)
}

/// Carries out a plan that was shown. `code` is what to end with where all goes well.
async fn carry_out(host: &Host, look: &Look, plan: &Plan, code: u8) -> anyhow::Result<u8> {
    let Look { tree, engine, .. } = look;
    if plan.is_empty() {
        return Ok(code);
    }
    let recorder = recorder(host).await?;
    let context = Context {
        trigger: Trigger::Operator { by: users::current() },
        why: Why::Intent,
        live: None,
        revision: Some(tree.revision.clone()),
        signer: None,
        plan: plan_id(Some(&tree.revision), &plan.tenants),
    };
    let progress = Progress::new(plan);
    let record = Some((&recorder, &context));
    let applied = reconcile::apply(engine, host, plan, record, &|event| progress.tell(&event)).await;
    progress.end();
    let failed = applied.outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    output::print(&closing(plan, &applied, failed))?;
    Ok(if failed > 0 { EXIT_ERROR } else { code })
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
        bail!("there is no terminal to ask on; --yes applies without asking");
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

    fn tell(&self, event: &Event<'_>) {
        match event {
            Event::Step { tenant, step } => match &self.bar {
                Some(bar) => bar.set_message(format!("{tenant}: {}", describe(step))),
                None => self.line(&format!("{tenant}: {}", describe(step))),
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
            Some(bar) => bar.println(line),
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
            output::tell(&format!("error: {line}"));
        }
    }
}
