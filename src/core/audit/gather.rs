//! What is counted of one journal while it is read, record by record, in bounded memory.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{
    bounded::{KEPT, Newest, Table},
    data::{Approval, BadCommit, DriftTable, Event, Gap, GapKind, Journal, Loosening, Suspension, Tally, Verdicts},
    period::Period,
    timeline::{Timeline, TimelineKind},
    words,
};
use crate::{
    model::{
        Entry, Record, Revision,
        record::{
            FieldChange, OTHER_DESTINATIONS, OutcomeRecord, RefusedRecord, RevisionRecord, SegmentStart, StepRecord,
            StepResult, Verdict, Why, only_shown,
        },
        shown::{duration, shortened},
    },
    review::Mark,
};

/// How many names of attributes are kept for each resource of a tenant.
const FIELDS: usize = 12;

/// How many lines are kept of what loosens a tenant.
const LINES: usize = 20;

/// What is said to differ of an object that was not there, or should not be.
const WHOLE: &str = "(all of it)";

/// The longest text that is kept of an event, in characters.
const TEXT: usize = 400;

/// How far a clock must be set back to be reported.
const CLOCK: SignedDuration = SignedDuration::from_secs(1);

/// The daemon, the one program whose absence means that nobody observed.
const DAEMON: &str = "daemon";

/// How many refusals of one tenant the report distinguishes, so that one who makes names up leaves room for the others.
const DESTINATIONS: usize = 500;

/// What is known of one journal.
#[derive(Debug)]
pub struct Gathered {
    period: Period,
    pub(super) journal: Journal,
    pub(super) tenants: Table<String, Tally>,
    pub(super) drift: DriftTable,
    pub(super) refusals: Table<(String, String, String), u64>,
    /// How many of them each tenant has.
    refused: Table<String, usize>,
    pub(super) verdicts: Verdicts,
    pub(super) approvals: Newest<Approval>,
    pub(super) suspensions: Newest<Suspension>,
    pub(super) loosenings: Newest<Loosening>,
    pub(super) bad: Newest<BadCommit>,
    pub(super) gaps: Newest<Gap>,
    pub(super) events: Newest<Event>,
    pub(super) timeline: Timeline,
    /// The last record that was read.
    last: Option<(u64, Timestamp)>,
    /// Lines since then that are no records: how many, and what is wrong with the first.
    unreadable: Option<(u64, String)>,
    daemon: Daemon,
    /// Steps of the period that have begun, by the numbers of their records.
    pending: BTreeMap<u64, Pending>,
    /// Who is left alone.
    suspended: BTreeMap<String, Suspension>,
}

/// What there is to say of a journal whose chain holds.
#[derive(Debug)]
pub struct Sound {
    /// Its last record, and its first, as an anchor.
    pub head: String,
    /// The record that says that those before the first were dropped, where there were any.
    pub dropped_by: Option<u64>,
}

/// Something that is wrong with a journal's chain.
#[derive(Debug)]
pub struct Break {
    /// What it is.
    pub what: String,
    /// Where records are missing: when those around them were written, as far as there are any.
    pub missing: Option<(Option<Timestamp>, Option<Timestamp>)>,
}

/// A step that has begun.
#[derive(Debug)]
struct Pending {
    time: Timestamp,
    tenant: String,
    resource: String,
    why: Why,
    what: String,
    because: String,
}

/// Whether the daemon runs.
#[derive(Debug)]
enum Daemon {
    /// This journal has not reported any program yet.
    Unknown,
    /// It does.
    Runs,
    /// Not since then; and whether it ended in good order.
    Ended { since: Timestamp, in_order: bool },
}

impl Gathered {
    /// Nothing yet of a journal, which is called by a word.
    pub fn new(period: Period, name: &'static str, folder: &str) -> Self {
        let journal = Journal {
            folder: folder.to_owned(),
            name,
            found: true,
            records: 0,
            in_period: 0,
            first: None,
            begins: None,
            ends: None,
            head: None,
            broken: None,
        };
        Self {
            period,
            journal,
            tenants: Table::default(),
            drift: Table::default(),
            refusals: Table::default(),
            refused: Table::default(),
            verdicts: Verdicts::default(),
            approvals: Newest::default(),
            suspensions: Newest::default(),
            loosenings: Newest::default(),
            bad: Newest::default(),
            gaps: Newest::default(),
            events: Newest::default(),
            timeline: Timeline::default(),
            last: None,
            unreadable: None,
            daemon: Daemon::Unknown,
            pending: BTreeMap::new(),
            suspended: BTreeMap::new(),
        }
    }

