//! What can be written on the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

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
#[derive(Debug, clap::Args)]
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
    /// Make the engine as a config repo declares it
    Apply(Apply),
    /// Show what a tenant printed
    Logs(Logs),
    /// Print the JSON Schemas of the files, or keep a folder of them up to date
    Schema(Schema),
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
    /// The commit, branch or tag
    #[arg(long, default_value = "HEAD", conflicts_with = "worktree")]
    pub rev: String,
    /// Read the folder as it lies there, committed or not
    #[arg(long)]
    pub worktree: bool,
    /// Only this tenant
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct Plan {
    #[command(flatten)]
    pub source: Source,
    /// The form of the plan
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    pub format: PlanFormat,
    /// Exit with 2 where something would change, 0 where nothing would, 1 on errors
    #[arg(long)]
    pub detailed_exitcode: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

#[derive(Debug, clap::Args)]
pub struct Apply {
    #[command(flatten)]
    pub source: Source,
    /// Do not ask; needed where there is no terminal
    #[arg(long, short)]
    pub yes: bool,
    /// How long to wait for another apply to end, such as 30s [default: refuse at once]
    #[arg(long, value_name = "TIME")]
    pub lock_timeout: Option<String>,
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
