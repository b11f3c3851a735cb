//! Rules, matches, weights and mirrors of `VirtualServices`.

use serde_json::json;

use super::*;
use crate::cluster::embedded::{
    crowd::Crowd,
    requests::{Mix, Users},
};
use crate::decide::facts::Moment;

pub(super) struct Objects(pub(super) Vec<Value>);

impl Lookup for Objects {
    fn virtual_services(&self) -> Vec<Object> {
        self.of("VirtualService")
    }
    fn destination_rules(&self, _namespace: &str) -> Vec<Object> {
        self.of("DestinationRule")
    }
    fn http_routes(&self) -> Vec<Object> {
        self.of("HTTPRoute")
    }
    fn service(&self, _namespace: &str, name: &str) -> Option<Object> {
        let found = self.of("Service");
        found.into_iter().find(|service| service.name() == name)
    }
}

impl Objects {
    fn of(&self, kind: &str) -> Vec<Object> {
        let found = self.0.iter().filter(|o| o["kind"] == json!(kind));
        found.cloned().map(Arc::new).collect()
    }
}

fn route(host: &str, http: &Value) -> Route {
    of_spec(&json!({"hosts": [host], "http": http}))
}

fn of_spec(spec: &Value) -> Route {
    let vs = json!({"kind": "VirtualService", "metadata": {"name": "r", "namespace": "ai-platform"}, "spec": spec});
    let rule = json!({"kind": "DestinationRule", "metadata": {"name": "d", "namespace": "ai-platform"},
        "spec": {"host": "mcp-server", "subsets": [{"name": "v2", "labels": {"version": "v2"}}]}});
    Route::read(&Objects(vec![vs, rule]), &source())
}

pub(super) fn source() -> Source {
    Source::new("ai-platform", "mcp-server", 20)
}

pub(super) fn sent(route: &mut Route, users: Users) -> Option<Sent> {
    let mut crowd = Crowd::new(&Mix(vec![users]));
    let who = crowd.next().unwrap();
    crowd.request(who, Moment(0), |request| route.next(request))?
}

/// Where one request of these users goes.
pub(super) fn goes(mut route: Route, users: Users) -> String {
    sent(&mut route, users).map_or("404".to_owned(), |sent| {
        sent.destination.service.to_string()
    })
}

fn counts(mut route: Route, requests: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        let sent = sent(&mut route, Users::new("u", 1)).unwrap();
        *counts
            .entry(sent.destination.service.to_string())
            .or_default() += 1;
    }
    counts
}

fn split(primary: i64, canary: i64) -> Value {
    json!({"route": [
        {"destination": {"host": "mcp-server-primary"}, "weight": primary},
        {"destination": {"host": "mcp-server-canary"}, "weight": canary}]})
}

#[test]
fn weights_split_any_run_of_requests() {
    for (primary, canary, requests, expected) in [
        (95, 5, 100, 5),
        (95, 5, 20, 1),
        (70, 30, 1_200, 360),
        (100, 0, 1_000, 0),
        (0, 100, 1_000, 1_000),
    ] {
        let counts = counts(
            route("mcp-server", &json!([split(primary, canary)])),
            requests,
        );
        let canary = counts.get("mcp-server-canary").copied().unwrap_or(0);
        assert_eq!(canary, expected, "{primary}/{canary}");
    }
}

#[test]
fn the_route_of_the_host_is_the_one_that_is_followed() {
    let to = |service: &str| BTreeMap::from([(service.to_owned(), 10)]);
    let canary = json!([{"route": [{"destination": {"host": "mcp-server-canary"}}]}]);
    for (host, goes_to) in [
        ("mcp-server", "mcp-server-canary"),
        ("mcp-server.ai-platform", "mcp-server-canary"),
        (
            "mcp-server.ai-platform.svc.cluster.local",
            "mcp-server-canary",
        ),
        ("*", "mcp-server-canary"),
        ("mcp-server.elsewhere", "mcp-server"),
        ("other", "mcp-server"),
    ] {
        assert_eq!(counts(route(host, &canary), 10), to(goes_to), "{host}");
    }
}

