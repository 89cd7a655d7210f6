//! `tenantd audit report`.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, bail};
use jiff::Timestamp;

use super::{
    EXIT_ERROR, EXIT_OK,
    args::{AuditReport, Global, ReportFormat},
    commits, events, output, setup, usage,
};
use crate::{
    audit::{
        self, Declared, Gathered, Period,
        data::{Repo, Usage},
        render,
    },
    gateway::{
        ledger::day,
        usage::{counted_since, folder},
    },
    journal::{self, Broken, Item, Problem},
    model::Desired,
    review::history::{Commit, InForce},
    source::{History, SourceError},
};

pub fn run(command: &AuditReport, global: &Global) -> anyhow::Result<u8> {
    let made = Timestamp::now();
    let period = Period { from: command.from, to: command.to.unwrap_or(made) };
    if period.from > period.to {
        bail!("the period ends before it begins: --from {}, --to {}", period.from, period.to);
    }
    let history = History::open(&command.repo, &command.rev)?;
    let declared = declared(command, &history, period, global)?;
    let journals = journals(command, period, global)?;
    let usage = used(command, period, global)?;
    let report = audit::report(period, made, declared, journals, usage, |commit| history.holds(commit));
    output::print(&match command.format {
        ReportFormat::Text => render::text(&report, output::style()),
        ReportFormat::Md => render::markdown(&report),
        ReportFormat::Html => render::html(&report),
        ReportFormat::Json => serde_json::to_string_pretty(&report)? + "\n",
        ReportFormat::Csv => render::csv(&report),
    })?;
    let broken = report.sources.journals.iter().find_map(|journal| Some((journal, journal.broken.as_ref()?)));
    if let Some((journal, broken)) = broken {
        output::tell(&format!("error: the journal in {} does not hold: {broken}", journal.folder));
        return Ok(EXIT_ERROR);
    }
    Ok(EXIT_OK)
}

/// What git tells of the period.
fn declared(
    command: &AuditReport,
    history: &History,
    period: Period,
    global: &Global,
) -> Result<Declared, SourceError> {
    // No commit was made after now, whatever its time says.
    let (places, backwards) = history.between(period.from, command.to)?;
    let mut in_force = InForce::default();
    let mut at_from: Option<Desired> = None;
    let mut commits = Vec::new();
    history.follow(&commits::keys(global), |at| {
        if at.place >= places.end {
            return Ok(());
        }
        let in_period = at.place >= places.start;
        if in_period {
            at_from.get_or_insert_with(|| in_force.desired().clone());
        }
        let Some(brought) = commits::bring(&mut in_force, &at)? else { return Ok(()) };
        if in_period && (!brought.review.is_empty() || brought.breaks) {
            let (broken, review, renamed) = (brought.is_broken, brought.review, brought.renamed);
            commits.push(Commit { moment: at.moment()?, broken, review, renamed });
        }
        Ok::<_, SourceError>(())
    })?;
    let at_to = in_force.desired().clone();
    let before = |place: usize| place.checked_sub(1).and_then(|place| history.at(place));
    let repo = Repo {
        path: command.repo.display().to_string(),
        rev: command.rev.clone(),
        head: before(history.len()),
        commits: history.len(),
        before: before(places.start),
        at_end: before(places.end),
        backwards,
        shallow: history.is_cut(),
        rewritten: history.rewritten().to_vec(),
    };
    Ok(Declared { repo, commits, at_from: at_from.unwrap_or_else(|| at_to.clone()), at_to })
}

/// What the journals tell of it.
fn journals(command: &AuditReport, period: Period, global: &Global) -> anyhow::Result<Vec<Gathered>> {
    let folders = events::journals(&command.journal, global)?;
    let names = if command.journal.folder.is_some() { ["named", ""] } else { ["daemon", "gateway"] };
    folders.iter().zip(names).map(|(folder, name)| gathered(command, folder, name, period)).collect()
}

fn gathered(command: &AuditReport, folder: &Path, name: &'static str, period: Period) -> anyhow::Result<Gathered> {
    let shown = folder.display().to_string();
    if !folder.try_exists().with_context(|| format!("cannot read {shown}"))? {
        return missing(command, name, period, &shown);
    }
    let visit = |gathered: &mut Gathered, item: &Item<'_>| match item {
        Item::Record { record, .. } => gathered.record(record),
        Item::Unreadable { file, line, why } => gathered.unreadable(file, *line, why),
    };
    let (mut gathered, result) = journal::check(folder, || Gathered::new(period, name, &shown), visit)?;
    gathered.end(match result {
        Ok(verified) => Ok(verified.head.to_string()),
        Err(Broken { problem: Problem::Empty(_), .. }) => return missing(command, name, period, &shown),
        Err(broken) => Err(broken.to_string()),
    });
    Ok(gathered)
}

/// A journal that is not there is told of. One that was named by hand must be.
fn missing(command: &AuditReport, name: &'static str, period: Period, folder: &str) -> anyhow::Result<Gathered> {
    if command.journal.folder.is_some() {
        bail!("there is no journal in {folder}");
    }
    Ok(Gathered::missing(period, name, folder))
}

/// What the gateway of this host counted in the period. That of a host whose journal was brought here is not known.
fn used(command: &AuditReport, period: Period, global: &Global) -> anyhow::Result<Usage> {
    let note = |note: &str| Usage { note: Some(note.to_owned()), ..Usage::default() };
    if command.journal.folder.is_some() && global.host.is_none() {
        return Ok(note("the journal was named by hand, so that no counts of a gateway belong to it"));
    }
    let settings = setup::host(global)?.egress;
    let Some(since) = counted_since(&folder(&settings.state))? else {
        return Ok(note("no gateway has counted anything on this machine"));
    };
    let mut used: BTreeMap<String, _> = BTreeMap::new();
    for (tenant, counts) in usage::counts(&settings, day(period.from)..=day(period.to))? {
        let destinations = counts.into_iter().filter(|(_, count)| count.requests > 0).map(|(name, _)| name);
        used.insert(tenant.to_string(), destinations.collect());
    }
    let late = since > period.from;
    let note = late.then(|| "the gateway counts since then only; what was used before is not known".to_owned());
    Ok(Usage { since: Some(since), note, used })
}
