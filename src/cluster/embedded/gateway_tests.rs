//! Clusters of Gateway API, with a Gateway and with Services as parents, and clusters without a mesh, under tokio's paused clock.

use serde_json::{Value, json};

use super::{GATEWAY, HTTP_ROUTE, REFERENCE_GRANT};
use crate::{
    api::objects::{
        CANARY as CANARY_KIND, CUSTOM_RESOURCE_DEFINITION, DEPLOYMENT, Object, ObjectExt, SERVICE,
    },
    cluster::embedded::{
        fleet::{
            Fleet, FleetOptions,
            tests::{EPOCH, NS, annotate, one_of, primary, seconds},
        },
        mesh::Mesh,
        store::Store,
        traffic::Counts,
    },
};

const CANARY: &str = "mcp-server";

/// One cluster with both copies up.
async fn cluster(mesh: Mesh) -> (Fleet, Store) {
    let (fleet, store) = one_of(mesh, 20);
    annotate(&store, "autoscaling.keda.sh/paused", Some("true"));
    primary(&store);
    seconds(&store, 10).await;
    (fleet, store)
}

fn rules(primary: i64, canary: i64) -> Value {
    let backend = |name: &str, weight: i64| json!({"group": "", "kind": "Service", "name": name, "port": 8080, "weight": weight});
    json!([{
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "backendRefs": [backend("mcp-server-primary", primary), backend("mcp-server-canary", canary)],
    }])
}

fn create(store: &Store, parent: &Value, rules: &Value) {
    let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "mcp-server", "namespace": NS},
        "spec": {"parentRefs": [parent], "rules": rules}});
    store.create(&HTTP_ROUTE, route, "canary-mcp").unwrap();
}

fn change(store: &Store, change: impl FnOnce(&mut Value)) {
    let write = |route: &mut Value| change(&mut route["spec"]);
    store
        .modify(&HTTP_ROUTE, NS, "mcp-server", "canary-mcp", write)
        .unwrap();
}

fn route(store: &Store) -> Object {
    store.get(&HTTP_ROUTE, NS, "mcp-server").unwrap()
}

fn gateway() -> Value {
    json!({"name": "gateway", "namespace": "istio-ingress"})
}

fn service() -> Value {
    json!({"group": "core", "kind": "Service", "name": "mcp-server", "namespace": NS, "port": 8080})
}

/// Status, reason and whether the condition is of the current generation, of the route's first parent.
fn condition(store: &Store, kind: &str) -> (String, String, bool) {
    let route = route(store);
    let conditions = route.array_at("/status/parents/0/conditions");
    let found = conditions.iter().find(|c| c["type"] == kind);
    let found = found.cloned().unwrap_or_default();
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    let current = found["observedGeneration"].as_i64() == route.generation();
    (text("status"), text("reason"), current)
}

fn is(status: &str, reason: &str) -> (String, String, bool) {
    (status.to_owned(), reason.to_owned(), true)
}

/// What was counted in a minute: 1200 requests, and what falls between two looks at what is due.
async fn minute(fleet: &Fleet, store: &Store) -> Counts {
    let before = fleet.counters("prod-kr");
    seconds(store, 60).await;
    let counts = fleet.counters("prod-kr").since(&before);
    assert!((1_195..=1_205).contains(&counts.total), "{counts:?}");
    counts
}

/// The percent of the requests that the canary answers, to the next whole one.
async fn share(fleet: &Fleet, store: &Store) -> i64 {
    let share = minute(fleet, store).await.share(CANARY);
    (0..=100)
        .find(|percent| (share - f64::from(*percent)).abs() < 0.5)
        .unwrap()
        .into()
}

#[tokio::test(start_paused = true)]
async fn a_route_is_accepted_half_a_second_later_and_followed_one_to_three_after_that() {
    for (mesh, parent) in [(Mesh::GatewayApi, gateway()), (Mesh::Gamma, service())] {
        let (fleet, store) = cluster(mesh).await;
        create(&store, &parent, &rules(90, 10));
        store.clock().sleep(400).await;
        assert_eq!(route(&store).array_at("/status/parents").len(), 0);
        store.clock().sleep(200).await;
        assert_eq!(condition(&store, "Accepted"), is("True", "Accepted"));
        assert_eq!(
            condition(&store, "ResolvedRefs"),
            is("True", "ResolvedRefs")
        );
        seconds(&store, 4).await;
        let counts = minute(&fleet, &store).await;
        assert_eq!(counts.no_route_404, 0);
        assert!(
            (counts.share(CANARY) - 10.0).abs() < 0.2,
            "{mesh:?} {counts:?}"
        );
        change(&store, |spec| spec["rules"] = rules(0, 100));
        assert!(!condition(&store, "Accepted").2);
        seconds(&store, 4).await;
        assert!(condition(&store, "Accepted").2);
        assert_eq!(share(&fleet, &store).await, 100, "{mesh:?}");
        // Without a route it is what the Service selects.
        store.remove(&HTTP_ROUTE, NS, "mcp-server").unwrap();
        seconds(&store, 4).await;
        assert_eq!(share(&fleet, &store).await, 100);
        assert_eq!(fleet.counters("prod-kr").no_endpoint_503, 0);
    }
}

