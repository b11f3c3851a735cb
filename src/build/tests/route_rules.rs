//! What holds of every router's routes, over random stored ones: what is sent is what is read, and what is so already is not written.

use std::sync::Arc;

use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use super::fixtures::*;
use crate::{
    api::objects::Objects,
    build::routes,
    decide::{effect::Traffic, state::Cookies},
};

fn service(matched: bool, named: bool) -> Value {
    let mut service = json!({"port": 80, "targetPort": "http"});
    if matched {
        service["match"] = json!([{"uri": {"prefix": "/a"}}]);
    }
    if named {
        service["virtualService"] = json!({"name": "mcp-server", "routes": ["app"]});
    }
    service
}

fn analysis(ab: bool, sticky: bool) -> Value {
    let mut analysis = json!({"interval": "1m", "threshold": 3});
    if ab {
        analysis["iterations"] = json!(3);
        analysis["match"] = json!([{"headers": {"x-user": {"exact": "beta"}}}]);
    } else {
        analysis["stepWeight"] = json!(10);
        analysis["mirror"] = json!(true);
    }
    if sticky {
        analysis["sessionAffinity"] = json!({"cookieName": "lane", "primaryCookieName": "home"});
    }
    analysis
}

/// What the plan of [`analysis`] may send.
fn traffic(ab: bool) -> BoxedStrategy<Traffic> {
    let weights = (0_u8..=100).prop_map(Traffic::to_canary);
    if ab {
        prop_oneof![Just(Traffic::MATCHED), Just(Traffic::PRIMARY), weights].boxed()
    } else {
        prop_oneof![(0_u8..=100).prop_map(Traffic::mirrored), weights].boxed()
    }
}

fn some_cookies() -> impl Strategy<Value = Cookies> {
    prop_oneof![
        Just(Cookies::default()),
        Just(cookies()),
        Just(Cookies {
            canary: None,
            ..cookies()
        }),
    ]
}

/// A rule that we, others, or both in turn may have written.
fn rule() -> impl Strategy<Value = Value> {
    let host = select(vec![
        "mcp-server",
        "mcp-server-primary",
        "mcp-server-canary",
        "mcp-server-canary.ai-platform.svc.cluster.local",
        "docs",
    ]);
    let weight = prop_oneof![Just(None), (0_i64..=120).prop_map(Some)];
    let destination = (host, weight).prop_map(|(host, weight)| {
        let mut to = json!({"destination": {"host": host}});
        if let Some(weight) = weight {
            to["weight"] = json!(weight);
        }
        to
    });
    let name = select(vec![
        "",
        "",
        "app",
        "sticky-route",
        "sticky-route-primary",
        "canary-match",
    ]);
    let matches = select(vec![
        json!(null),
        json!([{"uri": {"prefix": "/a"}}]),
        json!([{"headers": {"x-user": {"exact": "beta"}}}]),
        json!([{"headers": {"Cookie": {"regex": ".*lane.*abcdefghij.*"}}}]),
    ]);
    let mirror = select(vec!["", "", "mcp-server-canary", "audit"]);
    let all = (
        proptest::collection::vec(destination, 1..4),
        name,
        matches,
        mirror,
    );
    all.prop_map(|(route, name, matches, mirror)| {
        let mut rule = json!({"route": route});
        if !name.is_empty() {
            rule["name"] = json!(name);
        }
        if !matches.is_null() {
            rule["match"] = matches;
        }
        if !mirror.is_empty() {
            rule["mirror"] = json!({"host": mirror});
        }
        rule
    })
}

