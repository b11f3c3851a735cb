//! Istio: `VirtualService` `S` with one weighted http route, `DestinationRule`s `S-primary` and `S-canary`.
//!
//! One of ours is written as Flagger writes it. One that others made is taken over: its spec is saved once in an annotation, and only
//! the destinations of its one route to the app change.

use serde_json::{Map, Value, json};

use crate::{
    api::{
        names,
        objects::{DESTINATION_RULE, Kind, Object, ObjectExt, Objects, VIRTUAL_SERVICE, Write},
    },
    build::{Stamp, metadata, owned, services, set_entries},
    decide::{
        effect::Traffic,
        plan::{Plan, Service},
    },
};

/// Fields of `spec.service` that stand on the http route as they are.
const COPIED: [&str; 5] = ["match", "timeout", "retries", "corsPolicy", "headers"];

/// Creates the routes with all traffic on the primary, takes over what is there, or puts ours right. Weights of a route that splits
/// already are kept.
#[must_use]
pub fn ensure(plan: &Plan, objects: &Objects, stamp: &Stamp) -> Vec<Write> {
    let mut writes = Vec::new();
    for (role, there) in [
        ("primary", &objects.primary_rule),
        ("canary", &objects.canary_rule),
    ] {
        writes.extend(rule(plan, objects, stamp, role, there.as_ref()));
    }
    writes.extend(match &objects.virtual_service {
        None => Some(create(plan, objects, stamp)),
        Some(there) if owned(there, &objects.canary) => repair(plan, objects, there),
        Some(there) => take_over(plan, objects, there),
    });
    writes
}

/// Splits traffic. Nothing where the split is so already, or where there is no route of ours.
#[must_use]
pub fn set(objects: &Objects, weights: Traffic) -> Vec<Write> {
    let Some(there) = &objects.virtual_service else {
        return Vec::new();
    };
    let Some(split) = split(there) else {
        return Vec::new();
    };
    if split.written == (i64::from(weights.primary()), i64::from(weights.canary())) {
        return Vec::new();
    }
    let route = format!("/spec/http/{}/route", split.rule);
    let op = |destination: usize, weight: u8| json!({"op": "add", "path": format!("{route}/{destination}/weight"), "value": weight});
    vec![Write::Patch {
        from: there.clone(),
        ops: vec![
            op(split.primary, weights.primary()),
            op(split.canary, weights.canary()),
        ],
    }]
}

/// The split that the stored route asks for; `None` without a route between the two copies. Weights that do not sum to 100 are relative,
/// as in Istio; a canary's share of less than a percent counts as one.
#[must_use]
pub fn read(objects: &Objects) -> Option<Traffic> {
    let (primary, canary) = split(objects.virtual_service.as_ref()?)?.written;
    let sum = primary.checked_add(canary).filter(|sum| *sum > 0)?;
    let share = canary.checked_mul(100)?.checked_add(sum - 1)? / sum;
    Some(Traffic::to_canary(u8::try_from(share).unwrap_or(100)))
}

/// The one http route of somebody's `VirtualService` that leads to the app.
#[must_use]
pub fn weighted_route(service: &Service, there: &Value) -> Route {
    let app = [
        service.name.clone(),
        format!("{}-primary", service.name),
        format!("{}-canary", service.name),
    ];
    let leads = |rule: &&Value| {
        let destinations = rule.array_at("/route");
        !destinations.is_empty()
            && destinations
                .iter()
                .all(|to| app.iter().any(|host| leads_to(to, host, there.namespace())))
    };
    let rules = there.array_at("/spec/http");
    match rules.iter().filter(leads).count() {
        0 => Route::None,
        1 => rules
            .iter()
            .position(|rule| leads(&rule))
            .map_or(Route::None, Route::At),
        many => Route::Many(many),
    }
}

/// Where the app's route stands in a `VirtualService`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// At this index of `spec.http`.
    At(usize),
    /// No http route leads to the app and nowhere else.
    None,
    /// So many http routes lead to the app.
    Many(usize),
}

/// The split as it is stored.
struct Split {
    rule: usize,
    primary: usize,
    canary: usize,
    /// Weights of primary and canary.
    written: (i64, i64),
}

