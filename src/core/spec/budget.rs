//! How much comes of the files of one moment, at most.
//!
//! A file of a hundred bytes takes on all that `fleet.yaml` gives to everyone, and one wrong line can be reported in a
//! thousand: what is made of a repo is bounded as well as what is read of it.

use std::io::{self, Write};

use crate::model::{Finding, Severity, Tenant, finding::Span, tree::TOO_LARGE};

/// The most bytes that all tenants have as they are declared, with what the defaults give each. Ten thousand of the
/// fleet that was measured have twenty million.
const MAX_DECLARED: usize = 64 << 20;

/// What an entry of a list or map takes beside its text, in bytes.
const ENTRY: usize = 64;

/// How many findings of one file are listed.
const MAX_OF_FILE: usize = 200;

/// After how many findings only one of each further file is listed.
const MAX_LISTED: usize = 10_000;

/// What may still be declared.
pub(super) struct Room(usize);

impl Room {
    pub(super) const fn new() -> Self {
        Self(MAX_DECLARED)
    }

    /// Takes what a tenant needs; a finding where there is not so much.
    pub(super) fn take(&mut self, tenant: &Tenant) -> Result<(), Finding> {
        self.0 = self.0.checked_sub(weight(tenant)).ok_or_else(|| {
            let message = format!(
                "what the tenants declare has more than {} MiB together, counting for each what fleet.yaml gives to all",
                MAX_DECLARED >> 20
            );
            let help = "declare less in `defaults`, or give each fleet a repository of its own";
            Finding::on_file("tenants", TOO_LARGE, message, help)
        })?;
        Ok(())
    }
}

/// About how many bytes a declaration takes in memory.
fn weight(tenant: &Tenant) -> usize {
    let entries = tenant.environment.len()
        + tenant.allowlist.len()
        + tenant.expose.len()
        + tenant.command.as_ref().map_or(0, Vec::len)
        + tenant.files.len()
        + tenant.routes.len()
        + tenant.sealed.len();
    let mut text = Counted(0);
    // Nothing can fail here: a declaration has a form in JSON, and counting takes whatever comes.
    let _ = serde_json::to_writer(&mut text, tenant);
    size_of::<Tenant>() + text.0 + entries * ENTRY
}

/// Counts what is written.
struct Counted(usize);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Adds the findings of one file to those of all. Of many the first are listed, an error among them if there is one:
/// whether a file is wrong does not depend on how much is listed.
pub(super) fn list(file: &str, mut own: Vec<Finding>, all: &mut Vec<Finding>) {
    own.sort();
    own.dedup();
    let most = if all.len() < MAX_LISTED { MAX_OF_FILE } else { 1 };
    if own.len() > most {
        let is_error = |finding: &Finding| finding.severity == Severity::Error;
        if let Some(first) = own.iter().position(is_error).filter(|first| *first >= most) {
            own.swap(most - 1, first);
        }
        let left = own.len() - most;
        let worst = own.iter().skip(most).map(|finding| finding.severity).min().unwrap_or(Severity::Warning);
        let last = own.get(most - 1).map_or_else(Span::default, Finding::span);
        own.truncate(most);
        let more = Finding::error(file, last, "more-findings", &format!("{left} more are not listed"), None);
        own.push(Finding { severity: worst, ..more });
    }
    all.append(&mut own);
}
