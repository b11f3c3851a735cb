//! Golden tests of the Istio rules of each strategy. The shapes are Flagger's but where a comment says otherwise.

use std::sync::Arc;

use serde_json::{Value, json};

use super::fixtures::*;
use crate::{
    api::objects::Objects,
    build::{check::check, routes},
    decide::{effect::Traffic, state::Cookies},
};

fn service() -> Value {
    json!({"port": 80, "targetPort": "http", "timeout": "5s", "match": [{"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/b"}}]})
}

fn weights() -> Value {
    json!({"interval": "1m", "threshold": 3, "maxWeight": 50, "stepWeight": 10})
}

fn ab() -> Value {
    json!({"interval": "1m", "threshold": 3, "iterations": 5, "match": [
        {"headers": {"x-user": {"exact": "beta"}}}, {"headers": {"cookie": {"regex": "^(.*?;)?(canary=always)(;.*)?$"}}}
    ]})
}

fn affinity() -> Value {
    json!({"cookieName": "lane", "primaryCookieName": "home", "maxAge": 600, "domain": "example.com", "httpOnly": true,
           "partitioned": true, "path": "/a", "sameSite": "Strict", "secure": true})
}

fn to(role: &str, weight: u8) -> Value {
    json!({"destination": {"host": format!("mcp-server-{role}")}, "weight": weight})
}

fn hands_out(role: &str, weight: u8, cookie: &str) -> Value {
    let mut to = to(role, weight);
    to["headers"] = json!({"response": {"add": {"Set-Cookie": cookie}}});
    to
}

const ATTRIBUTES: &str =
    "; Domain=example.com; HttpOnly; Partitioned; Path=/a; SameSite=Strict; Secure";

#[test]
fn a_match_sends_its_users_to_the_canary_and_all_others_to_the_primary() {
    let mut objects = demo_with("istio", service(), ab());
    let none = Cookies::default();
    assert_eq!(check(&plan_of(&objects), &objects), []);
    let crossed = json!([
        {"uri": {"prefix": "/a"}, "headers": {"x-user": {"exact": "beta"}}},
        {"uri": {"prefix": "/b"}, "headers": {"x-user": {"exact": "beta"}}},
        {"uri": {"prefix": "/a"}, "headers": {"cookie": {"regex": "^(.*?;)?(canary=always)(;.*)?$"}}},
        {"uri": {"prefix": "/b"}, "headers": {"cookie": {"regex": "^(.*?;)?(canary=always)(;.*)?$"}}}
    ]);
    let all = json!([{"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/b"}}]);
    let idle = json!([
        {"match": crossed, "timeout": "5s", "route": [to("primary", 100), to("canary", 0)]},
        {"match": all, "timeout": "5s", "route": [to("primary", 100)]}
    ]);
    assert_eq!(ensured(&mut objects, &none)["spec"]["http"], idle);
    assert_eq!(
        routes::read(&plan_of(&objects), &objects),
        Some(Traffic::PRIMARY)
    );

    let (ops, route) = sent(&mut objects, &none, Traffic::MATCHED);
    assert_eq!(
        ops,
        json!([{"op": "add", "path": "/spec/http/0/route/0/weight", "value": 0},
               {"op": "add", "path": "/spec/http/0/route/1/weight", "value": 100}])
    );
    assert_eq!(
        route["spec"]["http"],
        json!([
            {"match": crossed, "timeout": "5s", "route": [to("primary", 0), to("canary", 100)]},
            {"match": all, "timeout": "5s", "route": [to("primary", 100)]}
        ])
    );
    // A primary that has lost its endpoints.
    let (_, route) = sent(&mut objects, &none, Traffic::CANARY);
    assert_eq!(
        route["spec"]["http"],
        json!([
            {"match": crossed, "timeout": "5s", "route": [to("primary", 100), to("canary", 0)]},
            {"match": all, "timeout": "5s", "route": [to("primary", 0), to("canary", 100)]}
        ])
    );
    let (_, route) = sent(&mut objects, &none, Traffic::PRIMARY);
    assert_eq!(route["spec"]["http"], idle);
}

