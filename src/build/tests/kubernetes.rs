//! Tests of the router without a mesh: the apex is the route.

use std::sync::Arc;

use serde_json::{Value, json};

use super::fixtures::*;
use crate::{
    api::objects::Objects,
    build::{check::check, routes, services},
    decide::{effect::Traffic, state::Cookies},
};

fn demo_of(service: Value) -> Objects {
    let analysis = json!({"interval": "1m", "threshold": 3, "iterations": 5, "hold": 2});
    demo_with("kubernetes", service, analysis)
}

#[test]
fn the_apex_selects_the_copy_that_gets_the_requests() {
    let mut objects = demo_of(json!({"port": 80, "targetPort": "http"}));
    let (plan, none) = (plan_of(&objects), Cookies::default());
    assert_eq!(check(&plan, &objects), []);
    assert_eq!(routes::read(&plan, &objects), None);
    assert_eq!(routes::ensure(&plan, &objects, &none, &stamp()), []);
    assert!(!routes::ready(&plan, &objects, &none));

    let writes = services::apex(&plan, &objects, Traffic::PRIMARY, &stamp());
    apply(&mut objects, writes);
    assert!(routes::ready(&plan, &objects, &none));
    assert_eq!(routes::read(&plan, &objects), Some(Traffic::PRIMARY));

    let writes = routes::set(&plan, &objects, &none, Traffic::CANARY);
    assert_eq!(
        patched(&writes),
        json!([{"op": "add", "path": "/spec/selector", "value": {"app": "mcp-server"}}])
    );
    apply(&mut objects, writes);
    assert_eq!(routes::read(&plan, &objects), Some(Traffic::CANARY));
    assert_eq!(routes::set(&plan, &objects, &none, Traffic::CANARY), []);

    // On record it is right so, and stays there; otherwise it is to select the primary.
    assert!(services::apex_on_primary(&plan, &objects, Traffic::CANARY));
    assert_eq!(
        services::apex(&plan, &objects, Traffic::CANARY, &stamp()),
        []
    );
    assert!(!services::apex_on_primary(
        &plan,
        &objects,
        Traffic::PRIMARY
    ));
    let back =
        json!([{"op": "add", "path": "/spec/selector", "value": {"app": "mcp-server-primary"}}]);
    let writes = services::apex(&plan, &objects, Traffic::PRIMARY, &stamp());
    assert_eq!(patched(&writes), back);
    // A part of the requests cannot be sent: nobody is.
    for traffic in [
        Traffic::PRIMARY,
        Traffic::to_canary(99),
        Traffic::MATCHED,
        Traffic::mirrored(100),
    ] {
        let writes = routes::set(&plan, &objects, &none, traffic);
        assert_eq!(patched(&writes), back, "{traffic:?}");
    }
}

#[test]
fn a_selector_of_somebody_else_is_no_route() {
    let mut objects = demo_of(json!({"port": 80, "targetPort": "http"}));
    let (plan, none) = (plan_of(&objects), Cookies::default());
    objects.apex = Some(Arc::new(apex()));
    assert_eq!(routes::read(&plan, &objects), None);
    assert!(!services::apex_on_primary(&plan, &objects, Traffic::CANARY));
    let writes = routes::set(&plan, &objects, &none, Traffic::PRIMARY);
    assert_eq!(
        patched(&writes),
        json!([{"op": "add", "path": "/spec/selector", "value": {"app": "mcp-server-primary"}}])
    );
}

#[test]
fn what_a_service_cannot_do_is_refused() {
    let objects = demo_of(
        json!({"port": 80, "targetPort": "http", "timeout": "5s", "hosts": [], "delegation": false}),
    );
    let all = check(&plan_of(&objects), &objects);
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(
        all,
        [
            "spec.service.timeout: provider kubernetes has no mesh, and a Service knows no single requests; take it out, or use another provider"
        ]
    );
}
