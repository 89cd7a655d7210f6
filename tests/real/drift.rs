//! One attribute that was tampered with behind tenantd's back: what the plan must say, and the repair.

use serde_json::{Value, json};

use crate::{
    engine::text,
    fleet::{Fleet, attribute, names},
};

/// A way to tamper with one attribute.
pub struct Drift {
    /// The attribute that must be named.
    pub attribute: &'static str,
    /// What was done, for a person who reads a failure.
    what: &'static str,
    tamper: Tampering,
    /// The actual value in the plan.
    before: Expected,
    /// The declared value in the plan.
    after: Expected,
    /// What the line for people must show, besides the words of the two values.
    shown: Option<(&'static str, &'static str)>,
    /// Attributes that this tampering brings with it on some or all engines.
    also: &'static [&'static str],
    weakens: bool,
    in_place: bool,
    cause: &'static str,
    /// The key of HostConfig that an older engine does not know and leaves out without a word.
    newer: Option<&'static str>,
}

type Edit = Box<dyn Fn(&Fleet, &mut Value)>;

enum Tampering {
    /// The container is made anew with a body that was changed.
    Body(Edit),
    /// `docker update`.
    Update(Value),
    /// Anything else.
    Other(Box<dyn Fn(&Fleet)>),
}

enum Expected {
    Exactly(Value),
    /// A list, with an item that holds this text.
    Holding(&'static str),
    Anything,
}

impl Drift {
    fn new(attribute: &'static str, what: &'static str, tamper: Tampering) -> Self {
        Self {
            attribute,
            what,
            tamper,
            before: Expected::Anything,
            after: Expected::Anything,
            shown: None,
            also: &[],
            weakens: true,
            in_place: false,
            cause: "drift",
            newer: None,
        }
    }

    /// A key of the create body's HostConfig is another.
    pub fn host(attribute: &'static str, what: &'static str, key: &'static str, value: Value) -> Self {
        Self::body(attribute, what, move |_, body| body["HostConfig"][key] = value.clone())
    }

    /// A key of the create body's outer part is another.
    pub fn config(attribute: &'static str, what: &'static str, key: &'static str, value: Value) -> Self {
        Self::body(attribute, what, move |_, body| body[key] = value.clone())
    }

    pub fn body(attribute: &'static str, what: &'static str, edit: impl Fn(&Fleet, &mut Value) + 'static) -> Self {
        Self::new(attribute, what, Tampering::Body(Box::new(edit)))
    }

    pub fn update(attribute: &'static str, what: &'static str, body: Value) -> Self {
        Self { in_place: true, ..Self::new(attribute, what, Tampering::Update(body)) }
    }

    pub fn other(attribute: &'static str, what: &'static str, tamper: impl Fn(&Fleet) + 'static) -> Self {
        Self::new(attribute, what, Tampering::Other(Box::new(tamper)))
    }

    pub fn values(self, before: Value, after: Value) -> Self {
        Self { before: Expected::Exactly(before), after: Expected::Exactly(after), ..self }
    }

    pub fn holding(self, before: &'static str, after: Value) -> Self {
        Self { before: Expected::Holding(before), after: Expected::Exactly(after), ..self }
    }

    /// The declared value depends on the machine.
    pub fn any_declared(self) -> Self {
        Self { after: Expected::Anything, ..self }
    }

    pub fn shown(self, before: &'static str, after: &'static str) -> Self {
        Self { shown: Some((before, after)), ..self }
    }

    pub fn also(self, also: &'static [&'static str]) -> Self {
        Self { also, ..self }
    }

    pub fn harmless(self) -> Self {
        Self { weakens: false, ..self }
    }

    pub fn replaces(self) -> Self {
        Self { in_place: false, ..self }
    }

    pub fn in_place(self) -> Self {
        Self { in_place: true, ..self }
    }

    /// Older engines do not know this key of HostConfig.
    pub fn newer(self, key: &'static str) -> Self {
        Self { newer: Some(key), ..self }
    }

    pub fn intended(self) -> Self {
        Self { cause: "intent", ..self }
    }

    pub fn name(&self) -> String {
        format!("{}: {}", self.attribute, self.what)
    }

    /// Tampers, plans, repairs and plans again.
    pub fn case(&self, fleet: &Fleet, tenant: &str) {
        let name = format!("tenantd-{tenant}");
        let engine = &fleet.engine;
        let proper = engine.identity(&name);
        let warnings = match &self.tamper {
            Tampering::Body(edit) => fleet.recreate(tenant, false, |body| edit(fleet, body)),
            Tampering::Update(body) => {
                let answer = engine.must("POST", &format!("/containers/{name}/update"), Some(body));
                answer["Warnings"].as_array().into_iter().flatten().map(text).collect()
            }
            Tampering::Other(tamper) => {
                tamper(fleet);
                Vec::new()
            }
        };
        let unknown = self.newer.filter(|key| engine.inspect(&name)["HostConfig"].get(key).is_none());
        let warning = warnings.iter().find(|warning| warning.contains("iscarded")).map(String::as_str);
        if let Some(left_out) = warning.or(unknown) {
            // Such an engine cannot hold this drift: there must be nothing to name.
            println!("  {}: this engine leaves it out: {left_out}", self.attribute);
            let plan = fleet.plan();
            let only_state =
                plan.addresses().is_empty() || names(plan.change(&format!("container.{tenant}"))) == ["state"];
            assert!(only_state, "nothing but the state differs: {:#}", plan.json);
            fleet.converge();
            return;
        }
        let tampered = engine.docker(&["inspect", "--format", "{{.Id}} {{.State.StartedAt}}", &name]).output();
        let tampered =
            tampered.ok().filter(|o| o.status.success()).map(|o| String::from_utf8_lossy(&o.stdout).into_owned());

        self.planned(fleet, tenant);

        let start = crate::engine::clock();
        fleet.converge();
        let repaired = engine.identity(&name);
        if self.in_place {
            assert_eq!(repaired, proper, "{} is repaired in place: id and start time stay", self.attribute);
            let ended: Vec<Value> = engine
                .events(start)
                .into_iter()
                .filter(|event| ["die", "destroy", "pause"].contains(&text(&event["Action"]).as_str()))
                .collect();
            assert!(ended.is_empty(), "a repair in place stops nothing: {ended:#?}");
        } else {
            let before = tampered.unwrap_or_default();
            assert!(!before.starts_with(&repaired.0), "{} is repaired by a new container", self.attribute);
        }
        assert_eq!(engine.inspect(&name)["State"]["Status"], "running", "the tenant runs after the repair");
    }

