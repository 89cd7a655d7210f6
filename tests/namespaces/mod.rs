//! Tests that run in mount, network and process namespaces of their own, which end with them: nothing is left behind, and
//! no packet can leave. The network namespace that they begin in has the name `host`.

pub mod authority;
pub mod net;

use std::{env, fs, path::Path, process::Command};

use libtest_mimic::{Arguments, Trial};

/// Set where the namespaces are made already.
const INSIDE: &str = "TENANTD_TEST_INSIDE";

/// Runs this program again in namespaces of its own, and the tests there.
pub fn main(trials: impl FnOnce() -> Vec<Trial>) {
    if env::var_os(INSIDE).is_some() {
        let arguments = Arguments::from_args();
        prepare();
        libtest_mimic::run(&arguments, trials()).exit();
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(env::current_exe().unwrap()).args(env::args_os().skip(1)).env(INSIDE, "1");
    let status = command.status().expect("unshare of util-linux is needed");
    std::process::exit(status.code().unwrap_or(101));
}

/// Makes /run the tests' own, before anything begins.
fn prepare() {
    let resolv_conf = fs::read_link("/etc/resolv.conf").ok();
    net::run("mount", "-t tmpfs tmpfs /run");
    if let Some(target) = resolv_conf.filter(|_| !Path::new("/etc/resolv.conf").exists()) {
        let target = Path::new("/etc").join(target);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, "").unwrap();
    }
    fs::create_dir_all("/run/netns").unwrap();
    fs::write("/run/netns/host", "").unwrap();
    net::run("mount", "--bind /proc/self/ns/net /run/netns/host");
    net::ip("link set lo up");
}

/// What the process takes, in MiB, without pages of its program.
pub fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

/// A test by its name.
pub fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

/// Tests by the names of their functions.
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        pub fn trials() -> Vec<libtest_mimic::Trial> {
            vec![$(crate::namespaces::trial(concat!(module_path!(), "::", stringify!($name)), $name)),*]
        }
    };
}
pub(crate) use trials;
