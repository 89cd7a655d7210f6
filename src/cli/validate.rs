//! `tenantd validate`.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::json;

use super::{
    EXIT_ERROR, EXIT_OK, output,
    report::{self, Remark},
};
use crate::{
    model::{Finding, Severity},
    source::read_directory,
    spec,
};

#[derive(Debug, clap::Args)]
pub struct Validate {
    /// The folder with fleet.yaml and tenants/
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// The form of the report
    #[arg(long, value_enum, default_value_t = FindingFormat::Text)]
    format: FindingFormat,
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

pub fn run(command: &Validate) -> anyhow::Result<u8> {
    let tree = read_directory(&command.dir)?;
    let desired = spec::compile(&tree);
    let findings = &desired.findings;
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    match command.format {
        FindingFormat::Text => {
            output::findings(findings, &tree);
            let (valid, held) = (desired.tenants.len(), desired.held.len());
            output::print(&match errors {
                0 => format!("{valid} tenant{} valid.\n", if valid == 1 { "" } else { "s" }),
                _ => format!("{errors} error{}; {valid} valid, {held} held.\n", if errors == 1 { "" } else { "s" }),
            })?;
        }
        FindingFormat::Json => {
            let valid: Vec<&str> = desired.tenants.keys().map(|name| name.as_str()).collect();
            let report = json!({"valid": errors == 0, "findings": findings, "tenants": valid, "held": desired.held});
            output::print_data(&format!("{report:#}\n"))?;
        }
        FindingFormat::Sarif => output::print_data(&report::sarif(&remarks(findings)))?,
        FindingFormat::Github => output::print_data(&report::annotations(&remarks(findings)))?,
    }
    Ok(if errors == 0 { EXIT_OK } else { EXIT_ERROR })
}

fn remarks(findings: &[Finding]) -> Vec<Remark> {
    findings.iter().map(Remark::from).collect()
}
