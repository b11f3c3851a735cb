//! What the controllers of the Gateway API say of an `HTTPRoute`.

use serde_json::Value;

use super::objects::ObjectExt;

/// Longest message of a controller that is shown.
const LONGEST: usize = 300;

/// Why a route is not carried out yet as it stands: every one of its parents must have accepted it, with all that it refers to, at its
/// generation. `None` when it is.
#[must_use]
pub fn pending(route: &Value) -> Option<String> {
    let parents = route.array_at("/spec/parentRefs");
    parents.iter().find_map(|parent| of_parent(route, parent))
}

fn of_parent(route: &Value, parent: &Value) -> Option<String> {
    let namespace = route.namespace();
    let called = called(parent, namespace);
    let all = route.array_at("/status/parents").iter();
    let ours = all.filter(|status| is_same(&status["parentRef"], parent, namespace));
    let mut answered = false;
    for status in ours {
        answered = true;
        for kind in ["Accepted", "ResolvedRefs"] {
            if let Some(why) = unmet(status, kind, route.generation()) {
                return Some(format!("HTTPRoute {}: {called} {why}", route.name()));
            }
        }
    }
    (!answered).then(|| {
        format!(
            "HTTPRoute {}: no controller has answered for {called} yet",
            route.name()
        )
    })
}

fn unmet(status: &Value, kind: &str, generation: Option<i64>) -> Option<String> {
    let mut all = status.array_at("/conditions").iter();
    let Some(condition) = all.find(|condition| condition["type"] == kind) else {
        return Some(format!("says nothing of {kind} yet"));
    };
    if condition.int_at("/observedGeneration") < generation {
        return Some("has not looked at it as it stands now".to_owned());
    }
    if condition["status"] == "True" {
        return None;
    }
    let said = if kind == "Accepted" {
        "has not accepted it"
    } else {
        "cannot resolve what it refers to"
    };
    let reason = condition.str_at("/reason").unwrap_or("no reason given");
    let message = condition.str_at("/message").unwrap_or_default();
    let message: String = message.trim().chars().take(LONGEST).collect();
    Some(if message.is_empty() {
        format!("{said} ({reason})")
    } else {
        format!("{said} ({reason}: {message})")
    })
}

/// Both name one parent. Linkerd calls the core group `core`.
fn is_same(one: &Value, other: &Value, namespace: &str) -> bool {
    let key = |of: &Value| {
        let text = |key: &str, default: &str| of[key].as_str().unwrap_or(default).to_owned();
        let group = text("group", "gateway.networking.k8s.io");
        let group = if group == "core" {
            String::new()
        } else {
            group
        };
        let kind = text("kind", "Gateway");
        let place = text("namespace", namespace);
        let (name, section) = (text("name", ""), text("sectionName", ""));
        (group, kind, place, name, section, of["port"].as_i64())
    };
    key(one) == key(other)
}

fn called(parent: &Value, namespace: &str) -> String {
    let kind = parent.str_at("/kind").unwrap_or("Gateway");
    let place = parent.str_at("/namespace").unwrap_or(namespace);
    let name = parent.str_at("/name").unwrap_or_default();
    format!("{kind} {place}/{name}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn says(kind: &str, status: &str, generation: i64, reason: &str, message: &str) -> Value {
        json!({"type": kind, "status": status, "observedGeneration": generation, "reason": reason, "message": message})
    }

    #[test]
    fn a_route_is_carried_out_when_every_parent_says_so_of_its_generation() {
        let parents = json!([
            {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge", "namespace": "infra"},
            {"group": "core", "kind": "Service", "name": "mcp-server", "port": 80}
        ]);
        let good = |generation: i64| {
            json!([
                says("Accepted", "True", generation, "Accepted", ""),
                says("ResolvedRefs", "True", generation, "ResolvedRefs", "")
            ])
        };
        let both = |conditions: Value| {
            json!([
                {"parentRef": {"name": "edge", "namespace": "infra"}, "conditions": good(2)},
                {"parentRef": {"group": "", "kind": "Service", "name": "mcp-server", "namespace": "ai", "port": 80},
                 "conditions": conditions}
            ])
        };
        let refused = json!([says(
            "Accepted",
            "False",
            2,
            "NoMatchingListenerHostname",
            "no listener has this host"
        )]);
        let unresolved = json!([
            says("Accepted", "True", 2, "Accepted", ""),
            says("ResolvedRefs", "False", 2, "BackendNotFound", "")
        ]);
        let service = "HTTPRoute mcp-server: Service ai/mcp-server";
        for (status, expected) in [
            (both(good(2)), None),
            (both(good(3)), None),
            (
                both(good(1)),
                Some(format!("{service} has not looked at it as it stands now")),
            ),
            (
                both(json!([])),
                Some(format!("{service} says nothing of Accepted yet")),
            ),
            (
                both(refused),
                Some(format!(
                    "{service} has not accepted it (NoMatchingListenerHostname: no listener has this host)"
                )),
            ),
            (
                both(unresolved),
                Some(format!(
                    "{service} cannot resolve what it refers to (BackendNotFound)"
                )),
            ),
            (
                json!([]),
                Some(
                    "HTTPRoute mcp-server: no controller has answered for Gateway infra/edge yet"
                        .to_owned(),
                ),
            ),
        ] {
            let route = json!({
                "metadata": {"name": "mcp-server", "namespace": "ai", "generation": 2},
                "spec": {"parentRefs": parents}, "status": {"parents": status}
            });
            assert_eq!(pending(&route), expected, "{route}");
        }
    }
}
