//! Gateway API: the accepted `HTTPRoutes` of the gateway by which requests come in, or of the Service that they ask for within a mesh (GAMMA).
//!
//! (gateway-api.sigs.k8s.io/reference/spec)

use std::{cmp::Reverse, sync::Arc};

use serde_json::Value;

use super::{
    Backend, Destination, Entry, Lookup, Match, Mirror, Object, ObjectExt, Route, Rule, Source,
    millionths,
    pattern::{Pattern, Test},
};

/// Where requests enter.
enum Parent {
    Service,
    /// `NAMESPACE/NAME` of the gateway, and the host that is asked for; `None`: any.
    Gateway(String, Option<String>),
}

/// The route of the source's requests; `None` when no accepted route has anything to say about them.
pub(super) fn read(objects: &impl Lookup, source: &Source) -> Option<Route> {
    let all = objects.http_routes();
    let parent = match &source.entry {
        Entry::Inside => Parent::Service,
        Entry::Gateway { name, host } => Parent::Gateway(name.clone(), Some(host.clone())),
        Entry::Published => published(&all, source),
    };
    let mut ranked = Vec::new();
    let mut rules = Vec::new();
    for route in &all {
        let Some(host) = attached(route, &parent, source) else {
            continue;
        };
        for rule in route.array_at("/spec/rules") {
            for condition in rule.array_at("/matches") {
                let rank = (host, Rank::of(condition), age(route), ranked.len());
                ranked.push((
                    rank,
                    Match {
                        tests: tests(condition),
                        rule: rules.len(),
                    },
                ));
            }
            rules.push(read_rule(route, rule));
        }
    }
    ranked.sort_by(|(a, _), (b, _)| a.cmp(b));
    let matches = ranked.into_iter().map(|(_, taking)| taking).collect();
    (!rules.is_empty()).then(|| Route::new(matches, rules))
}

/// As the app is published: by the Service itself where a route has that as its parent, else by the gateway of the Service's route.
fn published(all: &[Object], source: &Source) -> Parent {
    if all
        .iter()
        .any(|r| attached(r, &Parent::Service, source).is_some())
    {
        return Parent::Service;
    }
    let of_service = all.iter().find(|route| {
        let mut rules = route.array_at("/spec/rules").iter();
        let backend = |backend: &Value| {
            let namespace = backend["namespace"].as_str().unwrap_or(route.namespace());
            backend["name"] == source.service && namespace == source.namespace
        };
        let named = route.name() == source.service && route.namespace() == source.namespace;
        named || rules.any(|rule| rule.array_at("/backendRefs").iter().any(backend))
    });
    let gateway = of_service.and_then(|route| {
        let host = route
            .str_at("/spec/hostnames/0")
            .map(|h| h.replace('*', "www"));
        let mut gateways = parents(route).filter(|parent| parent["kind"] == "Gateway");
        let gateway = gateways.next()?;
        Some(Parent::Gateway(named(gateway, route), host))
    });
    gateway.unwrap_or(Parent::Service)
}

/// The parents that have accepted a route.
fn parents(route: &Value) -> impl Iterator<Item = &Value> {
    let parents = route.array_at("/status/parents").iter();
    parents.filter_map(|parent| {
        let mut conditions = parent.array_at("/conditions").iter();
        let accepted = conditions.any(|c| c["type"] == "Accepted" && c["status"] == "True");
        accepted.then_some(&parent["parentRef"])
    })
}

fn named(parent: &Value, route: &Value) -> String {
    let namespace = parent["namespace"].as_str().unwrap_or(route.namespace());
    format!(
        "{namespace}/{}",
        parent["name"].as_str().unwrap_or_default()
    )
}

/// How precisely the route's hostnames name the host, the more precise the less; `None` when the route is not for these requests.
fn attached(route: &Value, parent: &Parent, source: &Source) -> Option<Reverse<(usize, usize)>> {
    let any = Reverse((0, 0));
    let (kind, name, host) = match parent {
        Parent::Service => {
            let name = format!("{}/{}", source.namespace, source.service);
            ("Service", name, None)
        }
        Parent::Gateway(name, host) => ("Gateway", name.clone(), host.as_deref()),
    };
    let mut parents = parents(route);
    if !parents.any(|p| p["kind"] == kind && named(p, route) == name) {
        return None;
    }
    // The hostnames of a route of a Service say nothing.
    let Some(host) = host else { return Some(any) };
    let hostnames = route.array_at("/spec/hostnames").iter();
    let mut hostnames = hostnames.filter_map(Value::as_str).peekable();
    if hostnames.peek().is_none() {
        return Some(any);
    }
    hostnames
        .filter(|pattern| hostnames_meet(pattern, host))
        .map(|pattern| {
            let exact = if pattern.starts_with('*') {
                0
            } else {
                pattern.len()
            };
            Reverse((exact, pattern.len()))
        })
        .min()
}

/// Two hostnames, each of which may begin with `*.` or be empty for any, have hosts in common.
pub(in crate::cluster::embedded) fn hostnames_meet(one: &str, other: &str) -> bool {
    let under = |host: &str, pattern: &str| {
        pattern
            .strip_prefix('*')
            .is_some_and(|ending| host.trim_start_matches('*').ends_with(ending))
    };
    one.is_empty() || other.is_empty() || one == other || under(one, other) || under(other, one)
}

