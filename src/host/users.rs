//! Names of users and groups, as the host's own files have them.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// The most that is read of a file, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// The name of a user, or `uid 1000` where /etc/passwd has none.
pub fn user_name(uid: u32) -> String {
    let name = read(Path::new("/etc/passwd")).ok().and_then(|text| name_of(&text, uid).map(str::to_owned));
    name.unwrap_or_else(|| format!("uid {uid}"))
}

/// Who runs this process: the user, and behind `sudo` who called it.
pub fn current() -> String {
    let user = user_name(rustix::process::getuid().as_raw());
    match std::env::var("SUDO_USER") {
        Ok(caller) if !caller.is_empty() && caller != user => format!("{user} for {caller}"),
        _ => user,
    }
}

/// The id of a group, if /etc/group has it.
///
/// # Errors
/// The file cannot be read.
pub fn group_id(name: &str) -> io::Result<Option<u32>> {
    Ok(id_of(&read(Path::new("/etc/group"))?, name))
}

/// The ids of a user and of its primary group, if /etc/passwd has it.
///
/// # Errors
/// The file cannot be read.
pub fn user_ids(name: &str) -> io::Result<Option<(u32, u32)>> {
    Ok(ids_of(&read(Path::new("/etc/passwd"))?, name))
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// Both files have lines of `name:password:id:…`.
fn entries(text: &str) -> impl Iterator<Item = (&str, u32)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        Some((name, id.parse().ok()?)).filter(|(name, _)| !name.is_empty())
    })
}

/// User and group of `name:password:user:group:…`.
fn ids_of(text: &str, name: &str) -> Option<(u32, u32)> {
    let line = text.lines().find(|line| !name.is_empty() && line.split(':').next() == Some(name))?;
    let mut ids = line.split(':').skip(2).map(str::parse);
    Some((ids.next()?.ok()?, ids.next()?.ok()?))
}

fn name_of(text: &str, id: u32) -> Option<&str> {
    entries(text).find(|entry| entry.1 == id).map(|(name, _)| name)
}

fn id_of(text: &str, name: &str) -> Option<u32> {
    entries(text).find(|entry| entry.0 == name).map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_are_found_in_well_formed_lines_alone() {
        let text = "root:x:0:0:root:/root:/bin/bash\n# a note\n:x:7:\nant:x:1000:1000::/:\nbee:x:many:\n";
        assert_eq!((name_of(text, 0), name_of(text, 1000), name_of(text, 7)), (Some("root"), Some("ant"), None));
        assert_eq!((ids_of(text, "bee"), ids_of(text, "")), (None, None));
        assert_eq!(ids_of("ant:x:1000:1001::/:\n", "ant"), Some((1000, 1001)));
        assert_eq!((id_of(text, "ant"), id_of(text, "bee"), id_of(text, "")), (Some(1000), None, None));
    }

    #[test]
    fn a_user_without_a_name_is_shown_by_its_number() {
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(4_000_000_000), "uid 4000000000");
    }
}
