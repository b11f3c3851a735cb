//! From the Canary's words, which are Istio's, to those of the Gateway API: matches, filters, timeouts.

use serde_json::{Map, Value, json};

use crate::api::{objects::ObjectExt, time};

/// What Gateway API takes of a match, as `HTTPRouteMatch`; an `HTTPMatchRequest` of anything else is refused beforehand. Without a path all paths
/// are meant, which the API server would add.
pub(super) fn matched(given: &Value) -> Value {
    let mut rule = json!({"path": {"type": "PathPrefix", "value": "/"}});
    let uri = [
        ("regex", "RegularExpression"),
        ("exact", "Exact"),
        ("prefix", "PathPrefix"),
    ];
    for (key, kind) in uri {
        if let Some(text) = given["uri"][key].as_str().filter(|text| !text.is_empty()) {
            rule["path"] = json!({"type": kind, "value": text});
            break;
        }
    }
    if let Some(method) = given["method"]["exact"].as_str() {
        rule["method"] = json!(method);
    }
    for key in ["headers", "queryParams"] {
        let all: Vec<Value> = given[key]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(name, condition)| named(name, condition))
            .collect();
        if !all.is_empty() {
            rule[key] = Value::Array(all);
        }
    }
    rule
}

/// A header or query parameter with what it must be.
fn named(name: &str, condition: &Value) -> Option<Value> {
    let kinds = [("exact", "Exact"), ("regex", "RegularExpression")];
    kinds.into_iter().find_map(|(key, kind)| {
        let value = condition[key].as_str().filter(|text| !text.is_empty())?;
        Some(json!({"name": name, "type": kind, "value": value}))
    })
}

/// The service's requests as far as one of `conditions` holds of them too: each crossed with each. A condition goes before one of the same name.
pub(super) fn crossed(conditions: &[Value], service: &[Value]) -> Vec<Value> {
    let cross = |condition: &Value, own: &Value| {
        let mut both = own.clone();
        for key in ["headers", "queryParams"] {
            let mut all = condition.array_at(&format!("/{key}")).to_vec();
            let name = |entry: &Value| entry.str_at("/name").map(str::to_ascii_lowercase);
            let said: Vec<_> = all.iter().map(name).collect();
            let own = own.array_at(&format!("/{key}")).iter();
            all.extend(own.filter(|entry| !said.contains(&name(entry))).cloned());
            if !all.is_empty() {
                both[key] = Value::Array(all);
            }
        }
        both
    };
    conditions
        .iter()
        .flat_map(|condition| service.iter().map(move |own| cross(condition, own)))
        .collect()
}

/// Filters of every rule, in Flagger's order: headers of requests and of answers, rewrite, copies, CORS.
pub(super) fn filters(service: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    for (key, kind, field) in [
        ("request", "RequestHeaderModifier", "requestHeaderModifier"),
        (
            "response",
            "ResponseHeaderModifier",
            "responseHeaderModifier",
        ),
    ] {
        let given = &service["headers"][key];
        let mut modifier = Map::new();
        for op in ["add", "set"] {
            let pairs = given[op].as_object().into_iter().flatten();
            let pairs: Vec<Value> = pairs
                .map(|(name, value)| json!({"name": name, "value": value}))
                .collect();
            if !pairs.is_empty() {
                modifier.insert(op.to_owned(), Value::Array(pairs));
            }
        }
        let removed = given.array_at("/remove");
        if !removed.is_empty() {
            modifier.insert("remove".to_owned(), json!(removed));
        }
        if !modifier.is_empty() {
            all.push(json!({"type": kind, field: modifier}));
        }
    }
    all.extend(rewrite(&service["rewrite"]));
    for mirror in service.array_at("/mirror") {
        let mut backend = mirror["backendRef"].clone();
        for (key, default) in [("group", ""), ("kind", "Service")] {
            if backend[key].is_null() {
                backend[key] = json!(default);
            }
        }
        all.push(json!({"type": "RequestMirror", "requestMirror": {"backendRef": backend}}));
    }
    all.extend(cors(&service["corsPolicy"]));
    all
}

fn rewrite(given: &Value) -> Option<Value> {
    let text = |key: &str| given[key].as_str().filter(|text| !text.is_empty());
    let mut filter = Map::new();
    if let Some(authority) = text("authority") {
        filter.insert("hostname".to_owned(), json!(authority));
    }
    if let Some(uri) = text("uri") {
        // Flagger: whatever the type says but this.
        let path = if replaces_prefix(given) {
            json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": uri})
        } else {
            json!({"type": "ReplaceFullPath", "replaceFullPath": uri})
        };
        filter.insert("path".to_owned(), path);
    }
    (!filter.is_empty()).then(|| json!({"type": "URLRewrite", "urlRewrite": filter}))
}

/// `rewrite.type` puts something in place of the matched prefix only.
pub(super) fn replaces_prefix(rewrite: &Value) -> bool {
    rewrite["type"] == "ReplacePrefixMatch"
}

fn cors(given: &Value) -> Option<Value> {
    given.as_object()?;
    let mut filter = Map::new();
    let exact = given.array_at("/allowOrigins").iter();
    let exact = exact.filter_map(|origin| origin.get("exact").cloned());
    let origins: Vec<Value> = given
        .array_at("/allowOrigin")
        .iter()
        .cloned()
        .chain(exact)
        .collect();
    if !origins.is_empty() {
        filter.insert("allowOrigins".to_owned(), Value::Array(origins));
    }
    for key in ["allowMethods", "allowHeaders", "exposeHeaders"] {
        let all = given.array_at(&format!("/{key}"));
        if !all.is_empty() {
            filter.insert(key.to_owned(), json!(all));
        }
    }
    if let Some(allowed) = given["allowCredentials"].as_bool() {
        filter.insert("allowCredentials".to_owned(), json!(allowed));
    }
    // The API server's own default.
    let seconds = given
        .str_at("/maxAge")
        .and_then(time::duration)
        .map_or(5, |ms| ms / 1000);
    filter.insert("maxAge".to_owned(), json!(seconds));
    Some(json!({"type": "CORS", "cors": filter}))
}

/// `timeout` of the whole request, `backendTimeout` of each try.
pub(super) fn timeouts(service: &Value) -> Option<Value> {
    let mut timeouts = Map::new();
    for (key, field) in [("timeout", "request"), ("backendTimeout", "backendRequest")] {
        if let Some(text) = service[key].as_str().filter(|text| !text.is_empty()) {
            timeouts.insert(field.to_owned(), json!(text));
        }
    }
    (!timeouts.is_empty()).then_some(Value::Object(timeouts))
}
