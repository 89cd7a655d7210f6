//! What a local user without rights reaches of what tenantd makes, under any mask and on an installation that was open.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{
    cli::{Cli, end},
    daemon::Daemon,
};

/// The files and folders below a folder that others than their owner may read, change or enter. Workspaces are tenants' own; what
/// every container gets as /run/tenantd is read by tenants, and lies in a folder that is closed.
fn open_to_others(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let metadata = fs::symlink_metadata(&next).unwrap();
        let allowed = if next.ends_with("provided/run") { 0o055 } else { 0 };
        if metadata.mode() & 0o077 & !allowed != 0 {
            found.push(format!("{:o} {}", metadata.mode() & 0o7777, next.display()));
        }
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                folders.push(path);
            } else if !metadata.is_symlink() && metadata.mode() & 0o077 != 0 {
                found.push(format!("{:o} {}", metadata.mode() & 0o7777, path.display()));
            }
        }
    }
    found
}

/// A command under a mask for new files.
fn under(mask: &str, command: &Command) -> Command {
    let mut under = Command::new("sh");
    under.args(["-c", "umask \"$0\"; exec \"$@\"", mask]).arg(command.get_program()).args(command.get_args());
    under.env_clear().stdin(Stdio::null());
    under
}

/// The same as a user without rights.
fn nobody(words: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn succeeds(words: &[&str]) -> bool {
    nobody(words).output().unwrap().status.success()
}

/// A world whose folder everybody may enter, as `/var/lib` is.
fn world() -> Cli {
    let cli = Cli::new(&["ant"]);
    set(cli.world.folder(), 0o755);
    assert!(succeeds(&["ls", cli.world.folder().to_str().unwrap()]), "a user without rights gets as far as here");
    cli
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn apply(cli: &Cli, mask: &str) -> crate::cli::Ended {
    end(under(mask, &cli.command(&["apply", cli.repo.to_str().unwrap(), "--yes"])))
}

/// Takes the lock as a user without rights, and holds it until the child is killed.
fn take(lock: &Path) -> Child {
    let words = ["flock", "--no-fork", "--nonblock", lock.to_str().unwrap(), "sh", "-c", "echo held; exec sleep 60"];
    let mut holder = nobody(&words).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n", "the lock can be taken while it is open");
    holder
}

#[test]
fn nobody_else_reaches_the_data_root_under_any_mask() {
    for mask in ["000", "022", "077", "0777"] {
        let cli = world();
        apply(&cli, mask).with(0);
        end(under(mask, &cli.command(&["snapshot", "--public-key"]))).with(0);
        let root = &cli.world.host.data_root;
        assert_eq!(open_to_others(root), Vec::<String>::new(), "{mask}");
        let lock = root.join("lock");
        for words in [
            vec!["ls", root.to_str().unwrap()],
            vec!["cat", lock.to_str().unwrap()],
            vec!["flock", "--nonblock", lock.to_str().unwrap(), "true"],
            vec!["flock", "--shared", "--nonblock", root.to_str().unwrap(), "true"],
            vec!["ls", root.join("workspaces").to_str().unwrap()],
        ] {
            assert!(!succeeds(&words), "{mask}: {words:?}");
        }
    }
}

#[test]
fn nobody_else_reaches_what_the_daemon_makes_under_any_mask() {
    for mask in ["000", "077"] {
        let mut daemon = Daemon::stopped(&["ant"], "");
        set(daemon.folder(), 0o755);
        daemon.start_as(under(mask, &daemon.cli.command(&["run"])));
        daemon.settled();
        assert_eq!(open_to_others(&daemon.host.data_root), Vec::<String>::new(), "{mask}");
        let socket = daemon.folder().join("socket");
        assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o600, "{mask}");
    }
}

#[test]
fn an_installation_that_was_open_is_closed_before_the_lock_is_taken() {
    let cli = world();
    cli.apply().with(0);
    let root = cli.world.host.data_root.clone();
    for path in [&root, &root.join("workspaces")] {
        set(path, 0o755);
    }
    set(&root.join("lock"), 0o644);
    apply(&cli, "022").with(0);
    assert_eq!(open_to_others(&root), Vec::<String>::new());
    assert!(!succeeds(&["flock", "--nonblock", root.join("lock").to_str().unwrap(), "true"]));
}

#[test]
fn who_took_the_lock_while_it_was_open_is_named() {
    let cli = world();
    cli.apply().with(0);
    let (root, lock) = (cli.world.host.data_root.clone(), cli.world.host.data_root.join("lock"));
    set(&root, 0o755);
    set(&lock, 0o644);
    let mut holder = take(&lock);
    let ended = cli.apply().with(1);
    let expected = format!("process {} of user 65534, which is no tenantd of ours", holder.id());
    assert!(ended.err.contains(&expected), "{}", ended.err);
    holder.kill().unwrap();
    holder.wait().unwrap();
}

/// Puts something into the place of a data root, with a folder beside it.
type Plant = fn(&Path, &Path);

#[test]
fn what_somebody_put_there_beforehand_is_refused_with_words() {
    let plant: [(&str, Plant); 4] = [
        ("belongs to user 65534", |root, _| {
            fs::create_dir(root).unwrap();
            chown(root, Some(65_534), Some(65_534)).unwrap();
        }),
        ("belongs to user 65534", |root, outside| {
            symlink(outside, root).unwrap();
            std::os::unix::fs::lchown(root, Some(65_534), Some(65_534)).unwrap();
        }),
        ("not a file", |root, _| {
            fs::create_dir(root).unwrap();
            assert!(Command::new("mkfifo").arg(root.join("lock")).status().unwrap().success());
        }),
        ("cannot lock", |root, outside| {
            fs::create_dir(root).unwrap();
            symlink(outside.join("precious"), root.join("lock")).unwrap();
        }),
    ];
    for (words, plant) in plant {
        let cli = world();
        let outside: PathBuf = cli.world.folder().join("outside");
        fs::create_dir(&outside).unwrap();
        set(&outside, 0o755);
        fs::write(outside.join("precious"), "kept").unwrap();
        plant(&cli.world.host.data_root, &outside);
        let ended = cli.apply().with(1);
        assert!(ended.err.contains(words), "{words}: {}", ended.err);
        assert_eq!(fs::read_to_string(outside.join("precious")).unwrap(), "kept", "{words}");
        assert_eq!(fs::symlink_metadata(&outside).unwrap().mode() & 0o777, 0o755, "{words}");
        assert!(cli.world.engine.containers().is_empty(), "{words}");
    }
}

#[test]
fn a_link_of_the_operators_leads_to_the_data_root() {
    let cli = world();
    let moved = cli.world.folder().join("moved");
    fs::create_dir(&moved).unwrap();
    symlink(&moved, &cli.world.host.data_root).unwrap();
    cli.apply().with(0);
    assert_eq!(fs::symlink_metadata(&moved).unwrap().mode() & 0o777, 0o700);
}
