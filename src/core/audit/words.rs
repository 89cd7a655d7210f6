//! Records of the journal as a person reads them.

use jiff::Timestamp;

use crate::{
    model::{
        Entry, Revision, attribute,
        record::{DriftRecord, FieldChange, RefusedRecord, RevisionRecord, StepRecord, Trigger},
        shown::shortened,
        status::at_which,
    },
    plan::render::values,
};

/// How many fields of one step are shown, and how long each value may be, in characters.
const MAX_FIELDS: usize = 6;
const MAX_VALUE: usize = 80;

/// The length of an image's id, and of what is shown of it, in characters.
const IMAGE_ID: usize = 71;
const SHORT_IMAGE_ID: usize = 19;

/// How much is shown of the id of a plan, which distinguishes the steps of one from those of others.
const PLAN: usize = 12;

/// An entry in words, as it stands: who shows it makes it printable.
#[derive(Clone, Debug)]
pub struct RenderedEntry<'a> {
    /// The tenant that it is about, if it is about one.
    pub tenant: Option<&'a str>,
    /// A word for what it is.
    pub kind: &'static str,
    /// How bad it is.
    pub tone: Tone,
    /// What happened.
    pub what: String,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Not at all.
    Plain,
    /// Somebody should know.
    Warning,
    /// Something went wrong.
    Alarm,
}

/// What is done in a step.
pub fn step(step: &StepRecord) -> String {
    // What is made or goes as a whole is shown by the step; its image is what differs most.
    let is_shown = |field: &&FieldChange| field.name == "image" || !(field.before.is_null() || field.after.is_null());
    let changed: Vec<FieldChange> = step.fields.iter().filter(is_shown).cloned().collect();
    match (changed.is_empty(), step.resource.as_str()) {
        (true, _) => step.step.clone(),
        (false, "container") => format!("{}: {}", step.step, fields(&changed)),
        (false, resource) => format!("{}: {resource} {}", step.step, fields(&changed)),
    }
}

/// What led to a step.
pub fn because(step: &StepRecord) -> String {
    let mut because = vec![trigger(&step.trigger)];
    if let Some(revision) = &step.revision {
        let revision = revision.parse().map_or_else(|_| revision.clone(), |revision| short(&revision));
        if !because.iter().any(|cause| cause.ends_with(&revision)) {
            because.push(revision);
        }
    }
    because.extend(step.signer.as_ref().map(|signer| format!("signed by {signer}")));
    because.push(format!("plan {}", step.plan.get(..PLAN).unwrap_or(&step.plan)));
    because.join("; ")
}

