//! What a report says, in tables: the forms for people differ in how they draw them, and in how much they show.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{
    data::{DriftRow, Event, Gap, Journal, Marks, Report, TenantRow},
    words::{Tone, seconds},
};
use crate::{
    model::{
        record::Verdict,
        shown::{duration, short_id},
        tree::Signature,
    },
    review::{
        Mark,
        history::Commit,
        render::{person, shown, signature, some, words},
    },
};

/// How many lines of a commit are shown.
const LINES: usize = 20;

/// A cell of a table.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) text: String,
    /// It was written by somebody else, so that it must not be taken for anything but text.
    pub(super) theirs: bool,
    pub(super) tone: Tone,
    pub(super) number: bool,
}

/// A row of a table, with lines that belong below it.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) cells: Vec<Cell>,
    pub(super) lines: Vec<(Mark, String)>,
}

/// A table with a title.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) title: &'static str,
    /// A word for links.
    pub(super) id: &'static str,
    /// What there is to say before it.
    pub(super) note: String,
    pub(super) head: &'static [&'static str],
    pub(super) rows: Vec<Row>,
    /// How many rows more there are.
    pub(super) left_out: u64,
    /// What is said where there is no row.
    pub(super) nothing: &'static str,
}

/// A line of the summary.
pub(super) struct Fact {
    pub(super) name: &'static str,
    /// The number that matters most, if it is one.
    pub(super) number: String,
    pub(super) rest: String,
    pub(super) tone: Tone,
}

pub(super) fn word(text: impl Into<String>) -> Cell {
    Cell { text: text.into(), theirs: false, tone: Tone::Plain, number: false }
}

fn theirs(text: impl Into<String>) -> Cell {
    Cell { theirs: true, ..word(text) }
}

fn number(number: u64) -> Cell {
    Cell { number: true, ..word(number.to_string()) }
}

/// A number that should be zero.
fn bad(count: u64, tone: Tone) -> Cell {
    Cell { tone: if count > 0 { tone } else { Tone::Plain }, ..number(count) }
}

fn optional(text: Option<&String>) -> Cell {
    text.map_or_else(|| word(""), theirs)
}

fn row(cells: Vec<Cell>) -> Row {
    Row { cells, lines: Vec::new() }
}

/// The stretch of time, in words.
pub(super) fn period(report: &Report) -> String {
    let length = report.period.to.duration_since(report.period.from);
    format!("{} to {} ({})", seconds(report.period.from), seconds(report.period.to), duration(length))
}

