//! What a package brings: the unit, the manual, the completions, the example of `host.yaml`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::cli::{Cli, bare, end};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `make install` makes below a folder, but with the binary of this test.
fn installed() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    make("install-files", folder.path());
    folder
}

fn make(target: &str, destination: &Path) {
    let mut command = Command::new("make");
    command.arg(target).current_dir(root()).arg("PREFIX=/usr");
    command.arg(format!("BINARY={}", env!("CARGO_BIN_EXE_tenantd")));
    command.arg(format!("DESTDIR={}", destination.display()));
    end(command).with(0);
}

/// The files below a folder, by their path in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path.strip_prefix(folder).unwrap().to_owned()) }
        }
    }
    found.sort();
    found
}

/// The commands that the help lists, those below others as well: `audit`, `audit verify`.
fn commands(of: &[&str]) -> Vec<String> {
    let help = end(bare(&[of, &["--help"]].concat())).with(0).out;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Two blanks in front of a name; more where a text goes on.
    let names = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let mut found = Vec::new();
    for name in names.filter(|name| !name.is_empty() && *name != "help") {
        let path = [of, &[name]].concat();
        found.push(path.join(" "));
        found.extend(commands(&path));
    }
    found
}

#[test]
fn an_installation_has_every_part_and_takes_it_away_again() {
    let folder = installed();
    let found = files(folder.path());
    for path in [
        "usr/bin/tenantd",
        "usr/lib/systemd/system/tenantd.service",
        "usr/lib/systemd/system/tenantd-gateway.service",
        "usr/lib/systemd/system/tenantd-ingress.service",
        "usr/lib/systemd/system/tenantd-ingress.socket",
        "usr/lib/sysusers.d/tenantd.conf",
        "usr/share/man/man1/tenantd.1",
        "usr/share/bash-completion/completions/tenantd",
        "usr/share/zsh/site-functions/_tenantd",
        "usr/share/fish/vendor_completions.d/tenantd.fish",
        "usr/share/doc/tenantd/host.yaml",
        "usr/share/doc/tenantd/config.md",
        "usr/share/doc/tenantd/LICENSE",
        "usr/share/doc/tenantd/schema/host.json",
    ] {
        assert!(found.contains(&PathBuf::from(path)), "{path} is missing in {found:?}");
    }
    for path in &found {
        let mode = fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if path.starts_with("usr/bin") { 0o755 } else { 0o644 }, "{}", path.display());
    }
    for (name, command) in [("tenantd", "run"), ("tenantd-gateway", "gateway")] {
        let unit = fs::read_to_string(folder.path().join(format!("usr/lib/systemd/system/{name}.service"))).unwrap();
        let start = format!("ExecStart=/usr/bin/tenantd {command} --host /etc/tenantd/host.yaml\n");
        assert!(unit.contains(&start) && !unit.contains("local"), "{name}");
    }

    make("uninstall", folder.path());
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
}

