//! `tenantd validate-host`.

use std::path::PathBuf;

use serde_json::json;

use super::{
    EXIT_ERROR, EXIT_OK,
    args::Global,
    failure::Failure,
    output,
    report::{self, Remark},
    setup,
    validate::FindingFormat,
};
use crate::{model::tree::Tree, spec};

#[derive(Debug, clap::Args)]
pub struct ValidateHost {
    /// The file [default: that of --host, else /etc/tenantd/host.yaml]
    file: Option<PathBuf>,
    /// The form of the report
    #[arg(long, value_enum, default_value_t = FindingFormat::Text)]
    format: FindingFormat,
}

pub fn run(command: &ValidateHost, global: &Global) -> anyhow::Result<u8> {
    let named = command.file.as_deref().or(global.host.as_deref());
    let Some(file) = setup::host_file(named)? else {
        let what = format!("there is no {}, so the built-in settings apply", setup::HOST_FILE);
        return Err(Failure::asked(what).hint("name the file to check: tenantd validate-host FILE").into());
    };
    let path = file.path.clone();
    let findings = spec::host(&path, &file.bytes).err().unwrap_or_default();
    let remarks = || findings.iter().map(Remark::from).collect::<Vec<_>>();
    match command.format {
        FindingFormat::Text => {
            output::findings(&findings, &Tree { files: vec![file], ..Tree::default() });
            output::print(&match findings.len() {
                0 => format!("{path} is valid.\n"),
                1 => "1 error.\n".to_owned(),
                errors => format!("{errors} errors.\n"),
            })?;
        }
        FindingFormat::Json => {
            let report = json!({"valid": findings.is_empty(), "findings": findings});
            output::print_data(&format!("{report:#}\n"))?;
        }
        FindingFormat::Sarif => output::print_data(&report::sarif(&remarks()))?,
        FindingFormat::Github => output::print_data(&report::annotations(&remarks()))?,
    }
    Ok(if findings.is_empty() { EXIT_OK } else { EXIT_ERROR })
}
