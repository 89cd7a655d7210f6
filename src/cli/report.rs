//! Remarks on lines of files, for whoever shows them there: SARIF, and annotations of GitHub Actions.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::terminal::readable;
use crate::model::{
    Finding, Severity,
    finding::{Location, Span},
};

/// How much a remark weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// It must be put right.
    Error,
    /// Somebody should look.
    Warning,
    /// It is good to know.
    Note,
}

/// Something about a line of a file.
#[derive(Clone, Debug)]
pub struct Remark {
    /// How much it weighs.
    pub level: Level,
    /// The rule's name.
    pub rule: String,
    /// Where.
    pub at: Location,
    /// What.
    pub message: String,
}

impl From<&Finding> for Remark {
    fn from(finding: &Finding) -> Self {
        let level = match finding.severity {
            Severity::Error => Level::Error,
            Severity::Warning => Level::Warning,
        };
        let message = match &finding.help {
            Some(help) => format!("{}; {help}", finding.message),
            None => finding.message.clone(),
        };
        let at = Location { file: finding.file.clone(), span: finding.span() };
        Self { level, rule: finding.code.to_owned(), at, message }
    }
}

/// A SARIF 2.1.0 document, ending with a newline.
pub fn sarif(remarks: &[Remark]) -> String {
    let mut rules: Vec<&str> = remarks.iter().map(|remark| remark.rule.as_str()).collect();
    rules.sort_unstable();
    rules.dedup();
    let result = |remark: &Remark| -> Value {
        let Span { line, column, length } = remark.at.span;
        let level = match remark.level {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Note => "note",
        };
        json!({
            "ruleId": remark.rule,
            "level": level,
            "message": {"text": remark.message},
            "locations": [{
                "physicalLocation": {
                    "artifactLocation": {"uri": utf8_percent_encode(&remark.at.file, PATH).to_string()},
                    "region": {"startLine": line, "startColumn": column, "endColumn": column + length},
                },
            }],
        })
    };
    let document = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "tenantd",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().map(|rule| json!({"id": rule})).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": remarks.iter().map(result).collect::<Vec<_>>(),
        }],
    });
    format!("{document:#}\n")
}

/// What is escaped in a path that is a URI reference: all that could be read as something else.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Workflow commands of GitHub Actions, a line for each remark. What ends a command or a property is escaped, so that
/// no file's text can write a command of its own.
pub fn annotations(remarks: &[Remark]) -> String {
    let message = |text: &str| readable(text, false).replace('%', "%25").replace('\n', "%0A");
    let property = |text: &str| message(text).replace(':', "%3A").replace(',', "%2C");
    let line = |remark: &Remark| {
        let Span { line, column, length } = remark.at.span;
        let level = match remark.level {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Note => "notice",
        };
        format!(
            "::{level} file={},line={line},col={column},endColumn={},title={}::{}\n",
            property(&remark.at.file),
            column + length,
            property(&remark.rule),
            message(&remark.message),
        )
    };
    remarks.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_text_cannot_write_a_workflow_command() {
        let span = Span { line: 1, column: 2, length: 3 };
        let finding = Finding::error("tenants/a,b:c.yaml", span, "syntax", "100% wrong", Some("a"));
        assert_eq!(
            annotations(&[Remark::from(&finding)]),
            "::error file=tenants/a%2Cb%3Ac.yaml,line=1,col=2,endColumn=5,title=syntax::100%25 wrong; a\n"
        );
    }
}
