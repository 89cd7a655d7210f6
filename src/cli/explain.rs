//! `tenantd explain`.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    EXIT_OK,
    args::{Global, HistoryOf, JournalFolder, PlanFormat},
    changed, commits, events,
    failure::Failure,
    output,
    setup::{self, Layout},
    time,
};
use crate::{
    audit::{
        status_at::{Bad, Drift, InForce, StatusAt, Suspended, Waits},
        words::{seconds, short},
    },
    journal::{self, Item, Problem},
    model::{
        Tenant,
        finding::{Location, printable},
        status::at_which,
    },
    review::{self, render::shown},
    source::{Blame, Line},
    spec::{self, origin::Origins},
};

#[derive(Debug, clap::Args)]
pub struct Explain {
    /// The tenant
    tenant: String,
    #[command(flatten)]
    of: HistoryOf,
    /// As it was declared then, and its state on this host then: a time such as 2026-11-21T10:00:00Z, or a duration
    /// such as 7d
    #[arg(long, value_name = "TIME", value_parser = time::since)]
    at: Option<Timestamp>,
    #[command(flatten)]
    journal: JournalFolder,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    format: PlanFormat,
}

/// A setting, where it stands, and who wrote that.
#[derive(Serialize)]
struct Setting {
    field: String,
    value: Value,
    /// `None` for a default that is built in.
    at: Option<Location>,
    by: Option<Line>,
}

/// How the tenant stood on this host, if a journal says so.
enum OnHost {
    Known(Box<Known>),
    /// And why not.
    Unknown(String),
}

/// What the journal records, beside what git does.
#[derive(Serialize)]
struct Known {
    journal: String,
    /// What is wrong with the journal, so that it may not show all; `None` where its chain holds.
    broken: Option<String>,
    at: Timestamp,
    #[serde(flatten)]
    status: StatusAt,
    /// Whether the commit in force declared of the tenant what is shown. `None` where the repository does not have it.
    as_shown: Option<bool>,
}

pub fn run(command: &Explain, global: &Global) -> anyhow::Result<u8> {
    let layout = Layout::of(&command.of.path, global);
    let history = layout.history(&command.of.repo, &command.of.rev)?;
    if command.at.is_some() {
        commits::warn(&history);
    }
    let place = history.newest(command.at);
    let (place, commit) =
        place.and_then(|place| Some((place, history.at(place)?))).context("there was no commit yet at that time")?;
    let tree = layout.read(&command.of.repo, &commit)?;
    let desired = spec::compile(&tree);
    let Some(tenant) = desired.tenants.get(command.tenant.as_str()) else {
        if desired.held.contains(&command.tenant) || !desired.policy_usable {
            output::findings(&desired.findings, &tree);
            let what =
                format!("the files have errors at {}, so that an earlier commit says what was in force", tree.revision);
            return Err(Failure::asked(what).hint(format!("`tenantd history {}` shows it", command.tenant)).into());
        }
        let what = format!("no tenant {:?} is declared at {}", command.tenant, tree.revision);
        return Err(setup::unknown(what, &command.tenant, &desired).into());
    };
    let origins = Origins::new(&tree, &desired);
    let mut blame =
        Blame::new(&history, place, changed::on_line_to(&history, place)).context("the history has no such commit")?;
    let mut settings = Vec::new();
    for (field, value) in review::settings(tenant) {
        let at = origins.written(Some(&command.tenant), &field, &value);
        let by = at.as_ref().map(|at| blame.line(&at.file, at.span.line)).transpose()?.flatten();
        settings.push(Setting { field, value, at, by });
    }
    let on_host = on_host(command, &layout, global, tenant)?;
    let shown = match command.format {
        PlanFormat::Text => text(command, &tree.revision, &settings) + &on_host_text(&on_host),
        PlanFormat::Json => {
            let answer = json!({
                "format_version": "1.0",
                "tenant": command.tenant,
                "revision": tree.revision,
                "settings": settings,
                "on_host": match &on_host {
                    OnHost::Known(known) => json!(known),
                    OnHost::Unknown(why) => json!({"journal": null, "reason": why}),
                },
            });
            format!("{answer:#}\n")
        }
    };
    output::print_as(command.format == PlanFormat::Text, &shown)?;
    Ok(EXIT_OK)
}

fn text(command: &Explain, revision: &str, settings: &[Setting]) -> String {
    let row = |Setting { field, value, at, by }: &Setting| {
        let from = at.as_ref().map_or("built in".to_owned(), |at| format!("{}:{}", at.file, at.span.line));
        let by = by.as_ref().map_or_else(String::new, |Line { commit, author, time }| {
            format!("{} {} {}", output::short_id(commit), time.strftime("%Y-%m-%d"), printable(&author.name))
        });
        [format!("  {field}"), printable(&shown(value)), from, by]
    };
    let rows: Vec<[String; 4]> = settings.iter().map(row).collect();
    format!("{} at {revision}\n\n{}", command.tenant, output::aligned(&rows))
}

