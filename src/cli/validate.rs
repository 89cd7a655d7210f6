//! `tenantd validate`.

use serde_json::{Value, json};

use super::{
    EXIT_ERROR, EXIT_OK,
    args::{FindingFormat, Validate},
    output,
};
use crate::{
    model::{Finding, Severity},
    source::read_directory,
    spec,
};

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
            output::print(&format!("{report:#}\n"))?;
        }
        FindingFormat::Sarif => output::print(&format!("{:#}\n", sarif(findings)))?,
        FindingFormat::Github => output::print(&findings.iter().map(annotation).collect::<String>())?,
    }
    Ok(if errors == 0 { EXIT_OK } else { EXIT_ERROR })
}

fn sarif(findings: &[Finding]) -> Value {
    let mut codes: Vec<&str> = findings.iter().map(|finding| finding.code).collect();
    codes.sort_unstable();
    codes.dedup();
    let results: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "ruleId": finding.code,
                "level": level(finding),
                "message": {"text": with_help(finding)},
                "locations": [{
                    "physicalLocation": {
                        "artifactLocation": {"uri": uri(&finding.file)},
                        "region": {
                            "startLine": finding.line,
                            "startColumn": finding.column,
                            "endColumn": finding.column + finding.length,
                        },
                    },
                }],
            })
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "tenantd",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": codes.iter().map(|code| json!({"id": code})).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn level(finding: &Finding) -> &'static str {
    match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn with_help(finding: &Finding) -> String {
    match &finding.help {
        Some(help) => format!("{}; {help}", finding.message),
        None => finding.message.clone(),
    }
}

/// A path as a URI reference: what could be read as something else is escaped.
fn uri(path: &str) -> String {
    path.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// A workflow command of GitHub Actions. What ends a command or a property is escaped, so that no
/// file's text can write a command of its own.
fn annotation(finding: &Finding) -> String {
    let message = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| message(text).replace(':', "%3A").replace(',', "%2C");
    format!(
        "::{} file={},line={},col={},endColumn={},title={}::{}\n",
        level(finding),
        property(&finding.file),
        finding.line,
        finding.column,
        finding.column + finding.length,
        property(finding.code),
        message(&with_help(finding)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Span;

    #[test]
    fn a_files_text_cannot_write_a_workflow_command() {
        let span = Span { line: 1, column: 2, length: 3 };
        let finding = Finding::error("tenants/a,b:c.yaml", span, "syntax", "100% wrong", Some("a"));
        assert_eq!(
            annotation(&finding),
            "::error file=tenants/a%2Cb%3Ac.yaml,line=1,col=2,endColumn=5,title=syntax::100%25 wrong; a\n"
        );
    }
}
