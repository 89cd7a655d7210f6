//! Config repos in temporary folders.

use std::{fs, path::Path};

use git2::{IndexAddOption, Oid, Repository, Signature, Time};

/// Writes files into a folder, which are there alone under their paths.
pub fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// Copies a folder of plain files.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Commits everything as it lies in a folder, which becomes a repository with the branch `main`.
pub fn commit(root: &Path) -> Oid {
    let repository = Repository::open(root).unwrap_or_else(|_| {
        Repository::init_opts(root, git2::RepositoryInitOptions::new().initial_head("main")).unwrap()
    });
    let mut index = repository.index().unwrap();
    index.clear().unwrap();
    index.add_all(["*"], IndexAddOption::FORCE, None).unwrap();
    index.write().unwrap();
    let tree = repository.find_tree(index.write_tree().unwrap()).unwrap();
    let who = Signature::new("test", "test@example.com", &Time::new(1_700_000_000, 0)).unwrap();
    let parent = repository.head().ok().map(|head| head.peel_to_commit().unwrap());
    let parents: Vec<&git2::Commit<'_>> = parent.iter().collect();
    repository.commit(Some("HEAD"), &who, &who, "files", &tree, &parents).unwrap()
}
