//! Files that nobody meant to be valid: whatever the bytes, no panic and an answer.

use std::{fs, path::Path, sync::LazyLock};

use proptest::{collection::vec, prelude::*, sample::Index};
use tenantd::{
    model::{
        Severity,
        tree::{Carried, SourceFile, Tree},
    },
    source::read_directory,
    spec,
};

/// The example's files and those of every sample.
static CORPUS: LazyLock<Vec<SourceFile>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut repos = vec![root.join("example-repo")];
    for kind in ["valid", "invalid"] {
        repos.extend(fs::read_dir(root.join("tests/samples").join(kind)).unwrap().map(|e| e.unwrap().path()));
    }
    repos.sort();
    repos.iter().flat_map(|repo| read_directory(repo).unwrap().files).collect()
});

#[derive(Clone, Debug)]
enum Edit {
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Replace(Index, u8),
    /// A piece of the file once more, elsewhere.
    Copy(Index, usize, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let snippet = prop_oneof![
        vec(any::<u8>(), 1..8),
        prop::sample::select(vec![
            ": ",
            "- ",
            "\n",
            "\t",
            "#",
            "&a ",
            "*a",
            "!!int ",
            "<<: ",
            "{",
            "}",
            "[",
            "]",
            "|",
            ">",
            "'",
            "\"",
            "? ",
            "---\n",
            "...\n",
            "~",
            "%YAML 1.2\n",
            "\u{feff}",
            "\u{2028}",
            "\\x00",
            "0x7f",
            "1e999",
            "-0",
            ".nan",
            "\u{0}",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop_oneof![
        (any::<Index>(), snippet).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (any::<Index>(), 1usize..40).prop_map(|(at, count)| Edit::Remove(at, count)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        (any::<Index>(), 1usize..80, any::<Index>()).prop_map(|(at, count, to)| Edit::Copy(at, count, to)),
    ]
}

fn apply(edits: &[Edit], bytes: &mut Vec<u8>) {
    for edit in edits {
        let place = |index: &Index| index.index(bytes.len() + 1);
        match edit {
            Edit::Insert(at, new) => {
                let at = place(at);
                bytes.splice(at..at, new.iter().copied());
            }
            Edit::Remove(at, count) => {
                let at = place(at);
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Edit::Replace(at, byte) => {
                let at = place(at);
                bytes.get_mut(at).into_iter().for_each(|old| *old = *byte);
            }
            Edit::Copy(at, count, to) => {
                let (at, to) = (place(at), place(to));
                let piece = bytes[at..(at + count).min(bytes.len())].to_vec();
                bytes.splice(to..to, piece);
            }
        }
    }
}

/// Compiles files in all three places at once, and checks what must hold of any answer.
fn compile(bytes: &[u8]) {
    let file = |path: &str, bytes: &[u8]| SourceFile { path: path.to_owned(), bytes: bytes.to_vec() };
    let fleet = b"apiVersion: tenantd/v1\nkind: Fleet\ndefaults: {tier: free, image: \"a/b:1\"}\n";
    let good = b"apiVersion: tenantd/v1\nkind: Tenant\ntenant: good\n";
    let tree = |files: Vec<SourceFile>| Tree { files, ..Tree::default() };

    let desired = spec::compile(&tree(vec![
        file("fleet.yaml", fleet),
        file("tenants/any.yaml", bytes),
        file("tenants/good.yaml", good),
    ]));
    let wrong = desired.findings.iter().any(|f| f.severity == Severity::Error && f.file == "tenants/any.yaml");
    let meddles = desired.findings.iter().any(|f| f.file == "tenants/good.yaml");
    assert_eq!(wrong, desired.held.contains("any"));
    assert!(wrong || desired.tenants.contains_key("any"), "neither wrong nor there");
    assert!(meddles || desired.tenants.contains_key("good"), "a neighbour is lost");
    for finding in &desired.findings {
        let lines = bytes.split(|byte| *byte == b'\n').count() + bytes.iter().filter(|byte| **byte == b'\r').count();
        assert!(finding.line >= 1 && finding.column >= 1 && finding.line as usize <= lines + 1, "{finding:?}");
        assert!(!finding.to_string().chars().any(|c| c.is_control() && c != '\n'), "{finding:?}");
    }
    for name in ["fleet.yaml", "tiers.yaml"] {
        let desired = spec::compile(&tree(vec![file(name, bytes), file("tenants/good.yaml", good)]));
        assert!(desired.policy_usable || desired.tenants.is_empty());
    }
    let _ = spec::host("host.yaml", bytes);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..400)) {
        compile(&bytes);
    }

    #[test]
    fn any_text_is_answered(text in "(\\PC|[ \n:{}\\[\\]&*!|>'\"%@`#,?-]){0,200}") {
        compile(text.as_bytes());
    }

    #[test]
    fn files_that_were_edited_at_random_are_answered(which in any::<Index>(), edits in vec(edit(), 1..6)) {
        let mut bytes = which.get(&CORPUS).bytes.clone();
        apply(&edits, &mut bytes);
        compile(&bytes);
    }
}

/// A repo with these lines in `fleet.yaml`, and one text under many names.
fn repo(fleet: &str, text: &str, names: usize) -> Tree {
    let fleet = format!("apiVersion: tenantd/v1\nkind: Fleet\ndefaults: {{tier: free, image: agent:1{fleet}}}\n");
    let mut files = vec![SourceFile { path: "fleet.yaml".to_owned(), bytes: fleet.into() }];
    files.extend((0..names).map(|n| SourceFile { path: format!("tenants/t{n:05}.yaml"), bytes: text.into() }));
    Tree { files, ..Tree::default() }
}

const TENANT: &str = "apiVersion: tenantd/v1\nkind: Tenant\ntenant: ant\n";

#[test]
fn what_is_reported_of_many_wrong_files_is_bounded_and_all_of_them_are_wrong() {
    let keys: String = (0..1_000).map(|n| format!("key{n}: 1\n")).collect();
    let quoted = format!("{TENANT}tier: {}\n", "x".repeat(30_000));
    for (text, names) in [(format!("{TENANT}{keys}"), 200), (TENANT.to_owned(), 20_000), (quoted, 200)] {
        let desired = spec::compile(&repo("", &text, names));
        assert!(desired.policy_usable);
        let printed: usize = desired.findings.iter().map(|one| one.to_string().len()).sum();
        assert!(
            desired.findings.len() <= 10_300 + 3 * names && printed < 16 << 20,
            "{} {printed}",
            desired.findings.len()
        );
        let held: Vec<&str> = desired.held.iter().map(String::as_str).filter(|name| name.starts_with('t')).collect();
        assert_eq!((held.len(), desired.tenants.len()), (names, 0));
    }
}

#[test]
fn what_the_defaults_give_to_all_counts_for_each() {
    let value = "x".repeat(200_000);
    let fleet = format!(", environment: {{A: {value}}}");
    for (names, is_too_much) in [(200, false), (400, true), (10_000, true)] {
        let desired = spec::compile(&repo(&fleet, TENANT, names));
        assert_eq!(desired.policy_usable, !is_too_much, "{names}");
        let printed = desired.findings.iter().any(|one| one.code == "too-large" && one.message.contains("64 MiB"));
        assert_eq!(printed, is_too_much, "{names}");
        if is_too_much {
            assert!(desired.tenants.is_empty());
        }
    }
}

#[test]
fn a_file_that_many_name_is_looked_through_once() {
    // Else this looks through 20 GB.
    let bytes: std::sync::Arc<[u8]> = b"word ".repeat(50_000).into();
    let carried = (0..64).map(|n| (format!("files/shared/{n}"), Carried::File(bytes.clone()))).collect();
    let entries: Vec<String> = (0..4).map(|n| format!("{{path: {n}, from: files/shared/{n}}}")).collect();
    let text = format!("{TENANT}files: [{}]\n", entries.join(", "));
    let tree = Tree { carried: std::sync::Arc::new(carried), ..repo("", &text, 20_000) };
    assert_eq!(spec::compile(&tree).held.len(), 20_001);
}

/// Every kind of too much of a folder says so and declares nothing.
#[test]
fn a_folder_that_is_too_large_says_so() {
    let root = tempfile::tempdir().unwrap();
    let wide = root.path().join("tenants/.none");
    fs::create_dir_all(&wide).unwrap();
    fs::write(root.path().join("fleet.yaml"), "apiVersion: tenantd/v1\nkind: Fleet\n").unwrap();
    let text = format!("{TENANT}#{}\n", "x".repeat(250_000));
    for n in 0..140 {
        fs::write(root.path().join(format!("tenants/t{n}.yaml")), &text).unwrap();
    }
    let tree = read_directory(root.path()).unwrap();
    assert!(tree.files.is_empty());
    let desired = spec::compile(&tree);
    assert!(!desired.policy_usable);
    let printed: Vec<String> = desired.findings.iter().map(ToString::to_string).collect();
    let [one] = printed.as_slice() else { panic!("{printed:?}") };
    assert!(one.starts_with(".:1:1: error[too-large]: fleet.yaml, tiers.yaml and the files under tenants/"), "{one}");
    assert!(one.contains("more than 32 MiB"), "{one}");
}
