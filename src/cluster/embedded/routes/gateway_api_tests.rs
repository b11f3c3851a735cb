//! Rules, matches, weights and filters of `HTTPRoutes`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    super::{
        Route,
        tests::{Objects, goes, sent, source},
    },
    *,
};
use crate::cluster::embedded::requests::Users;

const GATEWAY: &str = "istio-ingress/gateway";

fn accepted(parent: &Value, accepted: &str) -> Value {
    json!([{"parentRef": parent, "controllerName": "a/b", "conditions": [
        {"type": "Accepted", "status": accepted, "observedGeneration": 1},
        {"type": "ResolvedRefs", "status": "True", "observedGeneration": 1}]}])
}

fn gateway() -> Value {
    json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gateway", "namespace": "istio-ingress"})
}

fn http_route(name: &str, parent: &Value, hosts: &[&str], rules: &Value) -> Value {
    json!({"kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "ai-platform", "creationTimestamp": "2026-11-21T00:00:00Z"},
        "spec": {"parentRefs": [parent], "hostnames": hosts, "rules": rules},
        "status": {"parents": accepted(parent, "True")}})
}

fn rule(matches: &Value, to: &str) -> Value {
    json!({"matches": matches, "backendRefs": [{"group": "", "kind": "Service", "name": to, "port": 8080, "weight": 1}]})
}

fn everything() -> Value {
    json!([{"path": {"type": "PathPrefix", "value": "/"}}])
}

fn through(host: &str) -> Source {
    let entry = Entry::Gateway {
        name: GATEWAY.to_owned(),
        host: host.to_owned(),
    };
    Source { entry, ..source() }
}

fn read(routes: &[Value], source: &Source) -> Route {
    Route::read(&Objects(routes.to_vec()), source)
}

fn plain() -> Users {
    Users::new("u", 1)
}

/// The precedence of matches, whatever the order of the rules is.
#[test]
fn the_most_precise_match_is_followed() {
    let path = |kind: &str, value: &str| json!({"path": {"type": kind, "value": value}});
    let and = |mut one: Value, key: &str, value: Value| {
        one[key] = value;
        one
    };
    let header = |name: &str| json!([{"type": "Exact", "name": name, "value": "1"}]);
    let prefix = || path("PathPrefix", "/mcp");
    let rules = json!([
        rule(&everything(), "rest"),
        rule(&json!([prefix()]), "prefix"),
        rule(&json!([path("PathPrefix", "/mcp/long")]), "longer"),
        rule(
            &json!([and(prefix(), "headers", header("X-One"))]),
            "header"
        ),
        rule(&json!([and(prefix(), "method", json!("GET"))]), "method"),
        rule(&json!([and(prefix(), "queryParams", header("q"))]), "query"),
        rule(&json!([path("RegularExpression", "/mcp/[0-9]+")]), "regex"),
        rule(&json!([path("Exact", "/mcp/42")]), "exact"),
        rule(
            &json!([and(
                prefix(),
                "headers",
                json!([{"type": "RegularExpression", "name": "cookie", "value": ".*a=b.*"}])
            )]),
            "cookie"
        ),
    ]);
    let route = http_route("r", &gateway(), &[], &rules);
    for (users, goes_to) in [
        (plain().asking("POST", "/"), "rest"),
        (plain().asking("POST", "/mcpx"), "rest"),
        (plain(), "prefix"),
        (plain().asking("POST", "/mcp/short"), "prefix"),
        (plain().asking("POST", "/mcp/long/x"), "longer"),
        (plain().header("x-one", "1"), "header"),
        (plain().header("x-one", "2"), "prefix"),
        (plain().header("x-one", "1").asking("GET", "/mcp"), "method"),
        (plain().asking("POST", "/mcp?q=1"), "query"),
        (plain().asking("POST", "/mcp?q=2"), "prefix"),
        (plain().asking("POST", "/mcp/7"), "regex"),
        (plain().asking("POST", "/mcp/42"), "exact"),
        (plain().header("cookie", "x=y; a=b; c=d"), "cookie"),
    ] {
        let told = format!("{users:?}");
        assert_eq!(
            goes(read(std::slice::from_ref(&route), &through("any")), users),
            goes_to,
            "{told}"
        );
    }
}

#[test]
fn a_route_is_followed_at_the_parents_that_accept_it() {
    let rules = json!([rule(&everything(), "mcp-server-canary")]);
    let service = json!({"group": "core", "kind": "Service", "name": "mcp-server", "port": 8080});
    let of = |parent: &Value, is: &str| {
        let mut route = http_route("mcp-server", parent, &[], &rules);
        route["status"]["parents"] = accepted(parent, is);
        route
    };
    let inside = Source {
        entry: Entry::Inside,
        ..source()
    };
    for (route, source, goes_to) in [
        (of(&gateway(), "True"), through("any"), "mcp-server-canary"),
        (of(&gateway(), "False"), through("any"), "404"),
        (of(&gateway(), "True"), inside.clone(), "mcp-server"),
        (of(&service, "True"), inside.clone(), "mcp-server-canary"),
        (of(&service, "False"), inside, "mcp-server"),
        (of(&service, "True"), source(), "mcp-server-canary"),
        (of(&gateway(), "True"), source(), "mcp-server-canary"),
        (of(&gateway(), "False"), source(), "mcp-server"),
        (of(&service, "True"), through("any"), "404"),
    ] {
        assert_eq!(
            goes(read(std::slice::from_ref(&route), &source), plain()),
            goes_to,
            "{route}"
        );
    }
}