    /// What there is to say of a journal that is not there.
    pub fn missing(period: Period, name: &'static str, folder: &str) -> Self {
        let mut gathered = Self::new(period, name, folder);
        gathered.journal.found = false;
        gathered.gap(GapKind::NoJournal, period.from, period.to, format!("there is no journal in {folder}"));
        gathered
    }

    /// Takes a record in. They come in the order of the journal.
    pub fn record(&mut self, record: &Record) {
        let Record { seq, time, entry, .. } = record;
        let (seq, time) = (*seq, *time);
        self.order(seq, time);
        self.programs(seq, time, entry);
        self.journal.records += 1;
        self.journal.first.get_or_insert(seq);
        self.journal.begins.get_or_insert(time);
        self.journal.ends = Some(time);
        self.last = Some((seq, time));
        if let Entry::Outcome(outcome) = entry {
            self.outcome(outcome);
        }
        if time > self.period.to {
            return;
        }
        self.suspension(time, entry);
        if !self.period.contains(time) {
            return;
        }
        self.journal.in_period += 1;
        self.entry(seq, time, entry);
    }

    /// Takes in that a line is no record.
    pub fn unreadable(&mut self, file: &str, line: u64, why: &str) {
        let first = || format!("{file}, line {line}: {}", cut(why));
        self.unreadable.get_or_insert_with(|| (0, first())).0 += 1;
    }

    /// Takes in how the journal ends: its head, or where its chain breaks, the first break first.
    pub fn end(&mut self, result: Result<Sound, Vec<Break>>) {
        if self.unreadable.is_some() {
            let from = self.last.map_or(self.period.from, |(_, time)| time);
            self.unread(from, from.max(self.period.to), "at the end");
        }
        match result {
            Ok(Sound { head, dropped_by }) => {
                self.journal.head = Some(head);
                if let Some(record) = dropped_by {
                    self.of_the_beginning(&format!(
                        "; record {record} says that those before it were dropped with their files"
                    ));
                }
            }
            Err(breaks) => self.breaks(breaks),
        }
        if self.last.is_none() {
            let Period { from, to } = self.period;
            self.gap(GapKind::BeginsLate, from, to, "the journal has no record".to_owned());
        }
        if let Daemon::Ended { since, in_order } = self.daemon {
            self.no_daemon(since, self.period.to, in_order);
        }
        for (_, suspension) in std::mem::take(&mut self.suspended) {
            let ended = (suspension.until <= self.period.to).then_some(suspension.until);
            self.suspended_for(suspension, ended, ended.map(|_| "its time"));
        }
        for (seq, step) in std::mem::take(&mut self.pending) {
            self.step_event(seq, step, "no outcome".to_owned());
        }
        for tally in self.tenants.rows.values_mut().chain(&mut self.tenants.rest) {
            tally.intent.close();
            tally.drift.close();
        }
        for row in self.drift.rows.values_mut().chain(&mut self.drift.rest) {
            row.steps.close();
        }
    }

    /// Takes in what is wrong with the chain.
    fn breaks(&mut self, breaks: Vec<Break>) {
        let Period { from, to } = self.period;
        for Break { what, missing } in &breaks {
            match *missing {
                // What is missing between two records was seen when they were read.
                Some((Some(_), _)) => {}
                Some((None, before)) => self.gap(GapKind::Missing, from, before.unwrap_or(to), what.clone()),
                None => {
                    self.gap(GapKind::Chain, from, to, format!("the chain of records does not hold: {what}"));
                }
            }
        }
        self.journal.broken = breaks.into_iter().next().map(|first| first.what);
    }

    /// Adds to what was said of where the journal begins.
    fn of_the_beginning(&mut self, words: &str) {
        let begins = self.gaps.kept.iter_mut().find(|gap| gap.kind == GapKind::BeginsLate);
        if let Some(gap) = begins {
            gap.what.push_str(words);
        }
    }

