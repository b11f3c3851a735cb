//! `metadata.managedFields` of Update writers: who owns which field, in the `FieldsV1` form.
//!
//! An Update takes over every field that it changes and keeps what it had; the fields that it does not change stay with
//! their owners. A tree is a JSON object with keys `f:name`, `k:{"name":"c"}` (item of a keyed list), `v:"x"` (item of a
//! set) and `.` (the item itself); a leaf is `{}`.

use serde_json::{Map, Value, json};

/// Who writes.
pub(super) struct Author<'a> {
    pub(super) manager: &'a str,
    pub(super) api_version: &'a str,
    /// `status`, `scale`, or none for the object itself.
    pub(super) subresource: Option<&'a str>,
    /// RFC 3339.
    pub(super) time: &'a str,
    /// Custom resources have no keyed lists here: without the type, a list has one owner.
    pub(super) custom: bool,
}

type Tree = Map<String, Value>;

/// The entries after `author` turned `old` (nothing, at creation) into `new`.
pub(super) fn after_update(
    entries: &[Value],
    old: Option<&Value>,
    new: &Value,
    author: &Author<'_>,
) -> Vec<Value> {
    let (mut changed, mut removed) = (Tree::new(), Tree::new());
    let before = old.map_or_else(|| json!({}), owned_part);
    let after = owned_part(new);
    compare(&before, &after, author.custom, &mut changed, &mut removed);
    if changed.is_empty() && removed.is_empty() {
        return entries.to_vec();
    }
    let mut out = Vec::with_capacity(entries.len() + 1);
    let mut mine = None;
    for entry in entries {
        let mut entry = entry.clone();
        let is_mine = entry["manager"] == author.manager
            && entry["operation"] == "Update"
            && entry["apiVersion"] == author.api_version
            && entry["subresource"].as_str() == author.subresource;
        if let Some(tree) = entry["fieldsV1"].as_object_mut() {
            subtract(tree, &removed);
            if !is_mine {
                subtract(tree, &changed);
            }
            if is_mine {
                merge(tree, &changed);
            }
            if tree.is_empty() {
                continue;
            }
        }
        if is_mine {
            mine = Some(out.len());
            entry["time"] = json!(author.time);
        }
        out.push(entry);
    }
    if mine.is_none() && !changed.is_empty() {
        out.push(new_entry(author, changed));
    }
    out
}

fn new_entry(author: &Author<'_>, fields: Tree) -> Value {
    let mut entry = json!({
        "manager": author.manager,
        "operation": "Update",
        "apiVersion": author.api_version,
        "time": author.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": Value::Object(fields),
    });
    if let Some(subresource) = author.subresource {
        entry["subresource"] = json!(subresource);
    }
    entry
}

/// The object without what nobody owns.
fn owned_part(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(top) = object.as_object_mut() {
        top.remove("apiVersion");
        top.remove("kind");
        if let Some(meta) = top.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.retain(|key, _| {
                matches!(
                    key.as_str(),
                    "labels" | "annotations" | "finalizers" | "ownerReferences" | "generateName"
                )
            });
        }
        if top.get("metadata") == Some(&json!({})) {
            top.remove("metadata");
        }
    }
    object
}

/// The keys that tell the items of a list apart, by the list's field name; none for a list with one owner.
fn list_keys(field: &str, custom: bool, items: &[Value]) -> &'static [&'static str] {
    let has = |key: &str| !items.is_empty() && items.iter().all(|i| i.get(key).is_some());
    if field == "ownerReferences" {
        return &["uid"];
    }
    if custom {
        return &[];
    }
    match field {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "imagePullSecrets"
        | "secrets"
            if has("name") =>
        {
            &["name"]
        }
        "ports" if has("containerPort") => &["containerPort", "protocol"],
        "ports" if has("port") => &["port", "protocol"],
        "volumeMounts" if has("mountPath") => &["mountPath"],
        "volumeDevices" if has("devicePath") => &["devicePath"],
        "hostAliases" | "podIPs" | "hostIPs" if has("ip") => &["ip"],
        "conditions" | "addresses" if has("type") => &["type"],
        "topologySpreadConstraints" if has("topologyKey") => &["topologyKey", "whenUnsatisfiable"],
        _ => &[],
    }
}

