//! For a comment on a pull request: what loosens comes first, the same change of many tenants is one row, and what does
//! not fit is counted.

use std::{collections::BTreeMap, fmt::Write};

use super::{Effect, FileChange, Mark, Review, Sides, TenantChange, shown, some, summary};
use crate::{
    model::finding::printable,
    plan::render::{add_rows as add, code, fence, value},
};

/// The whole review, within 60,000 characters.
pub fn markdown(review: &Review, sides: Sides<'_>) -> String {
    let mut out = format!("### tenantd plan\n\n{}\n\n", summary(review));
    let _ = writeln!(out, "Base {}, now {}.\n", code(sides.base), code(sides.now));
    let mut left_out = 0;
    for mark in Mark::ALL {
        let rows = rows(review, mark);
        if rows.is_empty() {
            continue;
        }
        let title = match mark {
            Mark::Loosens => "Loosens",
            Mark::Tightens => "Tightens",
            Mark::Neutral => "Neutral",
        };
        let head = format!("#### {title}\n\n| setting | before | after | tenants |\n| --- | --- | --- | --- |\n");
        left_out += add(&mut out, &head, &rows);
        out.push('\n');
    }
    for (change, title) in
        [(TenantChange::Added, "Added"), (TenantChange::Removed, "Removed"), (TenantChange::Held, "Held, with errors")]
    {
        let names: Vec<&str> =
            review.tenants.iter().filter(|one| one.change == change).map(|one| one.tenant.as_str()).collect();
        if !names.is_empty() {
            left_out += add(&mut out, "", &[format!("{title}: {}\n\n", named(&names))]);
        }
    }
    left_out += add(&mut out, "#### Config files\n\n", &diffs(review));
    if left_out > 0 {
        let _ = writeln!(out, "{left_out} rows more are left out here; `tenantd plan --base` shows them all.");
    }
    out
}

/// One row for each change, whoever has it.
fn rows(review: &Review, mark: Mark) -> Vec<String> {
    let mut tenants: BTreeMap<(&str, String, String), Vec<&str>> = BTreeMap::new();
    for (tenant, effect) in review.effects().filter(|(_, effect)| effect.mark == mark) {
        let Effect { field, before, after, .. } = effect;
        let name = tenant.map_or("(fleet)", |tenant| tenant.tenant.as_str());
        tenants.entry((field, value(&shown(before)), value(&shown(after)))).or_default().push(name);
    }
    let row = |((field, before, after), names): ((&str, String, String), Vec<&str>)| {
        format!("| {} | {before} | {after} | {} |\n", code(field), named(&names))
    };
    tenants.into_iter().map(row).collect()
}

/// One block for each change of a config file, whoever has it.
fn diffs(review: &Review) -> Vec<String> {
    let mut tenants: BTreeMap<(&str, &[String]), Vec<&str>> = BTreeMap::new();
    for one in &review.tenants {
        for FileChange { path, lines } in &one.files {
            tenants.entry((path, lines)).or_default().push(&one.tenant);
        }
    }
    let block = |((path, lines), names): ((&str, &[String]), Vec<&str>)| {
        let lines: String = lines.iter().map(|line| format!("{}\n", printable(line))).collect();
        let fence = fence(&lines, 3);
        format!("{} of {}\n\n{fence}diff\n{lines}{fence}\n\n", code(path), named(&names))
    };
    tenants.into_iter().map(block).collect()
}

fn named(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| code(name)).collect();
    match names.len() {
        count @ 5.. => format!("{count}: {}", some(&names)),
        _ => some(&names),
    }
}
