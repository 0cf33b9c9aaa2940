//! The specification of all routes, for handlers that show it or a part of it.

use serde_json::{Map, Value};

/// The whole specification.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Specification(pub &'static Value);

impl Specification {
    /// The schemas that a part of the specification refers to, and those that they refer to.
    pub fn schemas_of(self, part: &Value) -> Map<String, Value> {
        let mut schemas = Map::new();
        add_references(part, self.0, &mut schemas);
        schemas
    }
}

/// Copies the schemas that `part` refers to, and those that they refer to.
fn add_references(part: &Value, whole: &Value, schemas: &mut Map<String, Value>) {
    match part {
        Value::Object(fields) => {
            let name =
                fields.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/components/schemas/"));
            if let Some(name) = name.filter(|name| !schemas.contains_key(*name)) {
                let schema = &whole["components"]["schemas"][name];
                schemas.insert(name.to_owned(), schema.clone());
                add_references(schema, whole, schemas);
            }
            fields.values().for_each(|value| add_references(value, whole, schemas));
        }
        Value::Array(items) => items.iter().for_each(|item| add_references(item, whole, schemas)),
        _ => {}
    }
}
