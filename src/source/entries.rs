//! Which entries of a config repo are read, which are passed over, and which are wrong where they stand.

use git2::Oid;

use crate::model::{Finding, tree::MAX_FILE};

/// The files at the top of a config repo, and the folder of tenant files.
pub(super) const TOP: [&str; 2] = ["fleet.yaml", "tiers.yaml"];
pub(super) const TENANTS: &str = "tenants";

/// The folder of files that tenants' files name, and those of the schemas that such files and tenants' settings must
/// satisfy.
pub(super) const FILES: &str = "files";
pub(super) const SCHEMAS: [&str; 2] = ["schemas", "rules"];

/// The folders of which files are given on as they are. Those with the fewest come first, so that the others leave them room.
pub(super) const GIVEN: [&str; 3] = [SCHEMAS[0], SCHEMAS[1], FILES];

/// How many folders lie in one another there.
pub(super) const MAX_GIVEN_DEPTH: usize = 16;

/// What an entry of a tree is, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    File,
    Folder,
    Link,
    Other,
}

/// Whether an entry is read, passed over, or wrong where it stands.
pub(super) enum Verdict {
    Read,
    Pass,
    Wrong(Finding),
}

/// Judges an entry by its path alone.
///
/// A slip in a name must not be taken for a missing tenant, so that everything under `tenants/` that
/// is not a tenant file is an error, apart from what repositories keep beside.
pub(super) fn judge(path: &str, kind: EntryKind) -> Verdict {
    let wrong = |code, message: String, help: String| Verdict::Wrong(Finding::on_file(path, code, message, help));
    let link = || wrong("symlink", "symbolic links are not followed".to_owned(), "commit the file itself".to_owned());
    let Some(name) = path.strip_prefix("tenants/") else {
        return match (TOP.contains(&path) || path == TENANTS, kind) {
            (true, EntryKind::Link) => link(),
            (true, EntryKind::File) if path == TENANTS => {
                wrong("bad-entry", "tenants is a file".to_owned(), "make it a folder of tenant files".to_owned())
            }
            (true, EntryKind::File) => Verdict::Read,
            (true, EntryKind::Folder) if path == TENANTS => Verdict::Pass,
            (true, _) => wrong("bad-entry", format!("{path} is not a file"), "commit a plain file".to_owned()),
            (false, _) => match near_miss(path) {
                Some(meant) => wrong("bad-entry", format!("{path} is not read"), format!("name it {meant}")),
                None => Verdict::Pass,
            },
        };
    };
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.starts_with('.') || last == "README.md" {
        return Verdict::Pass;
    }
    match kind {
        EntryKind::Link => link(),
        EntryKind::File if name != last => {
            wrong("bad-entry", format!("{path} lies in a folder below tenants"), format!("move it to tenants/{last}"))
        }
        EntryKind::File if name.ends_with(".yaml") => Verdict::Read,
        EntryKind::File => {
            let stem = name.strip_suffix(".yml").or_else(|| name.strip_suffix(".json")).unwrap_or("NAME");
            wrong(
                "bad-entry",
                format!("{path} is not a tenant file"),
                format!("name it tenants/{stem}.yaml, or move it elsewhere"),
            )
        }
        EntryKind::Folder => {
            wrong("bad-entry", format!("{path} is a folder"), "put tenant files straight under tenants/".to_owned())
        }
        EntryKind::Other => wrong(
            "bad-entry",
            format!("{path} is neither a file nor a folder"),
            "remove it; submodules and devices are not read".to_owned(),
        ),
    }
}

/// An entry at the top that has a say in what holds for all tenants: one that is read, or that is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PolicyEntry {
    name: String,
    kind: EntryKind,
    /// What is in it, where that is read.
    id: Option<Oid>,
}

impl PolicyEntry {
    /// `None` where it has no say.
    pub(super) fn of(name: &str, kind: EntryKind, id: Oid) -> Option<Self> {
        let id = match judge(name, kind) {
            Verdict::Read => Some(id),
            Verdict::Wrong(_) => None,
            Verdict::Pass => return None,
        };
        Some(Self { name: name.to_owned(), kind, id })
    }
}

/// How many folders below `tenants/` are looked into.
const MAX_DEPTH: usize = 8;

/// Whether a wrong entry is looked into as well. What lies in a folder below `tenants/` is not read,
/// and each file is named: the tenant that it was meant for must not be taken for one that is gone.
pub(super) fn is_looked_into(path: &str, kind: EntryKind) -> bool {
    kind == EntryKind::Folder && path.starts_with("tenants/") && path.matches('/').count() <= MAX_DEPTH
}

/// The name that a file at the top was probably meant to have.
fn near_miss(path: &str) -> Option<&'static str> {
    match path {
        "fleet.yml" | "Fleet.yaml" | "fleets.yaml" => Some("fleet.yaml"),
        "tiers.yml" | "Tiers.yaml" | "tier.yaml" => Some("tiers.yaml"),
        "tenant" | "Tenants" => Some(TENANTS),
        _ => None,
    }
}

pub(super) fn too_large(path: &str, size: u64) -> Finding {
    Finding::on_file(
        path,
        "file-too-large",
        format!("the file is {size} bytes long"),
        format!("keep it under {MAX_FILE} bytes"),
    )
}
