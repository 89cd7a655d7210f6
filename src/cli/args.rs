//! What several commands take of the command line.

use std::path::PathBuf;

use clap::ValueEnum;

/// Options of every command that observes a host.
#[derive(Clone, Debug, clap::Args)]
pub struct Global {
    /// The host's settings [default: /etc/tenantd/host.yaml, else built-in ones]
    #[arg(long, global = true, value_name = "FILE")]
    pub host: Option<PathBuf>,
    /// The engine's socket, such as unix:///var/run/docker.sock; overrides DOCKER_HOST, which overrides
    /// host.yaml
    #[arg(long, global = true, value_name = "URL")]
    pub engine: Option<String>,
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

/// Which history is meant.
#[derive(Debug, clap::Args)]
pub struct HistoryOf {
    /// The config repo
    #[arg(long, default_value = ".", value_name = "PATH")]
    pub repo: PathBuf,
    /// The commit, branch or tag whose history it is
    #[arg(long, default_value = "HEAD")]
    pub rev: String,
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
    /// Save the plan as JSON as well: `tenantd apply FILE` applies it as long as nothing it depends on has changed
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

/// Which journal is meant.
#[derive(Debug, clap::Args)]
pub struct JournalFolder {
    /// The journal's folder, such as a copy [default: the one of this host]
    #[arg(long = "journal", value_name = "DIR")]
    pub folder: Option<PathBuf>,
}
