//! `tenantd audit`.

use std::{fmt::Write, path::Path};

use anyhow::Context;
use clap::Subcommand;
use jiff::Timestamp;

use super::{
    EXIT_OK,
    args::{Global, JournalFolder},
    audit_report::{self, AuditReport},
    events,
    failure::{self, Failure},
    output, setup,
};
use crate::{
    audit::words::seconds,
    journal::{self, Anchor, Problem, Rotated, Verified},
    model::finding::printable,
};

#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Find any record that was altered, removed or reordered
    ///
    /// Exits with 0 where the chain of records holds and no more is missing than the oldest files, with 1 where it does
    /// not, and says where it breaks and which records are missing. Half a record at the end, which a crash leaves, is reported and breaks nothing: the next
    /// start moves it to a file beside.
    Verify(AuditVerify),
    /// Report what happened in a period: changes, drift, approvals, suspensions, allowlists, gaps in the record
    ///
    /// Reads the config repo's history and the journals. Exits with 1 where the chain of a journal does not hold; the
    /// report is made all the same and says so.
    Report(AuditReport),
}

#[derive(Debug, clap::Args)]
pub struct AuditVerify {
    /// Print only the first record and the last as FIRST..SEQ:HASH, to be kept elsewhere
    #[arg(long)]
    anchor: bool,
    /// Fail unless everything that existed when --anchor printed this still exists, except for old files dropped since
    #[arg(long, value_name = "FIRST..SEQ:HASH")]
    against: Option<Anchor>,
    #[command(flatten)]
    journal: JournalFolder,
}

pub fn run(command: &Audit, global: &Global) -> anyhow::Result<u8> {
    match command {
        Audit::Verify(command) => verify(command, global),
        Audit::Report(command) => audit_report::run(command, global),
    }
}

fn verify(command: &AuditVerify, global: &Global) -> anyhow::Result<u8> {
    let folders = events::journals(&command.journal, global)?;
    let (own, gateway) = (folders.first().context("no journal is named")?, folders.get(1));
    let against = command.against.as_ref();
    let verified = check(own, against);
    if command.anchor {
        output::print(&format!("{}\n", verified?.anchor()))?;
        return Ok(EXIT_OK);
    }
    if let Ok(verified) = &verified {
        output::print(&(report(verified, against) + &kept_by_host(verified, command, global)?))?;
    }
    let beside = gateway.map(|gateway| (gateway, check(gateway, None)));
    if let Some((gateway, Ok(verified))) = &beside {
        output::print(&format!("\nThe gateway's own journal, {}:\n{}", gateway.display(), report(verified, None)))?;
    }
    match (verified, beside) {
        (Err(own), Some((_, Err(gateway)))) => {
            failure::print(&own);
            Err(gateway)
        }
        (Err(error), _) | (Ok(_), Some((_, Err(error)))) => Err(error),
        (Ok(_), _) => Ok(EXIT_OK),
    }
}

/// Remarks where this host's settings keep more files than were kept when old ones were dropped.
fn kept_by_host(verified: &Verified, command: &AuditVerify, global: &Global) -> anyhow::Result<String> {
    let dropped = verified.rotated.as_ref().and_then(|rotated| Some((rotated.record, rotated.limits?.files)));
    let (None, Some((record, then))) = (&command.journal.folder, dropped) else { return Ok(String::new()) };
    let now = setup::host(global)?.journal.files;
    Ok(if then < now {
        format!(
            "Note: host.yaml keeps {now} files now, and record {record} says that old ones were dropped when {then} were kept.\n"
        )
    } else {
        String::new()
    })
}

/// Follows a journal's chain. Where more than one thing is wrong, all but the last are reported.
fn check(folder: &Path, against: Option<&Anchor>) -> anyhow::Result<Verified> {
    journal::verify(folder, against).map_err(|broken| match broken.problem {
        Problem::Empty(_) | Problem::Unreadable(_) => anyhow::Error::new(broken),
        _ => {
            let context = format!("the journal in {} does not hold", folder.display());
            let others = broken.others.iter().map(|other| format!("; {other}")).collect::<String>();
            let more = if broken.more > 0 { format!("; and {} more", broken.more) } else { String::new() };
            let what = printable(&format!("{broken}{others}{more}"));
            let hint = "keep a copy of the folder as it is; docs/operations.md says what each of these may mean";
            anyhow::Error::new(Failure::host(what).hint(hint)).context(context)
        }
    })
}

fn report(verified: &Verified, against: Option<&Anchor>) -> String {
    let Verified { records, files, first, head, begins, ends, rotated, set_aside, tail, remarks, more_remarks } =
        verified;
    let mut text = String::new();
    let time = |time: &Option<Timestamp>| time.map_or_else(|| "an unknown time".to_owned(), seconds);
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "The chain holds: {} in {}, written from {} to {}.",
        counted(*records, "record"),
        counted(*files, "file"),
        time(begins),
        time(ends)
    );
    if let Some(Rotated { record, time: when, limits }) = rotated {
        let kept = limits.map_or_else(String::new, |limits| format!(", when {} files were kept", limits.files));
        let _ = writeln!(
            text,
            "The records before {first} are not there: record {record} of {} says that they were dropped with their files{kept}.",
            time(when)
        );
    }
    for aside in set_aside {
        let (bytes, offset) = (aside.bytes, aside.offset);
        let (file, name) = (printable(&aside.file), printable(&aside.aside));
        let _ = writeln!(text, "Moved: {bytes} bytes at {offset} of {file} were not a whole record; see {name}.");
    }
    if let Some(tail) = tail {
        let _ = writeln!(
            text,
            "Torn: {} bytes at {} of {}, after record {}, are not a whole record. The next start moves them to a file beside.",
            tail.bytes, tail.offset, tail.file, head.seq
        );
    }
    for remark in remarks {
        let _ = writeln!(text, "Note: {}.", printable(remark));
    }
    if *more_remarks > 0 {
        let _ = writeln!(text, "Note: there are {more_remarks} more of these.");
    }
    if let Some(anchor) = against {
        let _ = writeln!(text, "Record {} is as the anchor says.", anchor.seq);
        match anchor.first {
            Some(then) if then < *first => {
                let _ = writeln!(text, "The records {then} to {} were dropped since the anchor was taken.", first - 1);
            }
            Some(_) => {}
            None => text.push_str("The anchor does not say which record was the first then; a new one does.\n"),
        }
    }
    let _ = writeln!(text, "Head: {}", verified.anchor());
    text
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