fn counted(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// Whether the journals are whole, in one sentence.
pub(super) fn verdict(report: &Report) -> (Tone, String) {
    let journals = &report.sources.journals;
    let records: u64 = journals.iter().map(|journal| journal.records).sum();
    let found = journals.iter().filter(|journal| journal.found).count();
    if let Some(broken) = journals.iter().find_map(|journal| journal.broken.as_ref()) {
        return (Tone::Alarm, format!("The journal's chain does not hold: {broken}"));
    }
    if found == 0 {
        let what = "There is no journal: drift, approvals and suspensions of this time are not known";
        return (Tone::Alarm, what.to_owned());
    }
    let gaps = counted(report.totals.gaps, "gap", "gaps");
    let records = counted(records, "record", "records");
    match report.totals.gaps {
        0 => (Tone::Plain, format!("The journal's chain holds over {records}, without a gap")),
        _ => (Tone::Warning, format!("The journal's chain holds over {records}, with {gaps} in this time")),
    }
}

/// The summary.
pub(super) fn facts(report: &Report) -> Vec<Fact> {
    let totals = &report.totals;
    let counts = &totals.counts;
    let fact = |name, number: u64, rest: String, tone| Fact { name, number: number.to_string(), rest, tone };
    let when = |is: bool, tone| if is { tone } else { Tone::Plain };
    let Marks { loosens, tightens, neutral } = totals.changes;
    let drift = counts.drift;
    let intent = counts.intent;
    let verdicts = totals.verdicts;
    let lists = totals.allowlists;
    let failed = drift.failed + drift.unknown + drift.open;
    let undone = intent.failed + intent.unknown + intent.open;
    let foreign = match totals.not_in_history {
        0 => String::new(),
        foreign => format!("; {foreign} in force and NOT in this history"),
    };
    let unused = lists.unused.map_or("use not known".to_owned(), |unused| format!("{unused} unused"));
    vec![
        fact(
            "commits",
            totals.commits,
            format!(
                "{loosens} loosening, {tightens} tightening, {neutral} neutral changes; {} not signed by a known key; {} broken",
                totals.unsigned, totals.broken
            ),
            when(loosens > 0, Tone::Warning),
        ),
        fact(
            "tenants",
            totals.tenants_at_to,
            format!(
                "{} at the begin, {} added, {} removed",
                totals.tenants_at_from, totals.tenants_added, totals.tenants_removed
            ),
            Tone::Plain,
        ),
        fact(
            "drift",
            drift.seen,
            format!(
                "{} corrected, {} failed, {} unknown, {} open, {} left",
                drift.corrected, drift.failed, drift.unknown, drift.open, drift.left
            ),
            if failed > 0 { Tone::Alarm } else { when(drift.seen > 0, Tone::Warning) },
        ),
        fact(
            "declared steps",
            intent.begun,
            format!("{} done, {} failed, {} unknown, {} open", intent.done, intent.failed, intent.unknown, intent.open),
            when(undone > 0, Tone::Alarm),
        ),
        fact(
            "commits judged",
            verdicts.accepted + verdicts.held + verdicts.approved + verdicts.refused,
            format!(
                "{} accepted, {} held, {} approved, {} refused{foreign}",
                verdicts.accepted, verdicts.held, verdicts.approved, verdicts.refused
            ),
            match totals.not_in_history {
                0 => when(verdicts.held + verdicts.refused > 0, Tone::Warning),
                _ => Tone::Alarm,
            },
        ),
        fact(
            "suspensions",
            counts.suspensions,
            format!("{} open at the end", totals.suspensions_open),
            when(totals.suspensions_open > 0, Tone::Warning),
        ),
        fact(
            "bad commits",
            counts.bad,
            "that a tenant did not run well with".to_owned(),
            when(counts.bad > 0, Tone::Alarm),
        ),
        fact(
            "loosenings",
            counts.waited + counts.agreed,
            format!("that need an approval: {} waited, {} approved", counts.waited, counts.agreed),
            when(counts.waited > 0, Tone::Warning),
        ),
        fact("refusals", counts.refused, "by the gateway".to_owned(), Tone::Plain),
        fact(
            "allowlists",
            lists.to,
            format!("{} at the begin, {} added, {} removed; {unused}", lists.from, lists.added, lists.removed),
            when(lists.to > lists.from, Tone::Warning),
        ),
        fact("gaps", totals.gaps, "in the record".to_owned(), when(totals.gaps > 0, Tone::Warning)),
    ]
}

/// All tables, each with so many rows at most.
pub(super) fn sections(report: &Report, most: usize) -> Vec<Section> {
    let all = vec![
        changes(report),
        approvals(report),
        drift(report),
        undone(report),
        suspensions(report),
        loosenings(report),
        bad_commits(report),
        refusals(report),
        tenants(report),
        allowlists(report),
        gaps(report),
        sources(report),
    ];
    all.into_iter().map(|section| cut(section, most)).collect()
}

/// Keeps the first rows.
pub(super) fn cut(mut section: Section, most: usize) -> Section {
    section.left_out = section.left_out.saturating_add(section.rows.len().saturating_sub(most) as u64);
    section.rows.truncate(most);
    section
}

fn section(title: &'static str, id: &'static str, head: &'static [&'static str], rows: Vec<Row>) -> Section {
    Section { title, id, note: String::new(), head, rows, left_out: 0, nothing: "None." }
}