#[test]
fn rules_for_special_requests_are_passed_over() {
    let special = json!({"match": [{"headers": {"x-beta": {"exact": "1"}}}],
        "route": [{"destination": {"host": "beta"}}]});
    let root = json!({"match": [{"uri": {"prefix": "/"}}],
        "route": [{"destination": {"host": "mcp-server-primary"}}]});
    let counts = counts(route("mcp-server", &json!([special, root])), 10);
    assert_eq!(
        counts,
        BTreeMap::from([("mcp-server-primary".to_owned(), 10)])
    );
}

#[test]
fn a_subset_takes_the_pods_with_its_labels() {
    let to = |subset: &str| json!([{"route": [{"destination": {"host": "mcp-server", "subset": subset}}]}]);
    let pod = |version: &str| json!({"metadata": {"labels": {"version": version}}});
    let destination = |subset: &str| {
        let mut route = route("mcp-server", &to(subset));
        sent(&mut route, Users::new("u", 1)).unwrap().destination
    };
    let known = destination("v2");
    assert!(known.takes(&pod("v2")) && !known.takes(&pod("v1")));
    assert!(!destination("v9").takes(&pod("v2")));
}

/// Each condition, with a request that it takes and one that it does not.
#[test]
fn matches_are_evaluated_in_full() {
    let plain = || Users::new("u", 1);
    let with = |name: &str, value: &str| plain().header(name, value);
    let asking = |path: &str| plain().asking("POST", path);
    for (condition, taken, not) in [
        (json!({"uri": {"exact": "/mcp"}}), plain(), asking("/mcp/x")),
        (json!({"uri": {"prefix": "/mc"}}), plain(), asking("/Mcp")),
        (
            json!({"uri": {"prefix": "/MC"}, "ignoreUriCase": true}),
            plain(),
            asking("/x"),
        ),
        (
            json!({"uri": {"regex": "/m.p"}}),
            asking("/mcp?a=b"),
            asking("/mcp/x"),
        ),
        (
            json!({"method": {"exact": "POST"}}),
            plain(),
            plain().asking("GET", "/mcp"),
        ),
        (
            json!({"headers": {"X-Canary": {"exact": "insider"}}}),
            with("x-canary", "insider"),
            with("x-canary", "outsider"),
        ),
        (
            json!({"headers": {"x-canary": {}}}),
            with("x-canary", ""),
            plain(),
        ),
        (
            json!({"headers": {"user-agent": {"regex": ".*Chrome.*"}}}),
            with("user-agent", "A Chrome B"),
            with("user-agent", "Firefox"),
        ),
        (
            json!({"headers": {"cookie": {"regex": "^(.*?;)?(\\s*version=beta)(;.*)?$"}}}),
            with("cookie", "a=b; version=beta; c=d"),
            with("cookie", "a=b; version=beta2"),
        ),
        // The whole value, also without anchors.
        (
            json!({"headers": {"cookie": {"regex": "version=beta"}}}),
            with("cookie", "version=beta"),
            with("cookie", "a=b; version=beta"),
        ),
        (
            json!({"withoutHeaders": {"x-bot": {}}}),
            plain(),
            with("x-bot", "1"),
        ),
        (
            json!({"withoutHeaders": {"x-bot": {"exact": "1"}}}),
            with("x-bot", "2"),
            with("x-bot", "1"),
        ),
        (
            json!({"queryParams": {"v": {"exact": "2"}}}),
            asking("/mcp?a=b&v=2"),
            asking("/mcp?v=22"),
        ),
        (
            json!({"headers": {"a": {"exact": "1"}, "b": {"prefix": "2"}}}),
            with("a", "1").header("b", "22"),
            with("a", "1"),
        ),
    ] {
        let route = || either(&condition);
        assert_eq!(goes(route(), taken), "mcp-server-canary", "{condition}");
        assert_eq!(goes(route(), not), "mcp-server-primary", "{condition}");
    }
}

