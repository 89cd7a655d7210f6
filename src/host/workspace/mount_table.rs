//! Where mounts are made, and what of them the engine sees.
//!
//! A mount is of use only where the engine sees it. A service has a mount namespace of its own as soon as its unit
//! protects anything: mounts of the host arrive there, and none leaves it. So the work on mounts is done where they
//! reach the engine: in the namespace of this process, or by a thread of its own in that of process 1, or in the
//! engine's own. Once some were made in the engine's own, because neither other could be used, everybody goes on there:
//! a command on the host may see another choice than the service.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Seek},
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::process::{chroot, fchdir};

use super::WorkspaceError;

/// How often both tables are read before something counts as missing in one of them.
const ATTEMPTS: usize = 4;

/// The mount namespace that is worked in.
#[derive(Debug)]
pub(super) struct MountTable {
    /// The process in /proc whose namespace is entered; `None` for the one that this process is in.
    enter: Option<PathBuf>,
    /// The mounts there, as that namespace's `mountinfo`. It is opened from here: /proc may be another one there.
    own: File,
    /// What the engine sees, where that is another namespace.
    engines: Option<File>,
    /// The engine's table as it was when the namespace was chosen, for the first who asks.
    first: Mutex<Option<Vec<u8>>>,
}

impl MountTable {
    /// Where mounts below a folder reach an engine, whose process is known or not.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub(super) fn of(engine: Option<i32>, folder: &Path) -> Result<Self, WorkspaceError> {
        let file = |process: &str, name: &str| PathBuf::from(format!("/proc/{process}/{name}"));
        let open = |path: &Path| File::open(path).map_err(WorkspaceError::io("read", path));
        let here = || {
            let own = open(Path::new("/proc/self/mountinfo"))?;
            Ok(Self { enter: None, own, engines: None, first: Mutex::default() })
        };
        let Some(engine) = engine else { return here() };
        let engine = engine.to_string();
        let namespace = |process: &str| fs::read_link(file(process, "ns/mnt")).ok();
        let (Some(engines), Ok(table)) = (namespace(&engine), File::open(file(&engine, "mountinfo"))) else {
            return here();
        };
        let mut first = None;
        for process in ["self", "1"] {
            let (Some(namespace), Ok(own)) = (namespace(process), File::open(file(process, "mountinfo"))) else {
                continue;
            };
            let is_it = namespace == engines || {
                let (reached, seen) = reaches(&own, &table, folder).unwrap_or_default();
                first = seen;
                reached
            };
            if is_it {
                let enter = (process != "self").then(|| Path::new("/proc").join(process));
                let engines = (namespace != engines).then_some(table);
                return Ok(Self { enter, own, engines, first: Mutex::new(first) });
            }
        }
        let enter = Some(Path::new("/proc").join(&engine));
        Ok(Self { enter, own: table, engines: None, first: Mutex::new(first) })
    }

    /// Does something in that namespace, on a thread of its own if need be. The caller stays where it is.
    pub(super) fn within<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, WorkspaceError> + Send,
    ) -> Result<T, WorkspaceError> {
        let Some(process) = &self.enter else { return work() };
        let failed = |source| WorkspaceError::io("enter the mount namespace of", process)(source);
        let inside = || {
            enter(process).map_err(failed)?;
            work()
        };
        thread::scope(|scope| match thread::Builder::new().name("mounts".to_owned()).spawn_scoped(scope, inside) {
            Ok(thread) => thread.join().unwrap_or_else(|_| Err(failed(io::Error::other("the thread ended early")))),
            Err(source) => Err(failed(source)),
        })
    }

    /// The mounts that the engine sees right below a folder, the uppermost at each place.
    pub(super) fn seen(&self, folder: &Path) -> Result<BTreeMap<String, MountEntry>, WorkspaceError> {
        let first = self.first.lock().ok().and_then(|mut first| first.take());
        first.map_or_else(
            || entries(self.engines.as_ref().unwrap_or(&self.own), folder),
            |table| Ok(below(&table, folder)),
        )
    }

    /// Whether anything is mounted anywhere below a folder, here or where the engine sees it.
    pub(super) fn has_mounts_below(&self, folder: &Path) -> Result<bool, WorkspaceError> {
        let failed = |source| WorkspaceError::io("read the table of mounts for", folder)(source);
        for table in [Some(&self.own), self.engines.as_ref()].into_iter().flatten() {
            let table = read(table).map_err(failed)?;
            if table.split(|byte| *byte == b'\n').filter_map(place).any(|place| place.starts_with(folder)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The table of what the engine sees, to be read again and again.
    pub(super) fn into_seen(self) -> File {
        self.engines.unwrap_or(self.own)
    }

    /// The uppermost mount at one place that the engine sees.
    pub(super) fn seen_at(&self, place: &Path) -> Result<Option<MountEntry>, WorkspaceError> {
        uppermost(self.engines.as_ref().unwrap_or(&self.own), place)
    }

    /// The same of the namespace that is worked in.
    pub(super) fn made_at(&self, place: &Path) -> Result<Option<MountEntry>, WorkspaceError> {
        uppermost(&self.own, place)
    }
}

/// The mounts right below a folder by a table as it is now.
pub(super) fn entries(table: &File, folder: &Path) -> Result<BTreeMap<String, MountEntry>, WorkspaceError> {
    let table = read(table).map_err(WorkspaceError::io("read the table of mounts for", folder))?;
    Ok(below(&table, folder))
}

/// The mounts right below a folder by one table, the uppermost at each place.
fn below(table: &[u8], folder: &Path) -> BTreeMap<String, MountEntry> {
    let below = |line| {
        let place = place(line)?;
        let name = place.strip_prefix(folder).ok()?.to_str().filter(|name| !name.is_empty() && !name.contains('/'))?;
        Some((name.to_owned(), entry(line)?))
    };
    table.split(|byte| *byte == b'\n').filter_map(below).collect()
}

fn uppermost(table: &File, wanted: &Path) -> Result<Option<MountEntry>, WorkspaceError> {
    let table = read(table).map_err(WorkspaceError::io("read the table of mounts for", wanted))?;
    let last = table.split(|byte| *byte == b'\n').rfind(|line| place(line).is_some_and(|place| place == wanted));
    Ok(last.and_then(entry))
}

/// Reads a table anew from its beginning.
fn read(mut table: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    table.rewind()?;
    table.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether mounts below a folder reach the engine from a namespace, and all that the engine has there came from it. Beside
/// it, what the engine has.
///
/// Between the reads of both tables others mount and unmount, so no single pair of them says that something is missing.
fn reaches(own: &File, engines: &File, folder: &Path) -> io::Result<(bool, Option<Vec<u8>>)> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let (seen, made) = (read(engines)?, read(own)?);
        let (arrives, is_whole) = (propagates(&made, &seen, folder), has_all(&made, &seen, folder));
        last = Some(seen);
        if !arrives || is_whole {
            return Ok((arrives, last));
        }
    }
    Ok((false, last))
}

/// Whether what is mounted below a folder by one table's namespace arrives in another's.
fn propagates(made: &[u8], seen: &[u8], folder: &Path) -> bool {
    let groups = |table, kinds: &[&str]| -> Vec<String> {
        let marks = covering(table, folder).unwrap_or_default();
        marks
            .iter()
            .filter_map(|mark| kinds.iter().find_map(|kind| mark.strip_prefix(kind)))
            .map(str::to_owned)
            .collect()
    };
    let (from, to) = (groups(made, &["shared:"]), groups(seen, &["shared:", "master:", "propagate_from:"]));
    from.iter().any(|group| to.contains(group))
}

/// Whether what another table has mounted right below a folder is all in this one.
fn has_all(made: &[u8], seen: &[u8], folder: &Path) -> bool {
    let made = below(made, folder);
    below(seen, folder).keys().all(|name| made.contains_key(name))
}

/// How the mount that a folder lies in propagates: the marks that stand before the dash.
fn covering(table: &[u8], folder: &Path) -> Option<Vec<String>> {
    let lines = table.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let place = Some(unescape(fields.nth(4)?)).filter(|place| folder.starts_with(place))?;
        let marks = fields.skip(1).take_while(|field| *field != b"-");
        let marks = marks.map(|mark| String::from_utf8_lossy(mark).into_owned()).collect();
        Some((place.components().count(), marks))
    });
    // Of two at one place the later lies over the other.
    lines.max_by_key(|(depth, _)| *depth).map(|(_, marks)| marks)
}