/// Flagger would send every request that has the tested header to the canary, also one without the header that the service asks for.
#[test]
fn what_the_service_asks_for_holds_beside_a_match() {
    let service = json!({"port": 80, "targetPort": "http", "match": [
        {"headers": {"x-tenant": {"exact": "a"}, "x-user": {"prefix": "b"}}, "sourceLabels": {"app": "web"}}]});
    let analysis = json!({"interval": "1m", "threshold": 3, "iterations": 5, "match": [
        {"headers": {"x-user": {"exact": "beta"}}, "queryParams": {"v": {"exact": "2"}}, "sourceLabels": {"lane": "x"}}]});
    let mut objects = demo_with("istio", service, analysis);
    let route = ensured(&mut objects, &Cookies::default());
    assert_eq!(
        route["spec"]["http"][0]["match"],
        json!([{"headers": {"x-tenant": {"exact": "a"}, "x-user": {"exact": "beta"}},
                "queryParams": {"v": {"exact": "2"}}, "sourceLabels": {"app": "web", "lane": "x"}}])
    );
}

#[test]
fn a_match_whose_other_rule_is_lost_is_no_weight() {
    let mut objects = demo_with("istio", service(), ab());
    let none = Cookies::default();
    ensured(&mut objects, &none);
    let (_, mut route) = sent(&mut objects, &none, Traffic::MATCHED);
    let right = route.clone();
    route["spec"]["http"].as_array_mut().unwrap().pop();
    objects.virtual_service = Some(Arc::new(route));
    let plan = plan_of(&objects);
    assert_eq!(routes::read(&plan, &objects), Some(Traffic::MATCHED));
    assert!(!routes::ready(&plan, &objects, &none));
    assert_eq!(ensured(&mut objects, &none), right);
}

#[test]
fn requests_are_copied_before_the_canary_gets_any() {
    let mut analysis = weights();
    analysis["mirror"] = json!(true);
    analysis["mirrorWeight"] = json!(20);
    let service = json!({"port": 80, "targetPort": "http"});
    let mut objects = demo_with("istio", service, analysis);
    let none = Cookies::default();
    ensured(&mut objects, &none);
    let (ops, route) = sent(&mut objects, &none, Traffic::mirrored(20));
    let rule = json!({
        "route": [to("primary", 100), to("canary", 0)],
        "mirror": {"host": "mcp-server-canary"}, "mirrorPercentage": {"value": 20}
    });
    assert_eq!(
        ops,
        json!([{"op": "replace", "path": "/spec/http/0", "value": rule}])
    );
    assert_eq!(route["spec"]["http"], json!([rule]));
    let (_, route) = sent(&mut objects, &none, Traffic::mirrored(100));
    assert_eq!(
        route["spec"]["http"],
        json!([{"route": [to("primary", 100), to("canary", 0)], "mirror": {"host": "mcp-server-canary"}}])
    );
    let (_, route) = sent(&mut objects, &none, Traffic::to_canary(10));
    assert_eq!(
        route["spec"]["http"],
        json!([{"route": [to("primary", 90), to("canary", 10)]}])
    );
}

