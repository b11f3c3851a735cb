//! The columns of the built-in kinds, after the name: those of a real API server.

use serde_json::{Value, json};

use super::{
    kinds::Served,
    table::{Column, age, created},
};
use crate::{api::objects::ObjectExt, decide::facts::Moment};

/// Shown always, and shown with `-o wide`.
const ALWAYS: i64 = 0;
const WIDE: i64 = 1;

type Read = fn(&Value, Moment) -> Value;

/// The columns of a kind, but for its name; its age alone where nothing else is known of it.
pub(super) fn of(served: &Served) -> Vec<Column> {
    let text = |name: &str, read: Read| Column::of(name, "string", ALWAYS, read);
    let number = |name: &str, read: Read| Column::of(name, "integer", ALWAYS, read);
    let wide = |name: &str, read: Read| Column::of(name, "string", WIDE, read);
    let old = || Column::of("Age", "string", ALWAYS, created);
    match served.kind.as_str() {
        "Deployment" => vec![
            text("Ready", ready_of_replicas),
            text("Up-to-date", |o, _| count(o, "/status/updatedReplicas")),
            text("Available", |o, _| count(o, "/status/availableReplicas")),
            old(),
            wide("Containers", |o, _| containers(o, "name")),
            wide("Images", |o, _| containers(o, "image")),
            wide("Selector", |o, _| {
                labels(&o["spec"]["selector"]["matchLabels"])
            }),
        ],
        "ReplicaSet" => vec![
            number("Desired", |o, _| count(o, "/spec/replicas")),
            number("Current", |o, _| count(o, "/status/replicas")),
            number("Ready", |o, _| count(o, "/status/readyReplicas")),
            old(),
            wide("Containers", |o, _| containers(o, "name")),
            wide("Images", |o, _| containers(o, "image")),
            wide("Selector", |o, _| {
                labels(&o["spec"]["selector"]["matchLabels"])
            }),
        ],
        "StatefulSet" => vec![
            text("Ready", ready_of_replicas),
            old(),
            wide("Containers", |o, _| containers(o, "name")),
            wide("Images", |o, _| containers(o, "image")),
        ],
        "DaemonSet" => vec![
            number("Desired", |o, _| count(o, "/status/desiredNumberScheduled")),
            number("Current", |o, _| count(o, "/status/currentNumberScheduled")),
            number("Ready", |o, _| count(o, "/status/numberReady")),
            old(),
        ],
        "Pod" => pods(),
        "Service" => services(),
        _ => other(served),
    }
}

fn pods() -> Vec<Column> {
    let text = |name: &str, read: Read| Column::of(name, "string", ALWAYS, read);
    let wide = |name: &str, read: Read| Column::of(name, "string", WIDE, read);
    let old = || Column::of("Age", "string", ALWAYS, created);
    vec![
        text("Ready", pod_ready),
        text("Status", pod_status),
        text("Restarts", pod_restarts),
        old(),
        wide("IP", |o, _| or_none(o, "/status/podIP")),
        wide("Node", |o, _| or_none(o, "/spec/nodeName")),
        wide("Nominated Node", |o, _| {
            or_none(o, "/status/nominatedNodeName")
        }),
        wide("Readiness Gates", |_, _| json!("<none>")),
    ]
}

fn services() -> Vec<Column> {
    let text = |name: &str, read: Read| Column::of(name, "string", ALWAYS, read);
    let wide = |name: &str, read: Read| Column::of(name, "string", WIDE, read);
    let old = || Column::of("Age", "string", ALWAYS, created);
    vec![
        text("Type", |o, _| or_none(o, "/spec/type")),
        text("Cluster-IP", |o, _| or_none(o, "/spec/clusterIP")),
        text("External-IP", |o, _| or_none(o, "/spec/externalName")),
        text("Port(s)", service_ports),
        old(),
        wide("Selector", |o, _| labels(&o["spec"]["selector"])),
    ]
}

fn other(served: &Served) -> Vec<Column> {
    let text = |name: &str, read: Read| Column::of(name, "string", ALWAYS, read);
    let old = || Column::of("Age", "string", ALWAYS, created);
    match served.kind.as_str() {
        "Event" => events(),
        "Namespace" => vec![text("Status", |o, _| or_none(o, "/status/phase")), old()],
        "Node" => vec![
            text("Status", node_status),
            text("Roles", |_, _| json!("<none>")),
            old(),
            text("Version", |o, _| {
                or_none(o, "/status/nodeInfo/kubeletVersion")
            }),
        ],
        "ConfigMap" => vec![text("Data", |o, _| keys(o, &["data", "binaryData"])), old()],
        "Secret" => vec![
            text("Type", |o, _| or_none(o, "/type")),
            text("Data", |o, _| keys(o, &["data"])),
            old(),
        ],
        "Lease" => vec![
            text("Holder", |o, _| or_none(o, "/spec/holderIdentity")),
            old(),
        ],
        "Endpoints" => vec![text("Endpoints", endpoints), old()],
        "EndpointSlice" => vec![
            text("AddressType", |o, _| or_none(o, "/addressType")),
            text("Ports", |o, _| {
                list(o, "/ports", |port| port["port"].to_string())
            }),
            text("Endpoints", |o, _| {
                list(o, "/endpoints", |e| plain(&e["addresses"][0]))
            }),
            old(),
        ],
        "HorizontalPodAutoscaler" => autoscalers(),
        "ControllerRevision" => vec![
            text("Controller", |o, _| {
                let owner = &o["metadata"]["ownerReferences"][0];
                let kind = plain(&owner["kind"]).to_lowercase();
                json!(format!("{kind}/{}", plain(&owner["name"])))
            }),
            text("Revision", |o, _| count(o, "/revision")),
            old(),
        ],
        "CustomResourceDefinition" | "Role" | "ClusterRole" => vec![text("Created At", |o, _| {
            or_none(o, "/metadata/creationTimestamp")
        })],
        _ => vec![old()],
    }
}

