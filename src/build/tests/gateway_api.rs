//! Golden tests of the `HTTPRoute` of each strategy. The shapes are Flagger's but where a comment says otherwise.

use std::sync::Arc;

use serde_json::{Value, json};

use super::fixtures::*;
use crate::{
    api::objects::{GatewayApi, Objects},
    build::{check::check, routes},
    decide::{effect::Traffic, state::Cookies},
};

fn service() -> Value {
    json!({"port": 80, "targetPort": "http", "hosts": ["mcp.example.com"],
           "gatewayRefs": [{"name": "edge", "namespace": "infra", "sectionName": "https"}]})
}

fn weights() -> Value {
    json!({"interval": "1m", "threshold": 3, "maxWeight": 50, "stepWeight": 10})
}

fn demo_of(service: Value, analysis: Value) -> Objects {
    Objects {
        gateway_api: Some(GatewayApi {
            version: "v1.6.1".into(),
            experimental: false,
        }),
        ..demo_with("gatewayapi:v1", service, analysis)
    }
}

fn to(role: &str, weight: u8) -> Value {
    json!({"group": "", "kind": "Service", "name": format!("mcp-server-{role}"), "port": 80, "weight": weight})
}

fn all() -> Value {
    json!([{"path": {"type": "PathPrefix", "value": "/"}}])
}

fn hands_out(role: &str, weight: u8, cookie: &str) -> Value {
    let mut to = to(role, weight);
    to["filters"] = json!([sets(cookie)]);
    to
}

fn sets(cookie: &str) -> Value {
    json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [{"name": "Set-Cookie", "value": cookie}]}})
}

fn told(objects: &Objects) -> Vec<String> {
    let all = check(&plan_of(objects), objects);
    all.iter().map(ToString::to_string).collect()
}

#[test]
fn the_route_begins_with_all_requests_to_the_primary() {
    let mut objects = demo_of(service(), weights());
    let none = Cookies::default();
    assert_eq!(told(&objects), Vec::<String>::new());
    assert_eq!(
        ensured(&mut objects, &none),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "mcp-server", "namespace": "ai-platform",
                         "labels": {"app.kubernetes.io/managed-by": "flagger"},
                         "annotations": disabled(), "ownerReferences": owners()},
            "spec": {
                "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge", "namespace": "infra", "sectionName": "https"}],
                "hostnames": ["mcp.example.com"],
                "rules": [{"matches": all(), "backendRefs": [to("primary", 100), to("canary", 0)]}]
            }
        })
    );
    let (ops, _) = sent(&mut objects, &none, Traffic::to_canary(10));
    assert_eq!(
        ops,
        json!([{"op": "add", "path": "/spec/rules/0/backendRefs/0/weight", "value": 90},
               {"op": "add", "path": "/spec/rules/0/backendRefs/1/weight", "value": 10}])
    );
    // Hosts and Gateways follow the Canary, and the weights stay.
    let mut canary = (*objects.canary).clone();
    canary["spec"]["service"]["hosts"] = json!([]);
    canary["spec"]["service"]["gatewayRefs"] =
        json!([{"group": "core", "kind": "Service", "name": "mcp-server", "port": 80}]);
    objects.canary = Arc::new(canary);
    let writes = routes::ensure(&plan_of(&objects), &objects, &none, &stamp());
    assert_eq!(
        patched(&writes),
        json!([{"op": "add", "path": "/spec/parentRefs", "value": [{"group": "core", "kind": "Service", "name": "mcp-server", "port": 80}]},
               {"op": "remove", "path": "/spec/hostnames"}])
    );
}

