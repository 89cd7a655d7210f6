//! What the kernel's files tell about others.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::say;

/// How much of a file is read. Some have no end.
const MOST: u64 = 4 << 20;

/// Prints what can be read below a folder, and where words are seen: in a path, in a link's target, in a file.
pub(crate) fn walk(folder: &str, words: &[&str]) -> io::Result<()> {
    let words: Vec<String> = words.iter().map(|word| word.chars().rev().collect()).collect();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        entries.sort();
        for path in entries {
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            let content = if found.is_symlink() {
                fs::read_link(&path).map(|target| target.into_os_string().into_vec()).ok()
            } else if found.is_dir() {
                folders.push(path.clone());
                None
            } else if found.is_file() {
                content(&path)
            } else {
                None
            };
            show(&path, content.as_deref(), &words)?;
        }
    }
    Ok(())
}

/// What is in a file, or the beginning of it. Nothing where it cannot be opened or is empty.
fn content(path: &Path) -> Option<Vec<u8>> {
    // Some files wait for news, and some are as large as the address space.
    const O_NONBLOCK: i32 = 0o4000;
    const ENDLESS: [&str; 3] = ["mem", "pagemap", "clear_refs"];
    if path.file_name().is_some_and(|name| ENDLESS.iter().any(|endless| name == *endless)) {
        return None;
    }
    let file: File = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path).ok()?;
    let mut bytes = Vec::new();
    // What was read before an error counts as well.
    let _ = file.take(MOST).read_to_end(&mut bytes);
    (!bytes.is_empty()).then_some(bytes)
}

fn show(path: &Path, content: Option<&[u8]>, words: &[String]) -> io::Result<()> {
    if content.is_some() {
        say(&format!("read {}", path.display()))?;
    }
    for word in words {
        let holds = |bytes: &[u8]| bytes.windows(word.len().max(1)).any(|window| window == word.as_bytes());
        if holds(path.as_os_str().as_bytes()) || content.is_some_and(holds) {
            say(&format!("shows {word} {}", path.display()))?;
        }
    }
    Ok(())
}
