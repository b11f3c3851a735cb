//! Likely causes why the observed share is not the written weight.

use serde_json::{Value, json};

use super::fixtures::{apply, demo, plan_of};
use crate::{
    api::objects::{Object, Objects},
    build::apart::causes,
};

fn service(name: &str, selector: &Value) -> Object {
    Object::new(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "ai-platform"},
        "spec": {"selector": selector},
    }))
}

fn route(namespace: &str, name: &str, spec: &Value) -> Object {
    Object::new(json!({
        "apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }))
}

fn of(objects: &Objects, services: &[Object], routes: &[Object]) -> Vec<String> {
    causes(&plan_of(objects), objects, services, routes)
}

/// The demo with its primary.
fn world() -> Objects {
    let mut objects = demo();
    let writes = crate::build::workload::create_primary(
        &plan_of(&objects),
        &objects,
        &super::fixtures::stamp(),
        super::fixtures::RUN,
    );
    apply(&mut objects, writes);
    objects
}

#[test]
fn a_second_service_on_the_same_pods() {
    let objects = world();
    let app = json!({"app": "mcp-server"});
    for (name, selector, says) in [
        ("mcp-server", app.clone(), None),
        ("mcp-server-canary", app.clone(), None),
        ("mcp-server-direct", json!({"app": "other"}), None),
        ("mcp-server-direct", json!({}), None),
        (
            "mcp-server-direct",
            app,
            Some(
                "Service ai-platform/mcp-server-direct selects the canary's pods too, and what calls it is not split: let its clients call mcp-server, or delete it",
            ),
        ),
        (
            "mcp-server-direct",
            json!({"app": "mcp-server-primary"}),
            Some(
                "Service ai-platform/mcp-server-direct selects the primary's pods too, and what calls it is not split: let its clients call mcp-server, or delete it",
            ),
        ),
    ] {
        let found = of(&objects, &[service(name, &selector)], &[]);
        assert_eq!(found.first().map(String::as_str), says, "{name} {selector}");
    }
}

#[test]
fn a_second_virtual_service_for_the_host() {
    let objects = world();
    let told = |namespace: &str, host: &str| {
        format!(
            "VirtualService {namespace}/legacy is for host {host} too, and a mesh follows only one of them: delete it, or take the host out of it"
        )
    };
    for (namespace, name, spec, says) in [
        (
            "ai-platform",
            "mcp-server",
            json!({"hosts": ["mcp-server"]}),
            None,
        ),
        (
            "ai-platform",
            "legacy",
            json!({"hosts": ["mcp-server"]}),
            Some("mcp-server"),
        ),
        ("other", "legacy", json!({"hosts": ["mcp-server"]}), None),
        (
            "other",
            "legacy",
            json!({"hosts": ["mcp-server.ai-platform"]}),
            Some("mcp-server.ai-platform"),
        ),
        (
            "other",
            "legacy",
            json!({"hosts": ["mcp-server.ai-platform.svc.cluster.local"], "gateways": ["mesh", "gw"]}),
            Some("mcp-server.ai-platform.svc.cluster.local"),
        ),
        (
            "other",
            "legacy",
            json!({"hosts": ["mcp-server.ai-platform-2.svc"]}),
            None,
        ),
        (
            "ai-platform",
            "legacy",
            json!({"hosts": ["mcp-server"], "gateways": ["gw"]}),
            None,
        ),
        (
            "ai-platform",
            "legacy",
            json!({"hosts": ["mcp-server-2"]}),
            None,
        ),
    ] {
        let found = of(&objects, &[], &[route(namespace, name, &spec)]);
        let says = says.map(|host| told(namespace, host));
        assert_eq!(found.first(), says.as_ref(), "{namespace}/{name} {spec}");
    }
}

#[test]
fn a_gateway_without_the_mesh_and_pods_without_a_sidecar() {
    let mut objects = world();
    assert_eq!(of(&objects, &[], &[]), Vec::<String>::new());
    let pod = |name: &str, containers: Value| {
        Object::new(
            json!({"metadata": {"name": name, "namespace": "ai-platform"}, "spec": {"containers": containers}}),
        )
    };
    objects.pods = vec![
        pod("a", json!([{"name": "server"}, {"name": "istio-proxy"}])),
        pod("b", json!([{"name": "server"}])),
    ];
    assert_eq!(
        of(&objects, &[], &[]),
        [
            "pod ai-platform/b has no sidecar (istio-proxy) while others have one: delete it, so that it is made anew with one"
        ]
    );
    let mut target = objects.target.as_deref().unwrap().clone();
    target["spec"]["template"]["metadata"]["labels"]["sidecar.istio.io/inject"] = json!("false");
    objects.target = Some(Object::new(target));
    assert_eq!(
        of(&objects, &[], &[]),
        [
            "the pods of Deployment ai-platform/mcp-server opt out of the sidecar (sidecar.istio.io/inject: \"false\"): take that out"
        ]
    );
    let mut canary = objects.canary.as_ref().clone();
    canary["spec"]["service"]["gateways"] = json!(["istio-system/public"]);
    objects.canary = Object::new(canary);
    assert_eq!(
        of(&objects, &[], &[])[0],
        "spec.service.gateways names istio-system/public and not mesh: requests from inside the mesh are not split; add mesh"
    );
}
