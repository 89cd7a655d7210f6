//! What git and the journal show together of a stretch of time, for somebody who was not there. Pure: who calls it reads
//! the repository and the journals.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod bounded;
pub mod data;
pub mod render;
pub mod status_at;
pub mod timeline;
pub mod words;

mod gather;
mod period;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

pub use data::Report;
pub use gather::{Break, Gathered, Sound};
pub use period::Period;

use crate::{
    model::{Desired, Destination, Tenant, tree::Signature},
    plan,
    review::{self, Mark, TenantChange, history::Commit},
};
use data::{
    Allowlist, Counts, Drift, DriftRow, FORMAT_VERSION, Growth, Isolation, Marks, RefusedDestination, Repo, Sources,
    Tally, TenantRow, Totals, Usage,
};
use timeline::TimelineKind;

/// What git shows.
#[derive(Debug)]
pub struct RepoHistory {
    /// Where it was read.
    pub repo: Repo,
    /// The commits of the period that changed what was in force, oldest first.
    pub commits: Vec<Commit>,
    /// What was in force at the begin of the period.
    pub at_from: Desired,
    /// At its end.
    pub at_to: Desired,
}

/// Makes a report of what was read. `in_history` says of a commit whether the history has it.
pub fn report(
    period: Period,
    made: Timestamp,
    declared: RepoHistory,
    journals: Vec<Gathered>,
    usage: Usage,
    in_history: impl Fn(&str) -> bool,
) -> Report {
    let RepoHistory { repo, commits, at_from, at_to } = declared;
    let Joined { mut report, tenants, drift, refusals } = join(period, made, repo, journals, usage);
    for approval in &mut report.approvals.kept {
        let commit = approval.revision.rsplit(':').next().unwrap_or_default();
        approval.in_history = in_history(commit);
    }
    let foreign = report.approvals.kept.iter().filter(|approval| approval.is_foreign());
    report.totals.not_in_history = foreign.count() as u64;
    let mut rows = rows(&at_from, &at_to, &report.sources.usage);
    for (name, tally) in tenants.rows {
        rows.entry(name.clone()).or_insert_with(|| nobody(&name)).counts = tally.counts();
    }
    report.other_tenants = tenants.rest.map(|tally| tally.counts());
    report.drift = drift;
    report.refusals = refusals;
    changes(&mut report, &mut rows, &commits);
    report.changes = commits;
    report.tenants = rows.into_values().collect();
    let (from, to) = (at_from.tenants.len() as u64, at_to.tenants.len() as u64);
    (report.totals.tenants_at_from, report.totals.tenants_at_to) = (from, to);
    report.totals.allowlists = growth(&report.tenants);
    report
}

/// What all journals show together.
struct Joined {
    report: Report,
    tenants: bounded::Table<String, Tally>,
    drift: Vec<DriftRow>,
    refusals: Vec<RefusedDestination>,
}

fn join(period: Period, made: Timestamp, repo: Repo, journals: Vec<Gathered>, usage: Usage) -> Joined {
    let mut report = Report {
        format_version: FORMAT_VERSION,
        tenantd_version: env!("CARGO_PKG_VERSION"),
        made,
        period,
        sources: Sources { repo, journals: Vec::new(), usage },
        totals: Totals::default(),
        changes: Vec::new(),
        approvals: Default::default(),
        drift: Vec::new(),
        suspensions: Default::default(),
        loosenings: Default::default(),
        bad: Default::default(),
        refusals: Vec::new(),
        tenants: Vec::new(),
        other_tenants: None,
        gaps: Default::default(),
        events: Default::default(),
        timeline: Default::default(),
    };
    let mut tenants: bounded::Table<String, Tally> = bounded::Table::default();
    let (mut drift, mut refusals) = (Vec::new(), Vec::new());
    for one in journals {
        for (name, tally) in &one.tenants.rows {
            tenants.of(name).add(tally);
        }
        if let Some(rest) = &one.tenants.rest {
            tenants.rest.get_or_insert_default().add(rest);
        }
        let rest = one.drift.rest.map(|row| (None, row));
        drift.extend(one.drift.rows.into_iter().map(|(key, row)| (Some(key), row)).chain(rest).map(|(key, row)| {
            let (tenant, resource) = key.map_or((None, String::new()), |(tenant, resource)| (Some(tenant), resource));
            let drift = Drift::of(&row.steps, row.left);
            DriftRow { tenant, resource, drift, fields: row.fields, last: row.last }
        }));
        let rest = one.refusals.rest.map(|count| (None, count));
        let rows = one.refusals.rows.into_iter().map(|(key, count)| (Some(key), count)).chain(rest);
        refusals.extend(rows.map(|(key, count)| match key {
            Some((tenant, destination, rule)) => RefusedDestination { tenant: Some(tenant), destination, rule, count },
            None => RefusedDestination { tenant: None, destination: String::new(), rule: String::new(), count },
        }));
        report.totals.verdicts.add(&one.verdicts);
        report.approvals.merge(one.approvals, |one| one.time);
        report.suspensions.merge(one.suspensions, |one| one.from);
        report.loosenings.merge(one.loosenings, |one| one.time);
        report.bad.merge(one.bad, |one| one.time);
        report.gaps.merge(one.gaps, |one| one.from);
        report.events.merge(one.events, |one| (one.time, one.seq));
        report.timeline.merge(one.timeline);
        report.sources.journals.push(one.journal);
    }
    let mut all = Tally::default();
    tenants.rows.values().chain(&tenants.rest).for_each(|tally| all.add(tally));
    report.totals.counts = all.counts();
    report.totals.suspensions_open = report.suspensions.kept.iter().filter(|one| one.ended.is_none()).count() as u64;
    report.totals.gaps = report.gaps.total();
    refusals.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.tenant.cmp(&b.tenant)));
    Joined { report, tenants, drift, refusals }
}