#[test]
fn users_are_kept_on_the_version_that_they_were_given() {
    let mut analysis = weights();
    analysis["sessionAffinity"] = affinity();
    let mut objects = demo_with("istio", service(), analysis);
    let first = Cookies {
        canary: None,
        previous: None,
        ..cookies()
    };
    let all = json!([{"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/b"}}]);
    let with = |cookie: &str| {
        json!([{"uri": {"prefix": "/a"}, "headers": {"Cookie": {"regex": cookie}}},
               {"uri": {"prefix": "/b"}, "headers": {"Cookie": {"regex": cookie}}}])
    };
    let (lane, home) = (".*lane.*abcdefghij.*", ".*home.*klmnopqrst.*");
    let split = |primary: u8| json!([to("primary", primary), to("canary", 100 - primary)]);
    assert_eq!(
        ensured(&mut objects, &first)["spec"]["http"],
        json!([{"match": all, "timeout": "5s", "route": split(100)}])
    );
    let now = cookies();
    let gives = format!("lane=abcdefghij; Max-Age=600{ATTRIBUTES}");
    let stays = format!("home=klmnopqrst; Max-Age=60{ATTRIBUTES}");
    let (_, route) = sent(&mut objects, &now, Traffic::to_canary(10));
    assert_eq!(
        route["spec"]["http"],
        json!([
            {"name": "sticky-route", "match": with(lane), "timeout": "5s", "route": split(0)},
            {"name": "sticky-route-primary", "match": with(home), "timeout": "5s", "route": split(100)},
            {"match": all, "timeout": "5s",
             "route": [hands_out("primary", 90, &stays), hands_out("canary", 10, &gives)]}
        ])
    );
    // The next weight is a matter of two numbers.
    let (ops, _) = sent(&mut objects, &now, Traffic::to_canary(20));
    assert_eq!(
        ops,
        json!([{"op": "add", "path": "/spec/http/2/route/0/weight", "value": 80},
               {"op": "add", "path": "/spec/http/2/route/1/weight", "value": 20}])
    );
    // At 100 nobody is kept on the primary.
    let (ops, route) = sent(&mut objects, &now, Traffic::CANARY);
    assert_eq!(
        route["spec"]["http"],
        json!([
            {"name": "sticky-route", "match": with(lane), "timeout": "5s", "route": split(0)},
            {"match": all, "timeout": "5s", "route": [to("primary", 0), hands_out("canary", 100, &gives)]}
        ])
    );
    assert_eq!(ops.as_array().unwrap().len(), 2);
    // The canary goes: its cookie is taken back, with the attributes by which a browser knows it (Flagger gives none).
    let (_, route) = sent(&mut objects, &now, Traffic::PRIMARY);
    let taken_back = format!("lane=abcdefghij; Max-Age=-1{ATTRIBUTES}");
    assert_eq!(
        route["spec"]["http"],
        json!([
            {"name": "sticky-route", "match": with(lane), "timeout": "5s", "route": split(100),
             "headers": {"response": {"add": {"Set-Cookie": taken_back}}}},
            {"match": all, "timeout": "5s", "route": split(100)}
        ])
    );
    // And that is so after the end, where the run's cookie is the one before.
    let ended = Cookies {
        canary: None,
        previous: now.canary.clone(),
        ..now
    };
    let plan = plan_of(&objects);
    assert_eq!(routes::ensure(&plan, &objects, &ended, &stamp()), []);
}

#[test]
fn a_cookie_without_attributes_is_flaggers() {
    let mut analysis = weights();
    analysis["sessionAffinity"] = json!({"cookieName": "lane"});
    let service =
        json!({"port": 80, "targetPort": "http", "headers": {"response": {"add": {"x": "y"}}}});
    let mut objects = demo_with("istio", service, analysis);
    let now = Cookies {
        primary: None,
        ..cookies()
    };
    ensured(&mut objects, &now);
    let (_, route) = sent(&mut objects, &now, Traffic::to_canary(10));
    let headers = json!({"response": {"add": {"x": "y"}}});
    let cookie = json!([{"headers": {"Cookie": {"regex": ".*lane.*abcdefghij.*"}}}]);
    assert_eq!(
        route["spec"]["http"],
        json!([
            {"name": "sticky-route", "match": cookie, "headers": headers, "route": [to("primary", 0), to("canary", 100)]},
            {"headers": headers, "route": [to("primary", 90), hands_out("canary", 10, "lane=abcdefghij; Max-Age=86400")]}
        ])
    );
    let (_, route) = sent(&mut objects, &now, Traffic::PRIMARY);
    assert_eq!(
        route["spec"]["http"][0]["headers"],
        json!({"response": {"add": {"x": "y", "Set-Cookie": "lane=abcdefghij; Max-Age=-1"}}})
    );
}

/// Flagger drops the cookies where there is a match.
#[test]
fn matched_users_get_the_cookie_and_stay_without_the_header() {
    let mut analysis = ab();
    analysis["match"] = json!([{"headers": {"x-user": {"exact": "beta"}}}]);
    analysis["sessionAffinity"] = json!({"cookieName": "lane", "primaryCookieName": "home"});
    let mut objects = demo_with("istio", json!({"port": 80, "targetPort": "http"}), analysis);
    ensured(&mut objects, &cookies());
    let (_, route) = sent(&mut objects, &cookies(), Traffic::MATCHED);
    let cookie = json!([{"headers": {"Cookie": {"regex": ".*lane.*abcdefghij.*"}}}]);
    let header = json!([{"headers": {"x-user": {"exact": "beta"}}}]);
    assert_eq!(
        route["spec"]["http"],
        json!([
            {"name": "sticky-route", "match": cookie, "route": [to("primary", 0), to("canary", 100)]},
            {"match": header, "route": [to("primary", 0), hands_out("canary", 100, "lane=abcdefghij; Max-Age=86400")]},
            {"route": [to("primary", 100)]}
        ])
    );
    let (_, route) = sent(&mut objects, &cookies(), Traffic::PRIMARY);
    assert_eq!(
        route["spec"]["http"],
        json!([
            {"name": "sticky-route", "match": cookie, "route": [to("primary", 100), to("canary", 0)],
             "headers": {"response": {"add": {"Set-Cookie": "lane=abcdefghij; Max-Age=-1"}}}},
            {"match": header, "route": [to("primary", 100), to("canary", 0)]},
            {"route": [to("primary", 100)]}
        ])
    );
}

