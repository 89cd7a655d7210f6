//! What can be written on the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use jiff::Timestamp;

use super::time;
use crate::{journal::Anchor, model::SecretName};

/// Keeps a Docker Engine's tenants as a git repository declares them.
#[derive(Debug, Parser)]
#[command(name = "tenantd", version, max_term_width = 100)]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command that looks at a host.
#[derive(Clone, Debug, clap::Args)]
pub struct Global {
    /// The host's settings [default: /etc/tenantd/host.yaml, else built-in ones]
    #[arg(long, global = true, value_name = "FILE")]
    pub host: Option<PathBuf>,
    /// The engine's socket, such as unix:///var/run/docker.sock; goes before DOCKER_HOST, and that
    /// before host.yaml
    #[arg(long, global = true, value_name = "URL")]
    pub engine: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the files of a config repo and report every error at once
    Validate(Validate),
    /// Show what would change on the engine; changes nothing
    Plan(Plan),
    /// Show the commits that changed what is in force, newest first
    History(History),
    /// Show every setting of a tenant, where it comes from, and who wrote that
    Explain(Explain),
    /// Write what the engine and the host have, signed and without secrets, for plans that are made elsewhere
    Snapshot(Snapshot),
    /// Make the engine as a config repo declares it
    Apply(Apply),
    /// Follow the config repo and the engine, and make the one as the other says
    Run(Run),
    /// Let tenants out to where their allowlists say, and nowhere else
    Gateway(Gateway),
    /// Show what a tenant printed
    Logs(Logs),
    /// Show how the daemon, the config repo and the tenants stand
    Status(Status),
    /// Have the daemon leave a tenant alone until a time
    Suspend(Suspend),
    /// Have the daemon look after a suspended tenant again
    Resume(Resume),
    /// Have the daemon freeze a tenant, which keeps its memory
    Pause(SetPower),
    /// Have the daemon end a tenant's container and network, and keep its files and its addresses
    Sleep(SetPower),
    /// Have the daemon run a tenant again that is paused or asleep
    Start(SetPower),
    /// Bring a commit into force that the daemon holds
    Approve(Approve),
    /// Have the daemon look now, without waiting for an event
    Reconcile(Reconcile),
    /// Show what was changed, when and why, as the journal has it
    Events(Events),
    /// Show what each tenant sent and received through the gateway, and the credits that it used
    Usage(Usage),
    /// Look after what tenants may reach
    #[command(subcommand)]
    Egress(Egress),
    /// Show what the workspaces of all tenants are promised, what they take, and what is free
    Capacity(Capacity),
    /// Look after the workspaces of tenants
    #[command(subcommand)]
    Workspace(Workspace),
    /// Check that nobody changed the journal, and tell what happened in a stretch of time
    #[command(subcommand)]
    Audit(Audit),
    /// Print the JSON Schemas of the files, or keep a folder of them up to date
    Schema(Schema),
    /// Print what a shell completes the command line with
    Completions(Completions),
    /// Write the manual pages, for packages
    #[command(hide = true)]
    Man(Manual),
}

