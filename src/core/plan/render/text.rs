//! A plan in the words and symbols that Terraform's users know.

use std::fmt::Write;

use anstyle::AnsiColor;
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use crate::model::{
    Bytes, Container, Cpus, Network, Plan, TenantPlan,
    attribute::{self, Attribute, Unit},
    change::{Action, AttributeChange, Change, Object, ShownFiles, ShownWorkspace},
    egress::EgressPath,
    finding::printable,
    plan::{Blocked, Lookalike, Note},
    record::Why,
    resource::Resource,
    step::ChangeId,
};

/// Whether symbols are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Plain text.
    Plain,
    /// With ANSI colours.
    Colour,
}

/// How a piece of text is coloured.
pub type Paint = anstyle::Style;

/// No colour.
pub const PLAIN: Paint = Paint::new();
/// The colour of what is added or well.
pub const GREEN: Paint = AnsiColor::Green.on_default();
/// The colour of what changes or waits.
pub const YELLOW: Paint = AnsiColor::Yellow.on_default();
/// The colour of what is removed or wrong.
pub const RED: Paint = AnsiColor::Red.on_default();
/// Bold text.
pub const BOLD: Paint = Paint::new().bold();

impl Style {
    /// Text in a colour, where colours are wanted.
    pub fn paint(self, paint: Paint, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("{paint}{text}{paint:#}"),
        }
    }
}