#[test]
fn a_cookie_that_still_leads_to_the_canary_is_no_route_to_the_primary() {
    let mut analysis = weights();
    analysis["sessionAffinity"] = json!({"cookieName": "lane"});
    let mut objects = demo_with("istio", json!({"port": 80, "targetPort": "http"}), analysis);
    ensured(&mut objects, &cookies());
    let (_, mut route) = sent(&mut objects, &cookies(), Traffic::to_canary(10));
    route["spec"]["http"][1]["route"][0]["weight"] = json!(100);
    route["spec"]["http"][1]["route"][1]["weight"] = json!(0);
    objects.virtual_service = Some(Arc::new(route));
    let plan = plan_of(&objects);
    assert_eq!(
        routes::read(&plan, &objects),
        Some(Traffic::stored(0, true, 0))
    );
    sent(&mut objects, &cookies(), Traffic::PRIMARY);
}

#[test]
fn tcp_connections_are_weighed() {
    let service = json!({"port": 9000, "targetPort": 8080, "appProtocol": "TCP", "match": [{"port": 9000}, {"uri": {"prefix": "/"}}]});
    let mut objects = demo_with("istio", service.clone(), weights());
    assert_eq!(check(&plan_of(&objects), &objects), []);
    let none = Cookies::default();
    let route = ensured(&mut objects, &none);
    assert_eq!(
        route["spec"],
        json!({"hosts": ["mcp-server"], "gateways": ["mesh"], "tcp": [
            {"match": [{"port": 9000}], "route": [to("primary", 100), to("canary", 0)]}]})
    );
    let (ops, _) = sent(&mut objects, &none, Traffic::to_canary(10));
    assert_eq!(
        ops,
        json!([{"op": "add", "path": "/spec/tcp/0/route/0/weight", "value": 90},
               {"op": "add", "path": "/spec/tcp/0/route/1/weight", "value": 10}])
    );
    // What was HTTP before is taken out.
    let mut http = route;
    http["spec"]["http"] = http["spec"]["tcp"].take();
    http["spec"].as_object_mut().unwrap().remove("tcp");
    objects.virtual_service = Some(Arc::new(http));
    let writes = routes::ensure(&plan_of(&objects), &objects, &none, &stamp());
    assert_eq!(
        patched(&writes),
        json!([{"op": "add", "path": "/spec/tcp", "value": [
                {"match": [{"port": 9000}], "route": [to("primary", 100), to("canary", 0)]}]},
               {"op": "remove", "path": "/spec/http"}])
    );
}

#[test]
fn what_tcp_has_not_is_refused_with_both_names() {
    let refused = |service: Value, analysis: Value| -> Vec<String> {
        let objects = demo_with("istio", service, analysis);
        let all = check(&plan_of(&objects), &objects);
        all.iter().map(ToString::to_string).collect()
    };
    let tcp = json!({"port": 80, "targetPort": 8080, "appProtocol": "tcp"});
    let mut mirrored = weights();
    mirrored["mirror"] = json!(true);
    assert_eq!(
        refused(tcp.clone(), mirrored),
        [
            "spec.analysis.mirror: service.appProtocol is tcp, and TCP has no requests that could be copied; take it out, or give the port an HTTP protocol"
        ]
    );
    assert_eq!(
        refused(tcp.clone(), ab()),
        [
            "spec.analysis.match: service.appProtocol is tcp, and TCP has no headers to tell users by (A/B testing); take it out, or give the port an HTTP protocol"
        ]
    );
    let mut sticky = weights();
    sticky["sessionAffinity"] = json!({"cookieName": "lane"});
    assert_eq!(
        refused(tcp, sticky),
        [
            "spec.analysis.sessionAffinity: service.appProtocol is tcp, and TCP has no cookies to keep users by; take it out, or give the port an HTTP protocol"
        ]
    );
    let timeout = json!({"port": 80, "targetPort": 8080, "appProtocol": "tcp", "timeout": "5s"});
    assert_eq!(
        refused(timeout, weights()),
        [
            "spec.service.timeout: service.appProtocol is tcp, and TCP has no requests that this could be done to; take it out, or give the port an HTTP protocol"
        ]
    );
}

