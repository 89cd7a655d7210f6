//! A status for people. What comes from a repo or an engine is shown without control characters.

use std::fmt::Write;

use jiff::Timestamp;
use unicode_width::UnicodeWidthStr;

use crate::{
    model::{
        Bytes, Revision, Status,
        finding::printable,
        shown::duration,
        status::{
            Condition, ConditionKind, Correction, HeldRevision, MemoryStatus, SourceStatus, Suspension, TenantStatus,
            Truth,
        },
    },
    plan::render::{BOLD, GREEN, Paint, RED, Style, YELLOW, padded},
};

/// Where a list of names is broken, in columns.
const WIDTH: usize = 100;

/// How many attributes that differ are named in the table.
const NAMED: usize = 2;

/// Everything: the daemon first, then what waits for a person, then a line for each tenant.
pub(super) fn all(status: &Status, style: Style) -> String {
    let mut out = Writer { text: String::new(), style, now: status.time };
    out.daemon(status);
    if let Some(held) = &status.source.held {
        out.held(held);
    }
    if let Some(approve) = &status.source.approve {
        out.line(&format!("\nA signed commit approves everything that waits by the line\n  {}", printable(approve)));
    }
    out.findings(&status.source);
    out.table(&status.tenants);
    out.text
}

/// Everything about the tenants that the status holds.
pub(super) fn one(status: &Status, style: Style) -> String {
    let mut out = Writer { text: String::new(), style, now: status.time };
    for tenant in &status.tenants {
        out.tenant(tenant);
    }
    out.text
}

struct Writer {
    text: String,
    style: Style,
    now: Timestamp,
}

/// A cell of the table, and its colour.
type Cell = (String, Option<Paint>);

impl Writer {
    fn paint(&self, colour: Paint, text: &str) -> String {
        self.style.paint(colour, text)
    }

    fn line(&mut self, text: &str) {
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }

    /// A name and what is to be said about it.
    fn entry(&mut self, name: &str, text: &str) {
        self.line(&format!("{name:<16} {text}"));
    }

    fn daemon(&mut self, status: &Status) {
        let (source, engine, journal) = (&status.source, &status.engine, &status.journal);
        let version = self.paint(BOLD, &format!("tenantd {}", printable(&status.version)));
        self.line(&format!("{version}, running since {} ({})", seconds(status.started), self.ago(status.started)));
        let fetched =
            source.fetched.map_or("has not answered yet".to_owned(), |time| format!("answered {}", self.ago(time)));
        self.entry("Source", &format!("{}, {fetched}", printable(&source.url)));
        self.problem(source.error.as_deref());
        let signed = source.signer.as_ref().map_or(String::new(), |name| format!(", signed by {}", printable(name)));
        self.entry("In force", &format!("{}{signed}", revision(source.applied.as_ref())));
        if source.seen != source.applied {
            self.entry("Newest", &revision(source.seen.as_ref()));
        }
        let version =
            if engine.version.is_empty() { String::new() } else { format!(" {}", printable(&engine.version)) };
        let answers = match (engine.up, engine.events) {
            (false, _) => self.paint(RED, "does not answer"),
            (true, false) => self.paint(YELLOW, "answers, its events do not arrive"),
            (true, true) => "answers".to_owned(),
        };
        let pass = engine.full_pass.map_or(String::new(), |time| format!(", full scan {}", self.ago(time)));
        self.entry("Engine", &format!("Docker Engine{version} {answers}{pass}"));
        self.problem(engine.error.as_deref());
        if let Some(gateway) = &status.gateway {
            let closed = self.paint(RED, "does not answer: nobody gets out");
            self.entry("Gateway", gateway.error.as_ref().map_or("answers", |_| &closed));
            self.problem(gateway.error.as_deref());
        }
        if let Some(MemoryStatus { limit, held }) = status.memory {
            let (held, limit) = (Bytes::new(held).rounded(), Bytes::new(limit));
            self.entry("Memory", &format!("{held} of {limit} are held by tenants that run or are paused"));
        }
        let capability = &status.workspaces;
        if !capability.why.is_empty() {
            self.entry("Workspaces", &format!("{}: {}", capability.backend.as_str(), printable(&capability.why)));
        }
        self.entry("Journal", &format!("{} records", journal.records));
        self.problem(journal.error.as_deref());
        for condition in status.conditions.iter().filter(|condition| !condition.is_fine()) {
            let line = self.condition(condition, 16);
            self.line(&line);
        }
    }

    fn problem(&mut self, error: Option<&str>) {
        if let Some(error) = error {
            let error = self.paint(RED, &printable(error));
            self.entry("", &error);
        }
    }

