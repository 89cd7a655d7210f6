//! The commands, over the same functions that everything else uses.

mod apply;
mod approve;
mod args;
mod audit;
mod audit_report;
mod commits;
mod egress;
mod events;
mod exit;
mod explain;
mod failure;
mod gateway;
mod history;
mod logging;
mod logs;
mod manual;
mod outcomes;
mod output;
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
    /// Write what the engine and the host have, signed and without secrets, for plans that are made elsewhere
    Snapshot(snapshot::Command),
    /// Make the engine as a config repo declares it
    Apply(apply::Apply),
    /// Follow the config repo and the engine, and make the one as the other says
    Run(run::Run),
    /// Let tenants out to where their allowlists say, and nowhere else
    Gateway(gateway::Gateway),
    /// Show what a tenant printed
    Logs(logs::Logs),
    /// Show how the daemon, the config repo and the tenants stand
    Status(status::Command),
    /// Have the daemon leave a tenant alone until a time
    Suspend(suspend::Suspend),
    /// Have the daemon look after a suspended tenant again
    Resume(suspend::Resume),
    /// Have the daemon freeze a tenant, which keeps its memory
    Pause(power::SetPower),
    /// Have the daemon end a tenant's container and network, and keep its files and its addresses
    Sleep(power::SetPower),
    /// Have the daemon run a tenant again that is paused or asleep
    Start(power::SetPower),
    /// Bring a commit into force that the daemon holds
    Approve(approve::Approve),
    /// Have the daemon look now, without waiting for an event
    Reconcile(approve::Reconcile),
    /// Show what was changed, when and why, as the journal has it
    Events(events::Events),
    /// Show what each tenant sent and received through the gateway, and the credits that it used
    Usage(usage::Usage),
    /// Look after what tenants may reach
    #[command(subcommand)]
    Egress(egress::Egress),
    /// Show what the workspaces of all tenants are promised, what they take, and what is free
    Capacity(workspace::Capacity),
    /// Look after the workspaces of tenants
    #[command(subcommand)]
    Workspace(workspace::Workspace),
    /// Check that nobody changed the journal, and tell what happened in a stretch of time
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Print the schemas of the files and of the daemon's socket, or keep a folder of them up to date
    Schema(schema::Schema),
    /// Print what a shell completes the command line with
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
        Command::Logs(command) => logs::run(command, global),
        Command::Status(command) => status::run(command, global),
        Command::Suspend(command) => suspend::suspend(command, global),
        Command::Resume(command) => suspend::resume(command, global),
        Command::Pause(command) => power::set(command, Power::Paused, global),
        Command::Sleep(command) => power::set(command, Power::Asleep, global),
        Command::Start(command) => power::set(command, Power::Running, global),
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
