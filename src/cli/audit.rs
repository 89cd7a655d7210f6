//! `tenantd audit`.

use std::{fmt::Write, path::Path};

use anyhow::Context;

use super::{
    EXIT_OK,
    args::{Audit, AuditVerify, Global},
    audit_report, events, output,
};
use crate::{
    journal::{self, Anchor, Problem, Verified},
    model::finding::printable,
};

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
    let verified = check(own, against)?;
    if command.anchor {
        output::print(&format!("{}\n", verified.head))?;
        return Ok(EXIT_OK);
    }
    output::print(&report(&verified, against))?;
    if let Some(gateway) = gateway {
        let verified = check(gateway, None)?;
        output::print(&format!("\nThe gateway's own journal, {}:\n{}", gateway.display(), report(&verified, None)))?;
    }
    Ok(EXIT_OK)
}

fn check(folder: &Path, against: Option<&Anchor>) -> anyhow::Result<Verified> {
    journal::verify(folder, against).map_err(|broken| match broken.problem {
        Problem::Empty(_) | Problem::Unreadable(_) => anyhow::Error::new(broken),
        _ => anyhow::Error::new(broken).context(format!("the journal in {} does not hold", folder.display())),
    })
}

fn report(verified: &Verified, against: Option<&Anchor>) -> String {
    let Verified { records, files, first, head, set_aside, tail } = verified;
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(text, "The chain holds: {} in {}.", counted(*records, "record"), counted(*files, "file"));
    if *first > 1 {
        let _ = writeln!(text, "The records before {first} were dropped with their files, as the journal says.");
    }
    for aside in set_aside {
        let (bytes, offset) = (aside.bytes, aside.offset);
        let (file, name) = (printable(&aside.file), printable(&aside.aside));
        let _ = writeln!(text, "Set aside: {bytes} bytes at {offset} of {file} were not a whole record; see {name}.");
    }
    if let Some(tail) = tail {
        let _ = writeln!(
            text,
            "Torn: {} bytes at {} of {}, after record {}, are not a whole record. The next start sets them aside.",
            tail.bytes, tail.offset, tail.file, head.seq
        );
    }
    if let Some(anchor) = against {
        let _ = writeln!(text, "Record {} is as the anchor says.", anchor.seq);
    }
    let _ = writeln!(text, "Head: {head}");
    text
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
