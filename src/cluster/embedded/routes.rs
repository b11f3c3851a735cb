//! Where a request goes: the `VirtualService` whose hosts include the Service, its first rule that takes a plain request,
//! and the weights in it. Pure.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use crate::api::objects::{Object, ObjectExt};

/// The routing objects of a cluster.
pub(super) trait Lookup {
    /// All `VirtualServices`.
    fn virtual_services(&self) -> Vec<Object>;
    /// The `DestinationRules` of a namespace.
    fn destination_rules(&self, namespace: &str) -> Vec<Object>;
}

/// A Service, or the subset of its pods that has these labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Destination {
    pub(super) namespace: Arc<str>,
    pub(super) service: Arc<str>,
    /// `None`: the route names a subset that no `DestinationRule` defines, which takes no pod.
    pub(super) labels: Option<BTreeMap<String, String>>,
}

impl Destination {
    fn whole(namespace: &str, service: &str) -> Self {
        Self {
            namespace: Arc::from(namespace),
            service: Arc::from(service),
            labels: Some(BTreeMap::new()),
        }
    }

    /// The pod, one of the Service's, belongs to the subset.
    pub(super) fn takes(&self, pod: &Value) -> bool {
        self.labels.as_ref().is_some_and(|labels| {
            labels
                .iter()
                .all(|(key, value)| pod.label(key) == Some(value))
        })
    }
}

/// A weighted split, and whose turn it is.
#[derive(Debug, Clone)]
pub(super) struct Route {
    /// Weight and credit of each destination.
    shares: Vec<(Destination, i64, i64)>,
}

impl Route {
    /// The route of requests to `service`, as stored; without a `VirtualService` the Service itself.
    pub(super) fn read(objects: &impl Lookup, namespace: &str, service: &str) -> Self {
        let mut found = objects.virtual_services();
        found.retain(|vs| {
            let hosts = vs.array_at("/spec/hosts").iter();
            hosts
                .filter_map(Value::as_str)
                .any(|host| is_host(host, vs.namespace(), namespace, service))
        });
        // Of several for one host a mesh takes the oldest.
        let oldest = found.iter().min_by_key(|vs| {
            let created = vs.str_at("/metadata/creationTimestamp").unwrap_or_default();
            (
                created.to_owned(),
                vs.namespace().to_owned(),
                vs.name().to_owned(),
            )
        });
        let rule = oldest.and_then(|vs| {
            let rules = vs.array_at("/spec/http").iter();
            let mut taking = rules.filter(|rule| takes_plain_request(rule));
            taking
                .find(|rule| !rule.array_at("/route").is_empty())
                .map(|rule| (vs, rule))
        });
        let Some((vs, rule)) = rule else {
            return Self {
                shares: vec![(Destination::whole(namespace, service), 1, 0)],
            };
        };
        let routes = rule.array_at("/route");
        let alone = routes.len() == 1;
        let shares = routes.iter().map(|route| {
            let weight = route["weight"].as_i64().unwrap_or(0);
            let weight = if alone { 1 } else { weight.max(0) };
            (
                destination(objects, vs.namespace(), &route["destination"]),
                weight,
                0,
            )
        });
        Self {
            shares: shares.collect(),
        }
    }

    /// The destination of the next request: smooth weighted round robin, so that any run of requests is split as the weights
    /// say, to within one request for each destination.
    pub(super) fn next(&mut self) -> Destination {
        let total: i64 = self.shares.iter().map(|(_, weight, _)| weight).sum();
        for (_, weight, credit) in &mut self.shares {
            *credit += *weight;
        }
        let most = self
            .shares
            .iter()
            .enumerate()
            .max_by_key(|(i, (_, weight, credit))| (*weight > 0, *credit, std::cmp::Reverse(*i)));
        let chosen = most.map_or(0, |(i, _)| i);
        match self.shares.get_mut(chosen) {
            Some((destination, _, credit)) => {
                *credit -= total;
                destination.clone()
            }
            None => Destination::whole("", ""),
        }
    }

    /// Both send the same shares to the same places.
    pub(super) fn same_split(&self, other: &Self) -> bool {
        let split = |route: &Self| -> Vec<(Destination, i64)> {
            route
                .shares
                .iter()
                .map(|(d, w, _)| (d.clone(), *w))
                .collect()
        };
        split(self) == split(other)
    }
}

