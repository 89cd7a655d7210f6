//! `tenantd usage`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    ops::{
        Bound::{Included, Unbounded},
        RangeBounds,
    },
    path::Path,
};

use anyhow::Context;
use jiff::{Timestamp, civil::Date};
use serde::Serialize;

use super::{
    EXIT_OK,
    args::{Global, PlanFormat},
    output, setup, time,
};
use crate::{
    gateway::accounting::{
        ledger,
        usage::{self, Count},
    },
    model::{
        EgressPolicy, TenantName,
        egress::{Budget, POLICY_VERSION},
        host::Egress,
    },
};

#[derive(Debug, clap::Args)]
pub struct Usage {
    /// Only this tenant
    tenant: Option<String>,
    /// Only what was counted on this day or later, in UTC: a time, or a duration such as 7d
    #[arg(long, value_name = "TIME", value_parser = time::since)]
    since: Option<Timestamp>,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    format: PlanFormat,
}

/// The largest policy that is read, in bytes.
const MAX_POLICY: u64 = 4 << 20;

/// What a tenant used.
#[derive(Default, Serialize)]
struct Tenant {
    destinations: BTreeMap<String, Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<Left>,
}

/// One destination.
#[derive(Default, Serialize)]
struct Row {
    #[serde(flatten)]
    count: Count,
    credits: u64,
}

/// What of a budget is used and left today and this month, in UTC.
#[derive(Serialize)]
struct Left {
    #[serde(flatten)]
    budget: Budget,
    used_day: u64,
    used_month: u64,
    left: u64,
}

pub fn run(command: &Usage, global: &Global) -> anyhow::Result<u8> {
    let host = setup::host(global)?;
    let wanted = command.tenant.as_deref().map(str::parse::<TenantName>).transpose()?;
    let mut tenants = gather(&host.egress, command.since.map(ledger::day))?;
    tenants.retain(|name, _| wanted.as_ref().is_none_or(|wanted| wanted == name));
    match command.format {
        PlanFormat::Json => output::print_data(&(serde_json::to_string_pretty(&tenants)? + "\n"))?,
        PlanFormat::Text => output::print(&table(&tenants))?,
    }
    Ok(EXIT_OK)
}

/// What the gateway has counted of each destination on some days.
pub fn counts(
    settings: &Egress,
    on: impl RangeBounds<Date>,
) -> anyhow::Result<BTreeMap<TenantName, BTreeMap<String, Count>>> {
    let mut tenants: BTreeMap<TenantName, BTreeMap<String, Count>> = BTreeMap::new();
    for (name, days) in usage::read(&usage::folder(&settings.state))? {
        let tenant = tenants.entry(name).or_default();
        for (_, counts) in days.into_iter().filter(|(day, _)| on.contains(day)) {
            for (destination, count) in counts {
                tenant.entry(destination).or_default().add(&count);
            }
        }
    }
    Ok(tenants)
}

fn gather(settings: &Egress, since: Option<Date>) -> anyhow::Result<BTreeMap<TenantName, Tenant>> {
    let mut tenants: BTreeMap<TenantName, Tenant> = BTreeMap::new();
    for (name, counts) in counts(settings, (since.map_or(Unbounded, Included), Unbounded))? {
        let tenant = tenants.entry(name).or_default();
        for (destination, count) in counts {
            tenant.destinations.entry(destination).or_default().count = count;
        }
    }
    let book = ledger::read(&ledger::folder(&settings.state))?;
    for ((name, route), credits) in book.credits(since) {
        let rows = &mut tenants.entry(name).or_default().destinations;
        rows.entry(format!("route:{route}")).or_default().credits = credits;
    }
    let today = ledger::day(Timestamp::now());
    for (name, budget) in budgets(&settings.policies)? {
        let (used_day, used_month) = book.used_in(&name, today);
        if let Some(left) = book.left(&name, budget, today) {
            tenants.entry(name).or_default().budget = Some(Left { budget, used_day, used_month, left });
        }
    }
    Ok(tenants)
}

/// The budgets of all tenants that the gateway serves.
fn budgets(policies: &Path) -> anyhow::Result<Vec<(TenantName, Budget)>> {
    let folder = policies.join("policies");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", folder.display())),
    };
    let mut budgets = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            let policy = policy(&path).with_context(|| format!("cannot read {}", path.display()))?;
            budgets.extend(policy.map(|policy| (policy.tenant, policy.budget)));
        }
    }
    Ok(budgets)
}

/// A policy; `None` where it was removed meanwhile.
fn policy(path: &Path) -> anyhow::Result<Option<EgressPolicy>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => drop(file.take(MAX_POLICY).read_to_end(&mut bytes)?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.into()),
    }
    let policy: EgressPolicy = serde_json::from_slice(&bytes)?;
    anyhow::ensure!(policy.v <= POLICY_VERSION, "a newer tenantd wrote it");
    Ok(Some(policy))
}

const HEADING: [&str; 8] =
    ["TENANT", "DESTINATION", "REQUESTS", "SENT", "RECEIVED", "DURATION", "CREDITS", "LAST USED"];

fn table(tenants: &BTreeMap<TenantName, Tenant>) -> String {
    let mut rows = vec![HEADING.map(str::to_owned)];
    let mut budgets = String::new();
    for (name, tenant) in tenants {
        for (destination, Row { count, credits }) in &tenant.destinations {
            rows.push([
                name.to_string(),
                destination.clone(),
                count.requests.to_string(),
                bytes(count.sent),
                bytes(count.received),
                duration(count.millis),
                credits.to_string(),
                count.last.map_or_else(|| "-".to_owned(), |last| last.strftime("%Y-%m-%d %H:%M:%SZ").to_string()),
            ]);
        }
        if let Some(left) = &tenant.budget {
            budgets.push_str(&budget(name, left));
        }
    }
    if rows.len() == 1 && budgets.is_empty() {
        return "Nothing was counted.\n".to_owned();
    }
    let mut text = output::aligned(&rows);
    if !budgets.is_empty() {
        text.push('\n');
        text.push_str(&budgets);
    }
    text
}

fn budget(name: &TenantName, left: &Left) -> String {
    let part = |most: Option<u64>, used: u64, of: &str| most.map(|most| format!("{used} of {most} {of}"));
    let parts = [part(left.budget.day, left.used_day, "today"), part(left.budget.month, left.used_month, "this month")];
    let used: Vec<String> = parts.into_iter().flatten().collect();
    format!("{name}: {} credits left; used {} (UTC)\n", left.left, used.join(", "))
}

fn bytes(count: u64) -> String {
    if count < 10 << 10 {
        return format!("{count} B");
    }
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let (unit, shift) = units.into_iter().rev().find(|(_, shift)| count >> shift >= 10).unwrap_or(("KiB", 10));
    format!("{} {unit}", count >> shift)
}

fn duration(millis: u64) -> String {
    match millis / 1000 {
        0..60 => format!("{}.{}s", millis / 1000, millis % 1000 / 100),
        seconds @ 60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        seconds => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}