/// A text with spaces behind it, up to a width in columns of a terminal.
pub fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// Rows in columns as wide as their longest cell.
pub fn aligned(rows: &[impl AsRef<[String]>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows.iter().map(AsRef::as_ref) {
        widths.resize(widths.len().max(row.len()), 0);
        row.iter().zip(&mut widths).for_each(|(cell, width)| *width = cell.width().max(*width));
    }
    rows.iter().fold(String::new(), |mut text, row| {
        let cells = row.as_ref().iter().zip(&widths).map(|(cell, width)| padded(cell, *width));
        let cells: Vec<String> = cells.collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
        text
    })
}

/// The whole plan, ending with a newline.
pub fn text(plan: &Plan, style: Style) -> String {
    let mut out = Writer { text: String::new(), style };
    for tenant in &plan.tenants {
        out.tenant(tenant);
    }
    out.blocked(plan);
    out.notes(plan);
    let summary = out.paint(BOLD, &summary(plan));
    out.line(&summary);
    out.text
}

/// The last line of a plan.
pub fn summary(plan: &Plan) -> String {
    let blocked = plan.blocked().count();
    let held = plan.tenants.iter().filter(|tenant| tenant.notes.contains(&Note::Held)).count();
    let mut line = if plan.is_empty() {
        match blocked + held {
            0 => "No changes. The engine matches the configuration.".to_owned(),
            _ => "No changes.".to_owned(),
        }
    } else {
        let totals = plan.totals();
        format!("Plan: {} to add, {} to change, {} to destroy.", totals.add, totals.change, totals.destroy)
    };
    let (kept, contained) = (plan.totals().archive, plan.totals().contain);
    if kept > 0 {
        let _ = write!(line, " {kept} workspace{} to archive.", plural(kept));
    }
    if contained > 0 {
        let _ = write!(line, " {contained} tenant{} to contain.", plural(contained));
    }
    if blocked > 0 {
        let _ = write!(line, " {blocked} tenant{} blocked.", plural(blocked));
    }
    if held > 0 {
        let _ = write!(line, " {held} tenant{} held, because of errors in the files.", plural(held));
    }
    line
}

/// Why a tenant cannot be made as declared, in one line.
pub fn blocked_line(tenant: &str, blocked: &Blocked) -> String {
    format!("tenant {tenant} is blocked ({}): {}; {}", blocked.code, blocked.reason, blocked.help)
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

struct Writer {
    text: String,
    style: Style,
}

impl Writer {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn paint(&self, paint: Paint, text: &str) -> String {
        self.style.paint(paint, text)
    }

    fn tenant(&mut self, tenant: &TenantPlan) {
        for (id, change) in tenant.changes() {
            self.change(tenant, id, change);
        }
    }

    fn change(&mut self, tenant: &TenantPlan, id: ChangeId, change: &Change) {
        let address = format!("{}.{}", change.resource.as_str(), change.name);
        let what = becomes(tenant.is_stopped(), change);
        let comment = self.paint(BOLD, &format!("# {address} {what}"));
        self.line(&format!("  {comment}"));
        let (symbol, colour) = match change.action {
            Action::Create => ("  +", GREEN),
            Action::Update => ("  ~", YELLOW),
            Action::Replace => ("-/+", YELLOW),
            Action::Delete => ("  -", RED),
        };
        let symbol = self.paint(colour, symbol);
        self.line(&format!("{symbol} {} {:?} {{", change.resource.as_str(), change.name));
        match change.action {
            Action::Create => self.object("+", GREEN, change.after.as_ref()),
            Action::Delete => self.object("-", RED, change.before.as_ref()),
            Action::Update | Action::Replace => {
                let width = change.attributes.iter().map(|a| a.attribute.label.len()).max().unwrap_or(0);
                for attribute in &change.attributes {
                    self.attribute(attribute, width);
                }
            }
        }
        self.containment(tenant, id, change);
        self.line("    }\n");
    }

    fn attribute(&mut self, change: &AttributeChange, width: usize) {
        let symbol = self.paint(YELLOW, "~");
        let comments = comments(change);
        let comment = match comments.is_empty() {
            true => String::new(),
            false => format!(" # {}", comments.join(", ")),
        };
        let (before, after) = values(change.attribute, &change.before, &change.after);
        self.line(&format!("      {symbol} {:width$} = {before} -> {after}{comment}", change.attribute.label));
    }

    /// Says which containment comes first, for the change that it is part of.
    fn containment(&mut self, tenant: &TenantPlan, id: ChangeId, change: &Change) {
        // Limits that a commit lowers are lowered first as well, which contains nothing.
        let weakens = change.attributes.iter().any(|attribute| attribute.weakens);
        let own = tenant.contain.iter().filter(|planned| planned.facts.change == Some(id));
        let own = own.filter(|planned| weakens || !planned.step.changes_limits());
        let mut words: Vec<&str> = own.filter_map(|planned| planned.step.def().contains).collect();
        words.dedup();
        if !words.is_empty() && change.action != Action::Create {
            let order = if tenant.is_stopped() { "contained" } else { "contained first" };
            self.line(&format!("        # {order}: {}", words.join(" and ")));
        }
    }

    /// The attributes that distinguish one object from another; the rest is the same for all tenants.
    fn object(&mut self, symbol: &str, colour: Paint, object: Option<&Object>) {
        let rows = match object {
            Some(Object::Container(container)) => container_rows(container),
            Some(Object::Network(network)) => network_rows(network),
            Some(Object::Workspace(workspace)) => workspace_rows(workspace),
            Some(Object::Files(files)) => files_rows(files),
            Some(Object::Egress(egress)) => egress_rows(egress),
            None => Vec::new(),
        };
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let symbol = self.paint(colour, symbol);
        for (name, value) in rows {
            self.line(&format!("      {symbol} {name:width$} = {value}"));
        }
    }

    fn blocked(&mut self, plan: &Plan) {
        for (tenant, blocked) in plan.blocked() {
            let heading = self.paint(RED, &format!("Blocked: {}", printable(tenant)));
            let (reason, help) = (printable(&blocked.reason), printable(&blocked.help));
            self.line(&format!("{heading} ({})\n  {reason}\n  help: {help}\n", blocked.code));
        }
    }

    /// One line for each tenant that a person should know more about.
    fn notes(&mut self, plan: &Plan) {
        let noted = || plan.tenants.iter().filter(|tenant| !(tenant.notes.is_empty() && tenant.lookalikes.is_empty()));
        for tenant in noted() {
            let notes = tenant.notes.iter().map(|note| remark(*note).to_owned());
            let notes: Vec<String> = notes.chain(tenant.lookalikes.iter().map(Lookalike::remark)).collect();
            self.line(&format!("Note: {}: {}", tenant.tenant, notes.join("; ")));
        }
        if noted().next().is_some() {
            self.line("");
        }
    }
}

/// What becomes of a resource, in words; `stopped` where its tenant is blocked.
pub(super) fn becomes(stopped: bool, change: &Change) -> &'static str {
    match (stopped, change.action, change.resource) {
        (true, ..) => "differs, and is not repaired: the tenant is blocked",
        (_, Action::Create, _) => "will be created",
        (_, Action::Update, _) => "will be updated in-place",
        (_, Action::Replace, _) => "must be replaced",
        (_, Action::Delete, Resource::Workspace) => "will be archived",
        (_, Action::Delete, _) => "will be destroyed",
    }
}

/// What there is to say of a difference beside its values.
pub(super) fn comments(change: &AttributeChange) -> Vec<&'static str> {
    let details = [
        (change.why == Why::Drift).then_some("drift"),
        change.weakens.then_some("weakens isolation"),
        change.remark,
        change.forces_replacement.then_some("forces replacement"),
    ];
    details.into_iter().flatten().collect()
}

