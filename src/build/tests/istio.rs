//! Golden tests of the Istio routes, and of their takeover.

use std::sync::Arc;

use serde_json::{Value, json};

use super::fixtures::*;
use crate::{
    build::{
        check::check,
        routes::{self, ensure, read, set},
    },
    decide::{effect::Traffic, state::Cookies},
};

fn rule_json(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1beta1", "kind": "DestinationRule",
        "metadata": {"name": name, "namespace": "ai-platform", "labels": {"app.kubernetes.io/managed-by": "flagger"},
                     "annotations": disabled(), "ownerReferences": owners()},
        "spec": spec
    })
}

fn virtual_service_json(spec: &Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService",
        "metadata": {"name": "mcp-server", "namespace": "ai-platform", "labels": {"app.kubernetes.io/managed-by": "flagger"},
                     "annotations": disabled(), "ownerReferences": owners()},
        "spec": spec
    })
}

fn split_json(primary: u8, canary: u8) -> Value {
    json!([{"destination": {"host": "mcp-server-primary"}, "weight": primary},
           {"destination": {"host": "mcp-server-canary"}, "weight": canary}])
}

#[test]
fn the_routes_begin_with_all_traffic_on_the_primary() {
    let objects = demo();
    assert_eq!(
        creations(&ensure(
            &plan_of(&objects),
            &objects,
            &Cookies::default(),
            &stamp()
        )),
        [
            rule_json("mcp-server-primary", &json!({"host": "mcp-server-primary"})),
            rule_json("mcp-server-canary", &json!({"host": "mcp-server-canary"})),
            virtual_service_json(
                &json!({"hosts": ["mcp-server"], "gateways": ["mesh"], "http": [{"route": split_json(100, 0)}]})
            ),
        ]
    );
    assert_eq!(read(&plan_of(&objects), &objects), None);
    assert!(!routes::ready(
        &plan_of(&objects),
        &objects,
        &Cookies::default()
    ));
}

#[test]
fn what_the_canary_says_of_the_route_is_copied_into_it() {
    let objects = demo_with_service(json!({
        "port": 80, "targetPort": "http", "portDiscovery": true,
        "gateways": ["istio-system/public"], "hosts": ["api.example.com"],
        "timeout": "15s", "retries": {"attempts": 3, "newField": 1}, "match": [{"uri": {"prefix": "/v1"}, "newField": 2}],
        "rewrite": {"uri": "/", "type": "ReplaceFullPath"}, "corsPolicy": {"allowOrigins": [{"exact": "a"}]},
        "headers": {"request": {"add": {"x": "y"}}},
        "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}, "newField": 3},
        "apex": {"labels": {"lane": "live"}}
    }));
    let all = creations(&ensure(
        &plan_of(&objects),
        &objects,
        &Cookies::default(),
        &stamp(),
    ));
    assert_eq!(
        all[0]["spec"],
        json!({"host": "mcp-server-primary", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}, "newField": 3}})
    );
    assert_eq!(all[2]["metadata"]["labels"]["lane"], "live");
    assert_eq!(
        all[2]["spec"],
        json!({
            "hosts": ["api.example.com", "mcp-server"], "gateways": ["istio-system/public"],
            "http": [{
                "match": [{"uri": {"prefix": "/v1"}, "newField": 2}],
                "rewrite": {"uri": "/"}, "timeout": "15s", "retries": {"attempts": 3, "newField": 1},
                "corsPolicy": {"allowOrigins": [{"exact": "a"}]}, "headers": {"request": {"add": {"x": "y"}}},
                "route": [
                    {"destination": {"host": "mcp-server-primary", "port": {"number": 80}}, "weight": 100},
                    {"destination": {"host": "mcp-server-canary", "port": {"number": 80}}, "weight": 0}
                ]
            }]
        })
    );
    let delegate = demo_with_service(json!({"port": 80, "targetPort": "http", "delegation": true}));
    let all = creations(&ensure(
        &plan_of(&delegate),
        &delegate,
        &Cookies::default(),
        &stamp(),
    ));
    assert_eq!(
        all[2]["spec"],
        json!({"http": [{"route": split_json(100, 0)}]})
    );
}

