//! What people read.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
};

use unicode_width::UnicodeWidthStr;

use crate::{
    model::{
        Finding, Observed, Plan, Severity,
        finding::is_invisible,
        tree::{Carried, Tree},
    },
    plan::{
        Commitment,
        render::{self, Style},
    },
};

use super::terminal::readable;

pub use crate::{model::shown::short_id, plan::render::aligned};

/// Writes to standard output what people read. A reader that has gone away, as `head` does, is no error.
pub fn print(text: &str) -> anyhow::Result<()> {
    print_while_read(text).map(drop)
}

/// Writes what people read to standard output, and says whether anyone still reads.
pub fn print_while_read(text: &str) -> anyhow::Result<bool> {
    write(&readable(text, style() == Style::Colour))
}

/// Writes what programs read to standard output: as it is, unless a person looks on.
pub fn print_data(text: &str) -> anyhow::Result<()> {
    print_data_while_read(text).map(drop)
}

/// The same, and says whether anyone still reads.
pub fn print_data_while_read(text: &str) -> anyhow::Result<bool> {
    match io::stdout().is_terminal() {
        true => write(&readable(text, false)),
        false => write(text),
    }
}

/// Writes in the form that was asked for.
pub fn print_as(is_for_people: bool, text: &str) -> anyhow::Result<()> {
    if is_for_people { print(text) } else { print_data(text) }
}

/// Draws a text in place of what the terminal shows, and says whether it is still there.
pub fn draw(text: &str) -> anyhow::Result<bool> {
    // Home and clear; long lines are cut by the terminal instead of wrapped.
    let text = readable(text, style() == Style::Colour);
    write(&format!("\x1b[H\x1b[2J\x1b[?7l{text}\x1b[?7h"))
}

fn write(text: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Writes what a plan is about, and the plan.
pub fn plan(plan: &Plan, tree: &Tree, observed: &Observed, commitment: Option<Commitment>) -> anyhow::Result<()> {
    let engine = &observed.engine;
    let heading = format!(
        "Declared: {}\nObserved: Docker Engine {}, API {}\n\n",
        tree.revision, engine.version, engine.api_version
    );
    let warning = commitment.and_then(|commitment| commitment.warning());
    let warning = warning.map_or_else(String::new, |warning| format!("Warning: {warning}.\n\n"));
    print(&(heading + &warning + &render::text(plan, style())))
}

/// Writes lines to standard error. Where that is closed it is lost.
pub fn message(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", readable(line, false));
}

/// Colour on a terminal, unless NO_COLOR is set.
pub fn style() -> Style {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if wanted && io::stdout().is_terminal() { Style::Colour } else { Style::Plain }
}

/// Writes findings to standard error, each with the line that it is about.
pub fn findings(findings: &[Finding], tree: &Tree) {
    let mut text = String::new();
    for finding in findings {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let Finding { file, line, column, code, message, .. } = finding;
        let _ = writeln!(text, "{file}:{line}:{column}: {severity}[{code}]: {message}");
        if let Some(source) = source_line(finding, tree) {
            // Columns of a finding are characters, and a character may take two of the terminal's.
            let width = |start: u32, length: u32| {
                source.chars().skip(start as usize).take(length as usize).collect::<String>().width()
            };
            let start = column.saturating_sub(1);
            let indent = " ".repeat(width(0, start));
            let mark = "^".repeat(width(start, finding.length).max(1));
            let _ = writeln!(text, "{line:>5} | {source}\n      | {indent}{mark}");
        }
        if let Some(help) = &finding.help {
            let _ = writeln!(text, "      = help: {help}");
        }
    }
    // With standard error closed there is nobody to report to.
    let _ = io::stderr().lock().write_all(readable(&text, false).as_bytes());
}

/// The longest line that is shown, in characters.
const MAX_LINE: usize = 160;

/// The line that a finding is about, where it can be shown as it stands: a line with a secret cannot.
fn source_line(finding: &Finding, tree: &Tree) -> Option<String> {
    if finding.length == 0 || finding.code == "secret" {
        return None;
    }
    let declared = tree.file(&finding.file).map(|file| file.bytes.as_slice());
    let given = || match tree.carried.get(&finding.file) {
        Some(Carried::File(bytes)) => Some(&**bytes),
        _ => None,
    };
    let text = std::str::from_utf8(declared.or_else(given)?).ok()?;
    let line = text.lines().nth(finding.line.checked_sub(1)? as usize)?;
    let short = line.chars().count() <= MAX_LINE;
    (short && !line.chars().any(is_invisible)).then(|| line.to_owned())
}
