//! What differs of a tenant, resource by resource and attribute by attribute.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Bytes, Container, Network,
    attribute::{self, Attribute},
    egress::EgressPath,
    record::{FieldChange, Why},
    resource::Resource,
    workspace::{Backend, Folder},
};

/// What would happen to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is made.
    Create,
    /// It is changed and keeps its id.
    Update,
    /// It is removed and made anew.
    Replace,
    /// It is removed.
    Delete,
}

/// One resource that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its kind.
    pub resource: Resource,
    /// Its name within the plan: the tenant's, or the engine's name for an object beyond the one declared.
    pub name: String,
    /// What would happen to it.
    pub action: Action,
    /// The attributes that differ; empty for one that is made or removed.
    pub attributes: Vec<AttributeChange>,
    /// As it is; `None` for one that is made.
    pub before: Option<Object>,
    /// As it would be; `None` for one that is removed.
    pub after: Option<Object>,
}

/// A resource's whole state, in the form that plans show.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Object {
    /// A container.
    Container(Box<Container>),
    /// A network.
    Network(Box<Network>),
    /// A workspace.
    Workspace(ShownWorkspace),
    /// Config files.
    Files(ShownFiles),
    /// An egress path.
    Egress(Box<EgressPath>),
}

/// Config files in the form that plans show.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownFiles {
    /// The folder that the container gets as /config.
    pub path: String,
    /// The hash of each file, by its path below.
    pub content: BTreeMap<String, String>,
}

/// A workspace in the form that plans show.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownWorkspace {
    /// Where the container finds it on the host.
    pub path: String,
    /// What bounds it.
    pub backend: Backend,
    /// Its size in bytes; `None` where nothing bounds it, or it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Bytes>,
    /// Whose it is and who may enter.
    #[serde(flatten)]
    pub folder: Folder,
}

/// One attribute that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct AttributeChange {
    /// The attribute.
    pub attribute: &'static Attribute,
    /// The actual value.
    pub before: Value,
    /// The declared value.
    pub after: Value,
    /// Whether it can only change with a new object.
    pub forces_replacement: bool,
    /// Whether the actual value isolates less than the declared one.
    pub weakens: bool,
    /// Why it differs.
    pub why: Why,
    /// A remark, such as that a tag has moved.
    pub remark: Option<&'static str>,
}

impl Change {
    /// Whether a declaration changed or something behind tenantd's back; `None` for what is made or removed as a whole,
    /// which has no attribute to say so.
    pub fn why(&self) -> Option<Why> {
        let any = |why| self.attributes.iter().any(|attribute| attribute.why == why);
        if any(Why::Intent) { Some(Why::Intent) } else { any(Why::Drift).then_some(Why::Drift) }
    }

    /// What it changes, in the form of records: the attributes that differ, or what identifies an object that is made or removed
    /// from others of its kind.
    pub fn fields(&self) -> Vec<FieldChange> {
        match self.attributes.is_empty() {
            true => self.whole(),
            false => self.attributes.iter().map(AttributeChange::field).collect(),
        }
    }

    fn whole(&self) -> Vec<FieldChange> {
        let values = |object: Option<&Object>| object.and_then(|object| serde_json::to_value(object).ok());
        let (before, after) = (values(self.before.as_ref()), values(self.after.as_ref()));
        let value =
            |of: &Option<Value>, name: &str| of.as_ref().and_then(|of| of.get(name)).cloned().unwrap_or(json!(null));
        attribute::of(self.resource)
            .iter()
            .filter(|attribute| attribute.identifies)
            .map(|Attribute { name, .. }| FieldChange {
                name: (*name).to_owned(),
                before: value(&before, name),
                after: value(&after, name),
            })
            .filter(|field| field.before != field.after)
            .collect()
    }
}

impl AttributeChange {
    /// The same in the form of records.
    pub fn field(&self) -> FieldChange {
        FieldChange { name: self.attribute.name.to_owned(), before: self.before.clone(), after: self.after.clone() }
    }
}