    /// Whether the record follows the one before it.
    fn order(&mut self, seq: u64, time: Timestamp) {
        let Some((last, before)) = self.last else {
            if time > self.period.from {
                let what = format!("the journal begins with record {seq}");
                self.gap(GapKind::BeginsLate, self.period.from, time, what);
            }
            return;
        };
        let (first, until) = (last.saturating_add(1), seq.saturating_sub(1));
        if self.unreadable.is_some() {
            self.unread(before, time, &format!("between the records {last} and {seq}"));
        } else if seq != first {
            let what = match seq > first {
                true => format!("the records {first} to {until} are not there"),
                false => format!("record {seq} comes after record {last}"),
            };
            self.gap(GapKind::Missing, before, time, what);
        }
        if before.duration_since(time) > CLOCK {
            let what =
                format!("the clock was set back by {} before record {seq}", duration(before.duration_since(time)));
            self.gap(GapKind::Clock, time, before, what);
        }
    }

    fn unread(&mut self, from: Timestamp, to: Timestamp, place: &str) {
        if let Some((lines, first)) = self.unreadable.take() {
            let what =
                format!("{lines} {} no record {place}: {first}", if lines == 1 { "line is" } else { "lines are" });
            self.gap(GapKind::Unreadable, from, to, what);
        }
    }

    /// Follows whether the daemon runs.
    fn programs(&mut self, seq: u64, time: Timestamp, entry: &Entry) {
        let last = self.last.map_or(time, |(_, last)| last);
        self.daemon = match (std::mem::replace(&mut self.daemon, Daemon::Unknown), entry) {
            (before, Entry::Started { program, .. }) if program == DAEMON => {
                match before {
                    Daemon::Ended { since, in_order } => self.no_daemon(since, time, in_order),
                    Daemon::Runs => self.no_daemon(last, time, false),
                    // Of an older journal it may have been dropped that it ran.
                    Daemon::Unknown => {}
                }
                Daemon::Runs
            }
            // Whoever else runs has the lock that the daemon would hold.
            (Daemon::Runs, Entry::Started { .. }) => Daemon::Ended { since: last, in_order: false },
            (Daemon::Unknown, Entry::Started { .. }) if seq <= 2 => Daemon::Ended { since: time, in_order: true },
            (_, Entry::Stopped { program }) if program == DAEMON => Daemon::Ended { since: time, in_order: true },
            // No other kind of entry says that a program begins or ends.
            (before, _) => before,
        };
    }

    fn no_daemon(&mut self, from: Timestamp, to: Timestamp, in_order: bool) {
        let what = match in_order {
            true => "no daemon ran: drift was not detected",
            false => "no daemon ran, since some time after the last record: it ended without saying so",
        };
        self.gap(GapKind::NoDaemon, from, to, what.to_owned());
    }

    fn gap(&mut self, kind: GapKind, from: Timestamp, to: Timestamp, what: String) {
        if from <= self.period.to && to >= self.period.from {
            self.gaps.push(Gap { journal: self.journal.name, kind, from, to, what });
        }
    }

    /// Follows who is left alone.
    fn suspension(&mut self, time: Timestamp, entry: &Entry) {
        match entry {
            Entry::Suspended { tenant, reason, until, by } => {
                if let Some(former) = self.suspended.remove(tenant) {
                    let ended = former.until.min(time);
                    self.suspended_for(former, Some(ended), Some("another suspension"));
                }
                if self.suspended.len() < KEPT {
                    let suspension = Suspension {
                        tenant: tenant.clone(),
                        from: time,
                        until: *until,
                        ended: None,
                        seconds: 0,
                        reason: cut(reason),
                        by: by.clone(),
                        ended_by: None,
                        mark: Mark::Loosens,
                    };
                    self.suspended.insert(tenant.clone(), suspension);
                }
            }
            Entry::Resumed { tenant, by } => {
                if let Some(former) = self.suspended.remove(tenant) {
                    self.suspended_for(former, Some(time), Some(by));
                }
            }
            Entry::Segment(_)
            | Entry::Recovered(_)
            | Entry::Lost { .. }
            | Entry::Started { .. }
            | Entry::Stopped { .. }
            | Entry::Revision(_)
            | Entry::Intent(_)
            | Entry::Outcome(_)
            | Entry::Drift(_)
            | Entry::Bad { .. }
            | Entry::Waiting { .. }
            | Entry::Approved { .. }
            | Entry::Withdrawn { .. }
            | Entry::Refused(_)
            | only_shown!() => {}
        }
    }

