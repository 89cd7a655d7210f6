//! For a page, an issue or a mail in Markdown.

use std::fmt::Write;

use super::{
    super::{data::Report, words::seconds},
    document::{self, Cell, Fact, Section},
};
use crate::{model::finding::printable, plan::render::code, review::Mark};

/// How many rows of each table are shown.
const ROWS: usize = 200;

/// The whole report: the summary first.
pub fn markdown(report: &Report) -> String {
    let (_, verdict) = document::verdict(report);
    let made = seconds(report.made);
    let mut out = format!(
        "# Audit report\n\n{}, made {made}.\n\n**{}**\n\n",
        document::period(report),
        code(&printable(&verdict))
    );
    out.push_str("| | | |\n| --- | ---: | --- |\n");
    for Fact { name, number, rest, .. } in document::facts(report) {
        let _ = writeln!(out, "| {name} | {number} | {rest} |");
    }
    for section in document::sections(report, ROWS) {
        add(&mut out, &section);
    }
    out
}

fn add(out: &mut String, section: &Section) {
    let Section { title, note, head, rows, left_out, nothing, .. } = section;
    // Writing to a string does not fail.
    let _ = write!(out, "\n## {title}\n\n");
    if !note.is_empty() {
        let _ = writeln!(out, "{note}\n");
    }
    if rows.is_empty() && *left_out == 0 {
        let _ = writeln!(out, "{nothing}");
        return;
    }
    let has_lines = rows.iter().any(|row| !row.lines.is_empty());
    let what = has_lines.then_some("what").into_iter();
    let names: Vec<&str> = head.iter().copied().chain(what).collect();
    let _ = writeln!(out, "| {} |\n|{}", names.join(" | "), " --- |".repeat(names.len()));
    for row in rows {
        let lines = row.lines.iter().map(|(mark, what)| match mark {
            Mark::Loosens => format!("**loosens** {}", code(&printable(what))),
            mark => format!("{} {}", mark.as_str(), code(&printable(what))),
        });
        let lines = has_lines.then(|| lines.collect::<Vec<_>>().join("<br>"));
        let cells: Vec<String> = row.cells.iter().map(cell).chain(lines).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    if *left_out > 0 {
        let _ = writeln!(out, "\n{left_out} more; `--format json` has them as far as they are kept.");
    }
}

fn cell(cell: &Cell) -> String {
    match (cell.theirs, cell.text.is_empty()) {
        (true, false) => code(&printable(&cell.text)),
        _ => cell.text.clone(),
    }
}