fn split(there: &Value) -> Option<Split> {
    let rules = there.array_at("/spec/http").iter().enumerate();
    rules.into_iter().find_map(|(rule, http)| {
        let destinations = http.array_at("/route");
        let [_, _] = destinations else {
            return None;
        };
        let find = |role: &str| {
            let host = format!("{}-{role}", there.name());
            destinations
                .iter()
                .position(|to| leads_to(to, &host, there.namespace()))
        };
        let (primary, canary) = (find("primary")?, find("canary")?);
        let weight = |i: usize| destinations[i].int_at("/weight").unwrap_or(0).max(0);
        Some(Split {
            rule,
            primary,
            canary,
            written: (weight(primary), weight(canary)),
        })
    })
}

/// Whether a destination's host is the Service `name`, in short or with its namespace.
fn leads_to(destination: &Value, name: &str, namespace: &str) -> bool {
    let host = destination.str_at("/destination/host").unwrap_or_default();
    host.strip_prefix(name).is_some_and(|rest| {
        let full = format!(".{namespace}");
        rest.is_empty()
            || rest == full
            || rest
                .strip_prefix(&full)
                .is_some_and(|rest| rest == ".svc" || rest.starts_with(".svc."))
    })
}

fn create(plan: &Plan, objects: &Objects, stamp: &Stamp) -> Write {
    let mut spec = json!({"http": [http(plan, objects, Traffic::PRIMARY)]});
    if !plan.service.delegation {
        spec["hosts"] = json!(plan.service.hosts);
        spec["gateways"] = json!(plan.service.gateways);
    }
    object(
        plan,
        objects,
        stamp,
        &VIRTUAL_SERVICE,
        &plan.service.name,
        &spec,
    )
}

/// Puts ours right on the paths that we write.
fn repair(plan: &Plan, objects: &Objects, there: &Object) -> Option<Write> {
    let weights = read(objects).unwrap_or(Traffic::PRIMARY);
    let mut ops = Vec::new();
    let http = json!([http(plan, objects, weights)]);
    if !same_but_weights(&there["spec"]["http"], &http) {
        ops.push(json!({"op": "add", "path": "/spec/http", "value": http}));
    }
    for (key, wanted) in [
        ("hosts", &plan.service.hosts),
        ("gateways", &plan.service.gateways),
    ] {
        let stored = there["spec"].get(key);
        if plan.service.delegation {
            ops.extend(stored.map(|_| json!({"op": "remove", "path": format!("/spec/{key}")})));
        } else if stored != Some(&json!(wanted)) {
            ops.push(json!({"op": "add", "path": format!("/spec/{key}"), "value": wanted}));
        }
    }
    patch(there, ops)
}

/// Weights are kept, whatever they are.
fn same_but_weights(one: &Value, other: &Value) -> bool {
    let bare = |http: &Value| {
        let mut http = http.clone();
        for rule in http.as_array_mut().into_iter().flatten() {
            let route = rule.get_mut("route").and_then(Value::as_array_mut);
            for to in route.into_iter().flatten() {
                if let Some(to) = to.as_object_mut() {
                    to.remove("weight");
                }
            }
        }
        http
    };
    bare(one) == bare(other)
}

/// Saves what was there, once, and changes only the destinations of the app's route.
fn take_over(plan: &Plan, objects: &Objects, there: &Object) -> Option<Write> {
    let Route::At(rule) = weighted_route(&plan.service, there) else {
        return None;
    };
    if split(there).is_some() {
        return None;
    }
    let mut wanted = destinations(plan, objects, Traffic::PRIMARY);
    let stored = &there["spec"]["http"][rule]["route"][0];
    let (headers, port) = (&stored["headers"], &stored["destination"]["port"]);
    // A gateway needs it where a Service has several, and it may be another one than the Canary's.
    let has_port = services::ports(plan, objects)
        .iter()
        .any(|ours| ours["port"] == port["number"]);
    for to in &mut wanted {
        if !headers.is_null() {
            to["headers"] = headers.clone();
        }
        if has_port {
            to["destination"]["port"] = port.clone();
        }
    }
    let mut ops = save(there);
    ops.push(json!({"op": "replace", "path": format!("/spec/http/{rule}/route"), "value": wanted}));
    patch(there, ops)
}