fn changes(report: &Report) -> Section {
    let rows = report.changes.iter().rev().map(|commit| {
        let Commit { moment, .. } = commit;
        let signed = Cell {
            tone: match moment.signature {
                Signature::By(_) => Tone::Plain,
                Signature::Bad(_) => Tone::Alarm,
                Signature::None | Signature::Unknown(_) => Tone::Warning,
            },
            ..theirs(signature(&moment.signature))
        };
        let mut who = vec![person(&moment.author)];
        who.extend((moment.committer != moment.author).then(|| format!("committed by {}", person(&moment.committer))));
        let merged: Vec<String> = moment.merged.iter().map(person).collect();
        who.extend((!merged.is_empty()).then(|| format!("merges what is by {}", some(&merged))));
        let cells = vec![
            word(seconds(moment.time)),
            word(short_id(&moment.commit)),
            theirs(who.join("; ")),
            signed,
            theirs(moment.subject.clone()),
        ];
        Row { cells, lines: lines(commit) }
    });
    Section {
        note: "Newest first. Times are those that the commits carry.".to_owned(),
        nothing: "No commit changed what is in force.",
        ..section("Changes", "changes", &["when", "commit", "who", "signature", "subject"], rows.collect())
    }
}

/// What a commit changed, what loosens first.
fn lines(commit: &Commit) -> Vec<(Mark, String)> {
    let mut lines = Vec::new();
    if let Some(why) = commit.unusable() {
        lines.push((Mark::Neutral, why.to_owned()));
    }
    if commit.side {
        lines.push((Mark::Neutral, "came in by a merge: in force only if the branch stood there".to_owned()));
    }
    let came_or_went = commit
        .review
        .tenants
        .iter()
        .filter_map(|one| Some((Mark::Neutral, format!("{} {}", one.tenant, commit.became(one)?))));
    lines.extend(came_or_went);
    for (tenant, effect) in commit.review.effects() {
        let name = tenant.map_or("the fleet", |one| one.tenant.as_str());
        lines.push((effect.mark, format!("{name}: {}", words(effect))));
    }
    for against in &commit.against {
        let of = short_id(&against.commit);
        for (tenant, effect) in against.review.effects() {
            let name = tenant.map_or("the fleet", |one| one.tenant.as_str());
            lines.push((effect.mark, format!("{name}: {}, taken back of {of}", words(effect))));
        }
        for one in against.review.tenants.iter().filter(|one| one.effects.is_empty()) {
            lines.push((Mark::Neutral, format!("{}: {}, as against {of}", one.tenant, one.change.as_str())));
        }
    }
    lines.sort_by_key(|(mark, _)| *mark);
    let more = lines.len().saturating_sub(LINES);
    lines.truncate(LINES);
    if more > 0 {
        lines.push((Mark::Neutral, format!("{more} more")));
    }
    lines
}

fn approvals(report: &Report) -> Section {
    let rows = report.approvals.kept.iter().rev().map(|one| {
        let tone = match one.verdict {
            Verdict::Accepted => Tone::Plain,
            Verdict::Held | Verdict::Approved => Tone::Warning,
            Verdict::Refused => Tone::Alarm,
        };
        let commit = one.revision.rsplit(':').next().unwrap_or_default();
        let in_history = if one.in_history { "yes" } else { "no" };
        let in_history = Cell { tone: if one.is_foreign() { Tone::Alarm } else { Tone::Plain }, ..word(in_history) };
        row(vec![
            word(seconds(one.time)),
            word(short_id(commit)),
            Cell { tone, ..word(one.verdict.to_string()) },
            optional(one.by.as_ref()),
            optional(one.signer.as_ref()),
            optional(one.plan.as_ref()),
            in_history,
            optional(one.reason.as_ref()),
        ])
    });
    let head = &["when", "commit", "verdict", "by", "signer", "plan", "in history", "reason"];
    Section {
        note: "What the daemon decided about commits, newest first.".to_owned(),
        left_out: report.approvals.left_out,
        ..section("Commits judged on this host", "approvals", head, rows.collect())
    }
}

