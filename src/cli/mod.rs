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
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use exit::{EXIT_CHANGES, EXIT_ERROR, EXIT_OK};

use crate::model::Power;

/// Runs the command line's command. Errors go to standard error, with every cause in one line and what to do next in another.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let global = &args.global;
    let result = match &args.command {
        Command::Validate(command) => validate::run(command),
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
        Command::Completions(command) => manual::completions(command),
        Command::Man(command) => manual::pages(command),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            failure::print(&error);
            ExitCode::from(EXIT_ERROR)
        }
    }
}