    /// Looks that the plan names this attribute, and no other, with both values and what will be done.
    fn planned(&self, fleet: &Fleet, tenant: &str) {
        let address = format!("container.{tenant}");
        let plan = fleet.plan();
        assert_eq!(plan.code, 2, "a plan that finds drift exits with 2: {:#}", plan.json);
        let change = plan.change(&address);
        let named: Vec<&str> =
            names(change).into_iter().filter(|name| *name != "state" && !self.also.contains(name)).collect();
        assert_eq!(named, [self.attribute], "the plan names what was tampered with, and nothing else");
        let found = attribute(change, self.attribute);
        self.before.check(&found["before"], "actual", self.attribute);
        self.after.check(&found["after"], "declared", self.attribute);
        assert_eq!(found["cause"], self.cause, "the plan says why {} differs", self.attribute);
        assert_eq!(found["weakens"], self.weakens, "the plan says whether {} weakens isolation", self.attribute);
        if self.cause == "drift" {
            let drifts = plan.json["resource_drift"].as_array().unwrap();
            let drift = drifts.iter().find(|drift| drift["address"] == address.as_str());
            let drift = drift.unwrap_or_else(|| panic!("the plan lists the drift of {address}: {drifts:#?}"));
            assert_eq!(drift["change"]["after"][self.attribute], found["before"], "the drift has the actual value");
            assert_eq!(drift["change"]["before"][self.attribute], found["after"], "the drift has the declared value");
        }
        let actions = if self.in_place { json!(["update"]) } else { json!(["delete", "create"]) };
        assert_eq!(change["actions"], actions, "the plan says whether the container stays");
        let replaces = change["replace_paths"].as_array().is_some_and(|paths| paths.contains(&json!([self.attribute])));
        assert!(!(self.in_place && replaces), "nothing forces a replacement in {change:#}");

        let (code, printed) = fleet.plan_text();
        assert_eq!(code, 2, "the plan for people has the same exit code:\n{printed}");
        let headline = if self.in_place { "will be updated in-place" } else { "must be replaced" };
        assert!(printed.contains(&format!("# {address} {headline}")), "the plan says {headline}:\n{printed}");
        let label = if self.attribute == "nano_cpus" { "cpus" } else { self.attribute };
        let line = printed.lines().find(|line| line.trim_start().starts_with(&format!("~ {label} ")));
        let line = line.unwrap_or_else(|| panic!("the plan has a line for {label}:\n{printed}"));
        // Some values hold an arrow themselves.
        let (before, after) = match line.matches(" -> ").count() {
            1 => line.split_once(" -> ").unwrap(),
            _ => (line, line),
        };
        for word in leaves(&found["before"]).difference(&leaves(&found["after"])) {
            assert!(before.contains(word), "the line shows the actual value {word}: {line}");
        }
        for word in leaves(&found["after"]).difference(&leaves(&found["before"])) {
            assert!(after.contains(word), "the line shows the declared value {word}: {line}");
        }
        if let Some((actual, declared)) = self.shown {
            assert!(before.ends_with(&format!("= {actual}")), "the line shows {actual}: {line}");
            assert!(after.starts_with(declared), "the line shows {declared}: {line}");
        }
        assert_eq!(line.contains("drift"), self.cause == "drift", "the line says that it is drift: {line}");
        assert_eq!(line.contains("weakens isolation"), self.weakens, "the line says whether it weakens: {line}");
        if found["forces_replacement"] == true {
            assert!(line.contains("forces replacement"), "the line says what forces the replacement: {line}");
        }
    }
}

impl Expected {
    fn check(&self, value: &Value, which: &str, attribute: &str) {
        match self {
            Self::Exactly(expected) => assert_eq!(value, expected, "the {which} value of {attribute} is in the plan"),
            Self::Holding(part) => {
                assert!(value.to_string().contains(part), "the {which} value of {attribute} holds {part}: {value}");
            }
            Self::Anything => {}
        }
    }
}

/// The texts and truth values in a value; numbers are shown with units and are not among them.
fn leaves(value: &Value) -> std::collections::BTreeSet<String> {
    match value {
        Value::String(text) => std::iter::once(json!(text).to_string().trim_matches('"').to_owned()).collect(),
        Value::Bool(on) => std::iter::once(on.to_string()).collect(),
        Value::Array(items) => items.iter().flat_map(leaves).collect(),
        Value::Object(entries) => entries.values().flat_map(leaves).collect(),
        Value::Null | Value::Number(_) => std::collections::BTreeSet::new(),
    }
}