#[test]
fn what_the_canary_says_of_the_route_becomes_the_apis_own() {
    let mut service = service();
    for (key, value) in [
        (
            "match",
            json!([
                {"uri": {"regex": "/v[12]"}, "method": {"exact": "POST"}, "headers": {"x-a": {"exact": "1"}, "x-b": {"regex": "2.*"}}},
                {"uri": {"exact": "/x"}, "queryParams": {"q": {"exact": "3"}}},
                {"headers": {"x-c": {"exact": "4"}}}
            ]),
        ),
        ("timeout", json!("15s")),
        ("backendTimeout", json!("5s")),
        (
            "headers",
            json!({"request": {"add": {"b": "1", "a": "2"}, "set": {"c": "3"}, "remove": ["d"]},
                           "response": {"add": {"e": "4"}}}),
        ),
        (
            "rewrite",
            json!({"uri": "/y", "authority": "y.example.com"}),
        ),
        (
            "mirror",
            json!([{"backendRef": {"name": "audit", "port": 8080}}]),
        ),
        (
            "corsPolicy",
            json!({"allowOrigin": ["https://a"], "allowOrigins": [{"exact": "https://b"}], "allowMethods": ["GET"],
                              "allowHeaders": ["x"], "exposeHeaders": ["y"], "maxAge": "24h", "allowCredentials": true}),
        ),
    ] {
        service[key] = value;
    }
    let mut objects = demo_of(service, weights());
    assert_eq!(told(&objects), Vec::<String>::new());
    let route = ensured(&mut objects, &Cookies::default());
    assert_eq!(
        route["spec"]["rules"],
        json!([{
            "matches": [
                {"path": {"type": "RegularExpression", "value": "/v[12]"}, "method": "POST",
                 "headers": [{"name": "x-a", "type": "Exact", "value": "1"}, {"name": "x-b", "type": "RegularExpression", "value": "2.*"}]},
                {"path": {"type": "Exact", "value": "/x"}, "queryParams": [{"name": "q", "type": "Exact", "value": "3"}]},
                {"path": {"type": "PathPrefix", "value": "/"}, "headers": [{"name": "x-c", "type": "Exact", "value": "4"}]}
            ],
            "filters": [
                {"type": "RequestHeaderModifier", "requestHeaderModifier": {
                    "add": [{"name": "a", "value": "2"}, {"name": "b", "value": "1"}],
                    "set": [{"name": "c", "value": "3"}], "remove": ["d"]}},
                {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [{"name": "e", "value": "4"}]}},
                {"type": "URLRewrite", "urlRewrite": {"hostname": "y.example.com", "path": {"type": "ReplaceFullPath", "replaceFullPath": "/y"}}},
                {"type": "RequestMirror", "requestMirror": {"backendRef": {"group": "", "kind": "Service", "name": "audit", "port": 8080}}},
                {"type": "CORS", "cors": {"allowOrigins": ["https://a", "https://b"], "allowMethods": ["GET"], "allowHeaders": ["x"],
                                          "exposeHeaders": ["y"], "maxAge": 86400, "allowCredentials": true}}
            ],
            "backendRefs": [to("primary", 100), to("canary", 0)],
            "timeouts": {"request": "15s", "backendRequest": "5s"}
        }])
    );
}

