//! `tenantd history`.

use std::fmt::Write;

use super::{
    EXIT_OK,
    args::{Global, History, TableFormat},
    commits, output,
};
use crate::{
    model::finding::printable,
    plan::render::{Style, YELLOW},
    review::{
        Effect, Mark, Review,
        history::{Commit, InForce},
        render::{came_or_went, csv::row, marked, person, short, shown, signature, words},
    },
    source::{self, Keys, Rewritten, SourceError},
};

/// The width of the column of marks: the longest of them.
const MARK: usize = 8;

pub fn run(command: &History, global: &Global) -> anyhow::Result<u8> {
    let history = source::History::open(&command.repo, &command.rev)?;
    let mut entries = read(&history, command, &commits::keys(global))?;
    entries.reverse();
    if history.is_cut() {
        output::tell("warning: the repository is shallow; what was before its oldest commit is not known");
    }
    let rewritten = history.rewritten();
    for Rewritten { time, from, to } in rewritten {
        let (from, to) = (short(from), short(to));
        output::tell(&format!(
            "warning: the branch was rewritten at {time}, from {from} to {to}; what was in force in between is not in its history"
        ));
    }
    output::print(&match command.format {
        TableFormat::Text => text(&entries, output::style()),
        TableFormat::Json => {
            format!("{:#}\n", serde_json::json!({"format_version": "1.0", "rewritten": rewritten, "commits": entries}))
        }
        TableFormat::Csv => csv(&entries),
    })?;
    Ok(EXIT_OK)
}

/// The commits that changed something that was asked for, oldest first.
fn read(history: &source::History, command: &History, keys: &Keys) -> Result<Vec<Commit>, SourceError> {
    let mut in_force = InForce::default();
    let mut entries = Vec::new();
    history.follow(keys, |at| {
        let Some(brought) = commits::bring(&mut in_force, &at)? else { return Ok(()) };
        let review = only(brought.review, command);
        let is_asked = command.tenant.is_none() && command.field.is_none() && !command.loosened;
        if review.is_empty() && !(brought.breaks && is_asked) {
            return Ok(());
        }
        if command.since.is_none_or(|since| at.time() >= since) {
            let (broken, renamed) = (brought.is_broken, brought.renamed);
            entries.push(Commit { moment: at.moment()?, broken, review, renamed });
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

fn text(entries: &[Commit], style: Style) -> String {
    let mut out = String::new();
    for Commit { moment, broken, review, renamed } in entries {
        let short = short(&moment.commit);
        let _ = writeln!(out, "{} {}  {}", style.paint(YELLOW, short), moment.time, printable(&moment.subject));
        let _ = writeln!(out, "  by {}, {}", person(&moment.author), signature(&moment.signature));
        if moment.committer != moment.author {
            let _ = writeln!(out, "  committed by {}", person(&moment.committer));
        }
        if !moment.merged.is_empty() {
            let merged: Vec<String> = moment.merged.iter().map(person).collect();
            let _ = writeln!(out, "  merges what is by {}", merged.join(", "));
        }
        if *broken {
            out.push_str("  its policy has errors: what was in force before stayed\n");
        }
        lines(&mut out, "the fleet", None, &review.fleet, style);
        for one in &review.tenants {
            let became = came_or_went(one, renamed);
            lines(&mut out, &one.tenant, became.as_ref(), &one.effects, style);
        }
        out.push('\n');
    }
    if entries.is_empty() {
        out.push_str("No commit changed any of that.\n");
    }
    out
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
    for Commit { moment, review, broken, .. } in entries {
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
        for one in review.tenants.iter().filter(|one| one.effects.is_empty()) {
            add([one.tenant.as_str(), one.change.as_str(), "", "", "", ""].map(str::to_owned));
        }
        for (tenant, effect) in review.effects() {
            let Effect { field, before, after, mark, .. } = effect;
            let (name, change) = tenant.map_or(("", "policy"), |one| (one.tenant.as_str(), one.change.as_str()));
            let values = [field.clone(), shown(before), shown(after), mark.as_str().to_owned()];
            let [field, before, after, mark] = values;
            add([name.to_owned(), change.to_owned(), field, before, after, mark]);
        }
    }
    out
}
