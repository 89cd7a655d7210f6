//! For test reports: each tenant is a case, and fails where its file has errors.

use std::fmt::Write;

use super::{Change, Effect, Review, Sides, became, words};
use crate::{
    model::{Finding, Severity},
    plan::render::escape,
};

/// The whole review as JUnit XML.
pub fn junit(review: &Review, sides: Sides<'_>, findings: &[Finding]) -> String {
    let errors = || findings.iter().filter(|finding| finding.severity == Severity::Error);
    let held: Vec<_> = review.tenants.iter().filter(|one| one.change == Change::Held).collect();
    // What is wrong beside the files of tenants fails as a case of its own.
    let beside: Vec<&Finding> = errors().filter(|finding| !finding.file.starts_with("tenants/")).collect();
    let failures = held.len() + usize::from(!beside.is_empty());
    let tests = review.tenants.len() + 1;
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let name = escape(&format!("tenantd plan {} {}", sides.base, sides.now));
    let _ = writeln!(out, "<testsuites name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\">");
    let _ = writeln!(out, "  <testsuite name=\"tenants\" tests=\"{tests}\" failures=\"{failures}\">");
    case(&mut out, "fleet", &beside, "", &review.fleet);
    for one in &review.tenants {
        let file = format!("tenants/{}.", one.tenant);
        let own: Vec<&Finding> = match one.change {
            Change::Held => errors().filter(|finding| finding.file.starts_with(&file)).collect(),
            _ => Vec::new(),
        };
        case(&mut out, &one.tenant, &own, became(one.change), &one.effects);
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

fn case(out: &mut String, name: &str, failures: &[&Finding], became: &str, effects: &[Effect]) {
    let _ = writeln!(out, "    <testcase classname=\"tenantd\" name=\"{}\">", escape(name));
    if let Some(first) = failures.first() {
        let all: Vec<String> = failures.iter().map(ToString::to_string).collect();
        let (message, all) = (escape(&first.message), escape(&all.join("\n")));
        let _ = writeln!(out, "      <failure message=\"{message}\" type=\"{}\">{all}</failure>", first.code);
    }
    let lines = effects.iter().map(|effect| format!("{}: {}", effect.mark.as_str(), words(effect)));
    let lines: Vec<String> = [became.to_owned()].into_iter().filter(|line| !line.is_empty()).chain(lines).collect();
    if !lines.is_empty() {
        let _ = writeln!(out, "      <system-out>{}</system-out>", escape(&lines.join("\n")));
    }
    out.push_str("    </testcase>\n");
}