fn drift(report: &Report) -> Section {
    let rows = report.drift.iter().map(|one| {
        let DriftRow { tenant, resource, drift, fields, last } = one;
        row(vec![
            tenant.as_ref().map_or_else(|| word("(others)"), theirs),
            theirs(resource),
            number(drift.seen),
            number(drift.corrected),
            bad(drift.failed, Tone::Alarm),
            bad(drift.unknown, Tone::Alarm),
            bad(drift.open, Tone::Alarm),
            bad(drift.left, Tone::Warning),
            word(last.map_or_else(String::new, seconds)),
            theirs(some(&fields.iter().collect::<Vec<_>>())),
        ])
    });
    let head =
        &["tenant", "resource", "seen", "corrected", "failed", "unknown", "open", "left", "last", "what differed"];
    Section {
        note: "Seen are the steps that were begun because of drift, and the times that drift was left as declared."
            .to_owned(),
        nothing: "No drift is on record.",
        ..section("Drift and corrections", "drift", head, rows.collect())
    }
}

fn undone(report: &Report) -> Section {
    let is_undone = |event: &&Event| event.result.as_ref().is_some_and(|result| result != "done");
    let rows = report.events.kept.iter().rev().filter(is_undone).map(|event| {
        row(vec![
            word(seconds(event.time)),
            optional(event.tenant.as_ref()),
            theirs(event.kind.clone()),
            theirs(event.what.clone()),
            Cell { tone: Tone::Alarm, ..optional(event.result.as_ref()) },
        ])
    });
    let head = &["when", "tenant", "why", "step", "what became of it"];
    section("Steps that were not done", "undone", head, rows.collect())
}

fn suspensions(report: &Report) -> Section {
    let rows = report.suspensions.kept.iter().rev().map(|one| {
        let open = Cell { tone: Tone::Warning, ..word("open") };
        row(vec![
            theirs(one.tenant.clone()),
            word(seconds(one.from)),
            one.ended.map_or(open, |ended| word(seconds(ended))),
            word(duration(jiff::SignedDuration::from_secs(one.seconds))),
            word(seconds(one.until)),
            theirs(one.by.clone()),
            optional(one.ended_by.as_ref()),
            theirs(one.reason.clone()),
        ])
    });
    let head = &["tenant", "from", "to", "length", "meant until", "by", "ended by", "reason"];
    let left_out = report.suspensions.left_out;
    Section { left_out, ..section("Suspensions", "suspensions", head, rows.collect()) }
}

fn loosenings(report: &Report) -> Section {
    let rows = report.loosenings.kept.iter().rev().map(|one| {
        let became = match &one.approved_by {
            Some(by) => theirs(format!("approved by {by}")),
            None => Cell { tone: Tone::Warning, ..theirs(format!("waits for {}", one.approvers.join(" or "))) },
        };
        row(vec![
            word(seconds(one.time)),
            theirs(one.tenant.clone()),
            theirs(short_id(one.revision.rsplit(':').next().unwrap_or_default())),
            became,
            theirs(one.loosens.join("; ")),
        ])
    });
    let head = &["when", "tenant", "commit", "approval", "what loosens"];
    let rows = rows.collect();
    Section {
        left_out: report.loosenings.left_out,
        ..section("Loosenings that need an approval", "loosenings", head, rows)
    }
}

fn bad_commits(report: &Report) -> Section {
    let rows = report.bad.kept.iter().rev().map(|one| {
        let commit = |revision: &str| short_id(revision.rsplit(':').next().unwrap_or_default()).to_owned();
        let back_to = one.back_to.iter().chain(&one.narrowed_by).map(|revision| commit(revision));
        let back_to = back_to.collect::<Vec<_>>().join(", narrowed by ");
        row(vec![
            word(seconds(one.time)),
            theirs(one.tenant.clone()),
            theirs(commit(&one.revision)),
            if back_to.is_empty() { word("nothing; left as it was") } else { theirs(back_to) },
            theirs(one.reason.clone()),
        ])
    });
    let head = &["when", "tenant", "commit", "back to", "reason"];
    Section { left_out: report.bad.left_out, ..section("Bad commits and fall-backs", "bad", head, rows.collect()) }
}

fn refusals(report: &Report) -> Section {
    let rows = report.refusals.iter().map(|one| {
        row(vec![
            one.tenant.as_ref().map_or_else(|| word("(others)"), theirs),
            theirs(one.destination.clone()),
            theirs(one.rule.clone()),
            number(one.count),
        ])
    });
    let head = &["tenant", "destination", "rule", "times"];
    section("Refused by the gateway", "refusals", head, rows.collect())
}