#[test]
fn a_match_sends_its_users_to_the_canary() {
    let mut service = service();
    service["match"] = json!([{"uri": {"prefix": "/a"}, "headers": {"x-tenant": {"exact": "a"}}}]);
    let analysis = json!({"interval": "1m", "threshold": 3, "iterations": 5, "match": [
        {"headers": {"x-user": {"exact": "beta"}}}, {"queryParams": {"v": {"regex": "2.*"}}}]});
    let mut objects = demo_of(service, analysis);
    let none = Cookies::default();
    assert_eq!(told(&objects), Vec::<String>::new());
    let path = json!({"type": "PathPrefix", "value": "/a"});
    let tenant = json!({"name": "x-tenant", "type": "Exact", "value": "a"});
    let crossed = json!([
        {"path": path, "headers": [{"name": "x-user", "type": "Exact", "value": "beta"}, tenant]},
        {"path": path, "headers": [tenant], "queryParams": [{"name": "v", "type": "RegularExpression", "value": "2.*"}]}
    ]);
    let own = json!([{"path": path, "headers": [tenant]}]);
    assert_eq!(
        ensured(&mut objects, &none)["spec"]["rules"],
        json!([{"matches": crossed, "backendRefs": [to("primary", 100), to("canary", 0)]},
               {"matches": own, "backendRefs": [to("primary", 100)]}])
    );
    let (ops, route) = sent(&mut objects, &none, Traffic::MATCHED);
    assert_eq!(
        ops,
        json!([{"op": "add", "path": "/spec/rules/0/backendRefs/0/weight", "value": 0},
               {"op": "add", "path": "/spec/rules/0/backendRefs/1/weight", "value": 100}])
    );
    // The rule of all others is taken out by hand: that is no weight of all.
    let mut lost = route.clone();
    lost["spec"]["rules"].as_array_mut().unwrap().pop();
    objects.http_route = Some(Arc::new(lost));
    assert_eq!(
        routes::read(&plan_of(&objects), &objects),
        Some(Traffic::MATCHED)
    );
    assert_eq!(ensured(&mut objects, &none), route);
    sent(&mut objects, &none, Traffic::PRIMARY);
}

#[test]
fn requests_are_copied_where_the_installed_version_can() {
    let mut analysis = weights();
    analysis["mirror"] = json!(true);
    analysis["mirrorWeight"] = json!(20);
    let mut objects = demo_of(service(), analysis);
    let none = Cookies::default();
    assert_eq!(told(&objects), Vec::<String>::new());
    ensured(&mut objects, &none);
    let (_, route) = sent(&mut objects, &none, Traffic::mirrored(20));
    let canary = json!({"group": "", "kind": "Service", "name": "mcp-server-canary", "port": 80});
    assert_eq!(
        route["spec"]["rules"],
        json!([{"matches": all(), "backendRefs": [to("primary", 100), to("canary", 0)],
                "filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": canary, "percent": 20}}]}])
    );
    let (_, route) = sent(&mut objects, &none, Traffic::mirrored(100));
    assert_eq!(
        route["spec"]["rules"][0]["filters"],
        json!([{"type": "RequestMirror", "requestMirror": {"backendRef": canary}}])
    );
    let (_, route) = sent(&mut objects, &none, Traffic::to_canary(10));
    assert_eq!(
        route["spec"]["rules"],
        json!([{"matches": all(), "backendRefs": [to("primary", 90), to("canary", 10)]}])
    );
    let version = |version: &str| {
        Some(GatewayApi {
            version: version.to_owned(),
            experimental: false,
        })
    };
    for (installed, refused) in [
        (version("v1.3.0"), None),
        (version("v1.10.0-rc1"), None),
        (version("v2.0.0"), None),
        (version("v1.2.1"), Some("is v1.2.1")),
        (None, Some("is not known")),
    ] {
        objects.gateway_api = installed;
        let expected: Vec<String> = refused
            .map(|is| format!("spec.analysis.mirrorWeight: provider gatewayapi:v1 copies a part of the requests (20%) from version v1.3.0 of the Gateway API on, and the installed one {is}; copy all of them (mirrorWeight 100), or install a newer version"))
            .into_iter()
            .collect();
        assert_eq!(told(&objects), expected);
    }
}

