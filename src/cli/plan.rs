//! `tenantd plan`.

use std::collections::BTreeMap;

use anyhow::Context;

use super::{
    EXIT_CHANGES, EXIT_ERROR, EXIT_OK,
    args::{Global, Plan, ReviewFormat},
    output,
    report::{self, Level, Remark},
    review,
    setup::{self, Layout, Observation},
    snapshot,
};
use crate::{
    host,
    model::{
        Desired, Plan as Planned,
        finding::{Location, Span},
        plan::Blocked,
        tree::{Tree, tenant_of},
    },
    plan::{
        self, render,
        saved::{self, Saved},
        settings::{self, Setting},
    },
    spec::{FLEET, TENANTS, origin::Origins},
};

pub fn run(command: &Plan, global: &Global) -> anyhow::Result<u8> {
    if let Some(base) = &command.base {
        return review::run(command, base, global);
    }
    let only = command.source.which.tenant.as_deref();
    let layout = Layout::of(&command.source.which.path, global);
    let (settings, tree, desired, observed) = match &command.from.snapshot {
        Some(path) => {
            let snapshot = snapshot::open(path, &command.from)?;
            let (tree, desired) = setup::desired(&command.source, &layout)?;
            let (host, observed) = snapshot.view(&desired);
            (host, tree, desired, observed)
        }
        None => {
            let host = setup::host(global)?;
            let Observation { tree, desired, observed, .. } =
                setup::block_on(setup::observe(&command.source, &layout, &host))?;
            (host, tree, desired, observed)
        }
    };
    let planned = setup::plan(&settings, &desired, &observed, only)?;
    let commitment = plan::commitment(&desired, &settings, &observed);
    let overcommitted = commitment.filter(|commitment| commitment.committed > commitment.allowed);
    let json = || render::json(&planned, &tree.revision, &observed, &desired.findings, overcommitted);
    if let Some(path) = &command.out {
        let commit = tree.commit().context("--out needs a commit")?;
        let saved = Saved::new(&planned, &desired, &observed, &command.source.which.rev, commit, only);
        let (text, id) = saved::seal(json(), &saved);
        host::replace(path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        output::message(&format!("Saved in {} as {id}", path.display()));
    }
    match command.format {
        ReviewFormat::Text => output::plan(&planned, &tree, &observed, commitment)?,
        ReviewFormat::Json => output::print_data(&format!("{:#}\n", json()))?,
        ReviewFormat::Markdown => output::print_data(&render::markdown(&planned, &tree.revision))?,
        ReviewFormat::Junit => output::print_data(&render::junit(&planned, &tree.revision, &desired.findings))?,
        ReviewFormat::Sarif => output::print_data(&report::sarif(&remarks(&planned, &desired, &tree)))?,
        ReviewFormat::Github => output::print_data(&report::annotations(&remarks(&planned, &desired, &tree)))?,
    }
    Ok(match (is_incomplete(&planned, &desired, only), command.detailed_exitcode && !planned.is_empty()) {
        (true, _) => EXIT_ERROR,
        (false, true) => EXIT_CHANGES,
        (false, false) => EXIT_OK,
    })
}

/// What is wrong, what is blocked, and what would be done, each on the line of the setting that it comes from.
fn remarks(plan: &Planned, desired: &Desired, tree: &Tree) -> Vec<Remark> {
    let origins = Origins::new(tree, desired);
    let mut own: BTreeMap<&str, &str> = BTreeMap::new();
    for file in tree.files.iter().filter(|file| file.path.starts_with(TENANTS)) {
        own.entry(tenant_of(&file.path)).or_insert(&file.path);
    }
    let written = |tenant: &str, (field, value): Setting| origins.written(Some(tenant), &field, &value);
    // What has no setting is at the beginning of the tenant's file, and what has no file is the fleet's to name.
    let beginning = |tenant: &str| Location {
        file: own.get(tenant).copied().unwrap_or(FLEET).to_owned(),
        span: Span { line: 1, column: 1, length: 0 },
    };
    let mut remarks: Vec<Remark> = desired.findings.iter().map(Remark::from).collect();
    remarks.extend(plan.blocked().map(|(tenant, Blocked { code, reason, help })| Remark {
        level: Level::Error,
        rule: code.to_string(),
        at: settings::of_obstacle(*code).and_then(|it| written(tenant, it)).unwrap_or_else(|| beginning(tenant)),
        message: format!("{tenant} is blocked: {reason}; {help}"),
    }));
    remarks.extend(render::lines(plan).into_iter().map(|line| {
        Remark {
            level: if line.weakened { Level::Warning } else { Level::Note },
            rule: if line.drifted { "drift" } else { "change" }.to_owned(),
            at: settings::of_change(line.change)
                .find_map(|it| written(line.tenant, it))
                .unwrap_or_else(|| beginning(line.tenant)),
            message: line.to_string(),
        }
    }));
    remarks
}

/// Whether some tenant cannot be made as declared: its file is wrong, or something is in the way.
pub fn is_incomplete(plan: &Planned, desired: &Desired, only: Option<&str>) -> bool {
    let held = match only {
        Some(name) => desired.held.contains(name),
        None => desired.findings.iter().any(|f| f.severity == crate::model::Severity::Error),
    };
    held || plan.blocked().next().is_some()
}
