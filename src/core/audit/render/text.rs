//! For a terminal.

use std::fmt::Write;

use super::{
    super::{
        data::Report,
        words::{Tone, seconds},
    },
    document::{self, Fact, Section},
};
use crate::{
    model::finding::printable,
    plan::render::{GREEN, RED, Style, YELLOW, aligned},
    review::render::marked,
};

/// How many rows of each table are shown.
const ROWS: usize = 200;

/// The width of the column of marks: the longest of them.
const MARK: usize = 8;

/// The whole report: the summary first.
pub fn text(report: &Report, style: Style) -> String {
    let mut out = format!("Audit report\n{}\nmade {}\n\n", document::period(report), seconds(report.made));
    let (tone, verdict) = document::verdict(report);
    let colour = match tone {
        Tone::Plain => GREEN,
        Tone::Warning => YELLOW,
        Tone::Alarm => RED,
    };
    // Writing to a string does not fail.
    let _ = writeln!(out, "{}.\n", style.paint(colour, &printable(&verdict)));
    let facts = document::facts(report);
    let facts = facts.into_iter().map(|Fact { name, number, rest, .. }| [format!("  {name}"), number, rest]);
    out.push_str(&aligned(&facts.collect::<Vec<_>>()));
    for section in document::sections(report, ROWS) {
        add(&mut out, &section, style);
    }
    out
}

fn add(out: &mut String, section: &Section, style: Style) {
    let Section { title, note, head, rows, left_out, nothing, .. } = section;
    let _ = write!(out, "\n{}\n", title.to_uppercase());
    if !note.is_empty() {
        let _ = writeln!(out, "{note}");
    }
    if rows.is_empty() && *left_out == 0 {
        let _ = writeln!(out, "  {nothing}");
        return;
    }
    // A column in which nothing stands is left out.
    let filled =
        |column: &usize| rows.iter().any(|row| row.cells.get(*column).is_some_and(|cell| !cell.text.is_empty()));
    let columns: Vec<usize> = (0..head.len()).filter(filled).collect();
    let indented = |mut cells: Vec<String>| {
        if let Some(first) = cells.first_mut() {
            first.insert_str(0, "  ");
        }
        cells
    };
    let names = columns.iter().filter_map(|column| head.get(*column)).map(|name| name.to_uppercase());
    let mut table = vec![indented(names.collect())];
    table.extend(rows.iter().map(|row| {
        let cells = columns.iter().filter_map(|column| row.cells.get(*column));
        let cells = cells.map(|cell| if cell.text.is_empty() { "-".to_owned() } else { printable(&cell.text) });
        indented(cells.collect())
    }));
    let table = aligned(&table);
    let mut lines = table.lines();
    let _ = writeln!(out, "{}", lines.next().unwrap_or_default());
    for (line, row) in lines.zip(rows) {
        let _ = writeln!(out, "{line}");
        for (mark, what) in &row.lines {
            let _ = writeln!(out, "      {}  {}", marked(*mark, MARK, style), printable(what));
        }
    }
    if *left_out > 0 {
        let _ = writeln!(out, "  {left_out} more; --format json has them as far as they are kept");
    }
}
