//! `tenantd plan --base`: two commits compared, without an engine.

use std::collections::BTreeMap;

use anyhow::Context;

use super::{
    EXIT_CHANGES, EXIT_ERROR, EXIT_OK,
    args::{Global, Plan, ReviewFormat, Source, Which},
    failure::Failure,
    output,
    report::{self, Level, Remark},
    setup::{self, Layout},
};
use crate::{
    model::{Desired, Severity, approval, tree::Tree},
    review::{
        self, Effect, Mark, RULES, Review, TenantChange, TenantReview,
        render::{self, Sides},
    },
    source::read_directory,
    spec::{self, origin::Origins},
};

pub fn run(command: &Plan, base: &str, global: &Global) -> anyhow::Result<u8> {
    let Source { repo, which: Which { rev, worktree, tenant, path } } = &command.source;
    let layout = Layout::of(path, global);
    let older = layout.read(repo, base)?;
    let newer = match worktree {
        true => read_directory(&setup::worktree(repo, path))?,
        false => layout.read(repo, rev)?,
    };
    let (before, after) = (spec::compile(&older), spec::compile(&newer));
    usable(&before, &older).context("the base declares nothing to compare with")?;
    if matches!(command.format, ReviewFormat::Text | ReviewFormat::Markdown | ReviewFormat::Junit)
        || !after.policy_usable
    {
        output::findings(&after.findings, &newer);
    }
    usable(&after, &newer)?;
    let origins = Origins::new(&newer, &after);
    let mut review = review::review(&before, &after, &|tenant, field, value| origins.locate(tenant, field, value));
    if let Some(only) = tenant {
        let is_known = |side: &Desired| side.mentions(only);
        if !is_known(&before) && !is_known(&after) {
            return Err(setup::unknown(format!("neither side declares a tenant {only:?}"), only, &after).into());
        }
        review.tenants.retain(|one| one.tenant == *only);
        review.fleet.clear();
    }
    if let Some(fleet) = &command.approval {
        output::print(&lines(&review, &after, fleet))?;
        return Ok(EXIT_OK);
    }
    let sides = Sides { base: &older.revision, now: &newer.revision };
    output::print_as(
        command.format == ReviewFormat::Text,
        &match command.format {
            ReviewFormat::Text => render::text(&review, sides, output::style()),
            ReviewFormat::Json => format!("{:#}\n", render::json(&review, sides, &after.findings)),
            ReviewFormat::Markdown => render::markdown(&review, sides),
            ReviewFormat::Junit => render::junit(&review, sides, &after.findings),
            ReviewFormat::Sarif => report::sarif(&remarks(&review, &after)),
            ReviewFormat::Github => report::annotations(&remarks(&review, &after)),
        },
    )?;
    let errored = after.findings.iter().any(|finding| finding.severity == Severity::Error);
    Ok(match (errored, command.detailed_exitcode && !review.is_empty()) {
        (true, _) => EXIT_ERROR,
        (false, true) => EXIT_CHANGES,
        (false, false) => EXIT_OK,
    })
}

/// The lines that approve each tenant that is new or loosened.
fn lines(review: &Review, after: &Desired, fleet: &str) -> String {
    let is_asked = |one: &&TenantReview| {
        one.change == TenantChange::Added || one.effects.iter().any(|effect| effect.mark == Mark::Loosens)
    };
    let tenants = review.tenants.iter().filter(is_asked).filter_map(|one| after.tenants.get(one.tenant.as_str()));
    tenants.map(|tenant| approval::line(tenant.name.as_str(), &approval::declaration(tenant), fleet) + "\n").collect()
}

/// Without a policy nobody's settings are known.
fn usable(desired: &Desired, tree: &Tree) -> anyhow::Result<()> {
    if !desired.policy_usable {
        let what = format!("fleet.yaml, tiers.yaml or the folder tenants has errors in {}", tree.revision);
        return Err(Failure::asked(what)
            .hint("`tenantd validate` lists every error of a commit that is checked out")
            .into());
    }
    Ok(())
}

/// What is wrong, and then each effect on the line that it comes from.
fn remarks(review: &Review, after: &Desired) -> Vec<Remark> {
    let mut remarks: Vec<Remark> = after.findings.iter().map(Remark::from).collect();
    // What one line does to many tenants is one remark.
    let mut same: BTreeMap<_, (&Effect, Vec<&str>)> = BTreeMap::new();
    for (tenant, effect) in review.effects() {
        let (span, words) = (effect.at.span, render::words(effect));
        let key = (effect.at.file.as_str(), span.line, span.column, effect.mark, words);
        let whose = tenant.map_or("the fleet", |tenant| tenant.tenant.as_str());
        same.entry(key).or_insert((effect, Vec::new())).1.push(whose);
    }
    remarks.extend(same.into_iter().map(|((.., mark, words), (effect, whose))| {
        let why = RULES.iter().find(|(name, _)| *name == effect.rule).map_or("", |(_, why)| *why);
        let whose = match whose.as_slice() {
            [one] => (*one).to_owned(),
            all => format!("{} tenants ({})", all.len(), render::some(all)),
        };
        Remark {
            level: if mark == Mark::Loosens { Level::Warning } else { Level::Note },
            rule: format!("{}-{}", mark.as_str(), effect.rule),
            at: effect.at.clone(),
            message: format!("{whose}: {} {words}; {why}", mark.as_str()),
        }
    }));
    remarks
}
