//! `tenantd events`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use jiff::Timestamp;

use super::{
    EXIT_OK,
    args::{Events, Global, JournalFolder, PlanFormat},
    output, setup,
};
use crate::{
    journal::{self, Item, Reader},
    model::{
        Entry, Record, Revision,
        finding::printable,
        record::{
            DriftRecord, FieldChange, OutcomeRecord, RefusedRecord, RevisionRecord, StepRecord, StepResult, Trigger,
            Why,
        },
    },
    plan::render::{GREEN, RED, Style, YELLOW, label, values},
};

/// How often a follower looks for more.
const POLL: Duration = Duration::from_millis(200);

/// How much is gathered before it is written, in bytes.
const BUFFER: usize = 64 << 10;

/// How many steps may wait for their outcome. The oldest is shown without one.
const MAX_PENDING: usize = 10_000;

/// How many fields of one step are shown, and how long each value may be, in characters.
const MAX_FIELDS: usize = 6;
const MAX_VALUE: usize = 80;

/// The length of an image's id, and of what is shown of it, in characters.
const IMAGE_ID: usize = 71;
const SHORT_IMAGE_ID: usize = 19;

/// The journals that are meant: the one that the command line names, or this host's own and beside it
/// the gateway's where there is one.
pub fn journals(journal: &JournalFolder, global: &Global) -> anyhow::Result<Vec<PathBuf>> {
    if let Some(folder) = &journal.folder {
        return Ok(vec![folder.clone()]);
    }
    let host = setup::host(global)?;
    let gateway = journal::folder(&host.egress.state);
    let own = journal::folder(&host.data_root);
    Ok(std::iter::once(own).chain(gateway.is_dir().then_some(gateway)).collect())
}

/// Reads a time, or a length of time before now.
pub fn since(text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => anyhow::bail!("write a time such as 2026-11-21T10:00:00Z, or a number with s, m, h or d, such as 1h"),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    let then = seconds.and_then(|seconds| SystemTime::now().checked_sub(Duration::from_secs(seconds)));
    then.and_then(|then| Timestamp::try_from(then).ok()).context("this is too long ago")
}

pub fn run(command: &Events, global: &Global) -> anyhow::Result<u8> {
    let folders = journals(&command.journal, global)?;
    let sources: Result<Vec<_>, _> = folders.iter().map(|folder| Source::new(folder, command.since)).collect();
    let mut sources = sources?;
    let mut shown = Shown { command, style: output::style(), pending: BTreeMap::new(), text: String::new() };
    loop {
        while let Some((record, line)) = next(&mut sources)? {
            shown.record(record, &line);
            if shown.text.len() >= BUFFER && !shown.flush()? {
                return Ok(EXIT_OK);
            }
        }
        if !command.follow {
            shown.unfinished();
        }
        if !shown.flush()? || !command.follow {
            return Ok(EXIT_OK);
        }
        thread::sleep(POLL);
    }
}

/// A journal, read one record ahead.
struct Source {
    reader: Reader,
    ahead: Option<(Record, String)>,
}

impl Source {
    fn new(folder: &Path, since: Option<Timestamp>) -> anyhow::Result<Self> {
        Ok(Self { reader: Reader::new(folder, since)?, ahead: None })
    }

    /// Reads on to the next record, and tells of what is none.
    fn look_ahead(&mut self) -> anyhow::Result<()> {
        while self.ahead.is_none() {
            match self.reader.read_next()? {
                None => break,
                Some(Item::Record { record, line }) => self.ahead = Some((*record, line.to_owned())),
                Some(Item::Unreadable { file, line, why }) => {
                    output::tell(&format!("warning: {file}, line {line} is not shown: {}", printable(&why)));
                }
            }
        }
        Ok(())
    }
}

/// The oldest record of all journals that was not shown yet. Within a journal their order stands.
fn next(sources: &mut [Source]) -> anyhow::Result<Option<(Record, String)>> {
    for source in &mut *sources {
        source.look_ahead()?;
    }
    let oldest = sources.iter_mut().filter(|source| source.ahead.is_some());
    let oldest = oldest.min_by_key(|source| source.ahead.as_ref().map(|(record, _)| record.time));
    Ok(oldest.and_then(|source| source.ahead.take()))
}

/// What is shown of the records that were read.
struct Shown<'a> {
    command: &'a Events,
    style: Style,
    /// Steps that have begun, by the numbers of their records.
    pending: BTreeMap<u64, (Timestamp, StepRecord)>,
    text: String,
}