fn autoscalers() -> Vec<Column> {
    let number = |name: &str, read: Read| Column::of(name, "integer", ALWAYS, read);
    let old = || Column::of("Age", "string", ALWAYS, created);
    let text = |name: &str, read: Read| Column::of(name, "string", ALWAYS, read);
    vec![
        text("Reference", |o, _| {
            let target = &o["spec"]["scaleTargetRef"];
            json!(format!(
                "{}/{}",
                plain(&target["kind"]),
                plain(&target["name"])
            ))
        }),
        text("Targets", targets),
        number("MinPods", |o, _| count(o, "/spec/minReplicas")),
        number("MaxPods", |o, _| count(o, "/spec/maxReplicas")),
        number("Replicas", |o, _| count(o, "/status/currentReplicas")),
        old(),
    ]
}

/// What each metric is and shall be, as a real API server says it. Nobody measures for an embedded autoscaler: what is, is unknown.
fn targets(autoscaler: &Value, _: Moment) -> Value {
    let each = autoscaler.array_at("/spec/metrics").iter().map(|metric| {
        let source = match metric["type"].as_str() {
            Some("Resource") => &metric["resource"],
            Some("Pods") => &metric["pods"],
            Some("Object") => &metric["object"],
            _ => &metric["external"],
        };
        let target = &source["target"];
        let wanted = match target["averageUtilization"].as_i64() {
            Some(percent) => format!("{percent}%"),
            None if target["averageValue"].is_null() => plain(&target["value"]),
            None => format!("{} (avg)", plain(&target["averageValue"])),
        };
        match source["name"].as_str() {
            Some(resource) => format!("{resource}: <unknown>/{wanted}"),
            None => format!("<unknown>/{wanted}"),
        }
    });
    let each: Vec<String> = each.collect();
    json!(if each.is_empty() {
        "<none>".to_owned()
    } else {
        each.join(", ")
    })
}

fn events() -> Vec<Column> {
    let text = |name: &str, read: Read| Column::of(name, "string", ALWAYS, read);
    let wide = |name: &str, read: Read| Column::of(name, "string", WIDE, read);
    vec![
        text("Last Seen", |o, now| json!(age(last_seen(o), now))),
        text("Type", |o, _| or_none(o, "/type")),
        text("Reason", |o, _| or_none(o, "/reason")),
        text("Object", |o, _| {
            let object = either(o, "involvedObject", "regarding");
            let kind = plain(&object["kind"]).to_lowercase();
            json!(format!("{kind}/{}", plain(&object["name"])))
        }),
        wide("Subobject", |o, _| {
            json!(plain(
                &either(o, "involvedObject", "regarding")["fieldPath"]
            ))
        }),
        wide("Source", |o, _| {
            let source = plain(&either(o, "source", "deprecatedSource")["component"]);
            if source.is_empty() {
                json!(plain(either(
                    o,
                    "reportingComponent",
                    "reportingController"
                )))
            } else {
                json!(source)
            }
        }),
        text("Message", |o, _| {
            json!(plain(either(o, "message", "note")).trim())
        }),
        wide("First Seen", |o, now| json!(age(first_seen(o), now))),
        Column::of("Count", "integer", WIDE, |o, _| {
            let count = either(o, "count", "deprecatedCount").as_i64();
            json!(count.or(o.int_at("/series/count")).unwrap_or(1))
        }),
        wide("Name", |o, _| json!(o.name())),
    ]
}

/// The field of a core event, or its namesake of the newer group.
fn either<'a>(event: &'a Value, core: &str, new: &str) -> &'a Value {
    if event[core].is_null() {
        &event[new]
    } else {
        &event[core]
    }
}

fn last_seen(event: &Value) -> Option<&str> {
    event
        .str_at("/series/lastObservedTime")
        .or(either(event, "lastTimestamp", "deprecatedLastTimestamp").as_str())
        .or(event.str_at("/eventTime"))
}