/// Moves the calling thread, and it alone, into a process's mount namespace, and to that process's root: in a chroot
/// the namespace's own is another.
fn enter(process: &Path) -> io::Result<()> {
    let namespace = File::open(process.join("ns/mnt"))?;
    let root = File::open(process.join("root"))?;
    unshare(CloneFlags::CLONE_FS)?;
    setns(namespace, CloneFlags::CLONE_NEWNS)?;
    fchdir(&root)?;
    chroot(".")?;
    Ok(())
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MountEntry {
    /// Major and minor number of its device.
    pub(super) device: (u32, u32),
    /// Options of this mount.
    pub(super) options: Vec<String>,
    /// The file system's kind.
    pub(super) kind: String,
    /// Where the file system comes from.
    pub(super) source: String,
    /// Options of the file system as a whole.
    pub(super) super_options: Vec<String>,
}

impl MountEntry {
    pub(super) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|own| own == option)
    }

    /// Whether setuid programs and devices count for nothing, and it can be written to.
    pub(super) fn is_confined(&self) -> bool {
        self.has("nosuid") && self.has("nodev") && !self.has("ro")
    }

    pub(super) fn is(&self, option: &str) -> bool {
        self.super_options.iter().any(|own| own == option)
    }
}

/// Where a line of `mountinfo` is mounted.
fn place(line: &[u8]) -> Option<PathBuf> {
    line.split(|byte| *byte == b' ').nth(4).map(unescape)
}

