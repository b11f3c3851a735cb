//! Gateway API: classes, gateways and routes get the status that their controllers write.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{Again, Condition, is_deleted, transition};
use crate::{
    api::objects::{NAMESPACE, Object, ObjectExt, SERVICE},
    cluster::embedded::{
        gateway::{
            Acceptance, CONTROLLER, GATEWAY, GATEWAY_CLASS, HTTP_ROUTE, Mode, REFERENCE_GRANT,
        },
        routes::hostnames_meet,
        status::Status,
        store::Store,
    },
    decide::facts::Moment,
};

const MANAGER: &str = "embedded-gateway-controller";
/// While routes are refused or not looked at, the controller looks again so often, milliseconds: the end of that is no change of the store.
const LOOK_MS: i64 = 1_000;

/// The controller of one cluster.
#[derive(Debug)]
pub(super) struct Gateways {
    acceptance: Acceptance,
    /// By uid of the route: its generation, and when that was first seen.
    seen: HashMap<String, (i64, Moment)>,
}

impl Gateways {
    pub(super) fn new(acceptance: Acceptance) -> Self {
        Self {
            acceptance,
            seen: HashMap::new(),
        }
    }

    pub(super) fn reconcile(&mut self, store: &Store, ns: &str, name: &str) -> Again {
        let Some(route) = store.get(&HTTP_ROUTE, ns, name) else {
            return Ok(None);
        };
        let now = store.clock().now();
        let generation = route.generation().unwrap_or(0);
        let seen = self
            .seen
            .entry(route.uid().to_owned())
            .or_insert((generation, now));
        if seen.0 != generation {
            *seen = (generation, now);
        }
        let mode = self.acceptance.mode();
        let Some(lag) = mode.lag_ms() else {
            return Ok(Some(now.plus(LOOK_MS)));
        };
        let due = seen.1.plus(lag);
        if now < due {
            // Of a long lag the end may come early.
            return Ok(Some(due.min(now.plus(LOOK_MS))));
        }
        write_route(store, &route, &mode)?;
        let again = matches!(mode, Mode::Refusing { .. });
        Ok(again.then(|| now.plus(LOOK_MS)))
    }
}

/// One condition and why it is so.
struct Verdict {
    met: bool,
    reason: String,
    message: String,
}

impl Verdict {
    fn good(reason: &str) -> Self {
        Self {
            met: true,
            reason: reason.to_owned(),
            message: String::new(),
        }
    }

    fn bad(reason: &str, message: String) -> Self {
        Self {
            met: false,
            reason: reason.to_owned(),
            message,
        }
    }
}

fn write_route(store: &Store, route: &Object, mode: &Mode) -> Result<(), Status> {
    let now = store.clock().now();
    let before = route.array_at("/status/parents");
    let ours = |parent: &&Value| parent["controllerName"] == CONTROLLER;
    // What other controllers said of their parents is theirs.
    let mut parents: Vec<Value> = before.iter().filter(|p| !ours(p)).cloned().collect();
    for parent in route.array_at("/spec/parentRefs") {
        let Some(mut accepted) = accepted(store, route, parent) else {
            continue;
        };
        let mut resolved = resolved(store, route);
        if let Mode::Refusing {
            condition,
            reason,
            message,
        } = mode
        {
            let verdict = Verdict::bad(reason, message.clone());
            match condition.as_str() {
                "ResolvedRefs" => resolved = verdict,
                _ => accepted = verdict,
            }
        }
        let last = before.iter().filter(ours);
        let last = last.into_iter().find(|p| &p["parentRef"] == parent);
        let last = last.map_or(&[][..], |p| p.array_at("/conditions"));
        let of = |kind: &str, verdict: &Verdict| condition(last, kind, verdict, route, now);
        parents.push(json!({
            "parentRef": parent,
            "controllerName": CONTROLLER,
            "conditions": [of("Accepted", &accepted), of("ResolvedRefs", &resolved)],
        }));
    }
    if parents == before {
        return Ok(());
    }
    let write = |object: &mut Value| object["status"]["parents"] = json!(parents);
    store
        .modify_status(&HTTP_ROUTE, route.namespace(), route.name(), MANAGER, write)
        .map(drop)
}

/// A condition in the form that Gateway API wants: never without a message or a generation.
fn condition(last: &[Value], kind: &str, verdict: &Verdict, of: &Value, now: Moment) -> Value {
    let condition = Condition {
        kind,
        met: verdict.met,
        reason: &verdict.reason,
        message: String::new(),
    };
    let mut out = transition(last, &condition, now);
    out["message"] = json!(verdict.message);
    out["observedGeneration"] = json!(of.generation());
    out
}

