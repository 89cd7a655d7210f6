//! For test reports: each tenant is a case, and fails where it cannot be made as declared.

use std::{collections::BTreeMap, fmt::Write};

use super::{Line, lines};
use crate::model::{Finding, Plan, Severity, finding::is_invisible};

/// The whole plan as JUnit XML. `findings` are what is wrong in the files.
pub fn junit(plan: &Plan, revision: &str, findings: &[Finding]) -> String {
    let mut changes: BTreeMap<&str, Vec<Line<'_>>> = BTreeMap::new();
    for line in lines(plan) {
        changes.entry(line.tenant).or_default().push(line);
    }
    let errors: Vec<&Finding> = findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    let failures = plan.blocked().count() + usize::from(!errors.is_empty());
    let tests = plan.tenants.len() + 1;
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let name = escape(&format!("tenantd plan {revision}"));
    let _ = writeln!(out, "<testsuites name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\">");
    let _ = writeln!(out, "  <testsuite name=\"tenants\" tests=\"{tests}\" failures=\"{failures}\">");
    let wrong = errors.first().map(|first| {
        let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
        (first.code, first.message.clone(), all.join("\n"))
    });
    case(&mut out, "files", wrong, &[]);
    for tenant in &plan.tenants {
        let failure = tenant.blocked.as_ref().map(|it| (it.code.as_str(), it.reason.clone(), it.help.clone()));
        case(&mut out, &tenant.tenant, failure, changes.get(tenant.tenant.as_str()).map_or(&[][..], Vec::as_slice));
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

fn case(out: &mut String, name: &str, failure: Option<(&str, String, String)>, changes: &[Line<'_>]) {
    let _ = writeln!(out, "    <testcase classname=\"tenantd\" name=\"{}\">", escape(name));
    if let Some((code, message, text)) = failure {
        let (message, text) = (escape(&message), escape(&text));
        let _ = writeln!(out, "      <failure message=\"{message}\" type=\"{code}\">{text}</failure>");
    }
    let told: Vec<String> = changes.iter().map(ToString::to_string).collect();
    if !told.is_empty() {
        let _ = writeln!(out, "      <system-out>{}</system-out>", escape(&told.join("\n")));
    }
    out.push_str("    </testcase>\n");
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