impl Shown<'_> {
    /// Writes what was gathered. False where nobody reads any more.
    fn flush(&mut self) -> anyhow::Result<bool> {
        let reads = self.text.is_empty() || output::print_while_read(&self.text)?;
        self.text.clear();
        Ok(reads)
    }

    fn record(&mut self, record: Record, line: &str) {
        if self.command.tenant.as_deref().is_some_and(|tenant| !concerns(&record.entry, tenant)) {
            return;
        }
        let is_new = self.command.since.is_none_or(|since| record.time >= since);
        if self.command.format == PlanFormat::Json {
            if is_new {
                self.text.push_str(line);
                self.text.push('\n');
            }
            return;
        }
        let Record { seq, time, entry, .. } = record;
        match entry {
            Entry::Intent(step) => {
                self.pending.insert(seq, (time, step));
                if self.pending.len() > MAX_PENDING
                    && let Some((_, (time, step))) = self.pending.pop_first()
                {
                    self.without_outcome(time, &step);
                }
            }
            Entry::Outcome(outcome) => {
                let step = self.pending.remove(&outcome.intent);
                if is_new {
                    self.outcome(time, step.map(|(_, step)| step).as_ref(), &outcome);
                }
            }
            other if is_new => self.other(time, other),
            _ => {}
        }
    }

    /// Steps whose outcome is not there.
    fn unfinished(&mut self) {
        for (time, step) in std::mem::take(&mut self.pending).into_values() {
            if self.command.since.is_none_or(|since| time >= since) {
                self.without_outcome(time, &step);
            }
        }
    }

    fn without_outcome(&mut self, time: Timestamp, step: &StepRecord) {
        self.step(time, step, (YELLOW, "no outcome yet".to_owned()));
    }

    fn outcome(&mut self, time: Timestamp, step: Option<&StepRecord>, outcome: &OutcomeRecord) {
        let error = outcome.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
        let end = match outcome.result {
            StepResult::Done => (GREEN, format!("done in {} ms{error}", outcome.took_ms)),
            StepResult::Failed => (RED, format!("failed after {} ms{error}", outcome.took_ms)),
            StepResult::Unknown => (YELLOW, format!("outcome unknown{error}")),
        };
        match step {
            Some(step) => self.step(time, step, end),
            None => {
                let what = format!("the step of record {}", outcome.intent);
                self.line(time, Some(&outcome.tenant), ("", "step"), &what, Some(end), "");
            }
        }
    }

    fn step(&mut self, time: Timestamp, step: &StepRecord, end: (&str, String)) {
        // What is made or goes as a whole is told by the step; its image is what differs most.
        let telling =
            |field: &&FieldChange| field.name == "image" || !(field.before.is_null() || field.after.is_null());
        let changed: Vec<FieldChange> = step.fields.iter().filter(telling).cloned().collect();
        let what = match (changed.is_empty(), step.resource.as_str()) {
            (true, _) => step.step.clone(),
            (false, "container") => format!("{}: {}", step.step, fields(&changed)),
            (false, resource) => format!("{}: {resource} {}", step.step, fields(&changed)),
        };
        let mut because = vec![trigger(&step.trigger)];
        if let Some(revision) = &step.revision {
            let revision = revision.parse().map_or_else(|_| revision.clone(), |revision| short(&revision));
            if !because.iter().any(|cause| cause.ends_with(&revision)) {
                because.push(revision);
            }
        }
        because.extend(step.signer.as_ref().map(|signer| format!("signed by {signer}")));
        because.push(format!("plan {}", step.plan));
        let colour = if step.why == Why::Drift { YELLOW } else { "" };
        self.line(time, Some(&step.tenant), (colour, &step.why.to_string()), &what, Some(end), &because.join("; "));
    }

    fn other(&mut self, time: Timestamp, entry: Entry) {
        let (tenant, colour, kind, what) = match entry {
            Entry::Intent(_) | Entry::Outcome(_) => return,
            Entry::Segment(start) => match (start.damage, start.dropped.as_slice()) {
                (Some(damage), _) => (None, RED, "journal", format!("a new file was begun: {damage}")),
                (None, [first, .., last]) | (None, [first @ last]) => {
                    let what = format!("the records {} to {} were dropped with their files", first.first, last.last);
                    (None, "", "journal", what)
                }
                (None, []) => return,
            },
            Entry::Recovered(torn) => {
                let what = format!(
                    "{} bytes at {} of {} were not a whole record and lie in {}",
                    torn.bytes, torn.offset, torn.file, torn.aside
                );
                (None, YELLOW, "journal", what)
            }
            Entry::Lost { records, reason } => {
                (None, RED, "journal", format!("records that could not be written: {records}: {reason}"))
            }
            Entry::Started { program, version } => (None, "", "start", format!("{program} {version}")),
            Entry::Stopped { program } => (None, "", "stop", program),
            Entry::Reloaded { error: None } => (None, "", "reload", "the host's settings were read again".to_owned()),
            Entry::Reloaded { error: Some(error) } => {
                (None, RED, "reload", format!("the former settings stay in force: {error}"))
            }
            Entry::Revision(record) => (None, "", "commit", commit(&record)),
            Entry::Drift(drift) => (Some(drift.tenant.clone()), YELLOW, "drift", left(&drift)),
            Entry::Suspended { tenant, reason, until, by } => {
                (Some(tenant), YELLOW, "suspend", format!("until {}: {reason} (by {by})", seconds(until)))
            }
            Entry::Resumed { tenant, by } => (Some(tenant), "", "resume", format!("by {by}")),
            Entry::Refused(RefusedRecord { tenant, destination, rule, count }) => {
                let times = if count > 1 { format!(", {count} times") } else { String::new() };
                (Some(tenant), YELLOW, "refused", format!("{destination}: {rule}{times}"))
            }
            Entry::Bad { tenant, revision, back_to, reason } => {
                let back = back_to.as_ref().map_or_else(String::new, |to| format!(", back to {}", short(to)));
                (Some(tenant), RED, "bad", format!("{} is bad{back}: {reason}", short(&revision)))
            }
        };
        self.line(time, tenant.as_deref(), (colour, kind), &what, None, "");
    }

    /// One line. Texts that come from files or the engine cannot drive the terminal.
    fn line(
        &mut self,
        time: Timestamp,
        tenant: Option<&str>,
        (colour, kind): (&str, &str),
        what: &str,
        end: Option<(&str, String)>,
        because: &str,
    ) {
        let kind = self.paint(colour, &format!("{kind:7}"));
        let tenant = tenant.map_or_else(|| "-".to_owned(), printable);
        let mut line = format!("{}  {tenant:16}  {kind}  {}", seconds(time), printable(what));
        if let Some((colour, end)) = end {
            line.push_str("   ");
            line.push_str(&self.paint(colour, &printable(&end)));
        }
        if !because.is_empty() {
            line.push_str(&format!("   ({})", printable(because)));
        }
        line.push('\n');
        self.text.push_str(&line);
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if colour.is_empty() { text.to_owned() } else { self.style.paint(colour, text) }
    }
}