fn first_seen(event: &Value) -> Option<&str> {
    either(event, "firstTimestamp", "deprecatedFirstTimestamp")
        .as_str()
        .or(event.str_at("/eventTime"))
}

fn plain(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn or_none(object: &Value, pointer: &str) -> Value {
    let text = object.str_at(pointer).unwrap_or_default();
    json!(if text.is_empty() { "<none>" } else { text })
}

fn count(object: &Value, pointer: &str) -> Value {
    json!(object.int_at(pointer).unwrap_or(0))
}

fn keys(object: &Value, fields: &[&str]) -> Value {
    let n: usize = fields
        .iter()
        .filter_map(|field| object[*field].as_object())
        .map(serde_json::Map::len)
        .sum();
    json!(n)
}

fn labels(map: &Value) -> Value {
    let pairs: Vec<String> = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", plain(value)))
        .collect();
    if pairs.is_empty() {
        json!("<none>")
    } else {
        json!(pairs.join(","))
    }
}

/// At most three items, and how many more there are.
fn list(object: &Value, pointer: &str, show: fn(&Value) -> String) -> Value {
    let items = object.array_at(pointer);
    if items.is_empty() {
        return json!("<unset>");
    }
    let shown: Vec<String> = items.iter().take(3).map(show).collect();
    let more = items.len().saturating_sub(3);
    let rest = if more > 0 {
        format!(" + {more} more...")
    } else {
        String::new()
    };
    json!(format!("{}{rest}", shown.join(",")))
}

fn ready_of_replicas(object: &Value, _: Moment) -> Value {
    let ready = object.int_at("/status/readyReplicas").unwrap_or(0);
    let wanted = object.int_at("/spec/replicas").unwrap_or(0);
    json!(format!("{ready}/{wanted}"))
}

fn containers(object: &Value, field: &str) -> Value {
    let all: Vec<String> = object
        .array_at("/spec/template/spec/containers")
        .iter()
        .map(|container| plain(&container[field]))
        .collect();
    json!(all.join(","))
}

fn pod_ready(pod: &Value, _: Moment) -> Value {
    let ready = pod
        .array_at("/status/containerStatuses")
        .iter()
        .filter(|status| status["ready"] == true)
        .count();
    json!(format!(
        "{ready}/{}",
        pod.array_at("/spec/containers").len()
    ))
}

/// The phase, or what a container waits for or ended with, or that the pod goes.
fn pod_status(pod: &Value, _: Moment) -> Value {
    if pod.str_at("/metadata/deletionTimestamp").is_some() {
        return json!("Terminating");
    }
    let trouble = pod
        .array_at("/status/containerStatuses")
        .iter()
        .find_map(|status| {
            status
                .str_at("/state/waiting/reason")
                .or(status.str_at("/state/terminated/reason"))
                .filter(|reason| !reason.is_empty())
        });
    let reason = pod.str_at("/status/reason").filter(|r| !r.is_empty());
    json!(
        trouble
            .or(reason)
            .or(pod.str_at("/status/phase"))
            .unwrap_or("Unknown")
    )
}

fn pod_restarts(pod: &Value, now: Moment) -> Value {
    let statuses = pod.array_at("/status/containerStatuses");
    let restarts: i64 = statuses
        .iter()
        .filter_map(|s| s.int_at("/restartCount"))
        .sum();
    let last = statuses
        .iter()
        .filter_map(|s| s.str_at("/lastState/terminated/finishedAt"))
        .max();
    match last {
        Some(at) if restarts > 0 => json!(format!("{restarts} ({} ago)", age(Some(at), now))),
        _ => json!(restarts.to_string()),
    }
}

fn service_ports(service: &Value, _: Moment) -> Value {
    let ports: Vec<String> = service
        .array_at("/spec/ports")
        .iter()
        .map(|port| {
            let node = port["nodePort"].as_i64().map(|n| format!(":{n}"));
            let protocol = plain(&port["protocol"]);
            format!("{}{}/{protocol}", port["port"], node.unwrap_or_default())
        })
        .collect();
    if ports.is_empty() {
        json!("<none>")
    } else {
        json!(ports.join(","))
    }
}

fn endpoints(object: &Value, _: Moment) -> Value {
    let mut all = Vec::new();
    for subset in object.array_at("/subsets") {
        for address in subset.array_at("/addresses") {
            for port in subset.array_at("/ports") {
                all.push(format!("{}:{}", plain(&address["ip"]), port["port"]));
            }
        }
    }
    if all.is_empty() {
        return json!("<none>");
    }
    let more = all.len().saturating_sub(3);
    all.truncate(3);
    let shown = all.join(",");
    json!(if more > 0 {
        format!("{shown} + {more} more...")
    } else {
        shown
    })
}

fn node_status(node: &Value, _: Moment) -> Value {
    let ready = node
        .array_at("/status/conditions")
        .iter()
        .any(|c| c["type"] == "Ready" && c["status"] == "True");
    json!(if ready { "Ready" } else { "NotReady" })
}
