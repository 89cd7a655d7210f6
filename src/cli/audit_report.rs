//! `tenantd audit report`.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context;
use clap::ValueEnum;
use jiff::Timestamp;

use super::{
    EXIT_ERROR, EXIT_OK,
    args::{Global, HistoryOf, JournalFolder},
    commits::{self, Asked},
    events,
    failure::Failure,
    output,
    setup::{self, Layout},
    time, usage,
};
use crate::{
    audit::{
        self, Break, Gathered, Period, RepoHistory, Sound,
        data::{Repo, Usage},
        render,
    },
    gateway::accounting::{
        ledger::day,
        usage::{counted_since, folder},
    },
    journal::{self, Broken, Item, Problem},
    source::{History, SourceError},
};

#[derive(Debug, clap::Args)]
pub struct AuditReport {
    /// The beginning: a time such as 2026-09-01T00:00:00Z, or a duration such as 90d
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = time::since)]
    from: Timestamp,
    /// The end: a time, or a duration [default: now]
    #[arg(long, value_name = "TIME", value_parser = time::since)]
    to: Option<Timestamp>,
    #[command(flatten)]
    of: HistoryOf,
    #[command(flatten)]
    journal: JournalFolder,
    /// The form of the report
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For a terminal
    Text,
    /// Markdown
    Md,
    /// One page with a timeline, to view and print
    Html,
    /// Everything, for programs
    Json,
    /// For spreadsheets: a line for each event
    Csv,
}

pub fn run(command: &AuditReport, global: &Global) -> anyhow::Result<u8> {
    let made = Timestamp::now();
    let period = Period { from: command.from, to: command.to.unwrap_or(made) };
    if period.from > period.to {
        let what = format!("the period ends before it begins: --from {}, --to {}", period.from, period.to);
        return Err(Failure::asked(what).hint("let --to be later than --from").into());
    }
    let history = Layout::of(&command.of.path, global).history(&command.of.repo, &command.of.rev)?;
    let declared = declared(command, &history, period, global)?;
    let journals = journals(command, period, global)?;
    let usage = used(command, period, global)?;
    let report = audit::report(period, made, declared, journals, usage, |commit| history.holds(commit));
    output::print_as(
        command.format == ReportFormat::Text,
        &match command.format {
            ReportFormat::Text => render::text(&report, output::style()),
            ReportFormat::Md => render::markdown(&report),
            ReportFormat::Html => render::html(&report),
            ReportFormat::Json => serde_json::to_string_pretty(&report)? + "\n",
            ReportFormat::Csv => render::csv(&report),
        },
    )?;
    let broken = report.sources.journals.iter().find_map(|journal| Some((journal, journal.broken.as_ref()?)));
    if let Some((journal, broken)) = broken {
        output::message(&format!("error: the journal in {} does not hold: {broken}", journal.folder));
        return Ok(EXIT_ERROR);
    }
    Ok(EXIT_OK)
}

/// What git shows of the period.
fn declared(
    command: &AuditReport,
    history: &History,
    period: Period,
    global: &Global,
) -> Result<RepoHistory, SourceError> {
    // No commit was made after now, whatever its time says.
    let places = history.between(period.from, command.to);
    let (from, to) = (history.line_before(places.start), history.line_before(places.end));
    let asked = Asked { commits: places.clone(), states: from.into_iter().chain(to).collect() };
    let mut commits = Vec::new();
    let states = commits::changes(history, &commits::keys(global), &asked, |step| {
        commits.push(step.into_commit()?);
        Ok(())
    })?;
    let state = |place: Option<usize>| place.and_then(|place| states.get(&place)).cloned().unwrap_or_default();
    let (at_from, at_to) = (state(from), state(to));
    let before = |place: usize| place.checked_sub(1).and_then(|place| history.at(place));
    let repo = Repo {
        path: command.of.repo.display().to_string(),
        rev: command.of.rev.clone(),
        head: Some(history.head()),
        commits: history.len(),
        before: before(places.start),
        at_end: before(places.end),
        backwards: history.misdated().len(),
        shallow: history.is_cut(),
        rewritten: history.rewritten().to_vec(),
    };
    Ok(RepoHistory { repo, commits, at_from, at_to })
}

/// What the journals show of it.
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
        Ok(verified) => {
            Ok(Sound { head: verified.anchor().to_string(), dropped_by: verified.rotated.map(|by| by.record) })
        }
        Err(Broken { problem: Problem::Empty(_), .. }) => return missing(command, name, period, &shown),
        Err(broken) => Err(broken.all().map(broken_at).collect()),
    });
    Ok(gathered)
}

fn broken_at(broken: &Broken) -> Break {
    let missing = match &broken.problem {
        Problem::Missing(missing) => Some((missing.after, missing.before)),
        _ => None,
    };
    Break { what: broken.to_string(), missing }
}

/// A journal that is not there is reported. One that was named by hand must be.
fn missing(command: &AuditReport, name: &'static str, period: Period, folder: &str) -> anyhow::Result<Gathered> {
    if command.journal.folder.is_some() {
        let what = format!("there is no journal in {folder}");
        return Err(Failure::asked(what)
            .hint("name another folder by --journal, or leave it out for this host's own")
            .into());
    }
    Ok(Gathered::missing(period, name, folder))
}

/// What the gateway of this host counted in the period. That of a host whose journal was brought here is not known.
fn used(command: &AuditReport, period: Period, global: &Global) -> anyhow::Result<Usage> {
    let note = |note: &str| Usage { note: Some(note.to_owned()), ..Usage::default() };
    if command.journal.folder.is_some() && global.host.is_none() {
        return Ok(note("the journal was named on the command line, so no counts of a gateway belong to it"));
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