fn tenants(report: &Report) -> Section {
    let note = match &report.other_tenants {
        Some(_) => "What the journal holds of further tenants is counted in the totals alone.".to_owned(),
        None => "As declared at the end of the time; the engine is held to it.".to_owned(),
    };
    let head = &[
        "tenant",
        "state",
        "runtime",
        "capabilities",
        "limits",
        "commits",
        "loosens",
        "tightens",
        "drift",
        "not done",
        "allowlist",
    ];
    Section { note, ..section("Tenants", "tenants", head, report.tenants.iter().map(tenant).collect()) }
}

fn tenant(one: &TenantRow) -> Row {
    let TenantRow { counts, changes, allowlist, .. } = one;
    let state = match (one.at_from, one.at_to) {
        (_, true) if one.held => "held, errors in its file",
        (true, true) => "",
        (false, true) => "added",
        (true, false) => "removed",
        (false, false) => "not declared",
    };
    let (runtime, capabilities) = one.isolation.as_ref().map_or_else(
        || (word("-"), word("-")),
        |isolation| {
            let dropped = isolation.capabilities_dropped.join(", ");
            let added = &isolation.capabilities_added;
            let is_weak = isolation.privileged || !added.is_empty();
            let added = if added.is_empty() { "none".to_owned() } else { added.join(", ") };
            let privileged = if isolation.privileged { ", privileged" } else { "" };
            let text = format!("drops {dropped}, adds {added}{privileged}");
            (word(&isolation.runtime), Cell { tone: if is_weak { Tone::Alarm } else { Tone::Plain }, ..word(text) })
        },
    );
    let value = |value: &Value| shown(value);
    let limits: Vec<String> = one.limits.iter().map(|(name, limit)| format!("{name} {}", value(limit))).collect();
    let undone = counts.drift.failed + counts.drift.unknown + counts.intent.failed + counts.intent.unknown;
    let undone = undone + counts.drift.open + counts.intent.open;
    row(vec![
        theirs(one.tenant.clone()),
        word(state),
        runtime,
        capabilities,
        word(limits.join(", ")),
        number(one.commits),
        bad(changes.loosens, Tone::Warning),
        number(changes.tightens),
        number(counts.drift.seen),
        bad(undone, Tone::Alarm),
        word(format!("{} -> {}", allowlist.from, allowlist.to)),
    ])
}

fn allowlists(report: &Report) -> Section {
    let usage = &report.sources.usage;
    let note = match (&usage.since, &usage.note) {
        (Some(since), Some(note)) => format!("Counted since {}: {note}.", seconds(*since)),
        (Some(since), None) => format!("Counted since {}.", seconds(*since)),
        (None, note) => format!("What is used is not known: {}.", note.as_deref().unwrap_or("nothing was counted")),
    };
    let is_told = |one: &&TenantRow| {
        let list = &one.allowlist;
        let unused = list.unused.as_ref().is_some_and(|unused| !unused.is_empty());
        unused || !(list.added.is_empty() && list.removed.is_empty())
    };
    let rows = report.tenants.iter().filter(is_told).map(|one| {
        let list = &one.allowlist;
        row(vec![
            theirs(one.tenant.clone()),
            number(list.from),
            number(list.to),
            theirs(some(&list.added)),
            theirs(some(&list.removed)),
            list.unused.as_ref().map_or_else(|| word("not known"), |unused| theirs(some(unused))),
        ])
    });
    let head = &["tenant", "at the begin", "at the end", "added", "removed", "unused"];
    Section { note, nothing: "No entry came or went.", ..section("Allowlists", "allowlists", head, rows.collect()) }
}

fn gaps(report: &Report) -> Section {
    let rows = report.gaps.kept.iter().map(|gap| {
        let Gap { journal, kind, from, to, what } = gap;
        row(vec![
            word(*journal),
            word(kind.as_str()),
            word(seconds(*from)),
            word(seconds(*to)),
            word(duration(to.duration_since(*from))),
            theirs(what.clone()),
        ])
    });
    let head = &["journal", "kind", "from", "to", "length", "what is known"];
    Section {
        note: "Where the record of what happened is incomplete, or no daemon ran.".to_owned(),
        left_out: report.gaps.left_out,
        ..section("Gaps", "gaps", head, rows.collect())
    }
}

