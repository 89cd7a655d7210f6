//! `tenantd history`.

use std::fmt::Write;

use clap::ValueEnum;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    EXIT_OK,
    args::{Global, HistoryOf, JournalFolder},
    commits::{self, Accepted, Asked, Rewrite},
    failure::Failure,
    outcomes::CommitOutcome,
    output,
    setup::Layout,
    time,
};
use crate::{
    model::{finding::printable, shown::short_id, tree::Rewritten},
    plan::render::{Style, YELLOW},
    review::{
        Effect, Mark, Review, TenantReview,
        history::{Against, Commit},
        render::{came_or_went, csv::row, marked, person, shown, signature, words},
    },
    source::{self, Keys, Misdated, SourceError},
};

#[derive(Debug, clap::Args)]
pub struct History {
    /// Only what concerns this tenant
    tenant: Option<String>,
    #[command(flatten)]
    of: HistoryOf,
    #[command(flatten)]
    journal: JournalFolder,
    /// Show every commit that led here, whether or not a journal says which of them were in force
    #[arg(long, conflicts_with = "folder")]
    all: bool,
    /// Only what is not older: a time such as 2026-11-21T10:00:00Z, or a duration such as 90d. The order goes before
    /// the dates: what comes after such a commit is as new
    #[arg(long, value_name = "TIME", value_parser = time::since)]
    since: Option<Timestamp>,
    /// Only what loosens
    #[arg(long)]
    loosened: bool,
    /// Only this setting, such as runtime, allowlist or limits
    #[arg(long, value_name = "SETTING")]
    field: Option<String>,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = TableFormat::Text)]
    format: TableFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// For spreadsheets: a line for each change of a setting
    Csv,
}

/// The answer for programs.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "History")]
pub struct Document {
    /// The version of this shape.
    format_version: &'static str,
    /// When the branch was set to a commit that does not descend from where it stood, and what that changed, newest first.
    rewritten: Vec<Rewrite>,
    /// The commits that say that they are older than one that they follow from.
    misdated: Vec<Misdated>,
    /// The journal that says which commits were in force; null where all are shown that led to the revision.
    journal: Option<String>,
    /// The commits that changed something, newest first.
    commits: Vec<Commit>,
}

/// The width of the column of marks: the longest of them.
const MARK: usize = 8;

pub fn run(command: &History, global: &Global) -> anyhow::Result<u8> {
    let history = Layout::of(&command.of.path, global).history(&command.of.repo, &command.of.rev)?;
    let (history, journal) = by_journal(history, command, global)?;
    let mut entries = read(&history, command, &commits::keys(global))?;
    entries.reverse();
    commits::warn(&history);
    // What the daemon brought into force has the way back as well.
    let mut rewrites = if journal.is_some() { Vec::new() } else { commits::rewrites(&history, command.since) };
    for rewrite in &mut rewrites {
        rewrite.review = rewrite.review.take().map(|review| only(review, command));
    }
    let shown = match command.format {
        TableFormat::Text => rewrites_text(&rewrites, output::style()) + &text(&entries, output::style()),
        TableFormat::Json => {
            let misdated = history.misdated();
            let answer = Document { format_version: "1.0", rewritten: rewrites, misdated, journal, commits: entries };
            format!("{:#}\n", serde_json::to_value(answer)?)
        }
        TableFormat::Csv => csv(&entries),
    };
    output::print_as(command.format == TableFormat::Text, &shown)?;
    Ok(EXIT_OK)
}

/// The history as the daemon brought it into force, where a journal has commits that the repository has, and that
/// journal's folder; else all that led to the revision.
fn by_journal(
    history: source::History,
    command: &History,
    global: &Global,
) -> anyhow::Result<(source::History, Option<String>)> {
    let known = if command.all { None } else { commits::accepted(&command.journal, global)? };
    let Some(Accepted { journal: folder, commits: accepted }) = known.filter(|known| !known.commits.is_empty()) else {
        return Ok((history, None));
    };
    let (history, unknown) = match history.in_force(&accepted)? {
        Ok(found) => found,
        Err(history) if command.journal.folder.is_none() => return Ok((history, None)),
        Err(_) => {
            let what = format!("the repository has none of the commits that the journal in {folder} names");
            return Err(Failure::asked(what).hint("name the config repo that this host follows, or take --all").into());
        }
    };
    output::message(&format!(
        "Shows what the daemon brought into force, according to the journal in {folder}; --all for every commit"
    ));
    if !unknown.is_empty() {
        let names = commits::named(unknown.iter().map(String::as_str));
        let counted = commits::counted(unknown.len());
        output::message(&format!(
            "warning: this repository lacks {counted} that the daemon brought into force: {names}"
        ));
    }
    if accepted.last().is_some_and(|(last, _)| *last != history.head()) {
        output::message(&format!("warning: {} is not in force, and not shown", short_id(&history.head())));
    }
    Ok((history, Some(folder)))
}

/// The commits that changed something that was asked for, oldest first.
fn read(history: &source::History, command: &History, keys: &Keys) -> Result<Vec<Commit>, SourceError> {
    let begin = command.since.map_or(0, |since| history.between(since, None).start);
    let asked = Asked { commits: begin..history.len(), states: Vec::new() };
    let mut entries = Vec::new();
    commits::changes(history, keys, &asked, |mut step| {
        let CommitOutcome { brought, against, .. } = &mut step.outcome;
        let brought = brought.get_or_insert_default();
        brought.review = only(std::mem::take(&mut brought.review), command);
        let is_asked = command.tenant.is_none() && command.field.is_none() && !command.loosened;
        let is_told = !brought.review.is_empty() || (brought.breaks && is_asked);
        for one in &mut *against {
            one.review = only(std::mem::take(&mut one.review), command);
        }
        against.retain(|one| !one.review.is_empty());
        if is_told || !against.is_empty() {
            entries.push(step.into_commit()?);
        }
        Ok(())
    })?;
    Ok(entries)
}