#[test]
fn users_are_kept_on_the_version_that_they_were_given() {
    let mut analysis = weights();
    analysis["sessionAffinity"] =
        json!({"cookieName": "lane", "primaryCookieName": "home", "secure": true});
    let mut service = service();
    service["headers"] = json!({"response": {"add": {"x": "y"}}});
    let mut objects = demo_of(service, analysis);
    let now = cookies();
    ensured(&mut objects, &now);
    let cookie = |regex: &str| json!([{"path": {"type": "PathPrefix", "value": "/"}, "headers": [{"name": "Cookie", "type": "RegularExpression", "value": regex}]}]);
    let (lane, home) = (".*lane.*abcdefghij.*", ".*home.*klmnopqrst.*");
    let filters = json!([{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [{"name": "x", "value": "y"}]}}]);
    let gives = "lane=abcdefghij; Max-Age=86400; Secure";
    let (_, route) = sent(&mut objects, &now, Traffic::to_canary(10));
    assert_eq!(
        route["spec"]["rules"],
        json!([
            {"matches": cookie(lane), "filters": filters, "backendRefs": [to("primary", 0), to("canary", 100)]},
            {"matches": cookie(home), "filters": filters, "backendRefs": [to("primary", 100), to("canary", 0)]},
            {"matches": all(), "filters": filters, "backendRefs": [
                hands_out("primary", 90, "home=klmnopqrst; Max-Age=60; Secure"), hands_out("canary", 10, gives)]}
        ])
    );
    let (_, route) = sent(&mut objects, &now, Traffic::CANARY);
    assert_eq!(
        route["spec"]["rules"],
        json!([
            {"matches": cookie(lane), "filters": filters, "backendRefs": [to("primary", 0), to("canary", 100)]},
            {"matches": all(), "filters": filters, "backendRefs": [to("primary", 0), hands_out("canary", 100, gives)]}
        ])
    );
    // A rule has one filter for the headers of answers; Flagger adds another, which the API server refuses.
    let (_, route) = sent(&mut objects, &now, Traffic::PRIMARY);
    let taken_back = json!([{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [
        {"name": "x", "value": "y"}, {"name": "Set-Cookie", "value": "lane=abcdefghij; Max-Age=-1; Secure"}]}}]);
    assert_eq!(
        route["spec"]["rules"],
        json!([
            {"matches": cookie(lane), "filters": taken_back, "backendRefs": [to("primary", 100), to("canary", 0)]},
            {"matches": all(), "filters": filters, "backendRefs": [to("primary", 100), to("canary", 0)]}
        ])
    );
}

#[test]
fn a_stored_route_is_read_whatever_its_spelling() {
    let read = |rule: Value| {
        let mut objects = demo_of(service(), weights());
        objects.http_route = Some(Arc::new(json!({
            "kind": "HTTPRoute", "metadata": {"name": "mcp-server", "namespace": "ai-platform", "ownerReferences": owners()},
            "spec": {"rules": [rule]}
        })));
        routes::read(&plan_of(&objects), &objects)
    };
    let bare = |name: &str| json!({"name": name, "port": 80});
    let weighed = |name: &str, weight: i64| json!({"name": name, "port": 80, "weight": weight});
    for (rule, expected) in [
        (
            json!({"backendRefs": [bare("mcp-server-primary"), bare("mcp-server-canary")]}),
            Some(Traffic::to_canary(50)),
        ),
        (
            json!({"backendRefs": [weighed("mcp-server-primary", 999), weighed("mcp-server-canary", 1)]}),
            Some(Traffic::to_canary(1)),
        ),
        (
            json!({"backendRefs": [weighed("mcp-server-primary", 1)]}),
            Some(Traffic::PRIMARY),
        ),
        (
            json!({"backendRefs": [weighed("mcp-server-canary", 1)]}),
            Some(Traffic::CANARY),
        ),
        (
            json!({"backendRefs": [weighed("mcp-server-primary", 0)]}),
            None,
        ),
        (json!({"backendRefs": [bare("other")]}), None),
        (
            json!({"backendRefs": [bare("mcp-server-primary")],
                   "filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": bare("mcp-server-canary"), "fraction": {"numerator": 1, "denominator": 3}}}]}),
            Some(Traffic::mirrored(34)),
        ),
        (
            json!({"matches": [{"path": {"type": "PathPrefix", "value": "/"}, "headers": [{"name": "x", "value": "1"}]}], "backendRefs": [bare("mcp-server-canary")]}),
            Some(Traffic::MATCHED),
        ),
    ] {
        assert_eq!(read(rule.clone()), expected, "{rule}");
    }
}

