//! How long it takes to say which commits changed what is in force, with and without what was found before, what was in force
//! at a time and who wrote it, and a report of a stretch of it, beside `git log -p` over the same repository.

use std::{
    fmt::Write as _,
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::ensure;
use jiff::Timestamp;

use crate::{
    measure::{Run, median, peak, quantile, run},
    setting,
    table::{Table, mebibytes, ratio, time},
};

/// When the first commit is made, in seconds; each other one is a minute later.
const FIRST: i64 = 1_700_000_000;

/// How many commits are new where others are known.
const NEW: usize = 100;

pub fn main(folder: &Path) -> anyhow::Result<()> {
    let (commits, tenants) = (setting("BENCH_COMMITS", 10_000)?, setting("BENCH_HISTORY_TENANTS", 1_000)?);
    let repo = folder.join("history.git");
    make(&repo, commits, tenants)?;
    let tenantd = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenantd"));
        command.args(words).arg("--repo").arg(&repo).args(["--rev", "main"]);
        command
    };
    let mut log = Command::new("git");
    log.arg("--git-dir").arg(&repo).args(["log", "-p", "main"]);
    let at = |commit: usize| anyhow::Ok(Timestamp::from_second(FIRST + i64::try_from(commit)? * 60)?.to_string());
    let (begin, middle) = (at(0)?, at(commits / 2)?);
    let explain = ["explain", "customer-00007", "--at", &middle];
    let report = ["audit", "report", "--from", &begin, "--to", &middle];
    let contenders = [
        (Kept::Nothing, "tenantd history", tenantd(&["history"])),
        (Kept::All, "tenantd history", tenantd(&["history"])),
        (Kept::Earlier, "tenantd history", tenantd(&["history"])),
        (Kept::All, "tenantd history --loosened", tenantd(&["history", "--loosened"])),
        (Kept::All, "tenantd history customer-00007", tenantd(&["history", "customer-00007"])),
        (Kept::Nothing, "tenantd explain customer-00007 --at", tenantd(&explain)),
        (Kept::All, "tenantd explain customer-00007 --at", tenantd(&explain)),
        (Kept::Nothing, "tenantd audit report", tenantd(&report)),
        (Kept::All, "tenantd audit report", tenantd(&report)),
        (Kept::All, "git log -p", log),
    ];
    let mut earlier = Command::new(env!("CARGO_BIN_EXE_tenantd"));
    earlier.args(["history", "--rev", &format!("main~{NEW}"), "--repo"]).arg(&repo);
    let mut runs: Vec<Vec<Run>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..setting("BENCH_ROUNDS", 3)? {
        for ((kept, _, command), runs) in contenders.iter().zip(&mut runs) {
            let folder_of_kept = repo.join("tenantd");
            if *kept != Kept::All && folder_of_kept.exists() {
                fs::remove_dir_all(folder_of_kept)?;
            }
            if *kept == Kept::Earlier {
                run(&earlier, folder)?;
            }
            runs.push(run(command, folder)?);
        }
    }
    let peer = runs.last().map(|runs| median(runs)).unwrap_or_default();
    let title = format!("History of {commits} commits over {tenants} tenants, medians");
    let mut table = Table::new(title, &["", "kept", "time", "of git log -p", "processor", "memory"]);
    for ((kept, name, _), runs) in contenders.iter().zip(&runs) {
        let (took, worked) = (median(runs), quantile(runs.iter().map(|run| run.processor), 50));
        let of_peer = format!("{:.2}", ratio(took, peer));
        let kept = kept.as_str().to_owned();
        table.row([(*name).to_owned(), kept, time(took), of_peer, time(worked), mebibytes(peak(runs))]);
    }
    table.print();
    Ok(())
}

/// What was found before.
#[derive(Clone, Copy, PartialEq)]
enum Kept {
    Nothing,
    /// All but what concerns the newest commits.
    Earlier,
    All,
}

impl Kept {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Earlier => "all but 100",
            Self::All => "all",
        }
    }
}

/// A bare repository in which each commit changes one tenant, and now and then a tier.
fn make(repo: &Path, commits: usize, tenants: usize) -> anyhow::Result<()> {
    let mut random = fastrand::Rng::with_seed(1);
    let tenant = |random: &mut fastrand::Rng, number: usize| {
        let memory = random.u32(64..512);
        let port = random.u16(1000..2000);
        format!(
            "apiVersion: tenantd/v1\nkind: Tenant\ntenant: customer-{number:05}\nlimits: {{memory: {memory}MiB}}\n\
             allowlist: [\"api.example.com:443\", \"*.example.org:{port}\"]\n"
        )
    };
    let tiers = |memory: u32| {
        let tier = format!("{{cpus: 1, memory: {memory}MiB, disk: 2GiB, sessions: 1}}");
        format!("apiVersion: tenantd/v1\nkind: Tiers\ntiers: {{free: {tier}}}\n")
    };
    let mut stream = String::from("feature done\n");
    let file = |stream: &mut String, path: &str, text: &str| {
        let _infallible = writeln!(stream, "M 100644 inline {path}\ndata {}\n{text}", text.len());
    };
    for commit in 0..commits {
        let _infallible = writeln!(
            stream,
            "commit refs/heads/main\ncommitter bench <bench@example.com> {} +0000\ndata 6\nchange",
            FIRST + i64::try_from(commit)? * 60
        );
        if commit == 0 {
            let fleet = "apiVersion: tenantd/v1\nkind: Fleet\ndefaults: {tier: free, image: \"agency/agent:1.4\"}\n";
            file(&mut stream, "fleet.yaml", fleet);
            file(&mut stream, "tiers.yaml", &tiers(1024));
            for number in 0..tenants {
                let text = tenant(&mut random, number);
                file(&mut stream, &format!("tenants/customer-{number:05}.yaml"), &text);
            }
        } else if commit % 1_000 == 0 {
            file(&mut stream, "tiers.yaml", &tiers(1024 + u32::try_from(commit / 1_000)?));
        } else {
            let number = random.usize(..tenants);
            let text = tenant(&mut random, number);
            file(&mut stream, &format!("tenants/customer-{number:05}.yaml"), &text);
        }
    }
    stream.push_str("done\n");
    let input = repo.with_extension("stream");
    fs::write(&input, stream)?;
    let git = |words: &[&str]| {
        let mut command = Command::new("git");
        command
            .arg("--git-dir")
            .arg(repo)
            .args(words)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        command
    };
    ensure!(git(&["init", "--quiet", "--bare", "--initial-branch=main"]).status()?.success(), "git init");
    let mut import = git(&["fast-import", "--quiet"]);
    import.stdin(Stdio::from(File::open(&input)?));
    ensure!(import.status()?.success(), "git fast-import");
    Ok(())
}
