//! `tenantd apply`.

use std::{
    cell::RefCell,
    io::{self, BufRead, IsTerminal, Write},
    time::Duration,
};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    EXIT_ERROR, EXIT_OK,
    args::{Apply, Global},
    output,
    plan::is_incomplete,
    setup,
};
use crate::{
    host::Lock,
    model::{Plan, quantity::Timespan},
    plan::render,
    reconcile::{self, Event, describe},
};

pub fn run(command: &Apply, global: &Global) -> anyhow::Result<u8> {
    let host = setup::host(global)?;
    let patience = match &command.lock_timeout {
        Some(text) => text.parse::<Timespan>().context("--lock-timeout")?.get(),
        None => Duration::ZERO,
    };
    let (_, desired) = setup::desired(&command.source)?;
    let only = command.source.tenant.as_deref();
    setup::block_on(async {
        let _lock = Lock::wait(&host.data_root, patience, |held| eprintln!("waiting: {held}")).await.map_err(|e| {
            let hint =
                if matches!(e, crate::host::LockError::Held { .. }) { "; --lock-timeout waits for it" } else { "" };
            anyhow::Error::new(e).context(format!("refused to apply beside another{hint}"))
        })?;
        let engine = setup::engine(&host).await?;
        let (plan, _) = setup::plan(&engine, &host, &desired, only).await?;
        output::print(&render::text(&plan, output::style()))?;
        let incomplete = is_incomplete(&plan, &desired, only);
        let code = if incomplete { EXIT_ERROR } else { EXIT_OK };
        if plan.is_empty() {
            return Ok(code);
        }
        if !command.yes && !confirmed()? {
            println!("Apply cancelled; nothing was changed.");
            return Ok(EXIT_ERROR);
        }
        let progress = Progress::new(&plan);
        let applied = reconcile::apply(&engine, &host, &plan, &|event| progress.tell(&event)).await;
        progress.end();
        let failed = applied.outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
        let done = applied.outcomes.len() - failed;
        let blocked = plan.blocked().count();
        println!(
            "\nApply {}: {done} tenant{} converged, {failed} failed, {blocked} blocked.",
            if failed + blocked == 0 { "complete" } else { "incomplete" },
            if done == 1 { "" } else { "s" }
        );
        Ok(if failed > 0 { EXIT_ERROR } else { code })
    })
}

/// Asks on a terminal. Without one there is nobody to ask.
fn confirmed() -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("there is no terminal to ask on; --yes applies without asking");
    }
    print!("\nDo you want to apply these changes? Only \"yes\" is accepted: ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// Tells what happens: a bar on a terminal, plain lines elsewhere, and a line for each failure.
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
        match (event, &self.bar) {
            (Event::Step { tenant, step }, Some(bar)) => bar.set_message(format!("{tenant}: {}", describe(step))),
            (Event::Step { tenant, step }, None) => println!("{tenant}: {}", describe(step)),
            (Event::Done(outcome), bar) => {
                let seconds = outcome.took.as_secs_f32();
                let line = match &outcome.failure {
                    None => format!("{}: converged after {seconds:.1}s", outcome.tenant),
                    Some(failure) => {
                        let line =
                            format!("{}: failed after {seconds:.1}s: {}", outcome.tenant, output::chain(failure));
                        self.failures.borrow_mut().push(line.clone());
                        line
                    }
                };
                match bar {
                    None => println!("{line}"),
                    Some(bar) => {
                        bar.println(line);
                        bar.inc(1);
                    }
                }
            }
        }
    }

    /// Repeats the failures on standard error, where a long run has scrolled them away.
    fn end(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        for line in self.failures.take() {
            eprintln!("error: {line}");
        }
    }
}