/// What is wrong with a route is said in its status, and put right when the cause is gone.
#[tokio::test(start_paused = true)]
async fn a_route_is_refused_for_the_reasons_that_the_api_names() {
    let (_fleet, store) = cluster(Mesh::GatewayApi).await;
    create(&store, &gateway(), &rules(100, 0));
    let mut section = gateway();
    section["sectionName"] = json!("https");
    let mut missing = rules(100, 0);
    missing[0]["backendRefs"][1]["name"] = json!("nobody");
    let mut kind = rules(100, 0);
    kind[0]["backendRefs"][1]["kind"] = json!("Bucket");
    let mut elsewhere = rules(100, 0);
    elsewhere[0]["backendRefs"][1]["namespace"] = json!("test");
    elsewhere[0]["backendRefs"][1]["name"] = json!("flagger-loadtester");
    let sound = (is("True", "Accepted"), is("True", "ResolvedRefs"));
    for (parent, rules, accepted, resolved) in [
        (gateway(), rules(100, 0), sound.0.clone(), sound.1.clone()),
        (
            section,
            rules(100, 0),
            is("False", "NoMatchingParent"),
            sound.1.clone(),
        ),
        (
            gateway(),
            missing,
            sound.0.clone(),
            is("False", "BackendNotFound"),
        ),
        (gateway(), kind, sound.0.clone(), is("False", "InvalidKind")),
        (
            gateway(),
            elsewhere,
            sound.0.clone(),
            is("False", "RefNotPermitted"),
        ),
    ] {
        change(&store, |spec| {
            spec["parentRefs"] = json!([parent]);
            spec["rules"] = rules;
        });
        seconds(&store, 1).await;
        assert_eq!(condition(&store, "Accepted"), accepted);
        assert_eq!(condition(&store, "ResolvedRefs"), resolved);
    }
    let grant = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "ReferenceGrant",
        "metadata": {"name": "routes", "namespace": "test"},
        "spec": {"from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": NS}],
            "to": [{"group": "", "kind": "Service"}]}});
    store.create(&REFERENCE_GRANT, grant, "kubectl").unwrap();
    seconds(&store, 1).await;
    assert_eq!(condition(&store, "ResolvedRefs"), sound.1);
    // Of a gateway that is not there nobody says anything.
    change(&store, |spec| {
        spec["parentRefs"] = json!([{"name": "other"}]);
    });
    seconds(&store, 10).await;
    assert_eq!(route(&store).array_at("/status/parents").len(), 0);
    // Listeners may have hostnames, and take the routes of their own namespace only.
    for (listener, reason) in [
        (
            json!({"hostname": "a.example.com"}),
            "NoMatchingListenerHostname",
        ),
        (
            json!({"allowedRoutes": {"namespaces": {"from": "Same"}}}),
            "NotAllowedByListeners",
        ),
    ] {
        let write = |gateway: &mut Value| {
            for (key, value) in listener.as_object().unwrap() {
                gateway["spec"]["listeners"][0][key] = value.clone();
            }
        };
        store
            .modify(&GATEWAY, "istio-ingress", "gateway", "kubectl", write)
            .unwrap();
        change(&store, |spec| {
            spec["parentRefs"] = json!([gateway()]);
            spec["hostnames"] = json!(["b.example.com"]);
        });
        seconds(&store, 1).await;
        assert_eq!(condition(&store, "Accepted"), is("False", reason));
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_is_programmed_and_counts_its_routes() {
    let (_fleet, store) = cluster(Mesh::GatewayApi).await;
    create(&store, &gateway(), &rules(100, 0));
    seconds(&store, 2).await;
    let gateway = store.get(&GATEWAY, "istio-ingress", "gateway").unwrap();
    let status = &gateway["status"];
    assert_eq!(status["listeners"][0]["attachedRoutes"], 1);
    assert_eq!(
        status["listeners"][0]["conditions"][1]["type"],
        "Programmed"
    );
    assert_eq!(status["conditions"][1]["type"], "Programmed");
    assert_eq!(status["conditions"][1]["status"], "True");
    assert_eq!(status["conditions"][1]["observedGeneration"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_controller_may_be_late_silent_or_refuse_and_traffic_follows_what_it_accepted() {
    let (fleet, store) = cluster(Mesh::GatewayApi).await;
    let acceptance = fleet.members()[0].acceptance();
    create(&store, &gateway(), &rules(100, 0));
    seconds(&store, 5).await;
    acceptance.late(30_000);
    change(&store, |spec| spec["rules"] = rules(0, 100));
    seconds(&store, 29).await;
    assert!(!condition(&store, "Accepted").2);
    let counts = fleet.counters("prod-kr");
    seconds(&store, 1).await;
    assert!(condition(&store, "Accepted").2);
    let at_once = fleet.counters("prod-kr").since(&counts);
    assert_eq!(at_once.workloads.get(CANARY), None);
    seconds(&store, 3).await;
    assert_eq!(share(&fleet, &store).await, 100);

    acceptance.silent();
    change(&store, |spec| spec["rules"] = rules(100, 0));
    seconds(&store, 300).await;
    assert!(!condition(&store, "Accepted").2);
    assert_eq!(share(&fleet, &store).await, 100);
    acceptance.sound();
    seconds(&store, 5).await;
    assert!(condition(&store, "Accepted").2);
    assert_eq!(share(&fleet, &store).await, 0);

    acceptance.refuse("Accepted", "UnsupportedValue", "no");
    change(&store, |spec| spec["rules"] = rules(50, 50));
    seconds(&store, 2).await;
    assert_eq!(
        condition(&store, "Accepted"),
        is("False", "UnsupportedValue")
    );
    acceptance.sound();
    seconds(&store, 6).await;
    assert_eq!(condition(&store, "Accepted"), is("True", "Accepted"));
    assert_eq!(share(&fleet, &store).await, 50);
}

/// Without a mesh the apex alone decides, and its selector at once.
#[tokio::test(start_paused = true)]
async fn without_a_mesh_requests_go_to_what_the_service_selects() {
    let (fleet, store) = cluster(Mesh::None).await;
    assert!(store.list(&HTTP_ROUTE, None).is_empty());
    assert_eq!(share(&fleet, &store).await, 100);
    let select = |s: &mut Value| s["spec"]["selector"]["app"] = json!("mcp-server-primary");
    store
        .modify(&SERVICE, NS, "mcp-server", "canary-mcp", select)
        .unwrap();
    seconds(&store, 1).await;
    let counts = minute(&fleet, &store).await;
    assert_eq!(counts.workloads.get(CANARY), None, "{counts:?}");
    assert_eq!(counts.no_endpoint_503, 0);
}

/// The API server of each cluster takes all that is applied to it, the Canary too.
#[tokio::test(start_paused = true)]
async fn a_fleet_starts_with_each_mesh() {
    for mesh in Mesh::ALL {
        let mut options = FleetOptions::new(EPOCH, 1.0, crate::api::crd::crds());
        options.mesh = mesh;
        let fleet = Fleet::start(options).unwrap();
        let store = fleet.members()[0].server.store();
        let canary = store.get(&CANARY_KIND, NS, "mcp-server").unwrap();
        let provider = match mesh {
            Mesh::Istio => "istio",
            Mesh::GatewayApi | Mesh::Gamma => "gatewayapi:v1",
            Mesh::None => "kubernetes",
        };
        assert_eq!(canary.str_at("/spec/provider"), Some(provider));
        let crd = |name: &str| store.get(&CUSTOM_RESOURCE_DEFINITION, "", name);
        let istio = crd("virtualservices.networking.istio.io").is_some();
        assert_eq!(istio, mesh == Mesh::Istio);
        let routes = crd("httproutes.gateway.networking.k8s.io");
        let bundle = routes
            .as_ref()
            .and_then(|crd| crd.annotation("gateway.networking.k8s.io/bundle-version"));
        let wanted = matches!(mesh, Mesh::GatewayApi | Mesh::Gamma).then_some("v1.6.1");
        assert_eq!(bundle, wanted);
    }
}

/// What a person would have written for each of the clusters.
#[test]
fn the_example_is_adapted_to_each_cluster() {
    let canary: Value =
        serde_saphyr::from_str(include_str!("../../../examples/canary.yaml")).unwrap();
    let of = |mesh: Mesh| {
        let mut canary = canary.clone();
        mesh.adapt(&mut canary);
        canary["spec"].clone()
    };
    assert_eq!(of(Mesh::Istio), canary["spec"]);
    let gateway_api = of(Mesh::GatewayApi);
    assert_eq!(gateway_api["provider"], "gatewayapi:v1");
    assert_eq!(gateway_api["service"]["gatewayRefs"], json!([gateway()]));
    assert_eq!(
        of(Mesh::Gamma)["service"]["gatewayRefs"],
        json!([service()])
    );
    let none = of(Mesh::None);
    assert_eq!(none["provider"], "kubernetes");
    assert_eq!(none["analysis"]["iterations"], 5);
    assert_eq!(none["analysis"]["maxWeight"], Value::Null);
}

#[cfg(feature = "embedded-metrics")]
mod queries {
    use super::*;
    use crate::cluster::embedded::metrics::Answer;

    /// Flagger's queries of success rate and duration, for `kubernetes` and `gatewayapi` and for Linkerd.
    const OF_PODS: [&str; 2] = [
        r#"sum(rate(http_request_duration_seconds_count{kubernetes_namespace="ai-platform",kubernetes_pod_name=~"mcp-server-[0-9a-zA-Z]+(-[0-9a-zA-Z]+)",status!~"5.*"}[1m])) / sum(rate(http_request_duration_seconds_count{kubernetes_namespace="ai-platform",kubernetes_pod_name=~"mcp-server-[0-9a-zA-Z]+(-[0-9a-zA-Z]+)"}[1m])) * 100"#,
        r#"histogram_quantile(0.99, sum(rate(http_request_duration_seconds_bucket{kubernetes_namespace="ai-platform",kubernetes_pod_name=~"mcp-server-[0-9a-zA-Z]+(-[0-9a-zA-Z]+)"}[1m])) by (le))"#,
    ];
    const OF_LINKERD: [&str; 2] = [
        r#"sum(rate(response_total{namespace="ai-platform",deployment=~"mcp-server",direction="inbound",classification!="failure"}[1m])) / sum(rate(response_total{namespace="ai-platform",deployment=~"mcp-server",direction="inbound"}[1m])) * 100"#,
        r#"histogram_quantile(0.99, sum(rate(response_latency_ms_bucket{namespace="ai-platform",deployment=~"mcp-server",direction="inbound"}[1m])) by (le))"#,
    ];

    fn series(fleet: &Fleet, query: &str) -> Vec<f64> {
        let member = &fleet.members()[0];
        match member.metrics().instant(query, member.clock.now()) {
            Ok(Answer::Vector(series)) => series.iter().map(|(_, value)| *value).collect(),
            other => panic!("{query}: {other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_queries_of_each_provider_find_what_is_measured_there() {
        // 0.99 of the way through the bucket that holds everything: 0.1..0.25 s, and 100..200 ms with Linkerd.
        for (mesh, queries) in [
            (Mesh::GatewayApi, vec![(OF_PODS, [80.0, 0.2485])]),
            (Mesh::None, vec![(OF_PODS, [80.0, 0.2485])]),
            (
                Mesh::Gamma,
                vec![(OF_PODS, [80.0, 0.2485]), (OF_LINKERD, [80.0, 199.0])],
            ),
        ] {
            let (fleet, store) = cluster(mesh).await;
            let image = json!("registry.example/mcp-server:1.1.0-errors");
            let write =
                |d: &mut Value| d["spec"]["template"]["spec"]["containers"][0]["image"] = image;
            store
                .modify(&DEPLOYMENT, NS, CANARY, "kubectl", write)
                .unwrap();
            seconds(&store, 180).await;
            for (pair, expected) in queries {
                for (query, expected) in pair.iter().zip(expected) {
                    let found = series(&fleet, query);
                    assert_eq!(found.len(), 1, "{mesh:?} {query}");
                    assert!(
                        (found[0] - expected).abs() < expected * 0.005,
                        "{found:?} {query}"
                    );
                }
            }
            assert!(series(&fleet, "istio_requests_total").is_empty());
            assert!(!series(&fleet, "mcp_requests_total").is_empty());
        }
    }
}