    fn suspended_for(&mut self, mut suspension: Suspension, ended: Option<Timestamp>, by: Option<&str>) {
        if ended.is_some_and(|ended| ended < self.period.from) {
            return;
        }
        self.tenants.of(&suspension.tenant).suspensions += 1;
        suspension.ended = ended;
        suspension.seconds = ended.unwrap_or(self.period.to).duration_since(suspension.from).as_secs();
        suspension.ended_by = by.map(str::to_owned);
        self.suspensions.push(suspension);
    }

    /// The row of the report that a refusal belongs to.
    fn refused_as(&mut self, refused: &RefusedRecord) -> (String, String, String) {
        let RefusedRecord { tenant, destination, rule, .. } = refused;
        let key = (tenant.clone(), destination.clone(), rule.clone());
        if self.refusals.rows.contains_key(&key) {
            return key;
        }
        let count = self.refused.of(tenant);
        if *count >= DESTINATIONS {
            return (tenant.clone(), OTHER_DESTINATIONS.to_owned(), rule.clone());
        }
        *count += 1;
        key
    }

    /// What happened in the period.
    fn entry(&mut self, seq: u64, time: Timestamp, entry: &Entry) {
        let period = self.period;
        match entry {
            Entry::Intent(step) => return self.intent(seq, time, step),
            Entry::Outcome(_) => return,
            Entry::Refused(refused) => {
                let key = self.refused_as(refused);
                let count = self.refusals.of(&key);
                *count = count.saturating_add(refused.count);
                let tally = self.tenants.of(&refused.tenant);
                tally.refused = tally.refused.saturating_add(refused.count);
                return self.timeline.mark(period, time, Some(&refused.tenant), TimelineKind::Refused, refused.count);
            }
            Entry::Segment(SegmentStart { dropped, damage, .. }) => {
                if let Some(damage) = damage {
                    let from = self.last.map_or(time, |(_, last)| last);
                    self.gap(GapKind::Damage, from, time, format!("a new file was begun: {damage}"));
                }
                if let (Some(first), Some(last)) = (dropped.first(), dropped.last()) {
                    let (first, last) = (first.first, last.last);
                    let what =
                        format!("record {seq} says that the records {first} to {last} were dropped with their files");
                    self.gap(GapKind::Dropped, time, time, what);
                }
            }
            Entry::Recovered(torn) => {
                let what = format!("{} bytes that were no whole record lie in {}", torn.bytes, torn.aside);
                self.gap(GapKind::Torn, time, time, what);
            }
            Entry::Lost { records, reason } => {
                let what = format!("records that could not be written: {records}: {}", cut(reason));
                self.gap(GapKind::Lost, time, time, what);
            }
            Entry::Revision(record) => self.verdict(seq, time, record),
            Entry::Drift(drift) => {
                self.tenants.of(&drift.tenant).left += 1;
                let row = self.drift.of(&(drift.tenant.clone(), drift.resource.clone()));
                row.left += 1;
                row.last = Some(time);
                differing(&mut row.fields, &drift.fields);
                self.timeline.mark(period, time, Some(&drift.tenant), TimelineKind::Left, 1);
            }
            Entry::Waiting { tenant, revision, loosens, approvers, .. } => {
                self.tenants.of(tenant).waited += 1;
                self.loosening(time, tenant, revision, loosens, None, approvers);
            }
            Entry::Approved { tenant, revision, loosens, by } => {
                self.tenants.of(tenant).agreed += 1;
                self.loosening(time, tenant, revision, loosens, Some(by), &[]);
            }
            Entry::Bad { tenant, revision, back_to, narrowed_by, reason } => {
                self.tenants.of(tenant).bad += 1;
                self.bad.push(BadCommit {
                    time,
                    tenant: tenant.clone(),
                    revision: revision.to_string(),
                    back_to: back_to.as_ref().map(ToString::to_string),
                    narrowed_by: narrowed_by.iter().map(ToString::to_string).collect(),
                    reason: cut(reason),
                });
                self.timeline.mark(period, time, Some(tenant), TimelineKind::Bad, 1);
            }
            Entry::Withdrawn { .. }
            | Entry::Started { .. }
            | Entry::Stopped { .. }
            | Entry::Suspended { .. }
            | Entry::Resumed { .. }
            | only_shown!() => {}
        }
        if let Some(rendered) = words::render(entry) {
            self.events.push(Event {
                time,
                journal: self.journal.name,
                seq,
                tenant: rendered.tenant.map(str::to_owned),
                kind: rendered.kind.to_owned(),
                what: cut(&rendered.what),
                result: None,
                because: None,
            });
        }
    }