#[test]
fn what_the_api_cannot_say_is_refused() {
    let with = |key: &str, value: Value| {
        let mut service = service();
        service[key] = value;
        told(&demo_of(service, weights()))
    };
    for (key, value, refusal) in [
        (
            "retries",
            json!({"attempts": 3}),
            "spec.service.retries: provider gatewayapi:v1 has no retries; take it out, or set provider istio",
        ),
        (
            "match",
            json!([{"headers": {"x": {"prefix": "a"}}}]),
            r#"spec.service.match[0].headers.x: provider gatewayapi:v1 cannot match {"prefix":"a"}; give one of exact, regex"#,
        ),
        (
            "match",
            json!([{"sourceLabels": {"app": "a"}}]),
            "spec.service.match[0].sourceLabels: provider gatewayapi:v1 cannot match requests by sourceLabels; take it out",
        ),
        (
            "rewrite",
            json!({"uri": "/", "type": "ReplacePrefixMatch"}),
            "",
        ),
        (
            "timeout",
            json!("1.5s"),
            r#"spec.service.timeout: provider gatewayapi:v1 cannot read the duration "1.5s"; write one like 15s or 1m30s"#,
        ),
        (
            "corsPolicy",
            json!({"allowOrigins": [{"regex": ".*"}]}),
            "spec.service.corsPolicy.allowOrigins: provider gatewayapi:v1 knows exact origins only; give exact, or allowOrigin",
        ),
    ] {
        let expected: Vec<&str> = Some(refusal)
            .filter(|r| !r.is_empty())
            .into_iter()
            .collect();
        assert_eq!(with(key, value), expected, "{key}");
    }
    let mut ab = json!({"interval": "1m", "threshold": 3, "iterations": 5});
    ab["match"] = json!([{"headers": {"x": {"suffix": "a"}}}, {"headers": {"x": {"exact": "a"}}, "sourceLabels": {"a": "b"}}]);
    let mut service = service();
    service["rewrite"] = json!({"uri": "/", "type": "ReplacePrefixMatch"});
    assert_eq!(
        told(&demo_of(service, ab)),
        [
            r#"spec.analysis.match[0].headers.x: provider gatewayapi:v1 cannot match {"suffix":"a"}; give one of exact, regex"#,
            "spec.analysis.match[1].sourceLabels: provider gatewayapi:v1 tells users by headers and queryParams in A/B testing, not by sourceLabels; take it out",
            "spec.service.rewrite.type: provider gatewayapi:v1 replaces a prefix only in a rule with one match, of that prefix; leave one match with uri.prefix, or take the type out",
        ]
    );
    let mut objects = demo_of(self::service(), weights());
    objects.http_route = Some(Arc::new(json!({"metadata": {"name": "mcp-server"}})));
    assert_eq!(
        told(&objects),
        [
            "spec.service.name: HTTPRoute mcp-server exists and is not owned by this Canary; delete it, it is made anew with the hosts and gatewayRefs of spec.service, or use another name"
        ]
    );
    assert_eq!(
        routes::ensure(&plan_of(&objects), &objects, &Cookies::default(), &stamp()),
        []
    );
}

#[test]
fn a_route_that_is_not_accepted_is_pending() {
    let mut objects = demo_of(service(), weights());
    let mut route = ensured(&mut objects, &Cookies::default());
    let plan = plan_of(&objects);
    assert_eq!(
        routes::pending(&plan, &objects).as_deref(),
        Some("HTTPRoute mcp-server: no controller has answered for Gateway infra/edge yet")
    );
    route["metadata"]["generation"] = json!(4);
    let says = |kind: &str, generation: u8| json!({"type": kind, "status": "True", "observedGeneration": generation});
    route["status"] = json!({"parents": [{
        "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge", "namespace": "infra", "sectionName": "https"},
        "conditions": [says("Accepted", 4), says("ResolvedRefs", 4)]
    }]});
    objects.http_route = Some(Arc::new(route));
    assert_eq!(routes::pending(&plan, &objects), None);
}
