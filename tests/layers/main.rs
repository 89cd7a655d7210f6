//! The layers of `src/` hold: no import points up, no files import each other in a circle, and the table in
//! `docs/architecture.md` says who imports whom.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod imports;
mod rules;
mod words;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use imports::{CRATES, imports};
use rules::{circles, layers, purity};

/// Circles that are still there, each by its files in their order.
const ALLOWED: &[&[&str]] = &[];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn sources(folder: &Path, below: &str, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            sources(&entry.path(), &format!("{name}/"), files);
        } else if name.ends_with(".rs") {
            files.insert(name, fs::read_to_string(entry.path()).unwrap());
        }
    }
}

/// The files of all crates as those of one, in which a crate is what it is in the table: what `core` holds stands at the top.
fn as_one(files: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (path, text) in files {
        let path = path.strip_prefix("core/").unwrap_or(path);
        let path = path.strip_suffix("/lib.rs").map_or_else(|| path.to_owned(), |folder| format!("{folder}/mod.rs"));
        all.entry(path).or_insert_with(String::new).push_str(text);
    }
    let crates = CRATES.iter().filter_map(|(_, place)| place.first());
    let declared: String = crates.map(|folder| format!("mod {folder};\n")).collect();
    all.entry("lib.rs".to_owned()).or_default().push_str(&declared);
    all
}

