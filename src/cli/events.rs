//! `tenantd events`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    EXIT_OK,
    args::{Global, JournalFolder, PlanFormat},
    output, setup, time,
};
use crate::{
    audit::words::{self, RenderedEntry, Tone, concerns, seconds},
    journal::{self, Item, Reader},
    model::{
        Entry, Record,
        finding::printable,
        record::{OutcomeRecord, StepRecord, StepResult, Why},
    },
    plan::render::{GREEN, PLAIN, Paint, RED, Style, YELLOW},
};

#[derive(Debug, clap::Args)]
pub struct Events {
    /// Only what concerns this tenant
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Only what is not older: a time such as 2026-11-21T10:00:00Z, or a duration such as 1h
    #[arg(long, value_name = "TIME", value_parser = time::since)]
    since: Option<Timestamp>,
    /// Follow: show what happens from now on; a step is shown when it has ended
    #[arg(long, short)]
    follow: bool,
    /// The form: lines for people, or the records as they are stored
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    format: PlanFormat,
    #[command(flatten)]
    journal: JournalFolder,
}

/// How often a follower looks for more.
const POLL: Duration = Duration::from_millis(200);

/// How much is gathered before it is written, in bytes.
const BUFFER: usize = 64 << 10;

/// How many steps may wait for their outcome. The oldest is shown without one.
const MAX_PENDING: usize = 10_000;

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
    folder: PathBuf,
    reader: Reader,
    ahead: Option<(Record, String)>,
    /// The number of the last record that was read.
    last: Option<u64>,
}

impl Source {
    fn new(folder: &Path, since: Option<Timestamp>) -> anyhow::Result<Self> {
        Ok(Self { folder: folder.to_owned(), reader: Reader::new(folder, since)?, ahead: None, last: None })
    }

    /// Reads on to the next record, and reports what is none, and what is missing.
    fn look_ahead(&mut self) -> anyhow::Result<()> {
        while self.ahead.is_none() {
            match self.reader.read_next()? {
                None => break,
                Some(Item::Record { record, line }) => {
                    if let Some(last) = self.last.replace(record.seq)
                        && record.seq.saturating_sub(1) > last
                    {
                        let (first, last) = (last.saturating_add(1), record.seq.saturating_sub(1));
                        output::message(&format!(
                            "warning: the records {first} to {last} are not in {}; `tenantd audit verify` examines it",
                            self.folder.display()
                        ));
                    }
                    self.ahead = Some((*record, line.to_owned()));
                }
                Some(Item::Unreadable { file, line, why }) => {
                    // It was there, whatever it was.
                    self.last = self.last.map(|last| last.saturating_add(1));
                    output::message(&format!("warning: {file}, line {line} is not shown: {}", printable(&why)));
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
        let print = match self.command.format {
            PlanFormat::Text => output::print_while_read,
            PlanFormat::Json => output::print_data_while_read,
        };
        let reads = self.text.is_empty() || print(&self.text)?;
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
            other if is_new => self.other(time, &other),
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
                self.line(time, Some(&outcome.tenant), (PLAIN, "step"), &what, Some(end), "");
            }
        }
    }

    fn step(&mut self, time: Timestamp, step: &StepRecord, end: (Paint, String)) {
        let colour = if step.why == Why::Drift { YELLOW } else { PLAIN };
        let what = (colour, &*step.why.to_string());
        self.line(time, Some(&step.tenant), what, &words::step(step), Some(end), &words::because(step));
    }

    fn other(&mut self, time: Timestamp, entry: &Entry) {
        let Some(RenderedEntry { tenant, kind, tone, what }) = words::render(entry) else { return };
        let colour = match tone {
            Tone::Plain => PLAIN,
            Tone::Warning => YELLOW,
            Tone::Alarm => RED,
        };
        self.line(time, tenant, (colour, kind), &what, None, "");
    }

    /// One line. Texts that come from files or the engine cannot drive the terminal.
    fn line(
        &mut self,
        time: Timestamp,
        tenant: Option<&str>,
        (colour, kind): (Paint, &str),
        what: &str,
        end: Option<(Paint, String)>,
        because: &str,
    ) {
        let kind = self.style.paint(colour, &format!("{kind:7}"));
        let tenant = tenant.map_or_else(|| "-".to_owned(), printable);
        let mut line = format!("{}  {tenant:16}  {kind}  {}", seconds(time), printable(what));
        if let Some((colour, end)) = end {
            line.push_str("   ");
            line.push_str(&self.style.paint(colour, &printable(&end)));
        }
        if !because.is_empty() {
            line.push_str(&format!("   ({})", printable(because)));
        }
        line.push('\n');
        self.text.push_str(&line);
    }
}