/// Whether a parent takes the route; `None` when it is not this controller's: nobody says anything of it.
fn accepted(store: &Store, route: &Value, parent: &Value) -> Option<Verdict> {
    let namespace = parent["namespace"].as_str().unwrap_or(route.namespace());
    let name = parent["name"].as_str().unwrap_or_default();
    let good = Verdict::good("Accepted");
    if is_service(parent) {
        let there = store.get(&SERVICE, namespace, name).is_some();
        let missing = || {
            let message = format!("Service {namespace}/{name} is not there");
            Verdict::bad("NoMatchingParent", message)
        };
        return Some(if there { good } else { missing() });
    }
    let gateway = store.get(&GATEWAY, namespace, name)?;
    if !is_ours(store, &gateway) {
        return None;
    }
    let listeners = gateway.array_at("/spec/listeners").iter();
    let mut named = listeners.filter(|listener| {
        let same = |of: &Value, key: &str| of.is_null() || of == &listener[key];
        same(&parent["sectionName"], "name") && same(&parent["port"], "port")
    });
    let named: Vec<&Value> = named.by_ref().collect();
    if named.is_empty() {
        let message = format!("Gateway {namespace}/{name} has no listener of that name and port");
        return Some(Verdict::bad("NoMatchingParent", message));
    }
    let allowed = |listener: &&&Value| allows(store, listener, namespace, route.namespace());
    let allowing: Vec<&&Value> = named.iter().filter(allowed).collect();
    if allowing.is_empty() {
        let message = format!(
            "no listener of Gateway {namespace}/{name} takes routes of namespace {}",
            route.namespace()
        );
        return Some(Verdict::bad("NotAllowedByListeners", message));
    }
    let hostnames = route.array_at("/spec/hostnames");
    let meets = |listener: &&Value| {
        let of_listener = listener["hostname"].as_str().unwrap_or_default();
        let mut hostnames = hostnames.iter().filter_map(Value::as_str);
        hostnames.clone().next().is_none()
            || hostnames.any(|host| hostnames_meet(host, of_listener))
    };
    Some(if allowing.iter().any(|l| meets(l)) {
        good
    } else {
        let message = format!("no listener of Gateway {namespace}/{name} has such a hostname");
        Verdict::bad("NoMatchingListenerHostname", message)
    })
}

/// A parent that is a Service: the mesh's.
fn is_service(parent: &Value) -> bool {
    let group = parent["group"].as_str();
    matches!(group, Some("" | "core")) && parent["kind"] == "Service"
}

/// The Gateway's class is one of this controller's.
fn is_ours(store: &Store, gateway: &Value) -> bool {
    let class = gateway.str_at("/spec/gatewayClassName").unwrap_or_default();
    let class = store.get(&GATEWAY_CLASS, "", class);
    class.is_some_and(|class| class["spec"]["controllerName"] == CONTROLLER)
}

/// A listener takes routes of that namespace.
fn allows(store: &Store, listener: &Value, home: &str, namespace: &str) -> bool {
    let from = &listener["allowedRoutes"]["namespaces"];
    match from["from"].as_str().unwrap_or("Same") {
        "All" => true,
        "Selector" => {
            let Some(namespace) = store.get(&NAMESPACE, "", namespace) else {
                return false;
            };
            let labels = from["selector"]["matchLabels"].as_object();
            let mut labels = labels.into_iter().flatten();
            labels.all(|(key, value)| namespace.label(key) == value.as_str())
        }
        _ => home == namespace,
    }
}

/// Whether all that the route sends to is there.
fn resolved(store: &Store, route: &Value) -> Verdict {
    let rules = route.array_at("/spec/rules").iter();
    let backends = rules.flat_map(|rule| {
        let backends = rule.array_at("/backendRefs").iter();
        let filters = backends
            .clone()
            .flat_map(|backend| backend.array_at("/filters"))
            .chain(rule.array_at("/filters"));
        let mirrors = filters.filter_map(|filter| filter.pointer("/requestMirror/backendRef"));
        backends.chain(mirrors)
    });
    for backend in backends {
        let group = backend["group"].as_str().unwrap_or_default();
        let kind = backend["kind"].as_str().unwrap_or("Service");
        let name = backend["name"].as_str().unwrap_or_default();
        let namespace = backend["namespace"].as_str().unwrap_or(route.namespace());
        if !matches!(group, "" | "core") || kind != "Service" {
            return Verdict::bad("InvalidKind", format!("{group}/{kind} is no Service"));
        }
        if namespace != route.namespace() && !granted(store, route, namespace, name) {
            let message =
                format!("no ReferenceGrant lets this route refer to Service {namespace}/{name}");
            return Verdict::bad("RefNotPermitted", message);
        }
        if store.get(&SERVICE, namespace, name).is_none() {
            let message = format!("Service {namespace}/{name} is not there");
            return Verdict::bad("BackendNotFound", message);
        }
    }
    Verdict::good("ResolvedRefs")
}

