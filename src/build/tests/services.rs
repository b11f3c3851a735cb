//! Golden tests of the Services.

use std::sync::Arc;

use serde_json::{Value, json};

use super::fixtures::*;
use crate::{build::services, decide::effect::Traffic};

fn service_json(name: &str, selects: &str, ports: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": name, "namespace": "ai-platform",
            "labels": {"app": name, "app.kubernetes.io/managed-by": "flagger"},
            "annotations": disabled(), "ownerReferences": owners()
        },
        "spec": {"type": "ClusterIP", "selector": {"app": selects}, "ports": ports}
    })
}

#[test]
fn the_three_services_are_made_and_then_right() {
    let mut objects = demo();
    let plan = plan_of(&objects);
    let ports = json!([{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]);
    let roles = services::roles(&plan, &objects, &stamp());
    assert_eq!(
        creations(&roles),
        [
            service_json("mcp-server-canary", "mcp-server", &ports),
            service_json("mcp-server-primary", "mcp-server-primary", &ports),
        ]
    );
    let apex = services::apex(&plan, &objects, Traffic::PRIMARY, &stamp());
    assert_eq!(
        creations(&apex),
        [service_json("mcp-server", "mcp-server-primary", &ports)]
    );
    assert!(!services::roles_ready(&plan, &objects));
    assert!(!services::apex_on_primary(
        &plan,
        &objects,
        Traffic::PRIMARY
    ));
    apply(&mut objects, roles);
    apply(&mut objects, apex);
    assert!(services::roles_ready(&plan, &objects));
    assert!(services::apex_on_primary(&plan, &objects, Traffic::PRIMARY));
    assert_eq!(services::roles(&plan, &objects, &stamp()), []);
    assert_eq!(
        services::apex(&plan, &objects, Traffic::PRIMARY, &stamp()),
        []
    );
}

#[test]
fn ports_are_discovered_and_metadata_is_the_canarys() {
    let objects = demo_with_service(json!({
        "port": 80, "targetPort": 8080, "appProtocol": "http", "portDiscovery": true,
        "canary": {"labels": {"lane": "new"}, "annotations": {"note": "x"}}
    }));
    let service = created(&services::roles(&plan_of(&objects), &objects, &stamp())[..1]);
    assert_eq!(
        service["spec"]["ports"],
        json!([
            {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP", "appProtocol": "http"},
            {"name": "dns", "port": 53, "targetPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 53, "targetPort": 53, "protocol": "TCP"},
            {"name": "tcp-server-3", "port": 9090, "targetPort": 9090, "protocol": "TCP"}
        ])
    );
    assert_eq!(
        service["metadata"]["labels"],
        json!({"lane": "new", "app": "mcp-server-canary", "app.kubernetes.io/managed-by": "flagger"})
    );
    assert_eq!(service["metadata"]["annotations"]["note"], "x");
}

#[test]
fn an_apex_that_was_there_is_adopted_with_its_node_ports_and_further_ports() {
    let mut objects = demo();
    objects.apex = Some(Arc::new(apex()));
    let plan = plan_of(&objects);
    let writes = services::apex(&plan, &objects, Traffic::PRIMARY, &stamp());
    assert_eq!(
        patched(&writes),
        json!([
            {"op": "add", "path": "/spec/ports", "value": [
                {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP", "nodePort": 30080},
                {"name": "metrics", "port": 9090, "targetPort": 9090, "protocol": "TCP", "nodePort": 30090}]},
            {"op": "add", "path": "/spec/selector", "value": {"app": "mcp-server-primary"}}
        ])
    );
    let roles = services::roles(&plan, &objects, &stamp());
    assert_eq!(
        created(&roles[..1])["spec"]["ports"],
        json!([{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"},
               {"name": "metrics", "port": 9090, "targetPort": 9090, "protocol": "TCP"}])
    );
    apply(&mut objects, writes);
    assert_eq!(
        objects.apex.as_ref().unwrap()["metadata"],
        apex()["metadata"]
    );
    assert!(services::apex_on_primary(&plan, &objects, Traffic::PRIMARY));
    assert_eq!(
        services::apex(&plan, &objects, Traffic::PRIMARY, &stamp()),
        []
    );
}

#[test]
fn a_node_port_stays_with_its_number_when_the_port_gets_a_name() {
    let mut unnamed = apex();
    unnamed["spec"]["ports"] = json!([{"port": 80, "nodePort": 30080}]);
    let mut objects = demo();
    objects.apex = Some(Arc::new(unnamed));
    let ops = patched(&services::apex(
        &plan_of(&objects),
        &objects,
        Traffic::PRIMARY,
        &stamp(),
    ));
    assert_eq!(
        ops[0]["value"],
        json!([{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP", "nodePort": 30080}])
    );
}

#[test]
fn metadata_of_our_services_is_put_right_but_for_what_others_manage() {
    let mut objects = demo_with_service(
        json!({"port": 80, "targetPort": "http", "apex": {"labels": {"a": "1", "b": "2"}}}),
    );
    let writes = services::apex(&plan_of(&objects), &objects, Traffic::PRIMARY, &stamp());
    apply(&mut objects, writes);
    let mut changed = (**objects.apex.as_ref().unwrap()).clone();
    changed["metadata"]["labels"]["a"] = json!("theirs");
    changed["metadata"]["labels"]["b"] = json!("theirs");
    changed["metadata"]["labels"]["c"] = json!("kept");
    objects.apex = Some(Arc::new(changed));
    let mut canary = (*objects.canary).clone();
    canary["spec"]["service"]["unmanagedMetadata"] = json!({"labels": ["b"]});
    objects.canary = Arc::new(canary);
    assert_eq!(
        patched(&services::apex(
            &plan_of(&objects),
            &objects,
            Traffic::PRIMARY,
            &stamp()
        )),
        json!([{"op": "add", "path": "/metadata/labels/a", "value": "1"}])
    );
}
