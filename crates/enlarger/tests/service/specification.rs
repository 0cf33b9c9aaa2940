//! The specification: committed, true, and what the known clients were made for.

use serde_json::{Value, json};

use crate::harness::*;

fn generated() -> Value {
    let said = binary().arg("openapi").output().unwrap();
    serde_json::from_slice(&said.stdout).expect("JSON")
}

#[test]
fn the_committed_specification_is_the_generated_one() {
    let path = root().join("docs/openapi.json");
    let committed: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(committed == generated(), "run: enlarger openapi > docs/openapi.json");
    assert!(Server::start(&[]).get("/openapi.json").json() == committed, "the served one, too");
}

/// Whatever `wanted` says, `have` says as well; it may say more.
fn says_all(have: &Value, wanted: &Value, place: &str) {
    match wanted {
        Value::Object(fields) => {
            for (name, value) in fields {
                says_all(&have[name], value, &format!("{place}.{name}"));
            }
        }
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let mut have: Vec<&str> = have.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let mut wanted: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            have.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(have, wanted, "{place}");
        }
        other => assert_eq!(have, other, "{place}"),
    }
}

/// A schema with its references followed.
fn followed(document: &Value, schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => match fields.get("$ref").and_then(Value::as_str) {
            Some(path) => followed(document, document.pointer(&path[1..]).expect("it is there")),
            None => fields.iter().map(|(name, value)| (name.clone(), followed(document, value))).collect(),
        },
        Value::Array(items) => items.iter().map(|item| followed(document, item)).collect(),
        other => other.clone(),
    }
}

#[test]
fn the_creative_operation_is_compatible_with_the_one_that_clients_were_made_for_field_by_field() {
    let document = generated();
    let operation = &document["paths"]["/proxy/freepik/v1/ai/image-upscaler"]["post"];
    assert_eq!(operation["operationId"], "FreepikMagnificUpscalerCreative");
    let body = |schema: &Value| followed(&document, &schema["content"]["application/json"]["schema"]);
    let knob = json!({ "type": "integer", "minimum": -10, "maximum": 10, "default": 0 });
    let request = json!({
        "type": "object",
        "required": ["image"],
        "properties": {
            "image": { "type": "string" },
            "prompt": { "type": "string" },
            "webhook_url": { "type": "string", "format": "uri" },
            "creativity": knob, "hdr": knob, "resemblance": knob, "fractality": knob,
            "scale_factor": { "type": "string", "default": "2x", "enum": ["2x", "4x", "8x", "16x"] },
            "engine": { "type": "string", "default": "automatic",
                "enum": ["automatic", "magnific_illusio", "magnific_sharpy", "magnific_sparkle"] },
            "optimized_for": { "type": "string", "default": "standard",
                "enum": ["standard", "soft_portraits", "hard_portraits", "art_n_illustration", "videogame_assets",
                    "nature_n_landscapes", "films_n_photography", "3d_renders", "science_fiction_n_horror"] },
        },
    });
    says_all(&body(&operation["requestBody"]), &request, "request");
    let answer = json!({
        "type": "object",
        "required": ["data"],
        "properties": { "data": { "type": "object", "properties": {
            "task_id": { "type": "string", "format": "uuid" },
            "status": { "type": "string", "enum": ["CREATED", "IN_PROGRESS", "COMPLETED", "FAILED"] },
            "generated": { "type": "array", "items": { "type": "string", "format": "uri" } },
        } } },
    });
    says_all(&body(&operation["responses"]["200"]), &answer, "200");
    let error = json!({
        "type": "object",
        "properties": {
            "error": { "type": "string" },
            "message": { "type": "string" },
            "invalid_params": { "type": "array", "items": { "type": "object",
                "properties": { "name": { "type": "string" }, "reason": { "type": "string" } } } },
        },
    });
    for status in ["400", "500"] {
        says_all(&body(&operation["responses"][status]), &error, status);
    }
    let bearer = json!({ "type": "http", "scheme": "bearer", "bearerFormat": "JWT" });
    says_all(&document["components"]["securitySchemes"]["BearerAuth"], &bearer, "BearerAuth");
}

#[test]
fn the_specification_says_whose_it_is_and_what_files_and_refusals_are() {
    let document = generated();
    let info = &document["info"];
    assert_eq!((&info["title"], &info["version"]), (&json!("enlarger"), &json!(env!("CARGO_PKG_VERSION"))));
    assert!(info["description"].as_str().unwrap().contains("Enlarge images"), "{info}");
    assert_eq!(info["contact"]["url"], env!("CARGO_PKG_REPOSITORY"));
    assert_eq!(info["license"]["identifier"], env!("CARGO_PKG_LICENSE"));
    assert!(!document.to_string().contains("Utoipa"), "nobody else's name");
    let servers: Vec<&str> = document["servers"].as_array().unwrap().iter().filter_map(|s| s["url"].as_str()).collect();
    assert_eq!(servers, [".", "http://127.0.0.1:7788"]);
    let binary = json!({ "type": "string", "format": "binary" });
    let sent =
        |path: &str| &document["paths"][path]["put"]["requestBody"]["content"]["application/octet-stream"]["schema"];
    assert_eq!((sent("/files/objects/{id}"), sent("/api/models/{name}")), (&binary, &binary));
    let preview = &document["paths"]["/api/preview"]["post"]["responses"]["200"]["content"]["image/png"]["schema"];
    let read = &document["paths"]["/files/objects/{id}"]["get"]["responses"]["200"]["content"]["application/octet-stream"]
        ["schema"];
    assert_eq!((preview, read), (&binary, &binary));
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let statuses = operation["responses"].as_object().unwrap();
            assert!(statuses.keys().any(|status| status.starts_with('4')), "{method} {path}");
        }
    }
    // What is optional is not required because it has a default.
    let creative = &document["components"]["schemas"]["FreepikMagnificUpscalerCreativeRequest"];
    assert_eq!(creative["required"], json!(["image"]));
}

/// Places of objects of which nothing is said.
fn bare_objects(value: &Value, place: &str, bare: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let said = ["properties", "additionalProperties", "allOf", "oneOf", "anyOf"];
            let object = match &fields.get("type") {
                Some(Value::Array(types)) => types.contains(&json!("object")),
                one => *one == Some(&json!("object")),
            };
            if object && !said.iter().any(|word| fields.contains_key(*word)) {
                bare.push(place.to_owned());
            }
            fields.iter().for_each(|(name, value)| bare_objects(value, &format!("{place}/{name}"), bare));
        }
        Value::Array(items) => items.iter().for_each(|item| bare_objects(item, place, bare)),
        _ => {}
    }
}

#[test]
fn every_object_of_the_specification_says_what_is_in_it() {
    let mut bare = Vec::new();
    bare_objects(&generated(), "", &mut bare);
    assert_eq!(bare, Vec::<String>::new());
    for wrong in [json!({ "a": { "type": "object" } }), json!({ "a": [{ "type": ["object", "null"], "title": "A" }] })]
    {
        bare.clear();
        bare_objects(&wrong, "", &mut bare);
        assert_eq!(bare, ["/a"]);
    }
}

#[test]
fn the_documented_settings_are_the_ones_there_are() {
    let said = binary().args(["serve", "--print-config"]).output().unwrap();
    let page = std::fs::read_to_string(root().join("docs/reference/configuration.md")).unwrap();
    let hint = "copy the output of enlarger serve --print-config into docs/reference/configuration.md";
    assert!(page.contains(&String::from_utf8(said.stdout).unwrap()), "{hint}");
}
