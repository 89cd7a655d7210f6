//! For test reports: each tenant is a case, and fails where it cannot be made as declared.

use std::{collections::BTreeMap, fmt::Write};

use super::{Line, lines};
use crate::model::{Finding, Plan, Severity, finding::is_invisible};

/// One case of a test report.
pub(crate) struct Case<'a> {
    /// What is tested.
    pub name: &'a str,
    /// Why it fails: a rule, a message and all that is known. `None` where it does not.
    pub failure: Option<(&'a str, String, String)>,
    /// What happens, line by line.
    pub lines: Vec<String>,
}

/// A test report, by the name of its run.
pub(crate) fn report(run: &str, cases: &[Case<'_>]) -> String {
    let (tests, failures) = (cases.len(), cases.iter().filter(|case| case.failure.is_some()).count());
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a string does not fail.
    let name = escape(run);
    let _ = writeln!(out, "<testsuites name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\">");
    let _ = writeln!(out, "  <testsuite name=\"tenants\" tests=\"{tests}\" failures=\"{failures}\">");
    for Case { name, failure, lines } in cases {
        let _ = writeln!(out, "    <testcase classname=\"tenantd\" name=\"{}\">", escape(name));
        if let Some((rule, message, text)) = failure {
            let (message, text) = (escape(message), escape(text));
            let _ = writeln!(out, "      <failure message=\"{message}\" type=\"{rule}\">{text}</failure>");
        }
        if !lines.is_empty() {
            let _ = writeln!(out, "      <system-out>{}</system-out>", escape(&lines.join("\n")));
        }
        out.push_str("    </testcase>\n");
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

/// How a case fails by what is wrong in files: the first finding, and all of them.
pub(crate) fn wrong(findings: &[&Finding]) -> Option<(&'static str, String, String)> {
    let all: Vec<String> = findings.iter().map(ToString::to_string).collect();
    findings.first().map(|first| (first.code, first.message.clone(), all.join("\n")))
}

/// The whole plan as JUnit XML. `findings` are what is wrong in the files.
pub fn junit(plan: &Plan, revision: &str, findings: &[Finding]) -> String {
    let mut changes: BTreeMap<&str, Vec<Line<'_>>> = BTreeMap::new();
    for line in lines(plan) {
        changes.entry(line.tenant).or_default().push(line);
    }
    let errors: Vec<&Finding> = findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    let mut cases = vec![Case { name: "files", failure: wrong(&errors), lines: Vec::new() }];
    cases.extend(plan.tenants.iter().map(|tenant| Case {
        name: &tenant.tenant,
        failure: tenant.blocked.as_ref().map(|it| (it.code.as_str(), it.reason.clone(), it.help.clone())),
        lines: changes.get(tenant.tenant.as_str()).into_iter().flatten().map(ToString::to_string).collect(),
    }));
    report(&format!("tenantd plan {revision}"), &cases)
}

/// Text in XML or HTML, also between double quotes. Control characters, which XML cannot hold at all, are left out.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push('\n'),
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => {}
            c if is_invisible(c) => escaped.extend(c.escape_default()),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn no_value_can_end_its_element() {
        assert_eq!(escape("a<b>\"&\u{1}\n]]>"), "a&lt;b&gt;&quot;&amp;\n]]&gt;");
        assert_eq!(escape("a\u{202e}b"), "a\\u{202e}b");
    }
}
