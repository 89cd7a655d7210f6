//! Figures of a run.

use std::{collections::BTreeMap, fmt::Write as _, fs, time::Duration};

use serde_json::Value;
use tenantd::journal::Verified;

use super::churn::Counts;

/// After how many samples the daemon has what it keeps for good: connections, caches, arenas.
const SETTLED: usize = 4;

/// What a daemon takes.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// In KiB.
    resident: u64,
    descriptors: u64,
    threads: u64,
}

impl Sample {
    pub fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel reports it");
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        Self { resident: value("RssAnon"), descriptors: u64::try_from(descriptors).unwrap(), threads: value("Threads") }
    }
}

#[derive(Debug, Default)]
pub struct Measure {
    pub faults: BTreeMap<&'static str, usize>,
    pub converged: Vec<Duration>,
    pub samples: Vec<Sample>,
}

impl Measure {
    /// The early sample that others are compared with, and the last.
    fn ends(&self) -> (Sample, Sample) {
        let early = self.samples.get(SETTLED).or(self.samples.first()).expect("a daemon was looked at");
        (*early, *self.samples.last().expect("a daemon was looked at"))
    }

    /// Looks that a daemon that lives long does not take more and more.
    pub fn bounded(&self) {
        let (early, last) = self.ends();
        assert!(last.descriptors <= early.descriptors + 16, "descriptors stay bounded: {early:?}, then {last:?}");
        assert!(last.threads <= early.threads + 8, "threads stay bounded: {early:?}, then {last:?}");
        assert!(
            last.resident <= early.resident * 3 / 2 + (16 << 10),
            "resident memory stays bounded: {early:?}, then {last:?}"
        );
    }

    pub fn table(&self, records: &[Value], verified: &Verified, counts: Counts) -> String {
        let mut table = String::from("\n");
        let mut row = |name: &str, value: String| writeln!(table, "{name:<34} {value}").unwrap();
        row("rounds", (self.converged.len() - 1).to_string());
        for (name, count) in &self.faults {
            row(name, count.to_string());
        }
        row("commits", counts.commits.to_string());
        row("changes by hand", counts.drifts.to_string());
        let of = |kind: &str, key: &str, value: &str| {
            records.iter().filter(|record| record["type"] == kind && record[key] == value).count().to_string()
        };
        row("steps for drift", of("intent", "why", "drift"));
        row("steps for commits", of("intent", "why", "intent"));
        row("steps done", of("outcome", "result", "done"));
        row("steps failed", of("outcome", "result", "failed"));
        row("steps cut off", of("outcome", "result", "unknown"));
        row("commits accepted", of("revision", "verdict", "accepted"));
        row("commits refused", of("revision", "verdict", "refused"));
        let gaps = records.iter().filter(|record| record["type"] == "lost").count();
        row("journal: gaps after a full disk", gaps.to_string());
        row("journal: records, files", format!("{}, {}", verified.records, verified.files));
        row("journal: torn ends set aside", verified.set_aside.len().to_string());
        let mut sorted = self.converged.clone();
        sorted.sort();
        let seconds = |at: usize| format!("{:.1} s", sorted[at].as_secs_f32());
        let (middle, last) = (sorted.len() / 2, sorted.len() - 1);
        row("converged: median, max", format!("{}, {}", seconds(middle), seconds(last)));
        let (early, late) = self.ends();
        let pair = |a: u64, b: u64| format!("{a}, {b}");
        row("resident KiB: early, last", pair(early.resident, late.resident));
        row("descriptors: early, last", pair(early.descriptors, late.descriptors));
        row("threads: early, last", pair(early.threads, late.threads));
        table
    }
}
