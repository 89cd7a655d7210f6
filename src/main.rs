//! The `tenantd` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    tenantd::cli::main()
}