/// What a line of `mountinfo` says of its mount.
fn entry(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = fields.nth(2)?;
    let options = fields.nth(2)?;
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    let (kind, source, super_options) = (rest.next()?, rest.next()?, rest.next()?);
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let list = |field: &[u8]| text(field).split(',').map(str::to_owned).collect();
    let device = text(device);
    let (major, minor) = device.split_once(':')?;
    Some(MountEntry {
        device: (major.parse().ok()?, minor.parse().ok()?),
        options: list(options),
        kind: text(kind),
        source: unescape(source).to_string_lossy().into_owned(),
        super_options: list(super_options),
    })
}

/// Spaces and the like stand in the table as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_where_and_what_is_mounted() {
        let line = b"160 27 7:12 / /data\\040root/mounts/acme rw,nosuid,nodev shared:9 - ext4 /dev/loop12 rw,discard";
        assert_eq!(place(line), Some(PathBuf::from("/data root/mounts/acme")));
        let entry = entry(line).unwrap();
        assert_eq!((entry.device, entry.kind.as_str(), entry.source.as_str()), ((7, 12), "ext4", "/dev/loop12"));
        assert!(entry.has("nosuid") && !entry.has("noexec") && entry.is("discard") && !entry.is("ro"));
        assert!(place(b"").is_none() && super::entry(b"").is_none());
    }

    #[test]
    fn a_mount_reaches_its_peers_and_slaves_and_nobody_else() {
        let host = b"27 1 8:1 / / rw shared:1 - ext4 /dev/sda rw\n40 27 8:1 /d /data rw shared:7 - ext4 /dev/sda rw";
        let of = |marks: &str| format!("9 1 8:1 / / rw {marks}- ext4 /dev/sda rw").into_bytes();
        let folder = Path::new("/data/mounts");
        for (marks, reached) in [("shared:7 ", true), ("master:7 ", true), ("shared:1 ", false), ("", false)] {
            assert_eq!(propagates(host, &of(marks), folder), reached, "{marks}");
        }
        assert!(!propagates(&of("master:7 "), host, folder), "a slave's own mounts stay its own");
        assert!(propagates(host, host, Path::new("/elsewhere")));
    }

    #[test]
    fn what_the_engine_alone_has_is_known() {
        let base = "27 1 8:1 / / rw shared:1 - ext4 /dev/sda rw\n";
        let more = format!("{base}50 27 7:1 / /data/mounts/acme rw shared:9 - ext4 /dev/loop1 rw\n");
        let folder = Path::new("/data/mounts");
        assert!(has_all(more.as_bytes(), base.as_bytes(), folder) && has_all(more.as_bytes(), more.as_bytes(), folder));
        assert!(!has_all(base.as_bytes(), more.as_bytes(), folder), "made in the engine's own namespace");
        assert!(has_all(base.as_bytes(), more.as_bytes(), Path::new("/data")), "deeper ones are not of that folder");
    }
}