fn sources(report: &Report) -> Section {
    let repo = &report.sources.repo;
    let at = |commit: &Option<String>| commit.clone().unwrap_or_else(|| "no commit".to_owned());
    let mut rows = vec![
        row(vec![
            word("config repo"),
            theirs(repo.path.clone()),
            theirs(format!(
                "{} at {}, {}",
                repo.rev,
                at(&repo.head),
                counted(repo.commits as u64, "commit", "commits")
            )),
        ]),
        row(vec![
            word("the period"),
            word("git"),
            word(format!("after {} up to {}", at(&repo.before), at(&repo.at_end))),
        ]),
    ];
    if repo.shallow {
        let what = Cell { tone: Tone::Warning, ..word("the repository is shallow; older commits are not known") };
        rows.push(row(vec![word("config repo"), word(""), what]));
    }
    if repo.backwards > 0 {
        let commits = counted(repo.backwards as u64, "commit carries", "commits carry");
        let what = format!(
            "{commits} a time before that of the one before; such are listed in each period that they may belong to"
        );
        rows.push(row(vec![word("config repo"), word(""), Cell { tone: Tone::Warning, ..word(what) }]));
    }
    for rewritten in &repo.rewritten {
        let what = format!(
            "the branch was rewritten at {}, from {} to {}",
            seconds(rewritten.time),
            short_id(&rewritten.from),
            short_id(&rewritten.to)
        );
        rows.push(row(vec![word("config repo"), word(""), Cell { tone: Tone::Warning, ..word(what) }]));
    }
    rows.extend(report.sources.journals.iter().map(|journal| {
        row(vec![word(format!("journal ({})", journal.name)), theirs(journal.folder.clone()), this_journal(journal)])
    }));
    let usage = &report.sources.usage;
    let counted = match &usage.since {
        Some(since) => format!("counts of the gateway since {}", seconds(*since)),
        None => usage.note.clone().unwrap_or_default(),
    };
    rows.push(row(vec![word("usage"), word(""), word(counted)]));
    section("What was read", "sources", &["source", "where", "what"], rows)
}

fn this_journal(journal: &Journal) -> Cell {
    let Journal { found, records, in_period, first, head, broken, begins, .. } = journal;
    if !found {
        return Cell { tone: Tone::Alarm, ..word("there is none") };
    }
    let begin = match (first, begins) {
        (Some(first), Some(begins)) => format!(", from record {first} of {}", seconds(*begins)),
        _ => String::new(),
    };
    let end = match (head, broken) {
        (Some(head), _) => format!("the chain holds, head {head}"),
        (None, Some(broken)) => format!("the chain does not hold: {broken}"),
        (None, None) => String::new(),
    };
    let tone = if broken.is_some() { Tone::Alarm } else { Tone::Plain };
    let text = format!("{}{begin}, {in_period} in the period; {end}", counted(*records, "record", "records"));
    Cell { tone, ..theirs(text) }
}

/// The events, newest first.
pub(super) fn events(report: &Report) -> Section {
    let rows = report.events.kept.iter().rev().map(|event| {
        let Event { time, journal, seq, tenant, kind, what, result, because } = event;
        let end = [result, because].into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join("; ");
        row(vec![
            word(seconds(*time)),
            word(format!("{journal} {seq}")),
            optional(tenant.as_ref()),
            theirs(kind.clone()),
            theirs(what.clone()),
            theirs(end),
        ])
    });
    let head = &["when", "record", "tenant", "kind", "what", "how and why"];
    Section {
        note: "Without steps that a declaration asked for and that were done, and without refusals.".to_owned(),
        left_out: report.events.left_out,
        ..section("Events", "events", head, rows.collect())
    }
}

/// The tenants that something happened to.
pub(super) fn touched(report: &Report) -> BTreeSet<&str> {
    let suspended = report.suspensions.kept.iter().map(|one| one.tenant.as_str());
    report.timeline.tenants.rows.keys().map(String::as_str).chain(suspended).collect()
}
