//! The addresses of Services: given at creation, and kept.

use serde_json::{Value, json};

use super::{state::State, write::keep};
use crate::api::objects::ObjectExt;

/// The next free address of 10.96.0.0/16, for a Service that has none and wants one.
pub(super) fn allocate_ip(state: &mut State, service: &mut Value) {
    let spec = &mut service["spec"];
    if spec["type"] == "ExternalName" || !spec.is_object() {
        return;
    }
    if spec.str_at("/clusterIP").is_none_or(str::is_empty) {
        let [high, low] = state.next_ip.to_be_bytes();
        state.next_ip = state.next_ip.wrapping_add(1).max(1);
        spec["clusterIP"] = json!(format!("10.96.{high}.{low}"));
    }
    spec["clusterIPs"] = json!([spec["clusterIP"]]);
    for (key, value) in [
        ("ipFamilies", json!(["IPv4"])),
        ("ipFamilyPolicy", json!("SingleStack")),
    ] {
        if spec[key].is_null() {
            spec[key] = value;
        }
    }
}

/// A writer that does not know the address keeps it.
pub(super) fn keep_ip(old: &Value, new: &mut Value) {
    if new["spec"]["type"] == "ExternalName" || !new["spec"].is_object() {
        return;
    }
    for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if new["spec"][key].is_null() || new["spec"][key] == "" {
            keep(&old["spec"], &mut new["spec"], key);
        }
    }
}
