//! JSON Schemas of the files and of what programs are given, for editors, hooks and readers.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

use super::{
    files::{FleetFile, HostFile, TenantFile, TiersFile},
    settings::Settings,
};

/// A draft of JSON Schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draft {
    /// Draft-07, for editors that know no newer one.
    Seven,
    /// 2020-12.
    Newest,
}

impl Draft {
    fn settings(self) -> SchemaSettings {
        match self {
            Self::Seven => SchemaSettings::draft07(),
            Self::Newest => SchemaSettings::draft2020_12(),
        }
    }

    /// The name of a schema, which stays the same for as long as its files have the same version.
    fn id(self, name: &str) -> String {
        match self {
            Self::Seven => format!("urn:tenantd:v1:draft-07:{name}"),
            Self::Newest => format!("urn:tenantd:v1:{name}"),
        }
    }
}

/// Each schema of the files in the newest draft, by the name of its file under `schema/`.
pub fn schemas() -> Vec<(&'static str, Value)> {
    of(Draft::Newest)
}

/// Each schema of the files in a draft.
pub fn of(draft: Draft) -> Vec<(&'static str, Value)> {
    vec![
        ("fleet.json", read::<FleetFile>(draft, "fleet")),
        ("host.json", read::<HostFile>(draft, "host")),
        ("settings.json", without_null(written::<Settings<'_>>(draft, "settings"))),
        ("tenant.json", read::<TenantFile>(draft, "tenant")),
        ("tiers.json", read::<TiersFile>(draft, "tiers")),
    ]
}

/// The schema of what people write.
fn read<T: JsonSchema>(draft: Draft, name: &str) -> Value {
    without_null(generated::<T>(draft.settings(), &draft.id(name)))
}

/// The schema of what this program writes.
pub fn written<T: JsonSchema>(draft: Draft, name: &str) -> Value {
    generated::<T>(draft.settings().for_serialize(), &draft.id(name))
}

fn generated<T: JsonSchema>(settings: SchemaSettings, id: &str) -> Value {
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("$id".to_owned(), json!(id));
    }
    schema
}

fn without_null(mut schema: Value) -> Value {
    forbid_null(&mut schema);
    schema
}

/// Takes the null out of each optional key: a key that is written has a value.
fn forbid_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(forbid_null),
        Value::Object(fields) => {
            if let Some(Value::Array(kinds)) = fields.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [kind] = &mut kinds[..] {
                    let kind = kind.take();
                    fields.insert("type".to_owned(), kind);
                }
            }
            if let Some(Value::Array(choices)) = fields.get_mut("anyOf") {
                choices.retain(|choice| choice["type"] != "null");
                if let [Value::Object(choice)] = &mut choices[..] {
                    let choice = std::mem::take(choice);
                    fields.remove("anyOf");
                    fields.extend(choice);
                }
            }
            fields.values_mut().for_each(forbid_null);
        }
        _ => {}
    }
}
