//! `tenantd apply`.

use std::{
    cell::RefCell,
    io::{self, BufRead, IsTerminal},
    time::Duration,
};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    EXIT_ERROR, EXIT_OK,
    args::{Apply, Global},
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
    plan::guard::plan_id,
    reconcile::{self, Applied, Context, Event, Outcome, Recorder, describe},
};

pub fn run(command: &Apply, global: &Global) -> anyhow::Result<u8> {
    let host = setup::host(global)?;
    let patience = match &command.lock_timeout {
        Some(text) => text.parse::<Timespan>().context("--lock-timeout")?.get(),
        None => Duration::ZERO,
    };
    setup::block_on(async {
        let _lock = lock(&host, patience).await?;
        let look = setup::look(&command.source, &host).await?;
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
    let only = command.source.tenant.as_deref();
    let Look { tree, desired, engine, observed } = look;
    let plan = setup::plan(host, desired, observed, only)?;
    output::plan(&plan, tree, observed)?;
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
    let recorder = recorder(host).await?;
    let context = Context {
        trigger: Trigger::Operator { by: users::current() },
        why: Why::Intent,
        live: None,
        revision: Some(tree.revision.clone()),
        signer: None,
        plan: plan_id(Some(&tree.revision), &plan.tenants),
    };
    let progress = Progress::new(&plan);
    let record = Some((&recorder, &context));
    let applied = reconcile::apply(engine, host, &plan, record, &|event| progress.tell(&event)).await;
    progress.end();
    let failed = applied.outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    output::print(&closing(&plan, &applied, failed))?;
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
                let line = format!("{tenant}: failed after {seconds:.1}s: {}", reconcile::chain(failure));
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