/// `host`, written in namespace `home`, means the Service.
fn is_host(host: &str, home: &str, namespace: &str, service: &str) -> bool {
    host == "*" || resolve(host, home) == (service, namespace)
}

/// Service and namespace that a host in an object of namespace `home` names.
fn resolve<'a>(host: &'a str, home: &'a str) -> (&'a str, &'a str) {
    let mut parts = host.splitn(3, '.');
    let service = parts.next().unwrap_or_default();
    (service, parts.next().unwrap_or(home))
}

fn destination(objects: &impl Lookup, home: &str, destination: &Value) -> Destination {
    let host = destination["host"].as_str().unwrap_or_default();
    let (service, namespace) = resolve(host, home);
    let mut whole = Destination::whole(namespace, service);
    let Some(subset) = destination["subset"].as_str().filter(|s| !s.is_empty()) else {
        return whole;
    };
    let rules = objects.destination_rules(home);
    let of_host = rules.iter().filter(|rule| {
        let host = rule.str_at("/spec/host").unwrap_or_default();
        resolve(host, rule.namespace()) == (service, namespace)
    });
    let mut subsets = of_host.flat_map(|rule| rule.array_at("/spec/subsets"));
    whole.labels = subsets.find(|s| s["name"] == json!(subset)).map(|s| {
        let labels = s["labels"].as_object().into_iter().flatten();
        labels
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    });
    whole
}

/// The rule takes `POST /mcp` without any header from a client without labels.
fn takes_plain_request(rule: &Value) -> bool {
    let matches = rule.array_at("/match");
    matches.is_empty() || matches.iter().any(plain)
}

fn plain(condition: &Value) -> bool {
    let Some(condition) = condition.as_object() else {
        return false;
    };
    condition.iter().all(|(key, value)| match key.as_str() {
        "name" | "gateways" | "port" | "withoutHeaders" | "ignoreUriCase" | "statPrefix" => true,
        "uri" => text(value, "/mcp"),
        "method" => text(value, "POST"),
        "scheme" => text(value, "http"),
        _ => value.as_object().is_some_and(serde_json::Map::is_empty),
    })
}

/// Istio's `StringMatch`; of the regular expressions only those that take everything are followed.
fn text(condition: &Value, is: &str) -> bool {
    if let Some(exact) = condition["exact"].as_str() {
        return exact == is;
    }
    if let Some(prefix) = condition["prefix"].as_str() {
        return is.starts_with(prefix);
    }
    matches!(condition["regex"].as_str(), Some(".*" | ".+" | "/.*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Objects(Vec<Value>);

    impl Lookup for Objects {
        fn virtual_services(&self) -> Vec<Object> {
            self.of("VirtualService")
        }
        fn destination_rules(&self, _namespace: &str) -> Vec<Object> {
            self.of("DestinationRule")
        }
    }

    impl Objects {
        fn of(&self, kind: &str) -> Vec<Object> {
            let found = self.0.iter().filter(|o| o["kind"] == json!(kind));
            found.cloned().map(Arc::new).collect()
        }
    }

    fn route(host: &str, http: &Value) -> Route {
        let vs = json!({"kind": "VirtualService", "metadata": {"name": "r", "namespace": "ai-platform"},
            "spec": {"hosts": [host], "http": http}});
        let rule = json!({"kind": "DestinationRule", "metadata": {"name": "d", "namespace": "ai-platform"},
            "spec": {"host": "mcp-server", "subsets": [{"name": "v2", "labels": {"version": "v2"}}]}});
        Route::read(&Objects(vec![vs, rule]), "ai-platform", "mcp-server")
    }

    fn counts(mut route: Route, requests: usize) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..requests {
            *counts.entry(route.next().service.to_string()).or_default() += 1;
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
        let known = route("mcp-server", &to("v2")).next();
        assert!(known.takes(&pod("v2")) && !known.takes(&pod("v1")));
        let unknown = route("mcp-server", &to("v9")).next();
        assert!(!unknown.takes(&pod("v2")));
    }
}
