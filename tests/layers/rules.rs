//! What must hold of the imports, and the table in `docs/architecture.md` that says so.

use std::collections::{BTreeMap, BTreeSet};

use crate::imports::Imports;

/// A folder, or a file at the top, as its row in the table has it.
#[derive(Debug)]
struct Row {
    name: String,
    /// It reaches nothing outside of the program.
    is_pure: bool,
    imports: BTreeSet<String>,
}

/// The head of the table.
const HEAD: &str = "| folder under `src/` | for | touches | imports |";

/// The rows of the table. One that names several things counts for each of them.
fn table(document: &str) -> Vec<Row> {
    let lines = document.lines().skip_while(|line| *line != HEAD).skip(2);
    let mut rows = Vec::new();
    for line in lines.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [names, _, touches, imports] = cells[..] else { panic!("the table has another row: {line}") };
        for name in quoted(names) {
            rows.push(Row { name, is_pure: touches == "nothing", imports: quoted(imports).collect() });
        }
    }
    rows
}

/// The names in backticks, without what makes them folders or files, nor the crate that several of them are.
fn quoted(cell: &str) -> impl Iterator<Item = String> {
    let names = cell.split('`').skip(1).step_by(2);
    names.map(|name| name.trim_start_matches("core/").trim_end_matches('/').trim_end_matches(".rs").to_owned())
}

/// The row that a file belongs to: that of its folder or its own, and of several the one that says most.
fn layer(rows: &[Row], file: &str) -> Option<usize> {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    let is_of =
        |row: &Row| path.strip_prefix(row.name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let rows = rows.iter().enumerate().filter(|(_, row)| is_of(row));
    rows.max_by_key(|(_, row)| row.name.len()).map(|(place, _)| place)
}

/// What is wrong with the layers.
pub fn layers(imports: &Imports, document: &str) -> Vec<String> {
    let rows = table(document);
    let mut wrong = Vec::new();
    let mut found: BTreeMap<&str, BTreeSet<&str>> =
        rows.iter().map(|row| (row.name.as_str(), BTreeSet::new())).collect();
    for ((from, to), names) in imports {
        let (Some(row), Some(of)) = (layer(&rows, from), layer(&rows, to)) else {
            wrong.push(format!("{from} -> {to}: the table has no row for one of them"));
            continue;
        };
        if row == of {
            continue;
        }
        let (above, below) = (&rows[row].name, &rows[of].name);
        found.entry(above).or_default().insert(below);
        let names = names.iter().cloned().collect::<Vec<_>>().join(", ");
        if of > row {
            wrong.push(format!("{from} -> {to} points up: {names}"));
        } else if !rows[row].imports.contains(below) {
            wrong.push(format!("{from} -> {to} is not in the table: {names}"));
        }
        if rows[row].is_pure && !rows[of].is_pure {
            wrong.push(format!("{from} -> {to}: what touches nothing imports what does: {names}"));
        }
    }
    for row in &rows {
        for name in row.imports.iter().filter(|name| !found[row.name.as_str()].contains(name.as_str())) {
            wrong.push(format!("the table says that {} imports {name}, which it does not", row.name));
        }
    }
    wrong
}

/// The folders that touch nothing and do not have it denied in their `mod.rs`, or do without being listed.
pub fn purity(files: &BTreeMap<String, String>, document: &str) -> Vec<String> {
    let denied = "#![deny(clippy::disallowed_methods, clippy::disallowed_types)]";
    let mut wrong = Vec::new();
    for row in table(document) {
        let Some(text) = files.get(&format!("{}/mod.rs", row.name)) else { continue };
        if text.lines().any(|line| line == denied) != row.is_pure {
            let must = if row.is_pure { "must have" } else { "touches something, and has" };
            wrong.push(format!("{}/mod.rs {must} {denied}", row.name));
        }
    }
    wrong
}

/// The circles of files, but for those that are allowed, each by its files in their order; and those of them that are none.
pub fn circles(imports: &Imports, allowed: &[&[&str]]) -> Vec<String> {
    let mut uses: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to) in imports.keys() {
        uses.entry(from).or_default().push(to);
    }
    let reached: BTreeMap<&str, BTreeSet<&str>> = uses.keys().map(|from| (*from, reach(&uses, from))).collect();
    let reaches = |from: &str, to: &str| reached.get(from).is_some_and(|reached| reached.contains(to));
    let circles: BTreeSet<Vec<&str>> = (reached.iter())
        .filter(|(file, _)| reaches(file, file))
        .map(|(file, reached)| reached.iter().copied().filter(|other| reaches(other, file)).collect())
        .collect();
    let mut wrong = Vec::new();
    for circle in circles.iter().filter(|circle| !allowed.contains(&circle.as_slice())) {
        wrong.push(format!("a circle of {}", circle.join(", ")));
        for ((from, to), names) in imports {
            if circle.contains(&from.as_str()) && circle.contains(&to.as_str()) {
                wrong.push(format!("    {from} -> {to}: {}", names.iter().cloned().collect::<Vec<_>>().join(", ")));
            }
        }
    }
    let gone = allowed.iter().filter(|circle| !circles.contains(**circle));
    wrong
        .extend(gone.map(|circle| format!("this is no circle any more, so allow it no longer: {}", circle.join(", "))));
    wrong
}

fn reach<'a>(uses: &BTreeMap<&'a str, Vec<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut left = vec![from];
    while let Some(file) = left.pop() {
        for to in uses.get(file).into_iter().flatten() {
            if reached.insert(*to) {
                left.push(to);
            }
        }
    }
    reached
}
