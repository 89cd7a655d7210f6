//! What fails.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    daemon::{Service, signal},
    engine::{PrivateEngine, succeed, text},
    fleet::{Fleet, eventually},
};

/// The size of the file system that the journal lies on.
const JOURNAL: &str = "size=64m";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of the daemon, and a start.
    DaemonKilled,
    /// A TERM to the daemon, and a start.
    DaemonEnded,
    /// `kill -9` of the engine, which is started again.
    EngineKilled,
    /// The engine stands still for some seconds.
    EngineStopped,
    /// The journal's disk is full for some seconds.
    JournalFull,
    /// The clock steps forwards or back by up to a day.
    ClockSteps,
    /// So many commits are pushed quickly.
    Burst(usize),
}

impl Fault {
    pub fn name(self) -> &'static str {
        match self {
            Self::DaemonKilled => "daemon killed",
            Self::DaemonEnded => "daemon ended and started",
            Self::EngineKilled => "engine killed",
            Self::EngineStopped => "engine stopped",
            Self::JournalFull => "journal's disk full",
            Self::ClockSteps => "clock stepped",
            Self::Burst(_) => "burst of commits",
        }
    }

    /// Brings it about, and ends it where it is one that ends.
    pub fn inject(self, service: &Service, journal: &Journal, random: &mut fastrand::Rng) {
        let mut a_while = || thread::sleep(Duration::from_millis(random.u64(500..4000)));
        match self {
            Self::DaemonKilled => {
                service.kill();
                service.start();
            }
            Self::DaemonEnded => {
                service.terminate();
                service.start();
            }
            Self::EngineKilled => kill_engine(&service.fleet.engine),
            Self::EngineStopped => {
                let engine = dockerd(&service.fleet.engine);
                signal("STOP", engine);
                a_while();
                signal("CONT", engine);
            }
            Self::JournalFull => {
                journal.fill();
                a_while();
                journal.free();
            }
            Self::ClockSteps => {
                let seconds = random.i64(3_600..86_400) * if random.bool() { 1 } else { -1 };
                step_clock(&service.fleet, seconds);
                service.wait("the daemon's clock is another one", || {
                    let time = service.status().and_then(|status| text(&status["time"]).parse::<Timestamp>().ok());
                    time.is_some_and(|time| (time.as_second() - Timestamp::now().as_second() - seconds).abs() < 60)
                });
            }
            Self::Burst(_) => {}
        }
    }
}

/// The engine's process.
pub fn dockerd(engine: &PrivateEngine) -> u32 {
    let data = format!("--data-root {}", engine.dir().join("engine/data").display());
    let mut found = None;
    eventually("the engine runs", || {
        found = PrivateEngine::processes(&data).first().map(|(pid, _)| *pid);
        found.is_some()
    });
    found.unwrap()
}

/// Kills the engine with `kill -9`. It is started again by itself.
pub fn kill_engine(engine: &PrivateEngine) {
    signal("KILL", dockerd(engine));
}

/// A journal on a file system of its own that can be filled.
pub struct Journal(PathBuf);

impl Journal {
    pub fn small(fleet: &Fleet) -> Self {
        let folder = fleet.data().join("journal");
        fs::create_dir_all(&folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", JOURNAL, "tmpfs"]).arg(&folder);
        succeed(mount);
        Self(folder)
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    fn fill(&self) {
        let mut ballast = fs::File::create(self.ballast()).unwrap();
        let zeros = [0; 1 << 16];
        while ballast.write_all(&zeros).is_ok() {}
        while ballast.write_all(&[0]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// What the daemon is started by to have a clock that steps.
pub fn clock(fleet: &Fleet) -> Vec<String> {
    let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1", std::env::consts::ARCH);
    assert!(Path::new(&library).exists(), "{library} exists; tests/engine/install-packages installs it");
    // The library leaves files there when it is killed.
    let script = "mount -t tmpfs tmpfs /dev/shm && exec env \"$@\"";
    let words = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script, "sh"];
    let variables = [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", clock_file(fleet).display().to_string()),
        ("FAKETIME_CACHE_DURATION", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("NO_FAKE_STAT", "1".to_owned()),
    ];
    let variables = variables.map(|(name, value)| format!("{name}={value}"));
    words.map(str::to_owned).into_iter().chain(variables).collect()
}

/// Has the daemon's clock differ from the machine's by so many seconds.
pub fn step_clock(fleet: &Fleet, seconds: i64) {
    let new = fleet.engine.dir().join("clock.new");
    fs::write(&new, format!("{seconds:+}\n")).unwrap();
    fs::rename(new, clock_file(fleet)).unwrap();
}

fn clock_file(fleet: &Fleet) -> PathBuf {
    fleet.engine.dir().join("clock")
}
