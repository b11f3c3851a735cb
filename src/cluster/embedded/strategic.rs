//! Strategic merge patch: a merge patch whose lists of built-in kinds merge by a key.
//!
//! The keys are those of Kubernetes' `OpenAPI` document (`x-kubernetes-patch-merge-key`), all twenty of them. Directives:
//! `$patch: replace | delete | merge`, `$deleteFromPrimitiveList/NAME`, `$setElementOrder/NAME` and `$retainKeys`.

use serde_json::{Map, Value};

use super::status::Status;

/// The merge key of the list `field` of an object of `kind`; none for a list that is replaced.
fn merge_key(kind: &str, field: &str, items: &[Value]) -> Option<&'static str> {
    Some(match field {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "imagePullSecrets"
        | "secrets"
        | "webhooks"
        | "drivers"
        | "resourceClaims" => "name",
        "ports" if kind == "Service" => "port",
        "ports" if matches!(kind, "EndpointSlice" | "Endpoints" | "Ingress") => return None,
        "ports" => "containerPort",
        "volumeMounts" => "mountPath",
        "volumeDevices" => "devicePath",
        "hostAliases" | "podIPs" | "hostIPs" => "ip",
        "conditions" => "type",
        // Of a Node; the addresses of Endpoints are replaced.
        "addresses" if kind == "Node" => "type",
        "ownerReferences" => "uid",
        "topologySpreadConstraints" => "topologyKey",
        _ => return None,
    })
    .filter(|_| items.iter().all(Value::is_object))
}

/// Lists of plain values that merge as sets.
fn is_set(field: &str) -> bool {
    field == "finalizers"
}

/// The patched object.
pub(super) fn apply(kind: &str, current: &Value, patch: &Value) -> Result<Value, Status> {
    let Some(patch) = patch.as_object() else {
        return Err(Status::bad_request(
            "a strategic merge patch must be a JSON object",
        ));
    };
    Ok(Value::Object(merge(
        kind,
        current.as_object().cloned().unwrap_or_default(),
        patch,
    )?))
}

fn merge(
    kind: &str,
    mut into: Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<Map<String, Value>, Status> {
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => return Ok(without_directives(patch)),
        Some("delete") => return Ok(Map::new()),
        Some("merge") | None => {}
        Some(other) => {
            return Err(Status::bad_request(format!(
                "unknown patch type found: {other}: $patch must be delete, replace or merge"
            )));
        }
    }
    if let Some(keys) = patch.get("$retainKeys").and_then(Value::as_array) {
        into.retain(|key, _| keys.iter().any(|k| k == key));
    }
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix("$deleteFromPrimitiveList/") {
            delete_values(&mut into, field, value);
        }
    }
    for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        if value.is_null() {
            into.remove(key);
            continue;
        }
        let order = patch
            .get(&format!("$setElementOrder/{key}"))
            .and_then(Value::as_array);
        let merged = merge_value(kind, key, into.remove(key), value, order)?;
        into.insert(key.clone(), merged);
    }
    // An order alone, without new items, reorders what is there.
    for (key, value) in patch {
        if let (Some(field), Some(order)) =
            (key.strip_prefix("$setElementOrder/"), value.as_array())
            && !patch.contains_key(field)
            && let Some(Value::Array(items)) = into.get_mut(field)
        {
            let by = merge_key(kind, field, items);
            let live = items.clone();
            reorder(items, order, &live, by);
        }
    }
    Ok(into)
}

fn merge_value(
    kind: &str,
    field: &str,
    current: Option<Value>,
    patch: &Value,
    order: Option<&Vec<Value>>,
) -> Result<Value, Status> {
    match (current, patch) {
        (Some(Value::Object(current)), Value::Object(patch)) => {
            Ok(Value::Object(merge(kind, current, patch)?))
        }
        (_, Value::Object(patch)) => Ok(Value::Object(merge(kind, Map::new(), patch)?)),
        (current, Value::Array(patch)) => {
            let current = match current {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            };
            let mut items = merge_list(kind, field, current.clone(), patch)?;
            let by = merge_key(kind, field, &items);
            if order.is_some() || by.is_some() || is_set(field) {
                reorder(&mut items, order.unwrap_or(patch), &current, by);
            }
            Ok(Value::Array(items))
        }
        (_, scalar) => Ok(scalar.clone()),
    }
}

fn merge_list(
    kind: &str,
    field: &str,
    mut items: Vec<Value>,
    patch: &[Value],
) -> Result<Vec<Value>, Status> {
    if is_set(field) {
        for value in patch {
            if !items.contains(value) {
                items.push(value.clone());
            }
        }
        return Ok(items);
    }
    let replaces = patch
        .iter()
        .any(|item| item["$patch"] == "replace" && item.as_object().is_some_and(|o| o.len() == 1));
    let by = merge_key(kind, field, patch);
    let Some(by) = by.filter(|_| !replaces) else {
        return Ok(patch
            .iter()
            .filter(|item| item["$patch"] != "replace")
            .map(|item| {
                item.as_object()
                    .map_or_else(|| item.clone(), |o| without_directives(o).into())
            })
            .collect());
    };
    for item in patch {
        let Some(given) = item.as_object() else {
            continue;
        };
        let key = given.get(by).ok_or_else(|| {
            Status::bad_request(format!(
                "map: {item} does not contain declared merge key: {by}"
            ))
        })?;
        let at = items.iter().position(|old| old.get(by) == Some(key));
        match (at, given.get("$patch").and_then(Value::as_str)) {
            (Some(at), Some("delete")) => {
                items.remove(at);
            }
            (None, Some("delete")) => {}
            (Some(at), _) => {
                let old = items[at].as_object().cloned().unwrap_or_default();
                items[at] = merge(kind, old, given)?.into();
            }
            (None, _) => items.push(merge(kind, Map::new(), given)?.into()),
        }
    }
    Ok(items)
}