/// What of a review was asked for.
fn only(mut review: Review, command: &History) -> Review {
    let is_field = |field: &str| {
        command.field.as_ref().is_none_or(|wanted| {
            field == wanted || field.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.starts_with('.'))
        })
    };
    let is_wanted = |effect: &Effect| is_field(&effect.field) && (!command.loosened || effect.mark == Mark::Loosens);
    let is_narrow = command.field.is_some() || command.loosened;
    if let Some(tenant) = &command.tenant {
        review.tenants.retain(|one| one.tenant == *tenant);
        review.fleet.clear();
    }
    review.fleet.retain(&is_wanted);
    for one in &mut review.tenants {
        one.effects.retain(&is_wanted);
    }
    review.tenants.retain(|one| !is_narrow || !one.effects.is_empty());
    review
}

/// What it changed that the branch was set to a commit which does not descend from where it stood.
fn rewrites_text(rewrites: &[Rewrite], style: Style) -> String {
    let mut out = String::new();
    for Rewrite { rewritten: Rewritten { time, from, to }, review } in rewrites {
        let changes = |out: &mut String, review| changes(out, review, |one| came_or_went(one, &[]), style);
        let is_told = review.as_ref().is_none_or(|review| !review.is_empty());
        if is_told {
            let _ = writeln!(out, "rewritten {time}  from {} to {}", short_id(from), short_id(to));
        }
        match review {
            Some(review) => changes(&mut out, review),
            None => out.push_str("  one of them cannot be read any more: what that changed is not known\n"),
        }
        if is_told {
            out.push('\n');
        }
    }
    out
}

fn text(entries: &[Commit], style: Style) -> String {
    let mut out = String::new();
    for commit in entries {
        let Commit { moment, side, review, against, .. } = commit;
        let short = short_id(&moment.commit);
        let _ = writeln!(out, "{} {}  {}", style.paint(YELLOW, short), moment.time, printable(&moment.subject));
        let _ = writeln!(out, "  by {}, {}", person(&moment.author), signature(&moment.signature));
        if moment.committer != moment.author {
            let _ = writeln!(out, "  committed by {}", person(&moment.committer));
        }
        if !moment.merged.is_empty() {
            let merged: Vec<String> = moment.merged.iter().map(person).collect();
            let _ = writeln!(out, "  merges what is by {}", merged.join(", "));
        }
        if *side {
            out.push_str("  came in by a merge: in force only if the branch stood there\n");
        }
        if let Some(why) = commit.unusable() {
            let _ = writeln!(out, "  {why}");
        }
        changes(&mut out, review, |one| commit.became(one), style);
        for Against { commit, review } in against {
            let _ = writeln!(out, "  and takes back of {}, which may have been in force:", short_id(commit));
            changes(&mut out, review, |one| came_or_went(one, &[]), style);
        }
        out.push('\n');
    }
    if entries.is_empty() {
        out.push_str("No commit changed any of that.\n");
    }
    out
}

fn changes(out: &mut String, review: &Review, became: impl Fn(&TenantReview) -> Option<String>, style: Style) {
    lines(out, "the fleet", None, &review.fleet, style);
    for one in &review.tenants {
        lines(out, &one.tenant, became(one).as_ref(), &one.effects, style);
    }
}

fn lines(out: &mut String, name: &str, became: Option<&String>, effects: &[Effect], style: Style) {
    if let Some(became) = became {
        let _ = writeln!(out, "    {name} {became}");
    }
    for effect in effects {
        let mark = marked(effect.mark, MARK, style);
        let _ = writeln!(out, "    {mark} {name}: {}", printable(&words(effect)));
    }
}

fn csv(entries: &[Commit]) -> String {
    let head =
        ["commit", "time", "author", "email", "signature", "tenant", "change", "setting", "before", "after", "mark"];
    let mut out = row(&head.map(str::to_owned));
    for Commit { moment, review, broken, against, .. } in entries {
        let common = [
            moment.commit.clone(),
            moment.time.to_string(),
            moment.author.name.clone(),
            moment.author.email.clone(),
            signature(&moment.signature),
        ];
        let mut add = |rest: [String; 6]| out.push_str(&row(&[&common[..], &rest[..]].concat()));
        if *broken {
            add(["", "broken", "", "", "", ""].map(str::to_owned));
        }
        let reviews = || std::iter::once(review).chain(against.iter().map(|against| &against.review));
        for one in reviews().flat_map(|review| &review.tenants).filter(|one| one.effects.is_empty()) {
            add([one.tenant.as_str(), one.change.as_str(), "", "", "", ""].map(str::to_owned));
        }
        for (tenant, effect) in reviews().flat_map(Review::effects) {
            let Effect { field, before, after, mark, .. } = effect;
            let (name, change) = tenant.map_or(("", "policy"), |one| (one.tenant.as_str(), one.change.as_str()));
            let values = [field.clone(), shown(before), shown(after), mark.as_str().to_owned()];
            let [field, before, after, mark] = values;
            add([name.to_owned(), change.to_owned(), field, before, after, mark]);
        }
    }
    out
}