    fn held(&mut self, held: &HeldRevision) {
        let title = self.paint(YELLOW, if held.plan.is_some() { "Held:" } else { "Refused:" });
        self.line(&format!("\n{title} {} is not in force: {}", held.revision, printable(&held.reason)));
        self.names(&held.tenants);
        match &held.plan {
            Some(plan) => self.line(&format!("  To bring it into force: tenantd approve {}", printable(plan))),
            None => self.line("  Only a newer commit puts this right."),
        }
    }

    /// Names with commas between them, in lines of a bounded length.
    fn names(&mut self, names: &[String]) {
        let mut line = String::new();
        for (index, name) in names.iter().enumerate() {
            let comma = if index + 1 < names.len() { "," } else { "" };
            if !line.is_empty() && line.width() + name.width() > WIDTH {
                self.line(&line);
                line.clear();
            }
            let _ = write!(line, "{}{}{comma}", if line.is_empty() { "  " } else { " " }, printable(name));
        }
        if !line.is_empty() {
            self.line(&line);
        }
    }

    fn findings(&mut self, source: &SourceStatus) {
        if source.findings.is_empty() {
            return;
        }
        let refused = source.held.as_ref().is_some_and(|held| held.plan.is_none());
        let which = if refused { "refused commit" } else { "commit in force" };
        let title = self.paint(RED, &format!("Wrong files of the {which}:"));
        self.line(&format!("\n{title}"));
        for finding in &source.findings {
            self.line(&format!("  {}", printable(finding)));
        }
    }

