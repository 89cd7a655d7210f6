//! JSON Schemas of the files, for editors and hooks.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

use super::files::{FleetFile, HostFile, TenantFile, TiersFile};

/// Each schema by the name of its file under `schema/`.
pub fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("fleet.json", schema::<FleetFile>()),
        ("host.json", schema::<HostFile>()),
        ("tenant.json", schema::<TenantFile>()),
        ("tiers.json", schema::<TiersFile>()),
    ]
}

fn schema<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}
