//! `tenantd audit`.

use std::fmt::Write;

use super::{
    EXIT_OK,
    args::{Audit, AuditVerify, Global},
    events, output,
};
use crate::{
    journal::{self, Problem, Verified},
    model::finding::printable,
};

pub fn run(command: &Audit, global: &Global) -> anyhow::Result<u8> {
    match command {
        Audit::Verify(command) => verify(command, global),
    }
}

fn verify(command: &AuditVerify, global: &Global) -> anyhow::Result<u8> {
    let folder = events::folder(&command.journal, global)?;
    let verified = journal::verify(&folder, command.against.as_ref()).map_err(|broken| match broken.problem {
        Problem::Empty(_) | Problem::Unreadable(_) => anyhow::Error::new(broken),
        _ => anyhow::Error::new(broken).context(format!("the journal in {} does not hold", folder.display())),
    })?;
    if command.anchor {
        output::print(&format!("{}\n", verified.head))?;
    } else {
        output::print(&report(command, &verified))?;
    }
    Ok(EXIT_OK)
}

fn report(command: &AuditVerify, verified: &Verified) -> String {
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
    if let Some(anchor) = &command.against {
        let _ = writeln!(text, "Record {} is as the anchor says.", anchor.seq);
    }
    let _ = writeln!(text, "Head: {head}");
    text
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