#[test]
fn the_layers_hold() {
    let mut files = BTreeMap::new();
    sources(&root().join("src"), "", &mut files);
    let files = as_one(&files);
    let document = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let imports = imports(&files).unwrap();
    // Whatever the reader did not see would hold as well.
    assert!(imports.len() > 1_000, "{} imports were read", imports.len());
    let wrong = [layers(&imports, &document), purity(&files, &document), circles(&imports, ALLOWED)].concat();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A crate of these files, with the modules of each folder declared in its `lib.rs`.
fn house(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> =
        files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    let tops = all.keys().filter(|path| !path.contains('/') || path.ends_with("/mod.rs"));
    let tops = tops.map(|path| path.trim_end_matches("/mod.rs").trim_end_matches(".rs"));
    let lib = tops.map(|top| format!("mod {top};\n")).collect();
    all.insert("lib.rs".to_owned(), lib);
    all
}

/// What is wrong with a table of `low` (which touches nothing), `middle` and `high`.
fn wrong_with(files: &[(&str, &str)], rows: &[&str]) -> Vec<String> {
    let head = "| folder under `src/` | for | touches | imports |\n| --- | --- | --- | --- |\n";
    let document = format!("# Words\n\n{head}{}\n\nMore words.\n", rows.join("\n"));
    layers(&imports(&house(files)).unwrap(), &document)
}

const LOW: &str = "| `low/` | it | nothing | nothing |";
const HIGH: &str = "| `high.rs` | it | files | `low` |";

#[test]
fn what_the_table_says_holds() {
    let files = [("low/mod.rs", "pub struct Low;"), ("high.rs", "use crate::low::Low;")];
    assert!(wrong_with(&files, &[LOW, HIGH]).is_empty());
}

#[test]
fn an_import_up_is_found() {
    let files = [("low/mod.rs", "use crate::high::High;"), ("high.rs", "pub struct High;")];
    let high = "| `high.rs` | it | nothing | nothing |";
    assert_eq!(wrong_with(&files, &[LOW, high]), ["low/mod.rs -> high.rs points up: High"]);
    let low = "| `low/` | it | nothing | `high` |";
    assert_eq!(wrong_with(&files, &[low, high]), ["low/mod.rs -> high.rs points up: High"], "a table allows none");
}

#[test]
fn an_import_that_the_table_does_not_have_is_found() {
    let files = [("low/mod.rs", "pub fn low() {}"), ("high.rs", "fn high() { crate::low::low() }")];
    let high = "| `high.rs` | it | files | nothing |";
    assert_eq!(wrong_with(&files, &[LOW, high]), ["high.rs -> low/mod.rs is not in the table: low"]);
}

#[test]
fn a_row_that_says_too_much_is_found() {
    let files = [("low/mod.rs", "pub struct Low;"), ("high.rs", "//! See [`crate::low::Low`].")];
    assert_eq!(wrong_with(&files, &[LOW, HIGH]), ["the table says that high imports low, which it does not"]);
}

#[test]
fn a_row_within_a_row_counts_for_its_own_files() {
    let files = [("low/mod.rs", "mod a; mod b;"), ("low/a.rs", "pub struct A;"), ("low/b.rs", "use super::a::A;")];
    let (a, b) = ("| `low/a.rs` | it | nothing | nothing |", "| `low/b.rs` | it | nothing | `low/a` |");
    assert!(wrong_with(&files, &[a, b]).is_empty());
    assert_eq!(wrong_with(&files, &[b, a]), ["low/b.rs -> low/a.rs points up: A"]);
    let rest = "| `low/` | it | nothing | nothing |";
    assert_eq!(wrong_with(&files, &[a, rest]), ["low/b.rs -> low/a.rs is not in the table: A"]);
}

#[test]
fn a_missing_row_is_found() {
    let files = [("low/mod.rs", "pub struct Low;"), ("high.rs", "use crate::low::Low;")];
    assert_eq!(wrong_with(&files, &[LOW]), ["high.rs -> low/mod.rs: the table has no row for one of them"]);
}

#[test]
fn what_touches_nothing_imports_nothing_that_does() {
    let files = [("low/mod.rs", "pub struct Low;"), ("high.rs", "use crate::low::Low;")];
    let (low, high) = ("| `low/` | it | files | nothing |", "| `high.rs` | it | nothing | `low` |");
    let wrong = "high.rs -> low/mod.rs: what touches nothing imports what does: Low";
    assert_eq!(wrong_with(&files, &[low, high]), [wrong]);
}

#[test]
fn a_pure_folder_that_is_not_checked_is_found() {
    let head = "| folder under `src/` | for | touches | imports |\n| --- | --- | --- | --- |\n";
    let of = |text: &str, row: &str| purity(&house(&[("low/mod.rs", text)]), &format!("{head}{row}\n"));
    let denied = "#![deny(clippy::disallowed_methods, clippy::disallowed_types)]";
    assert!(of(&format!("//! Low.\n{denied}\n"), LOW).is_empty());
    assert_eq!(of("", LOW), [format!("low/mod.rs must have {denied}")]);
    let high = "| `low/` | it | files | nothing |";
    assert_eq!(of(denied, high), [format!("low/mod.rs touches something, and has {denied}")]);
}

fn circles_of(files: &[(&str, &str)], allowed: &[&[&str]]) -> Vec<String> {
    circles(&imports(&house(files)).unwrap(), allowed)
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    let printed = ["a circle of a.rs, b.rs", "    a.rs -> b.rs: B", "    b.rs -> a.rs: A"];
    for b in [
        "use crate::a::A; pub struct B;",
        "use crate::{a::{A}, other}; pub struct B;",
        "use super::a; pub struct B(a::A);",
        "use super::a as other; pub struct B(other::A);",
        "pub struct B(crate::a::A);",
        "pub struct B; impl Trait for super::a::A {}",
        "pub use super::a::A; pub struct B(A);",
    ] {
        assert_eq!(circles_of(&[("a.rs", "use crate::b::B; pub struct A;"), ("b.rs", b)], &[]), printed, "{b}");
    }
}

#[test]
fn what_is_no_import_makes_no_circle() {
    for b in [
        "//! [`crate::a::A`]\npub struct B;",
        "/* use crate::a::A; /* nested */ */ pub struct B;",
        "pub struct B; const TEXT: &str = \"use crate::a::A\";",
        "pub struct B; const TEXT: &str = r#\"\"crate::a::A\"#;",
        "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }",
        "pub struct B; #[cfg(test)] mod tests;",
        "pub struct B; fn lives<'a>(_: &'a str) -> char { '\"' }",
    ] {
        assert!(circles_of(&[("a.rs", "use crate::b::B; pub struct A;"), ("b.rs", b)], &[]).is_empty(), "{b}");
    }
}

#[test]
fn an_import_leads_to_where_the_item_stands() {
    let face = ("face/mod.rs", "mod child; pub use child::Child;");
    let child = ("face/child.rs", "use crate::user::User; pub struct Child;");
    let user = ("user.rs", "use crate::face::Child; pub struct User;");
    let printed = circles_of(&[face, child, user], &[]);
    assert_eq!(printed[0], "a circle of face/child.rs, user.rs", "the face only hands it on");
    let (same, of_same) = ("mod child; pub use child::child;", "use crate::user::User; pub fn child() {}");
    let caller = ("user.rs", "use crate::face; pub struct User; fn call() { face::child() }");
    let printed = circles_of(&[("face/mod.rs", same), ("face/child.rs", of_same), caller], &[]);
    assert_eq!(printed[0], "a circle of face/child.rs, user.rs", "it is called as its module is");
    let face = ("face/mod.rs", "mod child; pub use child::Child; pub struct Face(Child);");
    let child = ("face/child.rs", "use super::Face; pub struct Child;");
    assert_eq!(circles_of(&[face, child], &[])[0], "a circle of face/child.rs, face/mod.rs", "it uses it as well");
}

#[test]
fn a_circle_that_is_allowed_must_be_one() {
    let (a, b) = (("a.rs", "use crate::b::B; pub struct A;"), ("b.rs", "use crate::a::A; pub struct B;"));
    assert!(circles_of(&[a, b], &[&["a.rs", "b.rs"]]).is_empty());
    let gone = ["this is no circle any more, so allow it no longer: a.rs, b.rs"];
    assert_eq!(circles_of(&[a, ("b.rs", "pub struct B;")], &[&["a.rs", "b.rs"]]), gone);
}