/// Whether an entry is about a tenant.
fn concerns(entry: &Entry, wanted: &str) -> bool {
    match entry {
        Entry::Intent(StepRecord { tenant, .. })
        | Entry::Outcome(OutcomeRecord { tenant, .. })
        | Entry::Drift(DriftRecord { tenant, .. })
        | Entry::Refused(RefusedRecord { tenant, .. })
        | Entry::Suspended { tenant, .. }
        | Entry::Resumed { tenant, .. }
        | Entry::Bad { tenant, .. } => tenant == wanted,
        Entry::Revision(record) => record.tenants.iter().any(|tenant| tenant == wanted),
        _ => false,
    }
}

fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

fn short(revision: &Revision) -> String {
    format!("{}@sha1:{}", revision.branch, revision.short())
}

fn trigger(trigger: &Trigger) -> String {
    match trigger {
        Trigger::Event { event, time, .. } => format!("{event} event {}", time.strftime("%H:%M:%S%.3fZ")),
        Trigger::Commit { revision } => format!("commit {}", short(revision)),
        Trigger::Start => "start".to_owned(),
        Trigger::FullPass => "full pass".to_owned(),
        Trigger::Retry => "retry".to_owned(),
        Trigger::Operator { by } => format!("asked for by {by}"),
    }
}

fn fields(fields: &[FieldChange]) -> String {
    let mut shown: Vec<String> = fields.iter().take(MAX_FIELDS).map(field).collect();
    if fields.len() > MAX_FIELDS {
        shown.push(format!("… {} more", fields.len() - MAX_FIELDS));
    }
    shown.join("; ")
}

fn field(change: &FieldChange) -> String {
    let name = label(&change.name);
    let (before, after) = values(&change.name, &change.before, &change.after);
    match (change.before.is_null(), change.after.is_null()) {
        (true, _) => format!("{name} {}", value(&after)),
        (false, true) => format!("{name} {}", value(&before)),
        (false, false) => format!("{name} {} -> {}", value(&before), value(&after)),
    }
}

/// A value without the quotes around it, cut where it is long. Of an image's id a few digits do.
fn value(text: &str) -> String {
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if bare.starts_with("sha256:") && bare.len() == IMAGE_ID {
        return bare.get(..SHORT_IMAGE_ID).unwrap_or(bare).to_owned();
    }
    match bare.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}…", bare.get(..end).unwrap_or_default()),
        None => bare.to_owned(),
    }
}

fn left(drift: &DriftRecord) -> String {
    format!("{} {}; left as it is   ({})", drift.resource, fields(&drift.fields), trigger(&drift.trigger))
}

fn commit(record: &RevisionRecord) -> String {
    let mut text = format!("{} {}", short(&record.revision), record.verdict);
    let mut add = |word: &str, what: Option<&String>| {
        if let Some(what) = what {
            text.push_str(&format!("{word}{what}"));
        }
    };
    add(", signed by ", record.signer.as_ref());
    add(" by ", record.by.as_ref());
    add(": ", record.reason.as_ref());
    add("; plan ", record.plan.as_ref());
    if !record.tenants.is_empty() {
        let more = record.tenants.len().saturating_sub(MAX_FIELDS);
        let named: Vec<&str> = record.tenants.iter().take(MAX_FIELDS).map(String::as_str).collect();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        text.push_str(&format!("; it would remove {}{more}", named.join(", ")));
    }
    text
}