#[test]
fn every_command_has_its_page_and_every_shell_knows_it() {
    let folder = installed();
    let share = folder.path().join("usr/share");
    let commands = commands(&[]);
    assert!(commands.len() >= 6, "{commands:?}");
    let overview = fs::read_to_string(share.join("man/man1/tenantd.1")).unwrap();
    for section in ["NAME", "SYNOPSIS", "OPTIONS", "\"EXIT STATUS\"", "ENVIRONMENT", "FILES"] {
        assert!(overview.contains(&format!("\n.SH {section}\n")), "{section}");
    }
    for command in &commands {
        let name = command.replace(' ', "-");
        let page = fs::read_to_string(share.join(format!("man/man1/tenantd-{name}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS\n") && page.contains(&format!("tenantd {}", env!("CARGO_PKG_VERSION"))));
        if !command.contains(' ') {
            assert!(overview.contains(&format!("tenantd\\-{}(1)", name.replace('-', "\\-"))), "{command}");
        }
    }
    let scripts = ["bash-completion/completions/tenantd", "zsh/site-functions/_tenantd"];
    for script in scripts.into_iter().chain(["fish/vendor_completions.d/tenantd.fish"]) {
        let text = fs::read_to_string(share.join(script)).unwrap();
        for command in commands.iter().flat_map(|command| command.split(' ')) {
            assert!(text.contains(command), "{script} lacks {command}");
        }
    }
    let mut bash = Command::new("bash");
    bash.arg("-n").arg(share.join(scripts[0]));
    assert_eq!(end(bash).with(0).err, "");
}

fn analyze(arguments: &[&str]) {
    let mut command = Command::new("systemd-analyze");
    command.args(arguments);
    end(command).with(0);
}

#[test]
fn the_units_are_right_and_expose_little() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["tenantd.service", "tenantd-gateway.service", "tenantd-ingress.service"] {
        let unit = fs::read_to_string(root().join("systemd").join(name)).unwrap();
        let here = unit.replace("/usr/local/bin/tenantd", env!("CARGO_BIN_EXE_tenantd"));
        let path = folder.path().join(name);
        fs::write(&path, here).unwrap();
        let path = path.to_str().unwrap();
        // Units that it is ordered after may be wrong in their own ways.
        analyze(&["verify", "--man=no", "--recursive-errors=no", path]);
        // In tenths: 40 is 4.0.
        analyze(&["security", "--offline=true", "--threshold=40", "--no-pager", path]);
    }
    // Beside the service that it is for.
    let socket = folder.path().join("tenantd-ingress.socket");
    fs::copy(root().join("systemd/tenantd-ingress.socket"), &socket).unwrap();
    analyze(&["verify", "--man=no", "--recursive-errors=no", socket.to_str().unwrap()]);
}

/// The value of a setting of the unit.
fn setting(name: &str) -> String {
    let unit = fs::read_to_string(root().join("systemd/tenantd.service")).unwrap();
    unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap().to_owned()
}

#[test]
fn the_capabilities_of_the_unit_are_enough_and_none_is_too_many() {
    let names = setting("CapabilityBoundingSet");
    let all: Vec<String> =
        names.split(' ').map(|name| name.strip_prefix("CAP_").unwrap().to_ascii_lowercase()).collect();
    // The commands that the daemon's work is made of: a first workspace, one that was tampered with, and one
    // that is set aside.
    let works_with = |capabilities: &[&String]| {
        let cli = Cli::new(&["ant", "bee"]);
        let mut bounds = "-all".to_owned();
        bounds.extend(capabilities.iter().map(|name| format!(",+{name}")));
        let apply = || {
            let mut command = Command::new("setpriv");
            command.args(["--no-new-privs", "--inh-caps=-all"]).arg(format!("--bounding-set={bounds}"));
            command.arg(env!("CARGO_BIN_EXE_tenantd")).arg("apply").arg(&cli.repo).arg("--yes");
            command.arg("--host").arg(cli.world.folder().join("host.yaml")).env_remove("DOCKER_HOST");
            end(command).code == 0
        };
        let workspaces = cli.world.host.data_root.join("workspaces");
        let first = apply();
        if first {
            fs::set_permissions(workspaces.join("ant"), fs::Permissions::from_mode(0o755)).unwrap();
            fs::remove_file(cli.repo.join("tenants/bee.yaml")).unwrap();
            cli.commit();
        }
        first && apply() && !workspaces.join("bee").exists()
    };
    assert!(works_with(&all.iter().collect::<Vec<_>>()), "{names} is not enough");
    // What hangs is killed, links are made, and images are mounted, only where there is a real engine.
    let elsewhere = ["kill", "net_admin", "sys_admin", "sys_chroot", "sys_ptrace"];
    for left_out in all.iter().filter(|name| !elsewhere.contains(&name.as_str())) {
        let rest: Vec<&String> = all.iter().filter(|name| *name != left_out).collect();
        assert!(!works_with(&rest), "{left_out} is not needed");
    }
}

#[test]
fn the_example_of_a_hosts_settings_is_valid() {
    let text = fs::read(root().join("systemd/host.yaml")).unwrap();
    let host = tenantd::spec::host("host.yaml", &text).unwrap();
    assert!(host.source.is_some() && host.verify.signers.len() == 1);
}
