//! For spreadsheets: a line for each event.

use jiff::Timestamp;

use super::super::data::{Event, Gap, Report};
use crate::review::{
    Effect,
    history::Commit,
    render::{csv::row, person, shown, signature},
};

/// The names of the columns.
const HEAD: [&str; 10] =
    ["time", "source", "reference", "tenant", "kind", "what", "before", "after", "result", "because"];

/// The whole report, by time: changes of settings, events of the journals, refusals and gaps.
pub fn csv(report: &Report) -> String {
    let mut lines: Vec<(Timestamp, [String; 10])> = Vec::new();
    report.changes.iter().for_each(|commit| changes(&mut lines, commit));
    for Event { time, journal, seq, tenant, kind, what, result, because } in &report.events.kept {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (reference, what) = (seq.to_string(), what.clone());
        let rest = [String::new(), String::new(), text(result), text(because)];
        add(&mut lines, *time, [(*journal).to_owned(), reference, text(tenant), kind.clone(), what], rest);
    }
    for Gap { journal, kind, from, to, what } in &report.gaps.kept {
        let kind = format!("gap: {}", kind.as_str());
        let rest = [from.to_string(), to.to_string(), String::new(), String::new()];
        add(&mut lines, *from, [(*journal).to_owned(), String::new(), String::new(), kind, what.clone()], rest);
    }
    for one in &report.refusals {
        let count = format!("{} times", one.count);
        let tenant = one.tenant.clone().unwrap_or_default();
        let rest = [String::new(), String::new(), count, one.rule.clone()];
        let what = ["gateway".to_owned(), String::new(), tenant, "refused".to_owned(), one.destination.clone()];
        add(&mut lines, report.period.to, what, rest);
    }
    lines.sort_by_key(|(time, _)| *time);
    let head = row(&HEAD.map(str::to_owned));
    lines.iter().fold(head, |text, (_, cells)| text + &row(cells))
}

/// A line for each setting that a commit changed, and one for each tenant of whom it changed none.
fn changes(lines: &mut Vec<(Timestamp, [String; 10])>, commit: &Commit) {
    let Commit { moment, broken, review, .. } = commit;
    let because = format!("{}, {}: {}", person(&moment.author), signature(&moment.signature), moment.subject);
    let mut one = |tenant: &str, kind: &str, what: &str, before: String, after: String, result: &str| {
        let source = ["git", &moment.commit, tenant, kind, what].map(str::to_owned);
        add(lines, moment.time, source, [before, after, result.to_owned(), because.clone()]);
    };
    if *broken {
        one("", "broken", "", String::new(), String::new(), "");
    }
    for tenant in review.tenants.iter().filter(|tenant| tenant.effects.is_empty()) {
        one(&tenant.tenant, tenant.change.as_str(), "", String::new(), String::new(), "");
    }
    for (tenant, effect) in review.effects() {
        let Effect { field, before, after, mark, .. } = effect;
        let (name, change) = tenant.map_or(("", "policy"), |one| (one.tenant.as_str(), one.change.as_str()));
        one(name, change, field, shown(before), shown(after), mark.as_str());
    }
}

fn add(lines: &mut Vec<(Timestamp, [String; 10])>, time: Timestamp, what: [String; 5], rest: [String; 4]) {
    let [source, reference, tenant, kind, what] = what;
    let [before, after, result, because] = rest;
    lines.push((time, [time.to_string(), source, reference, tenant, kind, what, before, after, result, because]));
}