#[test]
fn weights_are_written_read_and_kept_when_the_route_is_put_right() {
    let mut objects = demo();
    let plan = plan_of(&objects);
    let writes = ensure(&plan, &objects, &Cookies::default(), &stamp());
    apply(&mut objects, writes);
    assert!(routes::ready(&plan, &objects, &Cookies::default()));
    assert_eq!(read(&plan, &objects), Some(Traffic::PRIMARY));
    let writes = set(&plan, &objects, &Cookies::default(), Traffic::to_canary(15));
    assert_eq!(
        patched(&writes),
        json!([{"op": "add", "path": "/spec/http/0/route/0/weight", "value": 85},
               {"op": "add", "path": "/spec/http/0/route/1/weight", "value": 15}])
    );
    apply(&mut objects, writes);
    assert_eq!(read(&plan, &objects), Some(Traffic::to_canary(15)));
    assert_eq!(
        set(&plan, &objects, &Cookies::default(), Traffic::to_canary(15)),
        []
    );
    assert_eq!(ensure(&plan, &objects, &Cookies::default(), &stamp()), []);

    let mut edited = (**objects.virtual_service.as_ref().unwrap()).clone();
    edited["spec"]["hosts"] = json!(["elsewhere"]);
    edited["spec"]["http"][0]["timeout"] = json!("1s");
    objects.virtual_service = Some(Arc::new(edited));
    assert!(!routes::ready(&plan, &objects, &Cookies::default()));
    let writes = ensure(&plan, &objects, &Cookies::default(), &stamp());
    assert_eq!(
        patched(&writes),
        json!([{"op": "replace", "path": "/spec/http/0", "value": {"route": split_json(85, 15)}},
               {"op": "add", "path": "/spec/hosts", "value": ["mcp-server"]}])
    );
}

#[test]
fn a_stored_split_is_read_whatever_its_spelling() {
    let read = |route: Value| {
        let mut objects = demo();
        objects.virtual_service = Some(Arc::new(json!({
            "metadata": {"name": "mcp-server", "namespace": "ai-platform"}, "spec": {"http": [{"route": route}]}
        })));
        read(&plan_of(&objects), &objects).map(Traffic::canary)
    };
    let to = |host: &str, weight: Value| json!({"destination": {"host": host}, "weight": weight});
    let primary = |weight: Value| to("mcp-server-primary", weight);
    let canary = |weight: Value| to("mcp-server-canary", weight);
    for (route, share) in [
        (json!([primary(json!(70)), canary(json!(30))]), Some(30)),
        (json!([canary(json!(30)), primary(json!(70))]), Some(30)),
        (json!([primary(json!(100)), canary(json!(null))]), Some(0)),
        (
            json!([
                to("mcp-server-primary.ai-platform.svc.cluster.local", json!(9)),
                to("mcp-server-canary.ai-platform", json!(1))
            ]),
            Some(10),
        ),
        (json!([primary(json!(999)), canary(json!(1))]), Some(1)),
        (json!([primary(json!(0)), canary(json!(0))]), None),
        (json!([primary(json!(100))]), Some(0)),
        (json!([canary(json!(null))]), Some(100)),
        (
            json!([to("mcp-server", json!(70)), canary(json!(30))]),
            Some(30),
        ),
        (json!([to("mcp-server", json!(100))]), None),
        (
            json!([
                primary(json!(50)),
                canary(json!(40)),
                to("other", json!(10))
            ]),
            None,
        ),
        (
            json!([to("mcp-server-primary.other", json!(50)), canary(json!(50))]),
            None,
        ),
        (json!([]), None),
    ] {
        assert_eq!(read(route.clone()), share, "{route}");
    }
}