fn remark(note: Note) -> &'static str {
    match note {
        Note::DiskUnenforced => "limits.disk is unenforced, /workspace is a plain folder on the host",
        Note::CpusCapped => "limits.cpus is more than the engine has, so it may use all of its processors",
        Note::NoIngress => "its ports are exposed to nobody, as this host has no ingress",
        Note::Held => "held as it is, its file has errors",
        Note::Paused => "paused: it is frozen, and keeps its memory",
        Note::Asleep => "asleep: nothing of it runs, and its workspace is kept",
    }
}

/// A name and a value.
type Row = (&'static str, String);

fn container_rows(container: &Container) -> Vec<Row> {
    use attribute::container::{
        CAP_DROP, IMAGE, MEMORY, MEMORY_SWAP, NAME, NANO_CPUS, PIDS_LIMIT, READ_ONLY, RUNTIME, SECURITY_OPT, USER,
    };
    vec![
        (NAME.label, format!("{:?}", container.name)),
        (IMAGE.label, format!("{:?}", container.image)),
        (RUNTIME.label, format!("{:?}", container.runtime)),
        (NANO_CPUS.label, amount(&NANO_CPUS, container.nano_cpus)),
        (MEMORY.label, amount(&MEMORY, container.memory)),
        (MEMORY_SWAP.label, amount(&MEMORY_SWAP, container.memory_swap)),
        (PIDS_LIMIT.label, container.pids_limit.to_string()),
        (USER.label, format!("{:?}", container.user)),
        (READ_ONLY.label, container.read_only.to_string()),
        (CAP_DROP.label, list(&container.cap_drop)),
        (SECURITY_OPT.label, list(&container.security_opt)),
        ("network", format!("{:?}", container.network_mode)),
    ]
}

fn network_rows(network: &Network) -> Vec<Row> {
    use attribute::network::{INTERNAL, NAME};
    let subnets: Vec<String> = network.ranges.iter().map(|range| range.subnet.clone()).collect();
    vec![
        (NAME.label, format!("{:?}", network.name)),
        ("subnet", list(&subnets)),
        (INTERNAL.label, network.internal.to_string()),
    ]
}

fn workspace_rows(workspace: &ShownWorkspace) -> Vec<Row> {
    use attribute::workspace::{BACKEND, LIMIT, MODE, PATH, UID};
    let mut rows = vec![
        (PATH.label, format!("{:?}", workspace.path)),
        (BACKEND.label, format!("{:?}", workspace.backend.as_str())),
    ];
    rows.extend(workspace.limit.map(|limit| (LIMIT.label, format!("\"{limit}\""))));
    rows.push((UID.label, workspace.folder.uid.to_string()));
    rows.push((MODE.label, format!("\"{:04o}\"", workspace.folder.mode)));
    rows
}

fn files_rows(files: &ShownFiles) -> Vec<Row> {
    use attribute::files::{CONTENT, PATH};
    let paths: Vec<String> = files.content.keys().cloned().collect();
    vec![(PATH.label, format!("{:?}", files.path)), (CONTENT.label, list(&paths))]
}

fn egress_rows(egress: &EgressPath) -> Vec<Row> {
    use attribute::egress::{ALLOW, BRIDGE, BUDGET, LINK, ROUTES, SECRETS, SUBNET};
    let names: Vec<String> = egress.secrets.iter().map(ToString::to_string).collect();
    let lists = [(&ALLOW, &egress.allow), (&ROUTES, &egress.routes), (&BUDGET, &egress.budget), (&SECRETS, &names)];
    let lists = lists.into_iter().filter(|(_, items)| !items.is_empty());
    let mut rows = vec![(LINK.label, format!("{:?}", egress.link)), (BRIDGE.label, format!("{:?}", egress.bridge))];
    rows.extend(egress.subnet.map(|subnet| (SUBNET.label, format!("\"{subnet}\""))));
    rows.extend(lists.map(|(attribute, items)| (attribute.label, list(items))));
    rows
}

fn list(items: &[String]) -> String {
    format!("{items:?}")
}

/// Actual and declared value. Of two long lists only what differs is shown.
///
/// JSON escapes control characters, and leaves others that nobody sees.
pub(crate) fn values(attribute: &Attribute, before: &Value, after: &Value) -> (String, String) {
    let (before, after) = raw_values(attribute, before, after);
    (printable(&before), printable(&after))
}

fn raw_values(attribute: &Attribute, before: &Value, after: &Value) -> (String, String) {
    match (before, after) {
        (Value::Array(before), Value::Array(after)) if before.len() + after.len() > 4 => {
            let only = |these: &[Value], those: &[Value]| {
                let rest: Vec<&Value> = these.iter().filter(|item| !those.contains(item)).collect();
                let hidden = these.len() - rest.len();
                let mut shown: Vec<String> = rest.iter().map(|item| item.to_string()).collect();
                if hidden > 0 {
                    shown.push(format!("… {hidden} more"));
                }
                format!("[{}]", shown.join(", "))
            };
            (only(before, after), only(after, before))
        }
        (Value::Object(before), Value::Object(after)) => {
            let only = |these: &serde_json::Map<String, Value>, those: &serde_json::Map<String, Value>| {
                let rest: Vec<String> = these
                    .iter()
                    .filter(|(key, value)| those.get(*key) != Some(value))
                    .map(|(key, value)| format!("{key:?}: {value}"))
                    .collect();
                format!("{{{}}}", rest.join(", "))
            };
            (only(before, after), only(after, before))
        }
        (before, after) => (value(attribute, before), value(attribute, after)),
    }
}

fn value(attribute: &Attribute, value: &Value) -> String {
    value.as_i64().map_or_else(|| value.to_string(), |number| amount(attribute, number))
}

/// A number with the unit of its attribute. None of a limit is written as zero.
fn amount(attribute: &Attribute, number: i64) -> String {
    match (u64::try_from(number), attribute.unit) {
        (Err(_), _) => "unlimited".to_owned(),
        (Ok(0), _) if attribute.is_limit() => "unlimited".to_owned(),
        (Ok(bytes), Unit::Bytes) => format!("\"{}\"", Bytes::new(bytes)),
        (Ok(nanos), Unit::Cpus) => Cpus::from_nanos(nanos).to_string(),
        (Ok(number), Unit::Number) => number.to_string(),
    }
}