#[derive(Debug, clap::Args)]
pub struct Validate {
    /// The folder with fleet.yaml and tenants/
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// The form of the report
    #[arg(long, value_enum, default_value_t = FindingFormat::Text)]
    pub format: FindingFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FindingFormat {
    /// For people
    Text,
    /// A list of findings
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// Annotations of GitHub Actions
    Github,
}

/// Which declarations are meant.
#[derive(Clone, Debug, clap::Args)]
pub struct Source {
    /// The config repo
    #[arg(default_value = ".")]
    pub repo: PathBuf,
    #[command(flatten)]
    pub which: Which,
}

/// Which declarations of a repo are meant.
#[derive(Clone, Debug, clap::Args)]
pub struct Which {
    /// The commit, branch or tag
    #[arg(long, default_value = "HEAD", conflicts_with = "worktree")]
    pub rev: String,
    /// Read the folder as it lies there, committed or not
    #[arg(long)]
    pub worktree: bool,
    /// Only this tenant
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    #[command(flatten)]
    pub path: ConfigPath,
}

/// Which folder of a repo is meant.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConfigPath {
    /// The folder of the repo with fleet.yaml in it, at each commit that is read; . for the top [default: source.path of
    /// host.yaml, else the top]
    #[arg(long, value_name = "FOLDER")]
    pub path: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct Plan {
    #[command(flatten)]
    pub source: Source,
    /// Compare with what this commit declares, without an engine: what changes for each tenant, and whether that
    /// tightens or loosens
    #[arg(long, value_name = "REV")]
    pub base: Option<String>,
    /// With --base: print only the lines by which a signed commit approves what loosens, one for each tenant, for
    /// hosts whose `approvals.fleet` is this name
    #[arg(long, value_name = "FLEET", requires = "base")]
    pub approval: Option<String>,
    #[command(flatten)]
    pub from: FromSnapshot,
    /// Save the plan as JSON as well: `tenantd apply FILE` carries it out as long as nothing has moved
    #[arg(long, value_name = "FILE", conflicts_with_all = ["base", "worktree"])]
    pub out: Option<PathBuf>,
    /// The form of the plan
    #[arg(long, value_enum, default_value_t = ReviewFormat::Text)]
    pub format: ReviewFormat,
    /// Exit with 2 where something would change, 0 where nothing would, 1 on errors
    #[arg(long)]
    pub detailed_exitcode: bool,
}

/// What a host observed, in the place of the host.
#[derive(Debug, clap::Args)]
pub struct FromSnapshot {
    /// Plan for the host that wrote this file with `tenantd snapshot`, as that host itself would, without an engine
    #[arg(long, value_name = "FILE", conflicts_with_all = ["base", "host", "engine"])]
    pub snapshot: Option<PathBuf>,
    /// With --snapshot: refuse one that was not signed by this key, which `tenantd snapshot --public-key` prints on
    /// the host, or which is in this file
    #[arg(long, value_name = "KEY", requires = "snapshot")]
    pub host_key: Option<String>,
    /// With --snapshot: refuse one that is older, such as 1h
    #[arg(long, value_name = "TIME", requires = "snapshot")]
    pub max_age: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct Snapshot {
    /// Write it here, for its owner alone to read [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print the public key that goes with this host's signatures, and do nothing else
    #[arg(long, conflicts_with = "out")]
    pub public_key: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReviewFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// For a comment on a pull request
    Markdown,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// Annotations of GitHub Actions
    Github,
    /// A test report
    Junit,
}

#[derive(Debug, clap::Args)]
pub struct History {
    /// Only what concerns this tenant
    pub tenant: Option<String>,
    /// The config repo
    #[arg(long, default_value = ".", value_name = "PATH")]
    pub repo: PathBuf,
    /// The commit, branch or tag whose history it is
    #[arg(long, default_value = "HEAD")]
    pub rev: String,
    #[command(flatten)]
    pub path: ConfigPath,
    #[command(flatten)]
    pub journal: JournalFolder,
    /// Tell of every commit that led here, whether or not a journal says which of them were in force
    #[arg(long, conflicts_with = "folder")]
    pub all: bool,
    /// Only what is not older: a time such as 2026-11-21T10:00:00Z, or a length of time such as 90d. The order goes before
    /// the dates: what comes after such a commit is as new
    #[arg(long, value_name = "TIME", value_parser = time::since)]
    pub since: Option<Timestamp>,
    /// Only what loosens
    #[arg(long)]
    pub loosened: bool,
    /// Only this setting, such as runtime, allowlist or limits
    #[arg(long, value_name = "SETTING")]
    pub field: Option<String>,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = TableFormat::Text)]
    pub format: TableFormat,
}

#[derive(Debug, clap::Args)]
pub struct Explain {
    /// The tenant
    pub tenant: String,
    /// The config repo
    #[arg(long, default_value = ".", value_name = "PATH")]
    pub repo: PathBuf,
    /// The commit, branch or tag
    #[arg(long, default_value = "HEAD")]
    pub rev: String,
    #[command(flatten)]
    pub path: ConfigPath,
    /// As it was declared then, and as it stood on this host: a time such as 2026-11-21T10:00:00Z, or a length of time
    /// such as 7d
    #[arg(long, value_name = "TIME", value_parser = time::since)]
    pub at: Option<Timestamp>,
    #[command(flatten)]
    pub journal: JournalFolder,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    pub format: PlanFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// For spreadsheets: a line for each change of a setting
    Csv,
}