fn delete_values(into: &mut Map<String, Value>, field: &str, values: &Value) {
    if let (Some(Value::Array(items)), Some(values)) = (into.get_mut(field), values.as_array()) {
        items.retain(|item| !values.contains(item));
    }
}

/// Kubernetes' order of a merged list: the items of the patch in the patch's order, and each other one before the first of them that it came before
/// in `live`.
fn reorder(items: &mut Vec<Value>, order: &[Value], live: &[Value], by: Option<&str>) {
    let same = |a: &Value, b: &Value| match by {
        Some(key) => a.get(key) == b.get(key),
        None => a == b,
    };
    let place = |list: &[Value], item: &Value| list.iter().position(|other| same(other, item));
    let (mut patched, others): (Vec<Value>, Vec<Value>) = items
        .drain(..)
        .partition(|item| place(order, item).is_some());
    patched.sort_by_key(|item| place(order, item));
    let mut patched = patched.into_iter().peekable();
    for other in others {
        let was = place(live, &other);
        while let Some(next) = patched
            .next_if(|next| place(live, next).is_none_or(|next| was.is_none_or(|was| was >= next)))
        {
            items.push(next);
        }
        items.push(other);
    }
    items.extend(patched);
}

fn without_directives(map: &Map<String, Value>) -> Map<String, Value> {
    map.iter()
        .filter(|(key, value)| !key.starts_with('$') && !value.is_null())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "literals read better")]
    fn check(kind: &str, current: Value, patch: Value, expected: Value) {
        assert_eq!(apply(kind, &current, &patch).unwrap(), expected, "{patch}");
    }

    fn pod(containers: &Value) -> Value {
        json!({"spec": {"template": {"spec": {"containers": containers}}}})
    }

    #[test]
    fn keyed_lists_merge_item_by_item() {
        check(
            "Deployment",
            pod(
                &json!([{"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "b:1"}]),
            ),
            pod(&json!([{"name": "a", "image": "a:2", "env": [{"name": "Y", "value": "2"}]}])),
            pod(&json!([
                {"name": "a", "image": "a:2", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]},
                {"name": "b", "image": "b:1"}])),
        );
    }

    #[test]
    fn items_are_deleted_and_lists_replaced_by_directive() {
        check(
            "Deployment",
            pod(&json!([{"name": "a"}, {"name": "b"}])),
            pod(&json!([{"name": "a", "$patch": "delete"}])),
            pod(&json!([{"name": "b"}])),
        );
        check(
            "Deployment",
            pod(&json!([{"name": "a"}, {"name": "b"}])),
            pod(&json!([{"$patch": "replace"}, {"name": "c"}])),
            pod(&json!([{"name": "c"}])),
        );
        check(
            "Deployment",
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
            json!({"spec": {"strategy": {"$patch": "replace", "type": "Recreate"}}}),
            json!({"spec": {"strategy": {"type": "Recreate"}}}),
        );
        check(
            "Deployment",
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
            json!({"spec": {"strategy": {"type": "Recreate"}}}),
        );
    }

    #[test]
    fn null_removes_and_the_order_of_a_client_side_apply_is_kept() {
        check(
            "Deployment",
            json!({"metadata": {"annotations": {"a": "1", "b": "2"}}, "spec": {"paused": true}}),
            json!({"metadata": {"annotations": {"a": null}}, "spec": {"paused": null}}),
            json!({"metadata": {"annotations": {"b": "2"}}, "spec": {}}),
        );
        check(
            "Deployment",
            pod(&json!([{"name": "a"}, {"name": "b"}])),
            json!({"spec": {"template": {"spec": {
                "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}],
                "containers": [{"name": "c"}]}}}}),
            pod(&json!([{"name": "c"}, {"name": "b"}, {"name": "a"}])),
        );
    }

    #[test]
    fn ports_merge_by_the_key_of_their_kind() {
        check(
            "Service",
            json!({"spec": {"ports": [{"port": 80, "targetPort": 8080}, {"port": 90}]}}),
            json!({"spec": {"ports": [{"port": 80, "targetPort": 9090}]}}),
            json!({"spec": {"ports": [{"port": 80, "targetPort": 9090}, {"port": 90}]}}),
        );
        let status = apply(
            "Service",
            &json!({}),
            &json!({"spec": {"ports": [{"name": "http"}]}}),
        )
        .unwrap_err();
        assert_eq!(status.code, 400);
    }

    #[test]
    fn plain_lists_are_replaced_and_finalizers_are_a_set() {
        check(
            "Pod",
            json!({"spec": {"containers": [{"name": "a", "args": ["x", "y"]}]}}),
            json!({"spec": {"containers": [{"name": "a", "args": ["z"]}]}}),
            json!({"spec": {"containers": [{"name": "a", "args": ["z"]}]}}),
        );
        check(
            "Pod",
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}),
            json!({"metadata": {"finalizers": ["c", "b"]}}),
        );
    }
}