/// The older route first, then by name.
fn age(route: &Value) -> (String, String) {
    let created = route
        .str_at("/metadata/creationTimestamp")
        .unwrap_or_default();
    (
        created.to_owned(),
        format!("{}/{}", route.namespace(), route.name()),
    )
}

/// The precedence of one match: the first comes first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Exact paths, then regular expressions, then prefixes.
    path: u8,
    length: Reverse<usize>,
    method: Reverse<bool>,
    headers: Reverse<usize>,
    parameters: Reverse<usize>,
}

impl Rank {
    fn of(condition: &Value) -> Self {
        let path = match condition.str_at("/path/type") {
            Some("Exact") => 0,
            Some("RegularExpression") => 1,
            _ => 2,
        };
        Self {
            path,
            length: Reverse(condition.str_at("/path/value").map_or(1, str::len)),
            method: Reverse(condition.str_at("/method").is_some()),
            headers: Reverse(condition.array_at("/headers").len()),
            parameters: Reverse(condition.array_at("/queryParams").len()),
        }
    }
}

fn tests(condition: &Value) -> Vec<Test> {
    let mut tests = Vec::new();
    let path = condition.str_at("/path/value").unwrap_or("/");
    tests.push(Test::Path(match condition.str_at("/path/type") {
        Some("Exact") => Pattern::Exact(path.to_owned()),
        Some("RegularExpression") => Pattern::regex(path),
        _ => Pattern::Segments(path.to_owned()),
    }));
    if let Some(method) = condition.str_at("/method") {
        tests.push(Test::Method(Pattern::Exact(method.to_owned())));
    }
    let pattern = |of: &Value| {
        let value = of["value"].as_str().unwrap_or_default();
        match of["type"].as_str() {
            Some("RegularExpression") => Pattern::regex(value),
            _ => Pattern::Exact(value.to_owned()),
        }
    };
    for header in condition.array_at("/headers") {
        let name = header["name"].as_str().unwrap_or_default();
        tests.push(Test::Header(name.to_ascii_lowercase(), pattern(header)));
    }
    for parameter in condition.array_at("/queryParams") {
        let name = parameter["name"].as_str().unwrap_or_default();
        tests.push(Test::Query(name.to_owned(), pattern(parameter)));
    }
    tests
}

fn read_rule(route: &Value, rule: &Value) -> Rule {
    let backends = rule.array_at("/backendRefs").iter();
    let mut mirrors: Vec<Mirror> = read_mirrors(route, rule, None).collect();
    let of_each = backends.clone().enumerate();
    mirrors.extend(of_each.flat_map(|(i, backend)| read_mirrors(route, backend, Some(i))));
    let backends = backends.map(|backend| Backend {
        destination: destination(route, backend),
        weight: backend["weight"].as_i64().unwrap_or(1),
        cookies: cookies(rule).chain(cookies(backend)).collect(),
    });
    let backends: Vec<Backend> = backends.collect();
    // Where nothing has a weight, no request is taken.
    let some = backends.iter().any(|backend| backend.weight > 0);
    Rule::new(if some { backends } else { Vec::new() }, mirrors)
}

fn destination(route: &Value, backend: &Value) -> Arc<Destination> {
    let namespace = backend["namespace"].as_str().unwrap_or(route.namespace());
    let name = backend["name"].as_str().unwrap_or_default();
    Arc::new(Destination::whole(namespace, name))
}

/// The mirrors of a rule, or of its backend with that index.
fn read_mirrors<'a>(
    route: &'a Value,
    holder: &'a Value,
    of: Option<usize>,
) -> impl Iterator<Item = Mirror> + 'a {
    let filters = holder.array_at("/filters").iter();
    filters.filter_map(move |filter| {
        let mirror = filter.get("requestMirror")?;
        let number = |pointer: &str| mirror.int_at(pointer).and_then(|n| i32::try_from(n).ok());
        let fraction = number("/fraction/numerator").map(|numerator| {
            let denominator = number("/fraction/denominator").unwrap_or(100).max(1);
            f64::from(numerator) * 100.0 / f64::from(denominator)
        });
        let percent = fraction.or(number("/percent").map(f64::from));
        Some(Mirror {
            destination: destination(route, &mirror["backendRef"]),
            of,
            millionths: millionths(percent.unwrap_or(100.0)),
        })
    })
}

/// The `Set-Cookie` headers that the filters of a rule or a backend put on answers.
fn cookies(of: &Value) -> impl Iterator<Item = String> + '_ {
    let filters = of.array_at("/filters").iter();
    let modifiers = filters.filter_map(|filter| filter.get("responseHeaderModifier"));
    let headers = modifiers.flat_map(|modifier| {
        let set = modifier.array_at("/set").iter();
        set.chain(modifier.array_at("/add"))
    });
    headers.filter_map(|header| {
        let name = header["name"].as_str()?;
        let value = header["value"].as_str()?;
        name.eq_ignore_ascii_case("set-cookie")
            .then(|| value.to_owned())
    })
}

#[cfg(test)]
#[path = "gateway_api_tests.rs"]
mod tests;
