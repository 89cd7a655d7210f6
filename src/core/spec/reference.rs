//! The tables of `docs/config.md`, out of the schemas.

use std::fmt::Write;

use serde_json::Value;

use super::schema::schemas;

/// Replaces what stands between `<!-- keys: NAME -->` and `<!-- end -->` in a document by the table of
/// that file's keys. Text outside of such pairs stays as it is.
pub fn fill(document: &str) -> String {
    let mut filled = String::with_capacity(document.len());
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        filled.push_str(line);
        filled.push('\n');
        let name = line.strip_prefix("<!-- keys: ").and_then(|rest| rest.strip_suffix(" -->"));
        let Some((_, schema)) =
            name.and_then(|name| schemas().into_iter().find(|(file, _)| file.strip_suffix(".json") == Some(name)))
        else {
            continue;
        };
        filled.push_str("| key | form | meaning |\n| --- | --- | --- |\n");
        rows(&schema, &schema, "", &mut filled);
        filled.push_str("<!-- end -->\n");
        for skipped in lines.by_ref() {
            if skipped == "<!-- end -->" {
                break;
            }
        }
    }
    filled
}

fn rows(root: &Value, object: &Value, prefix: &str, out: &mut String) {
    let Some(properties) = object.get("properties").and_then(Value::as_object) else { return };
    let required: Vec<&str> =
        object.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in properties {
        let path = format!("{prefix}{name}");
        let own = resolve(root, property);
        let meaning = text(property, "description").or_else(|| text(own, "description")).unwrap_or_default();
        let mark = if required.contains(&name.as_str()) { " (required)" } else { "" };
        let _ = writeln!(out, "| `{path}`{mark} | {} | {} |", form(root, own), meaning.replace('\n', " "));
        let patterns = own.get("patternProperties").and_then(Value::as_object);
        for entries in patterns.into_iter().flat_map(|patterns| patterns.values()) {
            rows(root, resolve(root, entries), &format!("{path}.NAME."), out);
        }
        if let Some(items) = own.get("items") {
            rows(root, resolve(root, items), &format!("{path}[]."), out);
        }
        rows(root, own, &format!("{path}."), out);
    }
}

/// Follows a reference.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/$defs/"));
    target.and_then(|name| root.get("$defs")?.get(name)).unwrap_or(schema)
}

fn text<'a>(schema: &'a Value, key: &str) -> Option<&'a str> {
    schema.get(key).and_then(Value::as_str)
}

/// What is to be written, in a few words.
fn form(root: &Value, schema: &Value) -> String {
    if let Some(all) = schema.get("oneOf").or_else(|| schema.get("enum")).and_then(Value::as_array) {
        let words: Vec<String> = all
            .iter()
            .filter_map(|one| one.as_str().or_else(|| text(one, "const")))
            .map(|word| format!("`{word}`"))
            .collect();
        if !words.is_empty() {
            return words.join(", ");
        }
    }
    if let Some(only) = text(schema, "const") {
        return format!("`{only}`");
    }
    if let Some(example) = schema.get("examples").and_then(|examples| examples.get(0)) {
        return format!("such as `{}`", as_yaml(example));
    }
    if let (Some(min), Some(max)) = (schema.get("minimum"), schema.get("maximum")) {
        return format!("{min} to {max}");
    }
    let kind = match schema.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str).unwrap_or_default(),
        _ => "",
    };
    match kind {
        "array" => match schema.get("items").map(|items| form(root, resolve(root, items))) {
            Some(item) if !item.is_empty() => format!("list: {item}"),
            _ => "list".to_owned(),
        },
        "boolean" => "`true` or `false`".to_owned(),
        "object" => "mapping".to_owned(),
        "string" => "text".to_owned(),
        other => other.to_owned(),
    }
}

/// A value as one would write it.
fn as_yaml(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key}: {}", as_yaml(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn what_stands_between_the_marks_is_replaced_and_the_rest_stays() {
        let filled = fill("# A\n<!-- keys: tenant -->\nold\n<!-- end -->\nB\n");
        assert!(filled.starts_with("# A\n<!-- keys: tenant -->\n| key |"));
        assert!(filled.ends_with("<!-- end -->\nB\n"));
        assert!(filled.contains("| `limits.memory` |") && !filled.contains("old"));
        assert_eq!(fill(&filled), filled);
    }
}
