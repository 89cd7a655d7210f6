//! One page that stands for itself: no script, nothing from elsewhere, to be looked at, printed and kept.

use std::fmt::Write;

use base64ct::{Base64, Encoding};
use sha2::{Digest, Sha256};

use super::{
    super::{
        data::Report,
        words::{Tone, seconds},
    },
    document::{self, Cell, Fact, Row, Section},
    markup::escaped,
    timeline_chart::timeline_chart,
};
use crate::review::Mark;

/// How many rows of each table are shown.
const ROWS: usize = 2_000;

/// How many events are shown.
const EVENTS: usize = 1_000;

/// How the page looks. A browser is asked to use no other style.
const STYLE: &str = include_str!("report.css");

/// The whole report.
pub fn html(report: &Report) -> String {
    let style = Base64::encode_string(&Sha256::digest(STYLE.as_bytes()));
    let period = document::period(report);
    let (tone, verdict) = document::verdict(report);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{style}'; \
         base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>Audit report, {period}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header>\n\
         <h1>Audit report</h1>\n<p class=\"period\">{period}</p>\n\
         <p class=\"made\">made {} by tenantd {}, of {}</p>\n</header>\n",
        seconds(report.made),
        escaped(report.tenantd_version),
        escaped(&report.sources.repo.path),
    );
    let _ = writeln!(out, "<p class=\"verdict {}\">{}.</p>", class(tone), escaped(&verdict));
    out.push_str("<section class=\"cards\">\n");
    for Fact { name, number, rest, tone } in document::facts(report) {
        let _ = writeln!(
            out,
            "<div class=\"card {}\"><b>{number}</b><span class=\"name\">{name}</span><span class=\"rest\">{}</span></div>",
            class(tone),
            escaped(&rest)
        );
    }
    out.push_str("</section>\n");
    let sections = document::sections(report, ROWS);
    out.push_str("<nav>\n");
    for Section { id, title, rows, left_out, .. } in &sections {
        let count = left_out.saturating_add(rows.len() as u64);
        let _ = writeln!(out, "<a href=\"#{id}\">{title} <i>{count}</i></a>");
    }
    out.push_str("</nav>\n<section id=\"timeline\">\n<h2>Time line</h2>\n");
    match timeline_chart(report) {
        Some(chart) => out.push_str(&chart),
        None => out.push_str("<p class=\"nothing\">Nothing happened in this time.</p>\n"),
    }
    out.push_str("</section>\n");
    for section in &sections {
        add(&mut out, section);
    }
    let events = document::cut(document::events(report), EVENTS);
    out.push_str("<details>\n<summary>All events</summary>\n");
    add(&mut out, &events);
    out.push_str("</details>\n</body>\n</html>\n");
    out
}

fn add(out: &mut String, section: &Section) {
    let Section { title, id, note, head, rows, left_out, nothing } = section;
    // Writing to a string does not fail.
    let _ = writeln!(out, "<section id=\"{id}\">\n<h2>{title}</h2>");
    if rows.is_empty() && *left_out == 0 {
        if *id == "allowlists" {
            let _ = writeln!(out, "<p class=\"note\">{}</p>", escaped(note));
        }
        let _ = writeln!(out, "<p class=\"nothing\">{nothing}</p>\n</section>");
        return;
    }
    if !note.is_empty() {
        let _ = writeln!(out, "<p class=\"note\">{}</p>", escaped(note));
    }
    out.push_str("<table>\n<thead><tr>");
    for (column, name) in head.iter().enumerate() {
        let is_number = rows.first().and_then(|row| row.cells.get(column)).is_some_and(|cell| cell.number);
        let _ = write!(out, "<th{}>{name}</th>", if is_number { " class=\"number\"" } else { "" });
    }
    out.push_str("</tr></thead>\n");
    for row in rows {
        add_row(out, row, head.len());
    }
    out.push_str("</table>\n");
    if *left_out > 0 {
        let _ = writeln!(out, "<p class=\"note\">{left_out} more are left out here.</p>");
    }
    out.push_str("</section>\n");
}

fn add_row(out: &mut String, row: &Row, columns: usize) {
    out.push_str("<tbody><tr>");
    for Cell { text, theirs, tone, number } in &row.cells {
        // What somebody else wrote may be one long word.
        let kind = match (*theirs && !text.is_empty(), number) {
            (true, _) => "theirs",
            (_, true) => "number",
            _ => "ours",
        };
        let _ = write!(out, "<td class=\"{kind} {}\">{}</td>", class(*tone), escaped(text));
    }
    out.push_str("</tr>");
    if !row.lines.is_empty() {
        let _ = write!(out, "<tr class=\"lines\"><td colspan=\"{columns}\"><ul>");
        for (mark, what) in &row.lines {
            let word = match mark {
                Mark::Neutral => "",
                mark => mark.as_str(),
            };
            let _ = write!(out, "<li class=\"{}\"><b>{word}</b> {}</li>", mark.as_str(), escaped(what));
        }
        out.push_str("</ul></td></tr>");
    }
    out.push_str("</tbody>\n");
}

const fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Warning => "warning",
        Tone::Alarm => "alarm",
    }
}
