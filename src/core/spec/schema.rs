//! JSON Schemas of the files, for editors and hooks.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

use super::{
    files::{FleetFile, HostFile, TenantFile, TiersFile},
    settings::Settings,
};

/// Each schema by the name of its file under `schema/`.
pub fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("fleet.json", schema::<FleetFile>()),
        ("host.json", schema::<HostFile>()),
        ("settings.json", written::<Settings<'_>>()),
        ("tenant.json", schema::<TenantFile>()),
        ("tiers.json", schema::<TiersFile>()),
    ]
}

/// The schema of what people write.
fn schema<T: JsonSchema>() -> Value {
    generated::<T>(SchemaSettings::draft2020_12())
}

/// The schema of what this program writes.
fn written<T: JsonSchema>() -> Value {
    generated::<T>(SchemaSettings::draft2020_12().for_serialize())
}

fn generated<T: JsonSchema>(settings: SchemaSettings) -> Value {
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
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