/// Reads how the tenant stood out of the journal. One that was named by hand must be there.
fn on_host(command: &Explain, layout: &Layout, global: &Global, shown: &Arc<Tenant>) -> anyhow::Result<OnHost> {
    let at = command.at.unwrap_or_else(Timestamp::now);
    let folders = match events::journals(&command.journal, global) {
        Ok(folders) => folders,
        Err(e) => return Ok(OnHost::Unknown(format!("the host's settings cannot be read: {e:#}"))),
    };
    let folder = folders.first().context("no journal is named")?;
    let begin = || StatusAt::new(command.tenant.clone(), at);
    let read = journal::check(folder, begin, |status, item| {
        if let Item::Record { record, .. } = item {
            status.record(record);
        }
    });
    match read {
        Ok((status, result)) => {
            let broken = result.err().filter(|broken| !matches!(broken.problem, Problem::Empty(_)));
            let known = known(command, layout, folder, at, status.end(), shown);
            Ok(OnHost::Known(Box::new(Known { broken: broken.map(|broken| broken.to_string()), ..known })))
        }
        Err(e) if command.journal.folder.is_some() => Err(e.into()),
        Err(e) => Ok(OnHost::Unknown(format!("{:#}", anyhow::Error::new(e)))),
    }
}

/// Looks up in git what the journal names.
fn known(
    command: &Explain,
    layout: &Layout,
    folder: &Path,
    at: Timestamp,
    mut status: StatusAt,
    shown: &Arc<Tenant>,
) -> Known {
    let declared = |commit: &str| {
        let tree = layout.read(&command.of.repo, commit).ok()?;
        Some(spec::compile(&tree).tenants.get(command.tenant.as_str()).cloned())
    };
    let in_force = status.in_force.as_ref().map(|in_force| in_force.revision.commit.clone());
    let now = in_force.as_deref().and_then(declared);
    // A bad declaration is tried again once it is another one.
    let is_other = |bad: &Bad| {
        let then = declared(&bad.revision.commit);
        then.zip(now.as_ref()).is_some_and(|(then, now)| then != *now)
    };
    if status.bad.as_ref().is_some_and(is_other) {
        status.bad = None;
    }
    let as_shown = now.map(|now| now.as_ref() == Some(shown));
    Known { journal: folder.display().to_string(), broken: None, at, status, as_shown }
}

/// The lines about this host.
fn on_host_text(on_host: &OnHost) -> String {
    let known = match on_host {
        OnHost::Known(known) => known,
        OnHost::Unknown(why) => return format!("\nNo journal was read: {}.\n", printable(why)),
    };
    let Known { journal, broken, at, status, as_shown } = &**known;
    let StatusAt { in_force, bad, waits, suspended, last_drift, open_drift, .. } = status;
    let mut rows: Vec<[String; 2]> = Vec::new();
    let mut add = |name: &str, what: String| rows.push([format!("  {name}"), printable(&what)]);
    if let Some(broken) = broken {
        add("journal", format!("its chain is broken, and it may be incomplete: {broken}"));
    }
    match in_force {
        Some(InForce { revision, since, by }) => {
            let by = by.as_ref().map_or_else(String::new, |by| format!(", approved by {by}"));
            let same = match as_shown {
                Some(true) => "; it declares what is shown",
                Some(false) => "; it does NOT declare what is shown",
                None => "; this repository does not have it",
            };
            add("in force", format!("{} since {}{by}{same}", short(revision), seconds(*since)));
        }
        None => add("in force", "nothing that a daemon has put on record".to_owned()),
    }
    if let Some(Bad { revision, back_to, narrowed_by, since, reason }) = bad {
        let back = back_to.as_ref();
        let back =
            back.map_or("left as it was".to_owned(), |back| format!("back at {}", at_which(back, narrowed_by, short)));
        add("stands", format!("{back} since {}: {} was bad for it: {reason}", seconds(*since), short(revision)));
    }
    if let Some(Waits { revision, at, narrowed_by, since, loosens }) = waits {
        let stays = at.as_ref();
        let stays = stays.map_or("not made".to_owned(), |at| format!("stays at {}", at_which(at, narrowed_by, short)));
        let loosens = loosens.join(", ");
        add("waits", format!("{stays} since {}: {} needs an approval of {loosens}", seconds(*since), short(revision)));
    }
    match suspended {
        Some(Suspended { since, until, reason, by }) => {
            add("suspended", format!("since {} until {}: {reason} (by {by})", seconds(*since), seconds(*until)));
        }
        None => add("suspended", "no".to_owned()),
    }
    let drift = |drift: &Drift| {
        let Drift { time, resource, became, .. } = drift;
        format!("{}  {resource} {}  {became}", seconds(*time), drift.words())
    };
    add("last drift", last_drift.as_ref().map_or("none on record".to_owned(), drift));
    for open in open_drift.values() {
        add("open drift", drift(open));
    }
    format!("\nOn this host at {}, by the journal in {}:\n{}", seconds(*at), printable(journal), output::aligned(&rows))
}