/// To the canary on a condition, else to the primary.
fn either(condition: &Value) -> Route {
    let http = json!([
        {"match": [condition], "route": [{"destination": {"host": "mcp-server-canary"}}]},
        {"route": [{"destination": {"host": "mcp-server-primary"}}]},
    ]);
    route("mcp-server", &http)
}

/// Conditions on where requests come from and what they ask for, which is the same for all of a source; and one that nothing meets.
#[test]
fn matches_know_the_source() {
    for (condition, goes_to) in [
        (
            json!({"authority": {"prefix": "mcp-server."}, "port": 8080, "scheme": {"exact": "http"}}),
            "mcp-server-canary",
        ),
        (
            json!({"sourceLabels": {"app": "mcp-clients"}, "sourceNamespace": "ai-clients", "gateways": ["mesh"]}),
            "mcp-server-canary",
        ),
        (
            json!({"authority": {"exact": "elsewhere"}}),
            "mcp-server-primary",
        ),
        (
            json!({"sourceLabels": {"app": "other"}}),
            "mcp-server-primary",
        ),
        (json!({"sourceNamespace": "other"}), "mcp-server-primary"),
        (json!({"gateways": ["public"]}), "mcp-server-primary"),
        (
            json!({"headers": {"x": {"regex": "("}}}),
            "mcp-server-primary",
        ),
    ] {
        let users = Users::new("u", 1).header("x", "(");
        assert_eq!(goes(either(&condition), users), goes_to, "{condition}");
    }
}

#[test]
fn the_first_rule_that_takes_a_request_is_followed_and_without_one_it_is_a_404() {
    let header = |value: &str| json!({"headers": {"x-canary": {"exact": value}}});
    let to = |host: &str| json!([{"destination": {"host": host}}]);
    let http = json!([
        {"match": [header("a"), header("b")], "route": to("first")},
        {"match": [header("b"), header("c")], "route": to("second")},
    ]);
    for (value, goes_to) in [
        ("a", "first"),
        ("b", "first"),
        ("c", "second"),
        ("d", "404"),
    ] {
        let users = Users::new("u", 1).header("x-canary", value);
        assert_eq!(goes(route("mcp-server", &http), users), goes_to, "{value}");
    }
}

#[test]
fn a_copy_goes_to_the_mirror_by_its_percentage() {
    let mirror = json!({"host": "mcp-server-canary"});
    let primary = json!([{"destination": {"host": "mcp-server-primary"}}]);
    for (rule, copies) in [
        (json!({"route": primary, "mirror": mirror}), 1_000),
        (
            json!({"route": primary, "mirror": mirror, "mirrorPercentage": {"value": 12.5}}),
            125,
        ),
        (
            json!({"route": primary, "mirror": mirror, "mirrorPercentage": {"value": 0}}),
            0,
        ),
        (
            json!({"route": primary, "mirror": mirror, "mirrorPercent": 30}),
            300,
        ),
        (
            json!({"route": primary, "mirrors": [
            {"destination": mirror, "percentage": {"value": 10}}, {"destination": mirror, "percentage": {"value": 5}}]}),
            150,
        ),
        (json!({"route": primary}), 0),
    ] {
        let mut route = route("mcp-server", &json!([rule]));
        let mut copied = 0;
        for _ in 0..1_000 {
            let sent = sent(&mut route, Users::new("u", 1)).unwrap();
            assert_eq!(&*sent.destination.service, "mcp-server-primary");
            assert!(
                sent.mirrors
                    .iter()
                    .all(|to| &*to.service == "mcp-server-canary")
            );
            copied += sent.mirrors.len();
        }
        assert_eq!(copied, copies, "{rule}");
    }
}

#[test]
fn a_destination_and_a_rule_set_cookies() {
    let http = json!([{
    "headers": {"response": {"add": {"Set-Cookie": "rule=1"}}},
    "route": [
        {"destination": {"host": "mcp-server-primary"}, "weight": 0},
        {"destination": {"host": "mcp-server-canary"}, "weight": 100,
            "headers": {"response": {"set": {"set-cookie": "s=1; Max-Age=60", "x-other": "1"}}}},
    ]}]);
    let mut route = route("mcp-server", &http);
    let sent = sent(&mut route, Users::new("u", 1)).unwrap();
    assert_eq!(
        *sent.cookies,
        ["rule=1".to_owned(), "s=1; Max-Age=60".to_owned()]
    );
}