fn save(there: &Value) -> Vec<Value> {
    if there.annotation(names::ORIGINAL).is_some() {
        return Vec::new();
    }
    let original = Map::from_iter([(names::ORIGINAL.to_owned(), json!(there["spec"].to_string()))]);
    set_entries(there, "annotations", &original)
}

fn rule(
    plan: &Plan,
    objects: &Objects,
    stamp: &Stamp,
    role: &str,
    there: Option<&Object>,
) -> Option<Write> {
    let host = format!("{}-{role}", plan.service.name);
    let policy = &objects.canary["spec"]["service"]["trafficPolicy"];
    let Some(there) = there else {
        let mut spec = json!({"host": host});
        if !policy.is_null() {
            spec["trafficPolicy"] = policy.clone();
        }
        return Some(object(
            plan,
            objects,
            stamp,
            &DESTINATION_RULE,
            &host,
            &spec,
        ));
    };
    let mine = owned(there, &objects.canary);
    let mut ops = Vec::new();
    let stored = json!({"destination": {"host": there["spec"]["host"]}});
    if !leads_to(&stored, &host, there.namespace()) {
        if !mine {
            ops.extend(save(there));
        }
        ops.push(json!({"op": "add", "path": "/spec/host", "value": host}));
    }
    if mine && there["spec"]["trafficPolicy"] != *policy {
        ops.push(if policy.is_null() {
            json!({"op": "remove", "path": "/spec/trafficPolicy"})
        } else {
            json!({"op": "add", "path": "/spec/trafficPolicy", "value": policy})
        });
    }
    patch(there, ops)
}

fn patch(from: &Object, ops: Vec<Value>) -> Option<Write> {
    (!ops.is_empty()).then(|| Write::Patch {
        from: from.clone(),
        ops,
    })
}

/// A route object of ours: metadata of `service.apex`, Flux kept away.
fn object(
    plan: &Plan,
    objects: &Objects,
    stamp: &Stamp,
    kind: &Kind,
    name: &str,
    spec: &Value,
) -> Write {
    let custom = &objects.canary["spec"]["service"]["apex"];
    let map = |key: &str| custom[key].as_object().cloned().unwrap_or_default();
    let mut annotations = map("annotations");
    for (key, value) in [names::FLUX_RECONCILE, names::FLUX_DRIFT] {
        annotations.insert(key.to_owned(), json!(value));
    }
    Write::Create(json!({
        "apiVersion": kind.api_version(),
        "kind": kind.kind,
        "metadata": metadata(plan, objects, stamp, name, map("labels"), annotations),
        "spec": spec,
    }))
}

/// The one http route of ours.
fn http(plan: &Plan, objects: &Objects, weights: Traffic) -> Value {
    let service = &objects.canary["spec"]["service"];
    let mut http = Map::new();
    for key in COPIED {
        let value = &service[key];
        if !value.is_null() {
            http.insert(key.to_owned(), value.clone());
        }
    }
    // `type` belongs to the Gateway API.
    let rewrite: Map<String, Value> = ["uri", "authority"]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), service["rewrite"].get(key)?.clone())))
        .collect();
    if !rewrite.is_empty() {
        http.insert("rewrite".to_owned(), Value::Object(rewrite));
    }
    http.insert(
        "route".to_owned(),
        Value::Array(destinations(plan, objects, weights)),
    );
    Value::Object(http)
}

fn destinations(plan: &Plan, objects: &Objects, weights: Traffic) -> Vec<Value> {
    let service = &plan.service;
    // A gateway needs the port of a Service that has several. Flagger.
    let gateway = service
        .gateways
        .first()
        .is_some_and(|first| first != "mesh");
    let several = service.port_discovery || services::ports(plan, objects).len() > 1;
    let port = (several && (gateway || service.delegation)).then_some(service.port);
    [("primary", weights.primary()), ("canary", weights.canary())]
        .into_iter()
        .map(|(role, weight)| {
            let mut destination = json!({"host": format!("{}-{role}", service.name)});
            if let Some(port) = port {
                destination["port"] = json!({"number": port});
            }
            json!({"destination": destination, "weight": weight})
        })
        .collect()
}
