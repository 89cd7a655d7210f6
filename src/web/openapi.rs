//! The calls of each kind of peer as an OpenAPI document, for clients of others.

use schemars::{
    JsonSchema, SchemaGenerator,
    generate::{Contract, SchemaSettings},
};
use serde_json::{Map, Value, json};

use super::{
    call::{Call, Effect, PeerKind, Visitor, names},
    refusal::Refusal,
};

/// Where a document has the types that its calls share.
const TYPES: &str = "/components/schemas";

/// The document of a kind of peer.
pub(super) fn document<K: PeerKind>(title: &str) -> Value {
    let mut document = Document { paths: Map::new(), answers: generator(&Contract::Serialize) };
    K::each(&mut document);
    let Document { paths, mut answers } = document;
    json!({
        "openapi": "3.1.1",
        "info": {"title": title, "version": "1"},
        "paths": paths,
        "components": {"schemas": answers.take_definitions(true)},
    })
}

/// A generator of what is written or of what is read: an optional key is always written, and may be missing in what is read.
fn generator(contract: &Contract) -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = TYPES.into();
        settings.contract = contract.clone();
        // What is read is small, and stands where it is used.
        settings.inline_subschemas = contract.is_deserialize();
    });
    settings.into_generator()
}

struct Document {
    paths: Map<String, Value>,
    answers: SchemaGenerator,
}

impl Document {
    fn content<T: JsonSchema>(&mut self) -> Value {
        json!({"application/json": {"schema": self.answers.subschema_for::<T>()}})
    }
}

impl<K> Visitor<K> for Document {
    fn call<C: Call<Peer = K>>(&mut self) {
        let (method, status, done) = match C::EFFECT {
            Effect::Reads => ("get", "200", "What was asked for."),
            Effect::Changes => ("post", "200", "It is done."),
            Effect::Begins => ("post", "202", "It is begun."),
        };
        let responses = json!({
            status: {"description": done, "content": self.content::<C::Answer>()},
            "default": {"description": "It is not granted.", "content": self.content::<Refusal>()},
        });
        let request = C::json_schema(&mut generator(&Contract::Deserialize)).to_value();
        for path in C::PATHS {
            let mut operation = json!({"summary": request["description"], "responses": responses});
            if names(path).next().is_some() {
                operation["parameters"] = names(path).map(|name| parameter(name, &request)).collect();
            }
            if let Some(body) = body::<C>(request.clone()) {
                operation["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": body}}});
            }
            self.paths.insert((*path).to_owned(), json!({method: operation}));
        }
    }
}

/// A part of the path.
fn parameter(name: &str, request: &Value) -> Value {
    let description = &request["properties"][name]["description"];
    json!({"name": name, "in": "path", "required": true, "description": description, "schema": {"type": "string"}})
}

/// A request without what its paths name, if anything is left.
fn body<C: Call>(mut request: Value) -> Option<Value> {
    let named: Vec<&str> = C::PATHS.iter().flat_map(|path| names(path)).collect();
    if let Some(required) = request.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| name.as_str().is_none_or(|name| !named.contains(&name)));
    }
    let fields = request.as_object_mut()?;
    fields.remove("description");
    let properties = fields.get_mut("properties")?.as_object_mut()?;
    properties.retain(|name, _| !named.contains(&name.as_str()));
    (!properties.is_empty()).then_some(request)
}
