//! The scale subresource: `autoscaling/v1` Scale over a workload.

use serde_json::{Value, json};

use super::{
    kinds::{Scale, Served},
    status::{Cause, Status},
};
use crate::api::objects::ObjectExt;

/// The Scale of `object`, in the served version.
pub(super) fn read(scale: &Scale, object: &Value) -> Value {
    let replicas = object.int_at(&scale.spec_replicas).unwrap_or(0);
    let mut out = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": object.name(),
            "namespace": object.namespace(),
            "uid": object.uid(),
            "resourceVersion": object.resource_version(),
            "creationTimestamp": object["metadata"]["creationTimestamp"],
        },
        "spec": {},
        "status": {"replicas": object.int_at(&scale.status_replicas).unwrap_or(0)},
    });
    // Zero is left out, as Go's omitempty does.
    if replicas != 0 {
        out["spec"]["replicas"] = json!(replicas);
    }
    if let Some(selector) = scale
        .selector
        .as_ref()
        .and_then(|path| object.pointer(path))
    {
        let text = selector_text(selector);
        if !text.is_empty() {
            out["status"]["selector"] = json!(text);
        }
    }
    out
}

/// A label selector in its query-string form.
fn selector_text(selector: &Value) -> String {
    if let Some(text) = selector.as_str() {
        return text.to_owned();
    }
    let mut parts: Vec<String> = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    for expression in selector.array_at("/matchExpressions") {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: Vec<&str> = expression
            .array_at("/values")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let values = values.join(",");
        parts.push(match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    parts.join(",")
}

/// `object` with the replicas of a written Scale; its resourceVersion and uid, where given, are preconditions.
pub(super) fn write(
    served: &Served,
    scale: &Scale,
    object: &Value,
    wanted: &Value,
) -> Result<Value, Status> {
    let name = object.name();
    if !wanted.name().is_empty() && wanted.name() != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({name})",
            wanted.name()
        )));
    }
    let replicas = match wanted.pointer("/spec/replicas") {
        None | Some(Value::Null) => 0,
        Some(value) => value
            .as_i64()
            .filter(|n| (0..=i64::from(i32::MAX)).contains(n))
            .ok_or_else(|| {
                let why = "must be greater than or equal to 0";
                let cause = Cause::invalid("spec.replicas", value, why);
                Status::invalid(served, name, vec![cause])
            })?,
    };
    let mut scaled = object.clone();
    let Some((parent, leaf)) = scale.spec_replicas.rsplit_once('/') else {
        return Err(Status::method_not_allowed());
    };
    if parent == "/spec" && scaled.get("spec").is_none() {
        scaled["spec"] = json!({});
    }
    let Some(Value::Object(fields)) = scaled.pointer_mut(parent) else {
        let cause = Cause::required(parent.trim_start_matches('/').replace('/', "."), "");
        return Err(Status::invalid(served, name, vec![cause]));
    };
    fields.insert(leaf.to_owned(), json!(replicas));
    for key in ["resourceVersion", "uid"] {
        match wanted["metadata"].get(key) {
            Some(value) => scaled["metadata"][key] = value.clone(),
            None => scaled["metadata"][key] = json!(""),
        }
    }
    Ok(scaled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::embedded::kinds::Catalog;

    fn served() -> Served {
        (*Catalog::builtin()
            .find("apps", "v1", "deployments")
            .unwrap())
        .clone()
    }

    fn deployment() -> Value {
        json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7", "creationTimestamp": "t"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "a"}, "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["x", "y"]}]}},
            "status": {"replicas": 2},
        })
    }

    #[test]
    fn a_scale_shows_replicas_and_selector() {
        let served = served();
        assert_eq!(
            read(served.scale.as_ref().unwrap(), &deployment()),
            json!({
                "kind": "Scale", "apiVersion": "autoscaling/v1",
                "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7", "creationTimestamp": "t"},
                "spec": {"replicas": 3},
                "status": {"replicas": 2, "selector": "app=a,tier in (x,y)"},
            })
        );
    }

    #[test]
    fn a_written_scale_changes_replicas_only() {
        let served = served();
        let scale = served.scale.clone().unwrap();
        let wanted =
            json!({"metadata": {"name": "a", "resourceVersion": "7"}, "spec": {"replicas": 0}});
        let scaled = write(&served, &scale, &deployment(), &wanted).unwrap();
        assert_eq!(scaled["spec"]["replicas"], 0);
        assert_eq!(scaled["metadata"]["resourceVersion"], "7");
        let negative = json!({"spec": {"replicas": -1}});
        assert_eq!(
            write(&served, &scale, &deployment(), &negative)
                .unwrap_err()
                .code,
            422
        );
    }

    #[test]
    fn replicas_below_what_is_not_there_take_nothing_else_away() {
        let scale = Scale {
            spec_replicas: "/spec/workers/replicas".to_owned(),
            status_replicas: "/status/replicas".to_owned(),
            selector: None,
        };
        let wanted = json!({"spec": {"replicas": 2}});
        for spec in [json!({"image": "a"}), json!({"workers": "none"})] {
            let object = json!({"metadata": {"name": "a"}, "spec": spec});
            let refused = write(&served(), &scale, &object, &wanted).unwrap_err();
            assert_eq!(refused.code, 422, "{object}");
        }
    }
}