fn item_key(item: &Value, keys: &[&str]) -> String {
    // Kubernetes sorts the keys; the constants above are sorted.
    let parts: Vec<String> = keys
        .iter()
        .filter_map(|key| {
            item.get(*key)
                .map(|value| format!("{}:{value}", Value::from(*key)))
        })
        .collect();
    format!("k:{{{}}}", parts.join(","))
}

fn is_atomic(field: &str, custom: bool) -> bool {
    !custom && matches!(field, "selector" | "nodeSelector" | "matchLabels")
}

/// The tree of all of `value`, the value of `field`.
fn all(field: &str, value: &Value, custom: bool) -> Tree {
    let mut tree = Tree::new();
    match value {
        Value::Object(map) if !is_atomic(field, custom) => {
            if matches!(field, "labels" | "annotations") && !map.is_empty() {
                tree.insert(".".to_owned(), json!({}));
            }
            for (key, child) in map {
                tree.insert(format!("f:{key}"), all(key, child, custom).into());
            }
        }
        Value::Array(items) if field == "finalizers" => {
            tree.insert(".".to_owned(), json!({}));
            for item in items {
                tree.insert(format!("v:{item}"), json!({}));
            }
        }
        Value::Array(items) => {
            let keys = list_keys(field, custom, items);
            if !keys.is_empty() {
                tree.insert(".".to_owned(), json!({}));
                for item in items {
                    tree.insert(item_key(item, keys), all_item(item, custom).into());
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {}
    }
    tree
}

fn all_item(item: &Value, custom: bool) -> Tree {
    let mut tree = all("", item, custom);
    tree.insert(".".to_owned(), json!({}));
    tree
}

/// What differs between two objects: fields with a new value, and fields that are gone.
fn compare(old: &Value, new: &Value, custom: bool, changed: &mut Tree, removed: &mut Tree) {
    let empty = Map::new();
    let (before, after) = (
        old.as_object().unwrap_or(&empty),
        new.as_object().unwrap_or(&empty),
    );
    for (key, value) in after {
        let path = format!("f:{key}");
        match before.get(key) {
            Some(was) if was == value => {}
            Some(was) => {
                let (mut c, mut r) = (Tree::new(), Tree::new());
                if descend(key, was, value, custom, &mut c, &mut r) {
                    if !c.is_empty() {
                        changed.insert(path.clone(), c.into());
                    }
                    if !r.is_empty() {
                        removed.insert(path, r.into());
                    }
                } else {
                    changed.insert(path, all(key, value, custom).into());
                }
            }
            None => {
                changed.insert(path, all(key, value, custom).into());
            }
        }
    }
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        removed.insert(format!("f:{key}"), json!({}));
    }
}

/// Compares inside `field` where it has parts with owners of their own; false where it has one owner.
fn descend(
    field: &str,
    old: &Value,
    new: &Value,
    custom: bool,
    changed: &mut Tree,
    removed: &mut Tree,
) -> bool {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            if is_atomic(field, custom) || a.is_empty() || b.is_empty() {
                return false;
            }
            compare(old, new, custom, changed, removed);
            true
        }
        (Value::Array(a), Value::Array(b)) if field == "finalizers" => {
            for item in b.iter().filter(|item| !a.contains(item)) {
                changed.insert(format!("v:{item}"), json!({}));
            }
            for item in a.iter().filter(|item| !b.contains(item)) {
                removed.insert(format!("v:{item}"), json!({}));
            }
            true
        }
        (Value::Array(a), Value::Array(b)) => {
            let keys = list_keys(field, custom, b);
            if keys.is_empty() || list_keys(field, custom, a) != keys {
                return false;
            }
            compare_items(a, b, keys, custom, changed, removed);
            true
        }
        _ => false,
    }
}

fn compare_items(
    old: &[Value],
    new: &[Value],
    keys: &[&str],
    custom: bool,
    changed: &mut Tree,
    removed: &mut Tree,
) {
    for item in new {
        let key = item_key(item, keys);
        match old.iter().find(|was| item_key(was, keys) == key) {
            Some(was) if was == item => {}
            Some(was) => {
                let (mut c, mut r) = (Tree::new(), Tree::new());
                compare(was, item, custom, &mut c, &mut r);
                if !c.is_empty() {
                    changed.insert(key.clone(), c.into());
                }
                if !r.is_empty() {
                    removed.insert(key, r.into());
                }
            }
            None => {
                changed.insert(key, all_item(item, custom).into());
            }
        }
    }
    for item in old {
        let key = item_key(item, keys);
        if !new.iter().any(|is| item_key(is, keys) == key) {
            removed.insert(key, json!({}));
        }
    }
}