#[test]
fn conditions_that_istio_does_not_know_are_refused() {
    let told = |condition: Value| -> Vec<String> {
        let mut analysis = ab();
        analysis["match"] = json!([condition]);
        let objects = demo_with("istio", service(), analysis);
        let all = check(&plan_of(&objects), &objects);
        all.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        told(json!({"headers": {"x-user": {"suffix": "a"}}})),
        [
            r#"spec.analysis.match[0].headers.x-user: provider istio cannot match {"suffix":"a"}; give one of exact, prefix, regex"#
        ]
    );
    assert_eq!(
        told(json!({"headers": {"x-user": {}}})),
        [
            r"spec.analysis.match[0].headers.x-user: provider istio cannot match {}; give one of exact, prefix, regex"
        ]
    );
    assert_eq!(
        told(json!({"headers": {"x-user": {"exact": "a"}}, "uri": {"prefix": "/"}})),
        [
            "spec.analysis.match[0].uri: A/B testing tells users by headers, sourceLabels, queryParams, not by uri; take it out, or put it into service.match, which holds for all requests"
        ]
    );
}

#[test]
fn the_rules_of_a_route_of_others_come_and_go_around_theirs() {
    let mut analysis = ab();
    analysis["match"] = json!([{"headers": {"x-user": {"exact": "beta"}}}]);
    analysis["sessionAffinity"] = json!({"cookieName": "lane"});
    let mut objects = demo_with("istio", json!({"port": 80, "targetPort": "http"}), analysis);
    let mut theirs = (*foreign()).clone();
    let last = json!({"route": [{"destination": {"host": "fallback"}}]});
    theirs["spec"]["http"]
        .as_array_mut()
        .unwrap()
        .push(last.clone());
    theirs["spec"]["http"][1]["match"] =
        json!([{"uri": {"prefix": "/app"}, "headers": {"x-tenant": {"exact": "a"}}}]);
    objects.virtual_service = Some(Arc::new(theirs));
    assert_eq!(check(&plan_of(&objects), &objects), []);
    let first = Cookies::default();
    let quiet = ensured(&mut objects, &first);
    let headers = json!({"request": {"set": {"x": "y"}}});
    let own = |role: &str, weight: u8| {
        let mut to = to(role, weight);
        to["headers"] = headers.clone();
        to
    };
    let docs = json!({"match": [{"uri": {"prefix": "/docs"}}], "route": [{"destination": {"host": "docs"}}]});
    let app = |name: &str, extra: Option<(&str, Value)>, route: Value| {
        let mut condition =
            json!({"uri": {"prefix": "/app"}, "headers": {"x-tenant": {"exact": "a"}}});
        if let Some((header, value)) = extra {
            condition["headers"][header] = value;
        }
        json!({"name": name, "timeout": "3s", "fault": {"delay": {"fixedDelay": "1s"}}, "match": [condition], "route": route})
    };
    assert_eq!(
        quiet["spec"]["http"],
        json!([docs, app("app", None, json!([own("primary", 100)])), last])
    );
    let now = cookies();
    let (_, route) = sent(&mut objects, &now, Traffic::MATCHED);
    let lane = json!({"regex": ".*lane.*abcdefghij.*"});
    let mut gives = own("canary", 100);
    gives["headers"]["response"] = json!({"add": {"Set-Cookie": "lane=abcdefghij; Max-Age=86400"}});
    assert_eq!(
        route["spec"]["http"],
        json!([
            docs,
            app(
                "sticky-route",
                Some(("Cookie", lane)),
                json!([own("primary", 0), own("canary", 100)])
            ),
            app(
                "canary-match",
                Some(("x-user", json!({"exact": "beta"}))),
                json!([own("primary", 0), gives])
            ),
            app("app", None, json!([own("primary", 100)])),
            last
        ])
    );
    // Without cookies everything of ours is gone again.
    let plan = plan_of(&objects);
    let writes = routes::set(&plan, &objects, &first, Traffic::PRIMARY);
    assert_eq!(
        patched(&writes),
        json!([{"op": "remove", "path": "/spec/http/1"}, {"op": "remove", "path": "/spec/http/1"}])
    );
    apply(&mut objects, writes);
    assert_eq!(**objects.virtual_service.as_ref().unwrap(), quiet);
}