/// A row for each tenant that is declared at the begin or at the end.
fn rows(at_from: &Desired, at_to: &Desired, usage: &Usage) -> BTreeMap<String, TenantRow> {
    let names: BTreeSet<_> = at_from.tenants.keys().chain(at_to.tenants.keys()).collect();
    let row = |name: &crate::model::TenantName| {
        let (before, after) = (at_from.tenants.get(name), at_to.tenants.get(name));
        let mut row = nobody(name.as_str());
        (row.at_from, row.at_to) = (before.is_some(), after.is_some());
        row.held = at_to.held.contains(name.as_str());
        if let Some(tenant) = after {
            row.isolation = Some(isolation(tenant));
            let limits = review::settings(tenant).into_iter();
            let limit = |(field, value): (String, _)| Some((field.strip_prefix("limits.")?.to_owned(), value));
            row.limits = limits.filter_map(limit).collect();
        }
        row.allowlist = allowlist(name.as_str(), before.map(AsRef::as_ref), after.map(AsRef::as_ref), usage);
        (name.to_string(), row)
    };
    names.into_iter().map(row).collect()
}

/// The row of a tenant that nothing is known of.
fn nobody(name: &str) -> TenantRow {
    TenantRow {
        tenant: name.to_owned(),
        at_from: false,
        at_to: false,
        held: false,
        isolation: None,
        limits: BTreeMap::new(),
        commits: 0,
        changes: Marks::default(),
        counts: Counts::default(),
        allowlist: Allowlist::default(),
    }
}

/// What the container may do that is made of a declaration.
fn isolation(tenant: &Tenant) -> Isolation {
    let container = plan::hardened(tenant);
    Isolation {
        runtime: tenant.class.to_string(),
        capabilities_dropped: container.cap_drop,
        capabilities_added: container.cap_add,
        privileged: container.privileged,
        user: container.user,
        read_only: container.read_only,
        security: container.security_opt,
    }
}

fn allowlist(name: &str, before: Option<&Tenant>, after: Option<&Tenant>, usage: &Usage) -> Allowlist {
    let entries = |tenant: Option<&Tenant>| -> BTreeSet<String> {
        tenant.map(|tenant| tenant.allowlist.iter().map(Destination::to_string).collect()).unwrap_or_default()
    };
    let (before, after) = (entries(before), entries(after));
    let used = usage.used.get(name);
    let is_unused = |entry: &&String| used.is_none_or(|used| !used.contains(*entry));
    let unused = usage.since.map(|_| after.iter().filter(is_unused).cloned().collect());
    Allowlist {
        from: before.len() as u64,
        to: after.len() as u64,
        added: after.difference(&before).cloned().collect(),
        removed: before.difference(&after).cloned().collect(),
        unused,
    }
}

fn growth(tenants: &[TenantRow]) -> Growth {
    let mut growth = Growth::default();
    for Allowlist { from, to, added, removed, unused } in tenants.iter().map(|row| &row.allowlist) {
        growth.from += from;
        growth.to += to;
        growth.added += added.len() as u64;
        growth.removed += removed.len() as u64;
        if let Some(unused) = unused {
            *growth.unused.get_or_insert_default() += unused.len() as u64;
        }
    }
    growth
}

/// Counts what the commits changed, for all and for each tenant, and draws it.
fn changes(report: &mut Report, rows: &mut BTreeMap<String, TenantRow>, commits: &[Commit]) {
    let (period, totals, timeline) = (report.period, &mut report.totals, &mut report.timeline);
    for Commit { moment, broken, side, review, against, .. } in commits {
        totals.commits += 1;
        totals.broken += u64::from(*broken);
        totals.unsigned += u64::from(!matches!(moment.signature, Signature::By(_)));
        totals.fleet_changes.count(&review.fleet);
        totals.changes.count(&review.fleet);
        for effect in &review.fleet {
            timeline.mark(period, moment.time, None, kind(effect.mark), 1);
        }
        for one in &review.tenants {
            let row = rows.entry(one.tenant.clone()).or_insert_with(|| nobody(&one.tenant));
            row.commits += 1;
            row.changes.count(&one.effects);
            totals.changes.count(&one.effects);
            // What came in by a merge is added and removed by the merge.
            totals.tenants_added += u64::from(one.change == TenantChange::Added && !side);
            totals.tenants_removed += u64::from(one.change == TenantChange::Removed && !side);
            for effect in &one.effects {
                timeline.mark(period, moment.time, Some(&one.tenant), kind(effect.mark), 1);
            }
            if one.effects.is_empty() {
                timeline.mark(period, moment.time, Some(&one.tenant), TimelineKind::Neutral, 1);
            }
        }
        for (tenant, effect) in against.iter().flat_map(|against| against.review.effects()) {
            let one = std::slice::from_ref(effect);
            totals.changes.count(one);
            match tenant {
                Some(tenant) => {
                    rows.entry(tenant.tenant.clone()).or_insert_with(|| nobody(&tenant.tenant)).changes.count(one);
                }
                None => totals.fleet_changes.count(one),
            }
            timeline.mark(period, moment.time, tenant.map(|it| it.tenant.as_str()), kind(effect.mark), 1);
        }
    }
}

const fn kind(mark: Mark) -> TimelineKind {
    match mark {
        Mark::Loosens => TimelineKind::Loosens,
        Mark::Tightens => TimelineKind::Tightens,
        Mark::Neutral => TimelineKind::Neutral,
    }
}