    fn table(&mut self, tenants: &[TenantStatus]) {
        if tenants.is_empty() {
            self.line("\nNo tenants.");
            return;
        }
        let mut tenants: Vec<_> = tenants.iter().collect();
        tenants.sort_by(|a, b| (rank(a), &a.tenant).cmp(&(rank(b), &b.tenant)));
        let titles = ["NAME", "READY", "STATUS", "POWER", "REVISION", "DRIFT", "LAST CORRECTION", "MESSAGE"];
        let titles = titles.map(|title| (title.to_owned(), Some(BOLD)));
        let rows: Vec<_> = std::iter::once(titles).chain(tenants.iter().map(|tenant| self.row(tenant))).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].0.width()).max().unwrap_or(0);
        let widths: [usize; 8] = std::array::from_fn(width);
        // A title over nothing only makes the table wider.
        let columns = if tenants.iter().all(|tenant| self.message(tenant).is_empty()) { 7 } else { 8 };
        self.line("");
        for row in rows {
            let mut line = String::new();
            for ((text, colour), width) in row.iter().zip(widths).take(columns) {
                let spaces = &padded(text, width + 2)[text.len()..];
                match colour.filter(|_| !text.is_empty()) {
                    Some(colour) => line.push_str(&self.paint(colour, text)),
                    None => line.push_str(text),
                }
                line.push_str(spaces);
            }
            self.line(&line);
        }
    }

    fn row(&self, tenant: &TenantStatus) -> [Cell; 8] {
        let ready = tenant.condition(ConditionKind::Ready).map_or(Truth::Unknown, |condition| condition.status);
        let short = tenant.revision.as_ref().map_or("-", Revision::short);
        let more = if tenant.narrowed_by.is_empty() { String::new() } else { format!("+{}", tenant.narrowed_by.len()) };
        let (status, colour) = match (&tenant.suspended, main_condition(tenant)) {
            (Some(_), _) => ("Suspended".to_owned(), Some(YELLOW)),
            (None, Some(condition)) => (condition.reason.to_string(), None),
            (None, None) => ("-".to_owned(), None),
        };
        [
            (printable(&tenant.tenant), None),
            (ready.as_str().to_owned(), Some(colour_of(ready))),
            (status, colour),
            (tenant.power.as_ref().map(|hold| hold.power).unwrap_or_default().as_str().to_owned(), None),
            (format!("{short}{more}"), None),
            (drift(&tenant.drift), Some(YELLOW).filter(|_| !tenant.drift.is_empty())),
            (tenant.last_correction.as_ref().map_or("-".to_owned(), |last| self.correction(last)), None),
            (self.message(tenant), None),
        ]
    }

    /// What a person should know about a tenant; empty where all is well.
    fn message(&self, tenant: &TenantStatus) -> String {
        if let Some(suspended) = &tenant.suspended {
            return self.suspension(suspended);
        }
        let Some(condition) = main_condition(tenant).filter(|condition| !condition.is_fine()) else {
            return String::new();
        };
        let message = printable(&condition.message);
        match tenant.next_try {
            Some(time) => format!("{message}; next try {}", self.ahead(time)),
            None => message,
        }
    }

    fn tenant(&mut self, tenant: &TenantStatus) {
        let title = self.paint(BOLD, &printable(&tenant.tenant));
        self.line(&title);
        self.entry("Revision", &revision(tenant.revision.as_ref()));
        for one in &tenant.narrowed_by {
            self.entry("Narrowed by", &revision(Some(one)));
        }
        if let Some(suspended) = &tenant.suspended {
            let text = self.suspension(suspended);
            self.entry("Suspended", &self.paint(YELLOW, &text));
        }
        if let Some(hold) = &tenant.power {
            let until = hold.until.map_or_else(String::new, |until| format!(" until {}", seconds(until)));
            let text = format!("{} since {}{until}, {}", hold.power.as_str(), seconds(hold.since), hold.reason);
            self.entry("Power", &printable(&text));
        }
        let drift: Vec<_> = tenant.drift.iter().map(|attribute| printable(attribute)).collect();
        self.entry("Drift", &if drift.is_empty() { "none".to_owned() } else { drift.join(", ") });
        let last = tenant.last_correction.as_ref();
        let last = last.map_or("none".to_owned(), |last| format!("{} ({} ms)", self.correction(last), last.took_ms));
        self.entry("Last correction", &last);
        if let Some(time) = tenant.next_try {
            let text = format!("{} ({})", self.ahead(time), seconds(time));
            self.entry("Next try", &text);
        }
        self.line("Conditions");
        let mut said = String::new();
        for condition in &tenant.conditions {
            // What Ready says in full need not be said again.
            let repeats = !said.is_empty() && condition.message == said;
            let message = if repeats { String::new() } else { condition.message.clone() };
            let line = format!("  {}", self.condition(&Condition { message, ..condition.clone() }, 14));
            self.line(&line);
            if condition.kind == ConditionKind::Ready {
                said.clone_from(&condition.message);
            }
        }
    }

    fn condition(&self, condition: &Condition, width: usize) -> String {
        let Condition { kind, status, reason, message, since } = condition;
        let colour = if condition.is_fine() { GREEN } else { colour_of(*status) };
        let status = self.paint(colour, &format!("{:<7}", status.as_str()));
        let message = if message.is_empty() { String::new() } else { format!(": {}", printable(message)) };
        format!("{:<width$} {status} {reason} since {}{message}", kind.as_str(), self.ago(*since))
    }

    fn suspension(&self, suspension: &Suspension) -> String {
        let Suspension { reason, until, by } = suspension;
        let until = seconds(*until);
        format!("until {until} ({}) by {}: {}", self.ahead(suspension.until), printable(by), printable(reason))
    }

    fn correction(&self, correction: &Correction) -> String {
        format!("{}, {}: {}", self.ago(correction.time), correction.why, printable(&correction.what))
    }

    fn ago(&self, time: Timestamp) -> String {
        format!("{} ago", duration(self.now.duration_since(time)))
    }

    fn ahead(&self, time: Timestamp) -> String {
        format!("in {}", duration(time.duration_since(self.now)))
    }
}

/// A moment, to the second.
fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn revision(revision: Option<&Revision>) -> String {
    revision.map_or("none".to_owned(), |revision| printable(&revision.to_string()))
}

/// Some attributes by name, and how many more there are.
fn drift(attributes: &[String]) -> String {
    if attributes.is_empty() {
        return "-".to_owned();
    }
    let named: Vec<_> = attributes.iter().take(NAMED).map(|attribute| printable(attribute)).collect();
    match attributes.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn colour_of(truth: Truth) -> Paint {
    match truth {
        Truth::True => GREEN,
        Truth::False => RED,
        Truth::Unknown => YELLOW,
    }
}

/// The condition that says most about a tenant: what blocks it, else why it is not ready, else drift.
fn main_condition(tenant: &TenantStatus) -> Option<&Condition> {
    let ready = tenant.condition(ConditionKind::Ready);
    let order = [tenant.condition(ConditionKind::Stalled), ready, tenant.condition(ConditionKind::Drifted)];
    order.into_iter().flatten().find(|condition| !condition.is_fine()).or(ready)
}

/// Who needs a person comes first.
fn rank(tenant: &TenantStatus) -> u8 {
    match (&tenant.suspended, main_condition(tenant)) {
        (Some(_), _) => 1,
        (None, Some(condition)) if condition.is_fine() => 3,
        (None, Some(condition)) if condition.kind == ConditionKind::Drifted => 2,
        (None, _) => 0,
    }
}
