//! The commands, over the same functions that everything else uses.

mod apply;
mod approve;
mod args;
mod audit;
mod audit_report;
mod changed;
mod commits;
pub mod documents;
mod egress;
mod events;
mod exit;
mod explain;
mod failure;
mod gateway;
mod history;
mod ingress;
mod logging;
mod logs;
mod manual;
mod outcomes;
mod output;
mod past;
mod plan;
mod power;
mod report;
mod review;
mod run;
mod schema;
mod setup;
mod snapshot;
mod status;
mod suspend;
mod terminal;
mod time;
mod token;
mod usage;
mod validate;
mod validate_host;
mod workspace;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use args::Global;
use exit::{EXIT_CHANGES, EXIT_ERROR, EXIT_OK};

use crate::model::Power;

/// Keeps a Docker Engine's tenants as a git repository declares them.
#[derive(Debug, Parser)]
#[command(name = "tenantd", version, max_term_width = 100)]
struct Args {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the files of a config repo and report every error at once
    Validate(validate::Validate),
    /// Check the host's settings as the daemon would read them, and report every error at once
    ValidateHost(validate_host::ValidateHost),
    /// Show what would change on the engine; changes nothing
    Plan(args::Plan),
    /// Show the commits that changed what is in force, newest first
    History(history::History),
    /// Show every setting of a tenant, where it comes from, and who wrote that
    Explain(explain::Explain),
    /// Write the observed state of this host, signed and without secrets, for plans made elsewhere
    Snapshot(snapshot::Command),
    /// Change the engine once to what a config repo declares
    Apply(apply::Apply),
    /// Run the daemon: follow the config repo, and reconcile the engine with it
    Run(run::Run),
    /// Run the egress gateway, which lets tenants reach what their allowlists say and nothing else
    Gateway(gateway::Gateway),
    /// Run the ingress, by which requests from outside reach the ports that tenants expose
    Ingress(ingress::Ingress),
    /// Show what a tenant printed
    Logs(logs::Logs),
    /// Show the state of the daemon, the config repo and the tenants
    Status(status::Command),
    /// Stop reconciling a tenant until a time
    Suspend(suspend::Suspend),
    /// Reconcile a suspended tenant again
    Resume(suspend::Resume),
    /// Freeze a tenant, which keeps its memory
    Pause(power::SetPower),
    /// End a tenant's container and network, and keep its files and its addresses
    Sleep(power::SetPower),
    /// Run a tenant again that is paused or asleep
    Start(power::SetPower),
    /// Make a token that lets its bearer in to a tenant through ingress, or revoke one
    Token(token::Token),
    /// Approve a commit that the daemon holds
    Approve(approve::Approve),
    /// Reconcile now, without waiting for an event
    Reconcile(approve::Reconcile),
    /// Show from the journal what was changed, when and why
    Events(events::Events),
    /// Show what each tenant sent and received through the gateway, and the credits that it used
    Usage(usage::Usage),
    /// Review allowlists, and encrypt secrets
    #[command(subcommand)]
    Egress(egress::Egress),
    /// Show the sum of all disk limits, what is used, and what is free
    Capacity(workspace::Capacity),
    /// List, check, repair, restore and delete workspaces
    #[command(subcommand)]
    Workspace(workspace::Workspace),
    /// Verify the journal, and report what happened in a period
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Print the schemas of the files and of the daemon's socket, or keep a folder of them up to date
    Schema(schema::Schema),
    /// Print a completion script for a shell
    Completions(manual::Completions),
    /// Write the manual pages, for packages
    #[command(hide = true)]
    Man(manual::Manual),
}

/// Runs the command line's command. Errors go to standard error, with every cause in one line and what to do next in another.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let global = &args.global;
    let result = match &args.command {
        Command::Validate(command) => validate::run(command),
        Command::ValidateHost(command) => validate_host::run(command, global),
        Command::Plan(command) => plan::run(command, global),
        Command::History(command) => history::run(command, global),
        Command::Explain(command) => explain::run(command, global),
        Command::Snapshot(command) => snapshot::run(command, global),
        Command::Apply(command) => apply::run(command, global),
        Command::Run(command) => run::run(command, global),
        Command::Gateway(command) => gateway::run(command, global),
        Command::Ingress(command) => ingress::run(command, global),
        Command::Logs(command) => logs::run(command, global),
        Command::Status(command) => status::run(command, global),
        Command::Suspend(command) => suspend::suspend(command, global),
        Command::Resume(command) => suspend::resume(command, global),
        Command::Pause(command) => power::set(command, Power::Paused, global),
        Command::Sleep(command) => power::set(command, Power::Asleep, global),
        Command::Start(command) => power::set(command, Power::Running, global),
        Command::Token(command) => token::run(command, global),
        Command::Approve(command) => approve::approve(command, global),
        Command::Reconcile(command) => approve::reconcile(command, global),
        Command::Events(command) => events::run(command, global),
        Command::Usage(command) => usage::run(command, global),
        Command::Egress(command) => egress::run(command, global),
        Command::Capacity(command) => workspace::capacity(command, global),
        Command::Workspace(command) => workspace::run(command, global),
        Command::Audit(command) => audit::run(command, global),
        Command::Schema(command) => schema::run(command),
        Command::Completions(command) => manual::completions(command, Args::command()),
        Command::Man(command) => manual::pages(command, Args::command()),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            failure::print(&error);
            ExitCode::from(EXIT_ERROR)
        }
    }
}