fn merge(into: &mut Tree, from: &Tree) {
    for (key, value) in from {
        let child = into.entry(key.clone()).or_insert_with(|| json!({}));
        if let (Some(child), Some(value)) = (child.as_object_mut(), value.as_object()) {
            merge(child, value);
        }
    }
}

/// Takes the leaves of `what` out of `from`; a leaf of `what` takes all below it along.
fn subtract(from: &mut Tree, what: &Tree) {
    for (key, below) in what {
        let Some(child) = from.get_mut(key).and_then(Value::as_object_mut) else {
            continue;
        };
        match below.as_object().filter(|b| !b.is_empty()) {
            Some(below) if !child.is_empty() => {
                subtract(child, below);
                if child.is_empty() {
                    from.remove(key);
                }
            }
            _ => {
                from.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn author<'a>(manager: &'a str, subresource: Option<&'a str>) -> Author<'a> {
        Author {
            manager,
            api_version: "apps/v1",
            subresource,
            time: "2026-11-21T00:00:00Z",
            custom: false,
        }
    }

    fn deployment(image: &str, replicas: i64) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "a", "uid": "u", "labels": {"app": "a"}},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "a"}}, "template": {"spec": {
                "containers": [{"name": "c", "image": image, "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}}},
        })
    }

    #[test]
    fn a_creator_owns_every_field_it_gave() {
        let entries = after_update(&[], None, &deployment("x:1", 2), &author("kubectl", None));
        assert_eq!(
            entries,
            vec![json!({
                "manager": "kubectl", "operation": "Update", "apiVersion": "apps/v1",
                "time": "2026-11-21T00:00:00Z", "fieldsType": "FieldsV1",
                "fieldsV1": {
                    "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                    "f:spec": {
                        "f:replicas": {}, "f:selector": {},
                        "f:template": {"f:spec": {"f:containers": {".": {}, "k:{\"name\":\"c\"}": {
                            ".": {}, "f:name": {}, "f:image": {},
                            "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {
                                ".": {}, "f:containerPort": {}, "f:protocol": {}}}}}}},
                    },
                },
            })]
        );
    }

    #[test]
    fn a_change_takes_the_changed_field_over_and_nothing_else() {
        let (one, two) = (deployment("x:1", 2), deployment("x:2", 2));
        let created = after_update(&[], None, &one, &author("kubectl", None));
        let entries = after_update(&created, Some(&one), &two, &author("canary-mcp", None));
        assert_eq!(entries.len(), 2);
        let path = "/fieldsV1/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"c\"}";
        assert_eq!(entries[0]["manager"], "kubectl");
        assert_eq!(entries[0].pointer(path).unwrap().get("f:image"), None);
        assert_eq!(
            entries[0].pointer(path).unwrap().get("f:name"),
            Some(&json!({}))
        );
        assert_eq!(
            entries[1]["fieldsV1"],
            json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {"f:image": {}}}}}}})
        );
    }

    #[test]
    fn subresources_have_entries_of_their_own_and_removed_fields_have_no_owner() {
        let one = deployment("x:1", 2);
        let created = after_update(&[], None, &one, &author("m", None));
        let scaled = deployment("x:1", 5);
        let entries = after_update(&created, Some(&one), &scaled, &author("m", Some("scale")));
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[1]["subresource"], "scale");
        assert_eq!(
            entries[1]["fieldsV1"],
            json!({"f:spec": {"f:replicas": {}}})
        );
        let mut none = scaled.clone();
        none["spec"].as_object_mut().unwrap().remove("replicas");
        let entries = after_update(&entries, Some(&scaled), &none, &author("m", None));
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].pointer("/fieldsV1/f:spec/f:replicas"), None);
    }

    #[test]
    fn a_write_that_changes_nothing_leaves_the_entries_alone() {
        let one = deployment("x:1", 2);
        let created = after_update(&[], None, &one, &author("m", None));
        assert_eq!(
            after_update(&created, Some(&one), &one, &author("n", None)),
            created
        );
    }
}