#[test]
fn a_route_of_others_is_saved_once_and_only_its_destinations_change() {
    let mut objects = demo();
    let plan = plan_of(&objects);
    let writes = ensure(&plan, &objects, &Cookies::default(), &stamp());
    apply(&mut objects, writes);
    objects.virtual_service = Some(foreign());
    assert_eq!(check(&plan, &objects), []);
    let writes = ensure(&plan, &objects, &Cookies::default(), &stamp());
    let headers = json!({"request": {"set": {"x": "y"}}});
    let original = r#"{"gateways":["gw"],"hosts":["mcp.example.com"],"http":[{"match":[{"uri":{"prefix":"/docs"}}],"route":[{"destination":{"host":"docs"}}]},{"fault":{"delay":{"fixedDelay":"1s"}},"name":"app","route":[{"destination":{"host":"mcp-server.ai-platform.svc.cluster.local","subset":"v1"},"headers":{"request":{"set":{"x":"y"}}}}],"timeout":"3s"}],"newField":1}"#;
    assert_eq!(
        patched(&writes),
        json!([
            {"op": "add", "path": "/metadata/annotations", "value": {"flagger.kubernetes.io/original-configuration": original}},
            {"op": "replace", "path": "/spec/http/1/route", "value": [
                {"destination": {"host": "mcp-server-primary"}, "weight": 100, "headers": headers},
                {"destination": {"host": "mcp-server-canary"}, "weight": 0, "headers": headers}]}
        ])
    );
    apply(&mut objects, writes);
    assert!(routes::ready(&plan, &objects, &Cookies::default()));
    let writes = set(&plan, &objects, &Cookies::default(), Traffic::to_canary(5));
    apply(&mut objects, writes);
    let route = objects.virtual_service.as_ref().unwrap();
    assert_eq!(route["spec"]["http"][1]["route"][1]["weight"], 5);
    assert_eq!(route["spec"]["http"][0], foreign()["spec"]["http"][0]);
    assert_eq!(ensure(&plan, &objects, &Cookies::default(), &stamp()), []);
    assert_eq!(check(&plan, &objects), []);
}

#[test]
fn a_route_of_others_keeps_its_port() {
    let mut objects = demo();
    objects.apex = Some(Arc::new(json!({
        "kind": "Service", "metadata": {"name": "mcp-server", "namespace": "ai-platform"},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": "http"}, {"name": "grpc", "port": 9090}]}
    })));
    let plan = plan_of(&objects);
    for (port, kept) in [
        (json!({"number": 9090}), json!({"number": 9090})),
        // The Services have no such port.
        (json!({"number": 7}), Value::Null),
        (Value::Null, Value::Null),
    ] {
        let mut theirs = (*foreign()).clone();
        theirs["spec"]["http"][1]["route"][0]["destination"]["port"] = port;
        objects.virtual_service = Some(Arc::new(theirs));
        let writes = ensure(&plan, &objects, &Cookies::default(), &stamp());
        let last = writes.last().cloned();
        let route = &patched(last.as_slice())[1]["value"];
        assert_eq!(route[0]["destination"]["port"], kept);
        assert_eq!(route[1]["destination"]["port"], kept);
    }
}

#[test]
fn a_rule_of_others_keeps_its_policy() {
    let mut objects = demo();
    let theirs = |host: &str| {
        Arc::new(
            json!({"kind": "DestinationRule", "metadata": {"name": "mcp-server-primary", "namespace": "ai-platform", "annotations": {}},
                        "spec": {"host": host, "trafficPolicy": {"tls": {"mode": "SIMPLE"}}}}),
        )
    };
    objects.primary_rule = Some(theirs("mcp-server-primary.ai-platform.svc.cluster.local"));
    let plan = plan_of(&objects);
    assert_eq!(
        ensure(&plan, &objects, &Cookies::default(), &stamp()).len(),
        2
    );
    objects.primary_rule = Some(theirs("mcp-server"));
    assert_eq!(
        patched(&ensure(&plan, &objects, &Cookies::default(), &stamp())[..1]),
        json!([
            {"op": "add", "path": "/metadata/annotations/flagger.kubernetes.io~1original-configuration",
             "value": r#"{"host":"mcp-server","trafficPolicy":{"tls":{"mode":"SIMPLE"}}}"#},
            {"op": "add", "path": "/spec/host", "value": "mcp-server-primary"}
        ])
    );
}