    fn loosening(
        &mut self,
        time: Timestamp,
        tenant: &str,
        revision: &Revision,
        loosens: &[String],
        by: Option<&String>,
        approvers: &[String],
    ) {
        self.loosenings.push(Loosening {
            time,
            tenant: tenant.to_owned(),
            revision: revision.to_string(),
            loosens: loosens.iter().take(LINES).map(|line| cut(line)).collect(),
            approved_by: by.cloned(),
            approvers: approvers.to_vec(),
        });
        let kind = if by.is_some() { TimelineKind::Approved } else { TimelineKind::Held };
        self.timeline.mark(self.period, time, Some(tenant), kind, 1);
    }

    fn verdict(&mut self, seq: u64, time: Timestamp, record: &RevisionRecord) {
        self.verdicts.count(record.verdict);
        match record.verdict {
            Verdict::Accepted => {}
            Verdict::Approved => self.timeline.mark(self.period, time, None, TimelineKind::Approved, 1),
            Verdict::Held | Verdict::Refused => self.timeline.mark(self.period, time, None, TimelineKind::Held, 1),
        }
        self.approvals.push(Approval {
            time,
            seq,
            revision: record.revision.to_string(),
            verdict: record.verdict,
            signer: record.signer.clone(),
            reason: record.reason.as_deref().map(cut),
            plan: record.plan.clone(),
            by: record.by.clone(),
            removes: record.tenants.len() as u64,
            in_history: false,
        });
    }

    fn intent(&mut self, seq: u64, time: Timestamp, step: &StepRecord) {
        let tally = self.tenants.of(&step.tenant);
        match step.why {
            Why::Intent => tally.intent.begun += 1,
            Why::Drift => {
                tally.drift.begun += 1;
                let row = self.drift.of(&(step.tenant.clone(), step.resource.clone()));
                row.steps.begun += 1;
                row.last = Some(time);
                differing(&mut row.fields, &step.fields);
            }
        }
        let pending = Pending {
            time,
            tenant: step.tenant.clone(),
            resource: step.resource.clone(),
            why: step.why,
            what: cut(&words::step(step)),
            because: cut(&words::because(step)),
        };
        self.pending.insert(seq, pending);
        if self.pending.len() > KEPT
            && let Some((seq, step)) = self.pending.pop_first()
        {
            self.step_event(seq, step, "no outcome".to_owned());
        }
    }

    /// Takes in what became of a step that began in the period.
    fn outcome(&mut self, outcome: &OutcomeRecord) {
        let Some(step) = self.pending.remove(&outcome.intent) else { return };
        let tally = self.tenants.of(&step.tenant);
        match step.why {
            Why::Intent => tally.intent.end(outcome.result),
            Why::Drift => {
                tally.drift.end(outcome.result);
                self.drift.of(&(step.tenant.clone(), step.resource.clone())).steps.end(outcome.result);
            }
        }
        let kind = match (outcome.result, step.why) {
            (StepResult::Done, Why::Intent) => return,
            (StepResult::Done, Why::Drift) => TimelineKind::Corrected,
            (StepResult::Failed | StepResult::Unknown, _) => TimelineKind::Failed,
        };
        self.timeline.mark(self.period, step.time, Some(&step.tenant), kind, 1);
        let error = outcome.error.as_ref().map_or_else(String::new, |error| format!(": {}", cut(error)));
        self.step_event(outcome.intent, step, format!("{}{error}", outcome.result));
    }

    fn step_event(&mut self, seq: u64, step: Pending, result: String) {
        let Pending { time, tenant, resource: _, why, what, because } = step;
        self.events.push(Event {
            time,
            journal: self.journal.name,
            seq,
            tenant: Some(tenant),
            kind: why.to_string(),
            what,
            result: Some(result),
            because: Some(because),
        });
    }
}