/// An entry in words. `None` for the two of a step, and for a file that just begins.
pub fn render(entry: &Entry) -> Option<RenderedEntry<'_>> {
    let (tenant, tone, kind, what) = match entry {
        Entry::Intent(_) | Entry::Outcome(_) => return None,
        Entry::Segment(start) => match (&start.damage, start.dropped.as_slice()) {
            (Some(damage), _) => (None, Tone::Alarm, "journal", format!("a new file was begun: {damage}")),
            (None, [first, .., last]) | (None, [first @ last]) => {
                let (first, last) = (first.first, last.last);
                let what = format!("a new file says that the records {first} to {last} were dropped with theirs");
                (None, Tone::Plain, "journal", what)
            }
            (None, []) => return None,
        },
        Entry::Recovered(torn) => {
            let what = format!(
                "{} bytes at {} of {} were not a whole record and lie in {}",
                torn.bytes, torn.offset, torn.file, torn.aside
            );
            (None, Tone::Warning, "journal", what)
        }
        Entry::Lost { records, reason } => {
            (None, Tone::Alarm, "journal", format!("records that could not be written: {records}: {reason}"))
        }
        Entry::Started { program, version } => (None, Tone::Plain, "start", format!("{program} {version}")),
        Entry::Stopped { program } => (None, Tone::Plain, "stop", program.clone()),
        Entry::Reloaded { error: None } => {
            (None, Tone::Plain, "reload", "the host's settings were read again".to_owned())
        }
        Entry::Reloaded { error: Some(error) } => {
            (None, Tone::Alarm, "reload", format!("the former settings stay in force: {error}"))
        }
        Entry::Revision(record) => (None, Tone::Plain, "commit", commit(record)),
        Entry::Drift(drift) => (Some(&drift.tenant), Tone::Warning, "drift", left(drift)),
        Entry::Suspended { tenant, reason, until, by } => {
            let what = format!("until {}: {reason} (by {by})", seconds(*until));
            (Some(tenant), Tone::Warning, "suspend", what)
        }
        Entry::Resumed { tenant, by } => (Some(tenant), Tone::Plain, "resume", format!("by {by}")),
        Entry::Power { tenant, power, reason, until } => {
            let until = until.map_or_else(String::new, |until| format!(" until {}", seconds(until)));
            (Some(tenant), Tone::Plain, "power", format!("{}{until}, {reason}", power.as_str()))
        }
        Entry::TokenMinted { tenant, id, may, expires, by } => {
            let may: Vec<&str> = may.iter().map(|right| right.as_str()).collect();
            let what = format!("{id} made for {} until {} (by {by})", may.join(", "), seconds(*expires));
            (Some(tenant), Tone::Plain, "token", what)
        }
        Entry::TokenRevoked { tenant, id, by } => {
            (Some(tenant), Tone::Plain, "token", format!("{id} revoked (by {by})"))
        }
        Entry::Refused(RefusedRecord { tenant, destination, rule, count }) => {
            let times = if *count > 1 { format!(", {count} times") } else { String::new() };
            (Some(tenant), Tone::Warning, "refused", format!("{destination}: {rule}{times}"))
        }
        Entry::Waiting { tenant, revision, loosens, approvers, .. } => {
            let (loosens, by) = (loosens.join(", "), approvers.join(" or "));
            (Some(tenant), Tone::Warning, "waits", format!("{}: {loosens}; {by} may approve", short(revision)))
        }
        Entry::Withdrawn { tenant, revision } => {
            (Some(tenant), Tone::Plain, "waits", format!("no more: {} declares something else", short(revision)))
        }
        Entry::Approved { tenant, revision, loosens, by } => {
            (Some(tenant), Tone::Plain, "approve", format!("{}: {} (by {by})", short(revision), loosens.join(", ")))
        }
        Entry::Bad { tenant, revision, back_to, narrowed_by, reason } => {
            let back = back_to.as_ref();
            let back = back.map_or_else(String::new, |to| format!(", back to {}", at_which(to, narrowed_by, short)));
            (Some(tenant), Tone::Alarm, "bad", format!("{} is bad{back}: {reason}", short(revision)))
        }
    };
    Some(RenderedEntry { tenant: tenant.map(String::as_str), kind, tone, what })
}

/// Whether an entry is about a tenant, alone or among others.
pub fn concerns(entry: &Entry, wanted: &str) -> bool {
    let is_removed = || matches!(entry, Entry::Revision(record) if record.tenants.iter().any(|name| name == wanted));
    entry.tenant().map_or_else(is_removed, |tenant| tenant == wanted)
}

/// A time to the second.
pub fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// A revision, shortened for people.
pub fn short(revision: &Revision) -> String {
    format!("{}@sha1:{}", revision.branch, revision.short())
}

/// What led to the observation.
pub fn trigger(trigger: &Trigger) -> String {
    match trigger {
        Trigger::Event { event, time, .. } => format!("{event} event {}", time.strftime("%H:%M:%S%.3fZ")),
        Trigger::Commit { revision } => format!("commit {}", short(revision)),
        Trigger::Start => "start".to_owned(),
        Trigger::FullPass => "full pass".to_owned(),
        Trigger::Retry => "retry".to_owned(),
        Trigger::Operator { by } => format!("asked for by {by}"),
    }
}

/// What differs, attribute by attribute.
pub fn fields(fields: &[FieldChange]) -> String {
    let mut shown: Vec<String> = fields.iter().take(MAX_FIELDS).map(field).collect();
    if fields.len() > MAX_FIELDS {
        shown.push(format!("… {} more", fields.len() - MAX_FIELDS));
    }
    shown.join("; ")
}

fn field(change: &FieldChange) -> String {
    // A record of another version may name one that this one does not know.
    let known = attribute::named(&change.name);
    let name = known.map_or(change.name.as_str(), |attribute| attribute.label);
    let (before, after) = values(known.unwrap_or(&attribute::FORGOTTEN), &change.before, &change.after);
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
    shortened(bare, MAX_VALUE).into_owned()
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