#[test]
fn the_most_precise_hostname_goes_before_the_most_precise_match() {
    let exact = json!([{"path": {"type": "Exact", "value": "/mcp"}}]);
    let all = [
        http_route("any", &gateway(), &[], &json!([rule(&exact, "any")])),
        http_route(
            "wild",
            &gateway(),
            &["*.example.com"],
            &json!([rule(&exact, "wild")]),
        ),
        http_route(
            "one",
            &gateway(),
            &["mcp.example.com"],
            &json!([rule(&everything(), "one")]),
        ),
    ];
    for (host, goes_to) in [
        ("mcp.example.com", "one"),
        ("other.example.com", "wild"),
        ("a.b.example.com", "wild"),
        ("example.com", "any"),
        ("elsewhere.org", "any"),
    ] {
        assert_eq!(goes(read(&all, &through(host)), plain()), goes_to, "{host}");
    }
}

#[test]
fn weights_split_and_zero_takes_nothing() {
    let backend =
        |name: &str, weight: i64| json!({"kind": "Service", "name": name, "weight": weight});
    let split = |primary: i64, canary: i64| {
        let backends = json!([backend("primary", primary), backend("canary", canary)]);
        http_route(
            "r",
            &gateway(),
            &[],
            &json!([{"matches": everything(), "backendRefs": backends}]),
        )
    };
    for (primary, canary, expected) in [
        (95, 5, [("canary", 5), ("primary", 95)].as_slice()),
        (100, 0, &[("primary", 100)]),
        (0, 0, &[("404", 100)]),
        (1, 1, &[("canary", 50), ("primary", 50)]),
    ] {
        let mut route = read(&[split(primary, canary)], &through("any"));
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..100 {
            let to = sent(&mut route, plain());
            let to = to.map_or("404".to_owned(), |s| s.destination.service.to_string());
            *counts.entry(to).or_default() += 1;
        }
        let expected = expected.iter().map(|(to, n)| ((*to).to_owned(), *n));
        assert_eq!(counts, expected.collect(), "{primary}/{canary}");
    }
}

#[test]
fn filters_mirror_and_set_cookies() {
    let mirror = |extra: Value| {
        let mut mirror = json!({"backendRef": {"kind": "Service", "name": "canary", "port": 8080}});
        for (key, value) in extra.as_object().unwrap() {
            mirror[key] = value.clone();
        }
        json!({"type": "RequestMirror", "requestMirror": mirror})
    };
    let cookie = json!({"type": "ResponseHeaderModifier", "responseHeaderModifier":
        {"add": [{"name": "Set-Cookie", "value": "s=1; Max-Age=60"}], "set": [{"name": "x", "value": "y"}]}});
    for (filter, copies) in [
        (mirror(json!({})), 200),
        (mirror(json!({"percent": 10})), 20),
        (
            mirror(json!({"fraction": {"numerator": 1, "denominator": 8}})),
            25,
        ),
        (mirror(json!({"fraction": {"numerator": 5}})), 10),
    ] {
        let backends =
            json!([{"kind": "Service", "name": "primary", "weight": 1, "filters": [cookie]}]);
        let rules =
            json!([{"matches": everything(), "filters": [filter], "backendRefs": backends}]);
        let mut route = read(&[http_route("r", &gateway(), &[], &rules)], &through("any"));
        let mut copied = 0;
        for _ in 0..200 {
            let sent = sent(&mut route, plain()).unwrap();
            assert_eq!(*sent.cookies, ["s=1; Max-Age=60".to_owned()]);
            assert!(sent.mirrors.iter().all(|to| &*to.service == "canary"));
            copied += sent.mirrors.len();
        }
        assert_eq!(copied, copies, "{filter}");
    }
    // A backend's own mirror copies what that backend gets.
    let backends = json!([
        {"kind": "Service", "name": "primary", "weight": 3, "filters": [mirror(json!({}))]},
        {"kind": "Service", "name": "canary", "weight": 1}]);
    let rules = json!([{"matches": everything(), "backendRefs": backends}]);
    let mut route = read(&[http_route("r", &gateway(), &[], &rules)], &through("any"));
    for _ in 0..40 {
        let sent = sent(&mut route, plain()).unwrap();
        let of_primary = &*sent.destination.service == "primary";
        assert_eq!(sent.mirrors.len(), usize::from(of_primary));
    }
}

#[test]
fn hostnames_meet_where_they_have_hosts_in_common() {
    for (one, other, meet) in [
        ("a.example.com", "", true),
        ("a.example.com", "a.example.com", true),
        ("a.example.com", "b.example.com", false),
        ("a.example.com", "*.example.com", true),
        ("*.example.com", "a.b.example.com", true),
        ("*.example.com", "example.com", false),
        ("*.a.example.com", "*.example.com", true),
        ("*.example.com", "*.example.org", false),
    ] {
        assert_eq!(hostnames_meet(one, other), meet, "{one} {other}");
    }
}