#[test]
fn connections_are_split_where_only_tcp_is_routed() {
    let tcp = json!([{"match": [{"port": 8080}], "route": [
        {"destination": {"host": "mcp-server-primary"}, "weight": 80},
        {"destination": {"host": "mcp-server-canary"}, "weight": 20}]}]);
    let route = of_spec(&json!({"hosts": ["mcp-server"], "tcp": tcp}));
    assert!(route.is_tcp());
    let split = [
        ("mcp-server-canary".to_owned(), 20),
        ("mcp-server-primary".to_owned(), 80),
    ];
    assert_eq!(counts(route, 100), BTreeMap::from(split));
}

/// How requests come in, and which of a route for the mesh and one for a gateway they then follow.
#[test]
fn requests_follow_the_route_of_the_gateway_by_which_they_come() {
    let object = |name: &str, spec: Value| {
        json!({"kind": "VirtualService",
        "metadata": {"name": name, "namespace": "ai-platform"}, "spec": spec})
    };
    let http = |host: &str| json!([{"route": [{"destination": {"host": host}}]}]);
    let mesh = object(
        "a",
        json!({"hosts": ["mcp-server"], "http": http("by-mesh")}),
    );
    let public = object(
        "b",
        json!({"hosts": ["mcp.example.com", "mcp-server"],
        "gateways": ["public-gateway.istio-system.svc.cluster.local"], "http": http("by-gateway")}),
    );
    let gateway = |host: &str| Entry::Gateway {
        name: "istio-system/public-gateway".to_owned(),
        host: host.to_owned(),
    };
    for (objects, entry, goes_to) in [
        (
            vec![mesh.clone(), public.clone()],
            Entry::Published,
            "by-mesh",
        ),
        (
            vec![mesh.clone(), public.clone()],
            gateway("mcp.example.com"),
            "by-gateway",
        ),
        (vec![public.clone()], Entry::Published, "by-gateway"),
        // Requests from within know nothing of a route of a gateway.
        (vec![public.clone()], Entry::Inside, "mcp-server"),
        (vec![mesh], Entry::Published, "by-mesh"),
        (vec![], Entry::Published, "mcp-server"),
    ] {
        let source = Source { entry, ..source() };
        let route = Route::read(&Objects(objects), &source);
        assert_eq!(
            goes(route, Users::new("u", 1)),
            goes_to,
            "{:?}",
            source.entry
        );
    }
}

#[test]
fn a_delegate_s_rules_stand_in_place_of_the_delegation() {
    let object = |name: &str, spec: Value| {
        json!({"kind": "VirtualService",
        "metadata": {"name": name, "namespace": "ai-platform"}, "spec": spec})
    };
    let root = object(
        "root",
        json!({"hosts": ["mcp-server"], "http": [
        {"match": [{"uri": {"prefix": "/mcp"}}], "delegate": {"name": "app"}},
        {"route": [{"destination": {"host": "rest"}}]}]}),
    );
    let app = object(
        "app",
        json!({"http": [
        {"match": [{"headers": {"x-canary": {"exact": "insider"}}}], "route": [{"destination": {"host": "mcp-server-canary"}}]},
        {"match": [{"method": {"exact": "POST"}}], "route": [{"destination": {"host": "mcp-server-primary"}}]}]}),
    );
    let plain = || Users::new("u", 1);
    for (users, goes_to) in [
        (plain().header("x-canary", "insider"), "mcp-server-canary"),
        (plain(), "mcp-server-primary"),
        (plain().asking("POST", "/x"), "rest"),
        (plain().asking("GET", "/mcp"), "rest"),
    ] {
        let route = Route::read(&Objects(vec![root.clone(), app.clone()]), &source());
        assert_eq!(goes(route, users), goes_to);
    }
}