/// A `ReferenceGrant` of the Service's namespace lets routes of this one refer to it.
fn granted(store: &Store, route: &Value, namespace: &str, service: &str) -> bool {
    store
        .list(&REFERENCE_GRANT, Some(namespace))
        .iter()
        .any(|grant| {
            let mut from = grant.array_at("/spec/from").iter();
            let mut to = grant.array_at("/spec/to").iter();
            from.any(|f| {
                f["group"] == HTTP_ROUTE.group
                    && f["kind"] == HTTP_ROUTE.kind
                    && f["namespace"] == route.namespace()
            }) && to.any(|t| {
                t["group"] == ""
                    && t["kind"] == "Service"
                    && t["name"].as_str().is_none_or(|name| name == service)
            })
        })
}

/// A class of this controller is accepted.
pub(super) fn reconcile_class(store: &Store, name: &str) -> Again {
    let Some(class) = store.get(&GATEWAY_CLASS, "", name) else {
        return Ok(None);
    };
    if class["spec"]["controllerName"] != CONTROLLER {
        return Ok(None);
    }
    let now = store.clock().now();
    let before = class.array_at("/status/conditions");
    let accepted = condition(before, "Accepted", &Verdict::good("Accepted"), &class, now);
    if before == [accepted.clone()] {
        return Ok(None);
    }
    let write = |object: &mut Value| object["status"]["conditions"] = json!([accepted]);
    store.modify_status(&GATEWAY_CLASS, "", name, MANAGER, write)?;
    Ok(None)
}

/// A gateway of this controller is programmed, with the number of routes at each listener.
pub(super) fn reconcile_gateway(store: &Store, ns: &str, name: &str) -> Again {
    let Some(gateway) = store.get(&GATEWAY, ns, name) else {
        return Ok(None);
    };
    if is_deleted(&gateway) || !is_ours(store, &gateway) {
        return Ok(None);
    }
    let now = store.clock().now();
    let before = gateway.array_at("/status/conditions");
    let all = |last: &[Value], kinds: &[&str]| -> Vec<Value> {
        let of = |kind: &&str| condition(last, kind, &Verdict::good(kind), &gateway, now);
        kinds.iter().map(of).collect()
    };
    let listeners = gateway.array_at("/spec/listeners").iter().map(|listener| {
        let pointer = gateway.array_at("/status/listeners").iter();
        let last = pointer.into_iter().find(|l| l["name"] == listener["name"]);
        let last = last.map_or(&[][..], |l| l.array_at("/conditions"));
        json!({
            "name": listener["name"],
            "supportedKinds": [{"group": HTTP_ROUTE.group, "kind": HTTP_ROUTE.kind}],
            "attachedRoutes": attached(store, &gateway, listener),
            "conditions": all(last, &["Accepted", "Programmed", "ResolvedRefs"]),
        })
    });
    let status = json!({
        "addresses": [{"type": "IPAddress", "value": "192.0.2.1"}],
        "conditions": all(before, &["Accepted", "Programmed"]),
        "listeners": listeners.collect::<Vec<_>>(),
    });
    if gateway["status"] == status {
        return Ok(None);
    }
    let write = |object: &mut Value| object["status"] = status;
    store.modify_status(&GATEWAY, ns, name, MANAGER, write)?;
    Ok(None)
}

/// How many routes the listener has accepted.
fn attached(store: &Store, gateway: &Value, listener: &Value) -> usize {
    let routes = store.list(&HTTP_ROUTE, None);
    let attached = routes.iter().filter(|route| {
        let mut parents = route.array_at("/status/parents").iter();
        parents.any(|parent| {
            let to = &parent["parentRef"];
            let namespace = to["namespace"].as_str().unwrap_or(route.namespace());
            let section = &to["sectionName"];
            to["kind"] == GATEWAY.kind
                && to["name"] == gateway.name()
                && namespace == gateway.namespace()
                && (section.is_null() || section == &listener["name"])
                && parent
                    .array_at("/conditions")
                    .iter()
                    .any(|c| c["type"] == "Accepted" && c["status"] == "True")
        })
    });
    attached.count()
}