/// Adds the names of what differed, a few of them. What was not there at all differs as a whole.
fn differing(names: &mut BTreeSet<String>, fields: &[FieldChange]) {
    let is_changed = |field: &&FieldChange| !(field.before.is_null() || field.after.is_null());
    let mut names_shown = fields.iter().filter(is_changed).map(|field| cut(&field.name)).peekable();
    let whole = (!fields.is_empty() && names_shown.peek().is_none()).then(|| WHOLE.to_owned());
    let room = FIELDS.saturating_sub(names.len());
    names.extend(names_shown.chain(whole).take(room));
}

/// As much of a text as is kept.
fn cut(text: &str) -> String {
    shortened(text, TEXT).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3_600).unwrap_or_default()
    }

    /// The gaps that these records leave, by kind with their first and last hour. Each is given by number, hour and entry.
    fn gaps(records: &[(u64, i64, Entry)]) -> Vec<(GapKind, i64, i64)> {
        let mut gathered = Gathered::new(Period { from: time(100), to: time(200) }, "daemon", "/journal");
        for (seq, hour, entry) in records {
            gathered.record(&Record { v: 1, seq: *seq, time: time(*hour), entry: entry.clone() });
        }
        gathered.end(Ok(Sound { head: "1..1:00".to_owned(), dropped_by: None }));
        let hour = |time: Timestamp| time.as_second() / 3_600;
        gathered.gaps.kept.iter().map(|gap| (gap.kind, hour(gap.from), hour(gap.to))).collect()
    }

    fn started(program: &str) -> Entry {
        Entry::Started { program: program.to_owned(), version: String::new() }
    }

    fn stopped() -> Entry {
        Entry::Stopped { program: DAEMON.to_owned() }
    }

    fn reloaded() -> Entry {
        Entry::Reloaded { error: None }
    }

    fn segment() -> Entry {
        Entry::Segment(SegmentStart::default())
    }

    #[test]
    fn times_in_which_no_daemon_ran_are_told() {
        use GapKind::{BeginsLate, NoDaemon};
        // It stopped, and came back within the period; it ended without a word, and never came back from that.
        let whole = [(1, 10, segment()), (2, 10, started(DAEMON)), (3, 90, stopped()), (4, 110, started(DAEMON))];
        assert_eq!(gaps(&whole), [(NoDaemon, 90, 110)]);
        let killed = [(1, 10, segment()), (2, 10, started(DAEMON)), (3, 120, reloaded()), (4, 130, started(DAEMON))];
        assert_eq!(gaps(&killed), [(NoDaemon, 120, 130)]);
        let gone = [(1, 10, segment()), (2, 10, started(DAEMON)), (3, 150, stopped())];
        assert_eq!(gaps(&gone), [(NoDaemon, 150, 200)]);
        // Where `apply` has the lock, no daemon runs.
        let by_hand = [(1, 10, segment()), (2, 10, started(DAEMON)), (3, 120, reloaded()), (4, 150, started("apply"))];
        assert_eq!(gaps(&by_hand), [(NoDaemon, 120, 200)]);
        assert_eq!(gaps(&[(1, 10, segment()), (2, 10, started("apply"))]), [(NoDaemon, 10, 200)]);
        // What was before, and what comes after, is not this period's.
        let before = [(1, 10, segment()), (2, 10, started(DAEMON)), (3, 20, stopped()), (4, 30, started(DAEMON))];
        assert_eq!(gaps(&before), []);
        let after = [(1, 10, segment()), (2, 10, started(DAEMON)), (3, 210, stopped()), (4, 230, started(DAEMON))];
        assert_eq!(gaps(&after), []);
        // A gateway has a journal and is no program of these.
        assert_eq!(gaps(&[(1, 110, segment())]), [(BeginsLate, 100, 110)]);
    }

    #[test]
    fn who_makes_names_up_leaves_room_for_the_refusals_of_others() {
        let mut gathered = Gathered::new(Period { from: time(100), to: time(200) }, "gateway", "/journal");
        let mut refused = |seq: u64, tenant: &str, destination: String| {
            let (tenant, rule) = (tenant.to_owned(), "not-listed".to_owned());
            let entry = Entry::Refused(RefusedRecord { tenant, destination, rule, count: 2 });
            gathered.record(&Record { v: 1, seq, time: time(150), entry });
        };
        (1..=11_000).for_each(|seq| refused(seq, "ant", format!("{seq}.evil.example:443")));
        refused(11_001, "bee", "a.example:443".to_owned());
        refused(11_002, "ant", "1.evil.example:443".to_owned());
        let rows = &gathered.refusals.rows;
        let of = |tenant: &str, destination: &str| {
            rows.get(&(tenant.to_owned(), destination.to_owned(), "not-listed".to_owned())).copied()
        };
        assert_eq!((rows.len(), gathered.refusals.rest), (DESTINATIONS + 2, None));
        assert_eq!((of("bee", "a.example:443"), of("ant", "1.evil.example:443")), (Some(2), Some(4)));
        assert_eq!(of("ant", OTHER_DESTINATIONS), Some(2 * (11_000 - DESTINATIONS as u64)));
    }

    #[test]
    fn what_is_missing_is_told_with_the_time_that_it_is_of() {
        use GapKind::{BeginsLate, Clock, Damage, Dropped, Lost, Missing, NoDaemon};
        assert_eq!(gaps(&[]), [(BeginsLate, 100, 200)]);
        assert_eq!(gaps(&[(500, 150, segment()), (501, 151, reloaded())]), [(BeginsLate, 100, 150)]);
        assert_eq!(gaps(&[(1, 10, segment()), (2, 120, reloaded()), (9, 140, reloaded())]), [(Missing, 120, 140)]);
        assert_eq!(gaps(&[(1, 10, segment()), (9, 120, reloaded()), (3, 140, reloaded())]).len(), 2);
        assert_eq!(gaps(&[(1, 10, segment()), (2, 150, reloaded()), (3, 120, reloaded())]), [(Clock, 120, 150)]);
        let dropped = crate::model::record::DroppedSegment { first: 1, last: 9, head: String::new() };
        let start = SegmentStart { dropped: vec![dropped], ..SegmentStart::default() };
        let torn = SegmentStart { damage: Some("a bad line".to_owned()), ..SegmentStart::default() };
        let lost = Entry::Lost { records: 3, reason: "no space left".to_owned() };
        let files =
            [(10, 90, segment()), (11, 120, Entry::Segment(start)), (12, 130, Entry::Segment(torn)), (13, 140, lost)];
        assert_eq!(gaps(&files), [(Dropped, 120, 120), (Damage, 130, 130), (Lost, 140, 140)]);
        let mut started_late = vec![(1, 110, segment()), (2, 110, started(DAEMON))];
        assert_eq!(gaps(&started_late), [(BeginsLate, 100, 110)]);
        started_late.push((3, 120, stopped()));
        assert_eq!(gaps(&started_late), [(BeginsLate, 100, 110), (NoDaemon, 120, 200)]);
    }

    #[test]
    fn a_suspension_ends_by_its_time_where_nobody_wrote_that_down() {
        let suspended = |hour: i64, until: i64| {
            let (reason, by) = ("x".to_owned(), "ada".to_owned());
            (hour, Entry::Suspended { tenant: "ant".to_owned(), reason, until: time(until), by })
        };
        let resumed = |hour: i64| (hour, Entry::Resumed { tenant: "ant".to_owned(), by: "ada".to_owned() });
        let lengths = |entries: &[(i64, Entry)]| -> Vec<(Option<i64>, i64)> {
            let mut gathered = Gathered::new(Period { from: time(100), to: time(200) }, "daemon", "/journal");
            for (seq, (hour, entry)) in (1..).zip(entries) {
                gathered.record(&Record { v: 1, seq, time: time(*hour), entry: entry.clone() });
            }
            gathered.end(Ok(Sound { head: String::new(), dropped_by: None }));
            let hour = |time: Timestamp| time.as_second() / 3_600;
            gathered.suspensions.kept.iter().map(|one| (one.ended.map(hour), one.seconds / 3_600)).collect()
        };
        assert_eq!(lengths(&[suspended(110, 150), resumed(120)]), [(Some(120), 10)]);
        assert_eq!(lengths(&[suspended(110, 150)]), [(Some(150), 40)]);
        assert_eq!(lengths(&[suspended(110, 250)]), [(None, 90)]);
        assert_eq!(lengths(&[suspended(110, 250), resumed(210)]), [(None, 90)]);
        assert_eq!(lengths(&[suspended(110, 250), suspended(120, 130)]), [(Some(120), 10), (Some(130), 10)]);
        assert_eq!(lengths(&[suspended(10, 90)]), []);
        assert_eq!(lengths(&[suspended(10, 110)]), [(Some(110), 100)]);
    }
}