#[test]
fn a_named_route_of_a_named_virtual_service_is_split() {
    let service = json!({"port": 80, "targetPort": "http", "virtualService": {"name": "edge", "routes": ["app", "api"]}});
    let mut objects = demo_with("istio", service, weights());
    let plan = plan_of(&objects);
    let told = |objects: &Objects| check(&plan, objects)[0].to_string();
    assert_eq!(
        told(&objects),
        "spec.service.virtualService.name: there is no VirtualService edge in ai-platform; apply it, or take the field out, and one is made"
    );
    let none = Cookies::default();
    // Theirs to make: only the DestinationRules are ours.
    assert_eq!(routes::ensure(&plan, &objects, &none, &stamp()).len(), 2);
    let rule =
        |name: &str, host: &str| json!({"name": name, "route": [{"destination": {"host": host}}]});
    let theirs = |rules: Value| {
        Some(Arc::new(json!({"kind": "VirtualService",
            "metadata": {"name": "edge-mcp-server", "namespace": "ai-platform"}, "spec": {"http": rules}})))
    };
    objects.virtual_service = theirs(json!([rule("app", "mcp-server"), rule("api", "other")]));
    assert_eq!(
        told(&objects),
        "spec.service: VirtualService edge-mcp-server is not ours, and none of its http routes is named api and leads to the app and nowhere else; name those that lead to host mcp-server in service.virtualService.routes"
    );
    objects.virtual_service = theirs(json!([
        rule("app", "mcp-server"),
        rule("docs", "mcp-server"),
        rule("api", "mcp-server")
    ]));
    assert_eq!(check(&plan, &objects), []);
    ensured(&mut objects, &none);
    let (ops, route) = sent(&mut objects, &none, Traffic::to_canary(10));
    assert_eq!(ops.as_array().unwrap().len(), 4);
    assert_eq!(
        route["spec"]["http"],
        json!([
            {"name": "app", "route": [to("primary", 90), to("canary", 10)]},
            {"name": "docs", "route": [{"destination": {"host": "mcp-server"}}]},
            {"name": "api", "route": [to("primary", 90), to("canary", 10)]}
        ])
    );
}

#[test]
fn a_route_that_copies_elsewhere_copies_to_the_canary_too() {
    let mut analysis = weights();
    analysis["mirror"] = json!(true);
    let mut objects = demo_with("istio", json!({"port": 80, "targetPort": "http"}), analysis);
    let mut theirs = (*foreign()).clone();
    theirs["spec"]["http"][1]["mirror"] = json!({"host": "audit"});
    theirs["spec"]["http"][1]["mirrorPercentage"] = json!({"value": 5});
    objects.virtual_service = Some(Arc::new(theirs));
    let none = Cookies::default();
    ensured(&mut objects, &none);
    let (_, route) = sent(&mut objects, &none, Traffic::mirrored(30));
    let rule = &route["spec"]["http"][1];
    assert_eq!(
        (&rule["mirror"], &rule["mirrors"]),
        (
            &Value::Null,
            &json!([{"destination": {"host": "audit"}, "percentage": {"value": 5}},
                    {"destination": {"host": "mcp-server-canary"}, "percentage": {"value": 30}}])
        )
    );
    let (_, route) = sent(&mut objects, &none, Traffic::to_canary(10));
    let rule = &route["spec"]["http"][1];
    assert_eq!(
        (&rule["mirror"], &rule["mirrorPercentage"]),
        (&json!({"host": "audit"}), &json!({"value": 5}))
    );
    assert_eq!(rule["mirrors"], Value::Null);
}
