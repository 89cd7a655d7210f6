//! For a comment on a pull request: what weakens comes first, and what does not fit is counted.

use std::fmt::Write;

use super::{Line, lines, summary};
use crate::model::{Plan, finding::printable, shown::shortened};

/// The longest comment, in characters: GitHub takes 65,536.
const MAX: usize = 60_000;

/// What is kept free for the words that say what was left out.
const REST: usize = 300;

/// The longest value, in characters.
const MAX_VALUE: usize = 200;

/// The whole plan, within 60,000 characters.
pub fn markdown(plan: &Plan, revision: &str) -> String {
    let mut out = format!("### tenantd plan\n\n{}\n\nDeclared by {}.\n\n", summary(plan), code(revision));
    let all = lines(plan);
    let mut left_out = 0;
    type Pick = fn(&Line<'_>) -> bool;
    let parts: [(&str, Pick); 3] = [
        ("Isolates less than declared", |line| line.weakened),
        ("Drift", |line| line.drifted && !line.weakened),
        ("Changes", |line| !line.drifted && !line.weakened),
    ];
    for (title, pick) in parts {
        let rows: Vec<String> = all.iter().filter(|line| pick(line)).map(row).collect();
        if rows.is_empty() {
            continue;
        }
        let head = format!("#### {title}\n\n| resource | becomes | differs |\n| --- | --- | --- |\n");
        left_out += add_rows(&mut out, &head, &rows);
        out.push('\n');
    }
    let blocked = plan.blocked().map(|(tenant, blocked)| {
        format!("| {} | {} | {} |\n", code(tenant), value(&blocked.reason), value(&blocked.help))
    });
    let blocked: Vec<String> = blocked.collect();
    if !blocked.is_empty() {
        left_out += add_rows(&mut out, "#### Blocked\n\n| tenant | reason | help |\n| --- | --- | --- |\n", &blocked);
    }
    if left_out > 0 {
        let _ = writeln!(out, "\n{left_out} rows more are left out here; `tenantd plan` shows them all.");
    }
    out
}

fn row(line: &Line<'_>) -> String {
    let differs: Vec<String> = line.differs.iter().take(MAX_DIFFERS).map(|text| value(text)).collect();
    let more = line.differs.len() - differs.len();
    let more = if more > 0 { format!("<br>… {more} more") } else { String::new() };
    format!("| {} | {} | {}{more} |\n", code(&line.address), line.becomes, differs.join("<br>"))
}

/// How many attributes of a resource are shown.
const MAX_DIFFERS: usize = 8;

/// Adds rows as long as they fit. Returns how many did not.
pub(crate) fn add_rows(out: &mut String, head: &str, rows: &[String]) -> usize {
    let mut length = out.chars().count() + head.chars().count();
    let fitting = rows.iter().take_while(|row| {
        length += row.chars().count();
        length + REST < MAX
    });
    let fitting = fitting.count();
    if fitting > 0 {
        out.push_str(head);
        rows[..fitting].iter().for_each(|row| out.push_str(row));
    }
    rows.len() - fitting
}

/// A value, cut to a length.
pub(crate) fn value(text: &str) -> String {
    code(&shortened(text, MAX_VALUE))
}

/// Text that stands for itself: no markup, no mention, no link, and no end of the row.
pub(crate) fn code(text: &str) -> String {
    let text = printable(&text.replace(char::is_control, " "));
    let fence = fence(&text, 1);
    let space = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{space}{}{space}{fence}", text.replace('|', "\\|"))
}

/// A run of backticks, at least so many, that is longer than any in the text: so none there ends what it encloses.
pub(crate) fn fence(text: &str, least: usize) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat((longest + 1).max(least))
}

#[cfg(test)]
mod tests {
    use super::code;

    #[test]
    fn no_value_leaves_its_cell() {
        assert_eq!(code("a|b\nc"), "`a\\|b c`");
        assert_eq!(code("`x`"), "`` `x` ``");
        assert_eq!(code("@team <b>"), "`@team <b>`");
        assert_eq!(code("a\u{202e}b"), "`a\\u{202e}b`");
    }
}
