//! What a workspace costs: made, looked at, resized, written to, beside a plain folder.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use tenantd::{
    host::Workspaces,
    model::{
        Bytes, Host, TenantName,
        workspace::{Backend, Owner, VolumeSpec, VolumeState},
    },
};

use crate::{
    measure::quantile,
    setting,
    table::{Table, time, verdict},
    world,
};

/// The goals: milliseconds more than a plain folder, and a share of the bind mount's speed.
const CREATE: f64 = 50.0;
const SPEED: f64 = 0.9;

/// The bytes of one sequential file, the small files of one round, and the bytes of each.
const SEQUENTIAL: usize = 256 << 20;
const SMALL: usize = 2000;
const SMALL_SIZE: usize = 4096;

pub fn main(folder: &Path) -> anyhow::Result<()> {
    let host = Host { data_root: folder.join("data"), ..Host::default() };
    let workspaces = Workspaces::new(&host);
    let count = setting("BENCH_WORKSPACES", 300)?;
    let names: Vec<TenantName> = (0..count).filter_map(|number| format!("customer-{number:05}").parse().ok()).collect();
    let runtime = world::runtime()?;
    let measured = runtime.block_on(measure(&host, &workspaces, &names));
    runtime.block_on(async {
        for name in &names {
            workspaces.archive(name, tenantd::host::ArchiveStamp::now(None)).await?;
        }
        anyhow::Ok(())
    })?;
    measured
}

async fn measure(host: &Host, workspaces: &Workspaces, names: &[TenantName]) -> anyhow::Result<()> {
    let capability = workspaces.list().await?.capability;
    anyhow::ensure!(capability.backend != Backend::Folder, "nothing bounds workspaces here: {}", capability.why);
    let spec = VolumeSpec {
        backend: capability.backend,
        limit: Bytes::gib(2),
        room: Bytes::gib(2),
        noexec: false,
        owner: Owner::TENANT,
    };
    let other = VolumeSpec { limit: Bytes::gib(1), ..spec };
    let (mut plain, mut made, mut mounted, mut resized) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let folders = Workspaces::new(&Host { data_root: host.data_root.join("plain"), ..host.clone() });
    for name in names {
        let begun = Instant::now();
        folders.prepare_folder(name, Owner::TENANT)?;
        plain.push(begun.elapsed());
        let begun = Instant::now();
        workspaces.make(name, spec).await?;
        made.push(begun.elapsed());
        let begun = Instant::now();
        workspaces.mount(name, spec).await?;
        mounted.push(begun.elapsed());
    }
    for spec in [other, spec] {
        for name in names {
            let begun = Instant::now();
            workspaces.resize(name, spec).await?;
            resized.push(begun.elapsed());
        }
    }
    let mut looks = Vec::new();
    let mut taken = 0;
    for _ in 0..5 {
        let begun = Instant::now();
        let found = workspaces.list().await?.found;
        looks.push(begun.elapsed());
        let volumes = || found.values().filter_map(|found| found.volume.as_ref());
        anyhow::ensure!(volumes().all(|volume| matches!(volume.state, VolumeState::Mounted(_))), "all are mounted");
        taken = volumes().map(|volume| volume.allocated).sum();
    }
    let median = |times: &[Duration]| quantile(times.iter().copied(), 50);
    let create = median(&made) + median(&mounted);
    let more = (create.as_secs_f64() - median(&plain).as_secs_f64()) * 1e3;
    let mut table = Table::new(
        format!("{} workspaces of 2 GiB, by {}, medians", names.len(), capability.backend.as_str()),
        &["", "", "goal", ""],
    );
    let row = |name: &str, value: String| [name.to_owned(), value, String::new(), String::new()];
    table.row(row("a plain folder is made", time(median(&plain))));
    table.row(row("a workspace is made", time(median(&made))));
    table.row(row("it is mounted, with its limit", time(median(&mounted))));
    let judged = verdict(more, CREATE);
    table.row(["more than a plain folder".to_owned(), format!("{more:.0} ms"), format!("{CREATE:.0} ms"), judged]);
    table.row(row("it shrinks or grows", time(median(&resized))));
    table.row(row("a look at all of them", time(median(&looks))));
    table.row(row("all of them take on disk", format!("{} MiB", taken >> 20)));
    table.print();
    speed(host, names.first().context("BENCH_WORKSPACES is 0")?)
}

/// Writes and reads in the workspace and beside it, in turns.
fn speed(host: &Host, name: &TenantName) -> anyhow::Result<()> {
    let inside = host.workspace(name.as_str(), Backend::Image);
    let beside = host.data_root.join("beside");
    fs::create_dir_all(&beside)?;
    anyhow::ensure!(fs::metadata(&inside)?.dev() != fs::metadata(&beside)?.dev(), "the workspace is mounted");
    let rounds = setting("BENCH_ROUNDS", 3)?;
    let mut table = Table::new(
        "Speed inside, beside the host's own file system",
        &["", "workspace", "folder", "share", "goal", ""],
    );
    let tasks: [(&str, Task); 3] = [
        ("256 MiB written and synced", sequential),
        ("256 MiB read back", read),
        ("2,000 files of 4 KiB, synced", small),
    ];
    for (what, task) in tasks {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(task(&inside)?);
            theirs.push(task(&beside)?);
        }
        let (ours, theirs) = (quantile(ours, 50), quantile(theirs, 50));
        let share = theirs.as_secs_f64() / ours.as_secs_f64();
        let judged = verdict(SPEED, share);
        let share = format!("{share:.2}");
        table.row([what.to_owned(), time(ours), time(theirs), share, format!("{SPEED}"), judged]);
    }
    table.print();
    Ok(())
}

type Task = fn(&Path) -> anyhow::Result<Duration>;

fn sequential(folder: &Path) -> anyhow::Result<Duration> {
    let block = vec![7; 1 << 20];
    let path = folder.join("sequential");
    let _none_before = fs::remove_file(&path);
    let begun = Instant::now();
    let mut file = File::create(&path)?;
    for _ in 0..SEQUENTIAL / block.len() {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    Ok(begun.elapsed())
}

fn read(folder: &Path) -> anyhow::Result<Duration> {
    let file = File::open(folder.join("sequential"))?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    let begun = Instant::now();
    std::io::copy(&mut &file, &mut std::io::sink())?;
    Ok(begun.elapsed())
}

fn small(folder: &Path) -> anyhow::Result<Duration> {
    let folder = folder.join("small");
    let _none_before = fs::remove_dir_all(&folder);
    let block = vec![7; SMALL_SIZE];
    let begun = Instant::now();
    fs::create_dir(&folder)?;
    for number in 0..SMALL {
        fs::write(folder.join(number.to_string()), &block)?;
    }
    rustix::fs::syncfs(File::open(&folder)?)?;
    Ok(begun.elapsed())
}