/// A rule of an `HTTPRoute` of ours that somebody may have edited.
fn http_rule() -> impl Strategy<Value = Value> {
    let name = select(vec![
        "mcp-server",
        "mcp-server-primary",
        "mcp-server-canary",
        "docs",
    ]);
    let weight = prop_oneof![Just(None), (0_i64..=120).prop_map(Some)];
    let backend = (name, weight).prop_map(|(name, weight)| {
        let mut to = json!({"group": "", "kind": "Service", "name": name, "port": 80});
        if let Some(weight) = weight {
            to["weight"] = json!(weight);
        }
        to
    });
    let header = |name: &str, value: &str| json!([{"path": {"type": "PathPrefix", "value": "/"}, "headers": [{"name": name, "type": "RegularExpression", "value": value}]}]);
    let matches = select(vec![
        json!([{"path": {"type": "PathPrefix", "value": "/"}}]),
        json!([{"path": {"type": "PathPrefix", "value": "/a"}}]),
        header("x-user", "beta"),
        header("Cookie", ".*lane.*abcdefghij.*"),
    ]);
    let mirror = select(vec!["", "", "mcp-server-canary", "audit"]);
    let all = (proptest::collection::vec(backend, 0..4), matches, mirror);
    all.prop_map(|(backends, matches, mirror)| {
        let mut rule = json!({"backendRefs": backends, "matches": matches});
        if !mirror.is_empty() {
            rule["filters"] = json!([{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": mirror, "port": 80}}}]);
        }
        rule
    })
}

fn stored(mine: bool, taken: bool, rules: &[Value]) -> Value {
    let mut metadata = json!({"name": "mcp-server", "namespace": "ai-platform", "annotations": {}});
    if mine {
        metadata["ownerReferences"] = owners();
    }
    if taken {
        metadata["annotations"]["flagger.kubernetes.io/original-configuration"] = json!(
            r#"{"http":[{"match":[{"uri":{"prefix":"/a"}}],"route":[{"destination":{"host":"mcp-server"}}]}]}"#
        );
    }
    json!({"apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService", "metadata": metadata, "spec": {"http": rules}})
}

/// Sends requests so and holds the routes to what is said above.
fn hold(objects: &mut Objects, cookies: &Cookies, traffic: Traffic) -> Result<(), TestCaseError> {
    let plan = plan_of(objects);
    let before = routes::read(&plan, objects);
    let writes = routes::ensure(&plan, objects, cookies, &stamp());
    apply(objects, writes);
    let kept = routes::read(&plan, objects);
    prop_assert_eq!(routes::ensure(&plan, objects, cookies, &stamp()), []);
    if let (Some(before), Some(kept)) = (before, kept) {
        prop_assert!(!kept.raises(before), "{before:?} became {kept:?}");
    }
    if kept.is_none() {
        return Ok(());
    }
    let writes = routes::set(&plan, objects, cookies, traffic);
    apply(objects, writes);
    prop_assert_eq!(routes::read(&plan, objects), Some(traffic));
    prop_assert_eq!(routes::set(&plan, objects, cookies, traffic), []);
    prop_assert_eq!(routes::ensure(&plan, objects, cookies, &stamp()), []);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_virtual_service_however_it_stands_is_brought_where_it_is_wanted(
        ((ab, wanted), sticky, matched, named) in (
            any::<bool>().prop_flat_map(|ab| (Just(ab), proptest::collection::vec(traffic(ab), 1..4))),
            any::<bool>(), any::<bool>(), any::<bool>()),
        (mine, taken) in (any::<bool>(), any::<bool>()),
        rules in proptest::collection::vec(rule(), 0..5),
        cookies in some_cookies(),
    ) {
        let mut objects = demo_with("istio", service(matched, named && !mine), analysis(ab, sticky));
        let original = stored(mine, taken && !mine, &rules);
        objects.virtual_service = Some(Arc::new(original));
        for traffic in wanted {
            hold(&mut objects, &cookies, traffic)?;
        }
        // Rules that lead nowhere near the app are as they were, and in the same order.
        if !mine {
            let others = |rules: &[Value]| -> Vec<Value> {
                let elsewhere = |rule: &&Value| rule["route"].as_array().unwrap().iter().any(|to| to["destination"]["host"] == "docs");
                rules.iter().filter(elsewhere).cloned().collect()
            };
            let now = objects.virtual_service.as_ref().unwrap();
            prop_assert_eq!(others(now["spec"]["http"].as_array().unwrap()), others(&rules));
        }
    }

    #[test]
    fn an_http_route_however_it_stands_is_brought_where_it_is_wanted(
        ((ab, wanted), sticky, matched) in (
            any::<bool>().prop_flat_map(|ab| (Just(ab), proptest::collection::vec(traffic(ab), 1..4))),
            any::<bool>(), any::<bool>()),
        rules in proptest::collection::vec(http_rule(), 0..5),
        cookies in some_cookies(),
    ) {
        let mut service = service(matched, false);
        service["gatewayRefs"] = json!([{"name": "edge"}]);
        let mut objects = demo_with("gatewayapi:v1", service, analysis(ab, sticky));
        objects.http_route = Some(Arc::new(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "mcp-server", "namespace": "ai-platform", "ownerReferences": owners()}, "spec": {"rules": rules}
        })));
        for traffic in wanted {
            hold(&mut objects, &cookies, traffic)?;
        }
    }
}