#[derive(Debug, clap::Args)]
pub struct Apply {
    /// The config repo; or a plan that `tenantd plan --out` saved, which is carried out without asking, or refused
    #[arg(default_value = ".", value_name = "REPO|PLAN")]
    pub what: PathBuf,
    /// With a saved plan: the config repo
    #[arg(long, value_name = "PATH", default_value = ".")]
    pub repo: PathBuf,
    /// With a saved plan: refuse any but this one, by the whole id that `tenantd plan --out` printed
    #[arg(long, value_name = "ID")]
    pub plan_id: Option<String>,
    #[command(flatten)]
    pub which: Which,
    /// Do not ask; needed where there is no terminal
    #[arg(long, short)]
    pub yes: bool,
    /// How long to wait for another apply to end, such as 30s [default: refuse at once]
    #[arg(long, value_name = "TIME")]
    pub lock_timeout: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct Run {
    /// The form of the log on standard error [default: text on a terminal, journald under systemd, else json]
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
}

#[derive(Debug, clap::Args)]
pub struct Gateway {
    /// Only make the network namespace that tenants' networks end in
    #[arg(long)]
    pub prepare: bool,
    /// The form of the log on standard error [default: text on a terminal, journald under systemd, else json]
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// For the system's journal
    Journald,
}

#[derive(Debug, clap::Args)]
pub struct Logs {
    /// The tenant
    pub tenant: String,
    /// Go on with what is printed from now on
    #[arg(long, short)]
    pub follow: bool,
    /// Only so many lines from the end
    #[arg(long, value_name = "LINES")]
    pub tail: Option<u32>,
    /// Begin each line with its time
    #[arg(long, short)]
    pub timestamps: bool,
}

#[derive(Debug, clap::Args)]
pub struct Status {
    /// Only this tenant, with everything about it
    pub tenant: Option<String>,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    pub format: PlanFormat,
    /// Go on, each second on a terminal, else whenever something has changed
    #[arg(long, short)]
    pub watch: bool,
}

#[derive(Debug, clap::Args)]
pub struct Suspend {
    /// The tenant
    pub tenant: String,
    /// Why, for whoever looks at its status
    #[arg(long)]
    pub reason: String,
    /// Until when: a time such as 2026-12-01T08:00:00Z, or a span such as 2h or 3d; 30 days at most
    #[arg(long, value_name = "TIME")]
    pub until: String,
}

#[derive(Debug, clap::Args)]
pub struct Resume {
    /// The tenant
    pub tenant: String,
}

#[derive(Debug, clap::Args)]
pub struct SetPower {
    /// The tenant
    pub tenant: String,
    /// Until when: a time such as 2026-12-01T08:00:00Z, or a span such as 2h or 3d; from then on it runs. Without it, until
    /// somebody says otherwise
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct Approve {
    /// The whole id that `tenantd status` shows beside the held commit: it lets in that commit with what is shown, and
    /// nothing else
    #[arg(value_name = "PLAN-ID")]
    pub plan: String,
}

#[derive(Debug, clap::Args)]
pub struct Reconcile {
    /// Only this tenant
    pub tenant: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct Events {
    /// Only what concerns this tenant
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Only what is not older: a time such as 2026-11-21T10:00:00Z, or a length of time such as 1h
    #[arg(long, value_name = "TIME", value_parser = time::since)]
    pub since: Option<Timestamp>,
    /// Go on with what happens from now on; a step is shown when it has ended
    #[arg(long, short)]
    pub follow: bool,
    /// The form: lines for people, or the records as they are stored
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    pub format: PlanFormat,
    #[command(flatten)]
    pub journal: JournalFolder,
}

#[derive(Debug, clap::Args)]
pub struct Usage {
    /// Only this tenant
    pub tenant: Option<String>,
    /// Only what was counted on this day or later, in UTC: a time, or a length of time such as 7d
    #[arg(long, value_name = "TIME", value_parser = time::since)]
    pub since: Option<Timestamp>,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    pub format: PlanFormat,
}

#[derive(Debug, Subcommand)]
pub enum Egress {
    /// Show when each entry of each allowlist was last used
    Review(Review),
    /// Encrypt a secret, read from standard input, for the file of a tenant
    Seal(Seal),
}

#[derive(Debug, clap::Args)]
pub struct Seal {
    /// The secret's name, as `credentials` and host.yaml have it, such as acme/crm
    pub name: SecretName,
    /// The host's public key, which `age-keygen -y` prints
    #[arg(long, value_name = "KEY")]
    pub to: String,
}

#[derive(Debug, clap::Args)]
pub struct Review {
    /// The config repo, as it lies in this folder
    #[arg(default_value = ".")]
    pub repo: PathBuf,
    /// Only what was not used for so long, and was in the repo for so long, such as 90d
    #[arg(long, value_name = "TIME", value_parser = time::since)]
    pub unused_for: Option<Timestamp>,
    /// Print a patch for `git apply` that removes these entries
    #[arg(long, requires = "unused_for")]
    pub patch: bool,
}

#[derive(Debug, Subcommand)]
pub enum Workspace {
    /// Show all workspaces: what bounds them, how full they are, and what lies aside
    List(WorkspaceList),
    /// Look whether a workspace is in order; changes nothing
    ///
    /// Exits with 0 where it is, with 1 where it is not.
    Check(OneWorkspace),
    /// Have a damaged or removed workspace put right, with a copy kept aside
    ///
    /// The daemon does it at once, else the next apply does. The tenant is stopped for it and started again.
    Repair(OneWorkspace),
    /// Have something that lies aside taken back, as the workspace of a tenant that has no other
    Adopt(Adopt),
    /// Have something that lies aside removed for good
    Purge(Purge),
}

#[derive(Debug, clap::Args)]
pub struct Adopt {
    /// The tenant
    pub tenant: String,
    /// The name that `tenantd workspace list` shows
    pub name: String,
}

#[derive(Debug, clap::Args)]
pub struct Purge {
    /// The name that `tenantd workspace list` shows
    pub name: String,
    /// Do not ask; needed where there is no terminal
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Debug, clap::Args)]
pub struct Capacity {
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    pub format: PlanFormat,
}

#[derive(Debug, clap::Args)]
pub struct WorkspaceList {
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    pub format: PlanFormat,
}

#[derive(Debug, clap::Args)]
pub struct OneWorkspace {
    /// The tenant
    pub tenant: String,
}

/// Which journal is meant.
#[derive(Debug, clap::Args)]
pub struct JournalFolder {
    /// The journal's folder, such as a copy [default: the one of this host]
    #[arg(long = "journal", value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Find any record that was altered, removed or reordered
    ///
    /// Exits with 0 where the chain of records holds and no more is missing than the oldest files, with 1 where it does
    /// not, and says where it breaks and which records are missing. Half a record at the end, which a crash leaves, is told of and breaks nothing: the next
    /// start sets it aside.
    Verify(AuditVerify),
    /// Tell what happened in a stretch of time: changes, drift, approvals, suspensions, allowlists, gaps in the record
    ///
    /// Reads the config repo's history and the journals. Exits with 1 where the chain of a journal does not hold; the
    /// report is made all the same and says so.
    Report(AuditReport),
}

#[derive(Debug, clap::Args)]
pub struct AuditReport {
    /// The begin: a time such as 2026-09-01T00:00:00Z, or a length of time such as 90d
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = time::since)]
    pub from: Timestamp,
    /// The end: a time, or a length of time [default: now]
    #[arg(long, value_name = "TIME", value_parser = time::since)]
    pub to: Option<Timestamp>,
    /// The config repo
    #[arg(long, default_value = ".", value_name = "PATH")]
    pub repo: PathBuf,
    /// The commit, branch or tag whose history it is
    #[arg(long, default_value = "HEAD")]
    pub rev: String,
    #[command(flatten)]
    pub path: ConfigPath,
    #[command(flatten)]
    pub journal: JournalFolder,
    /// The form of the report
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    pub format: ReportFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For a terminal
    Text,
    /// Markdown
    Md,
    /// One page with a time line, to be looked at and printed
    Html,
    /// All of it, for programs
    Json,
    /// For spreadsheets: a line for each event
    Csv,
}

#[derive(Debug, clap::Args)]
pub struct AuditVerify {
    /// Print only the first record and the last as FIRST..SEQ:HASH, to be kept elsewhere
    #[arg(long)]
    pub anchor: bool,
    /// Fail unless all that was there when --anchor printed this is there, but for old files that had to go since
    #[arg(long, value_name = "FIRST..SEQ:HASH")]
    pub against: Option<Anchor>,
    #[command(flatten)]
    pub journal: JournalFolder,
}

#[derive(Debug, clap::Args)]
pub struct Schema {
    /// Write the schemas into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "check")]
    pub write: Option<PathBuf>,
    /// Fail where the schemas in this folder are not up to date
    #[arg(long, value_name = "DIR")]
    pub check: Option<PathBuf>,
    /// With --write or --check: the document whose tables of keys are kept up to date as well
    #[arg(long, value_name = "FILE")]
    pub reference: Option<PathBuf>,
    /// Print one schema: tenant, fleet, tiers or host
    #[arg(conflicts_with_all = ["write", "check"])]
    pub name: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

#[derive(Debug, clap::Args)]
pub struct Manual {
    /// The folder that they are written into
    pub dir: PathBuf,
}
