//! Istio: the `VirtualService` whose hosts include the Service, its rules in their order, with what it delegates.
//!
//! (istio.io/latest/docs/reference/config/networking/virtual-service)

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Backend, Destination, Entry, Lookup, Match, Mirror, Object, ObjectExt, Route, Rule, Source,
    millionths,
    pattern::{Pattern, Test},
};

/// The gateway of requests that come from within.
const MESH: &str = "mesh";

/// Where requests come from.
struct Origin<'a> {
    source: &'a Source,
    /// `mesh`, or `NAMESPACE/NAME`.
    gateway: String,
    /// The host that is asked for.
    authority: String,
    /// The Service's first port.
    port: Option<i64>,
}

/// The route of the source's requests; `None` when no `VirtualService` has anything to say about them.
pub(super) fn read(objects: &impl Lookup, source: &Source) -> Option<Route> {
    let mut all = objects.virtual_services();
    // Of several for one host a mesh takes the oldest.
    all.sort_by_cached_key(|vs| {
        let created = vs.str_at("/metadata/creationTimestamp").unwrap_or_default();
        let (namespace, name) = (vs.namespace().to_owned(), vs.name().to_owned());
        (created.to_owned(), namespace, name)
    });
    let origin = origin(objects, source, &all);
    let vs = all.iter().find(|vs| bound(vs, &origin))?;
    let reader = Reader {
        objects,
        all: &all,
        origin: &origin,
    };
    let mut route = Route::new(Vec::new(), Vec::new());
    reader.rules(vs, "/spec/http", &[Vec::new()], 0, &mut route);
    if route.rules.is_empty() {
        reader.rules(vs, "/spec/tcp", &[Vec::new()], 0, &mut route);
        route.tcp = true;
    }
    // One that says nothing of requests leaves them as they are.
    (!route.rules.is_empty()).then_some(route)
}

/// How the requests come in; where that is not said, as the first `VirtualService` of the Service is bound.
fn origin<'a>(objects: &impl Lookup, source: &'a Source, all: &[Object]) -> Origin<'a> {
    let inside = || {
        (
            MESH.to_owned(),
            format!("{}.{}", source.service, source.namespace),
        )
    };
    let (gateway, authority) = match &source.entry {
        Entry::Inside => inside(),
        Entry::Gateway { name, host } => (name.clone(), host.clone()),
        Entry::Published => {
            let of_service: Vec<&Object> = all.iter().filter(|vs| names(vs, source)).collect();
            let published = of_service.first().filter(|_| {
                let mut gateways = of_service.iter().map(|vs| gateways(vs, "/spec/gateways"));
                !gateways.any(|bound| bound.iter().any(|gateway| gateway == MESH))
            });
            let public = published.and_then(|vs| {
                let gateway = gateways(vs, "/spec/gateways").into_iter().next()?;
                let host = vs.array_at("/spec/hosts").first()?.as_str()?;
                Some((gateway, host.replace('*', "www")))
            });
            public.unwrap_or_else(inside)
        }
    };
    let service = objects.service(&source.namespace, &source.service);
    Origin {
        source,
        gateway,
        authority,
        port: service.and_then(|s| s.int_at("/spec/ports/0/port")),
    }
}

/// The hosts of a `VirtualService` include the Service.
fn names(vs: &Value, source: &Source) -> bool {
    let hosts = vs.array_at("/spec/hosts").iter().filter_map(Value::as_str);
    let service = (source.service.as_str(), source.namespace.as_str());
    hosts
        .into_iter()
        .any(|host| host == "*" || resolve(host, vs.namespace()) == service)
}

/// The `VirtualService` is for requests of this origin.
fn bound(vs: &Value, origin: &Origin<'_>) -> bool {
    if !gateways(vs, "/spec/gateways").contains(&origin.gateway) {
        return false;
    }
    if origin.gateway == MESH {
        return names(vs, origin.source);
    }
    let mut hosts = vs.array_at("/spec/hosts").iter().filter_map(Value::as_str);
    hosts.any(|host| host == origin.authority || wildcard(host, &origin.authority))
}

/// `*` and `*.example.com`.
fn wildcard(pattern: &str, host: &str) -> bool {
    pattern
        .strip_prefix('*')
        .is_some_and(|ending| host.ends_with(ending))
}

/// The gateways of a `VirtualService`, or of one match, as `NAMESPACE/NAME`; the mesh when none is named.
fn gateways(vs: &Value, pointer: &str) -> Vec<String> {
    let named = vs.array_at(pointer).iter().filter_map(Value::as_str);
    let mut found: Vec<String> = named.map(|name| gateway(name, vs.namespace())).collect();
    if found.is_empty() {
        found.push(MESH.to_owned());
    }
    found
}

fn gateway(name: &str, home: &str) -> String {
    if name == MESH || name.contains('/') {
        return name.to_owned();
    }
    let (name, namespace) = resolve(name, home);
    format!("{namespace}/{name}")
}

/// Service and namespace that a host in an object of namespace `home` names.
fn resolve<'a>(host: &'a str, home: &'a str) -> (&'a str, &'a str) {
    let mut parts = host.splitn(3, '.');
    let service = parts.next().unwrap_or_default();
    (service, parts.next().unwrap_or(home))
}

struct Reader<'a, L> {
    objects: &'a L,
    all: &'a [Object],
    origin: &'a Origin<'a>,
}

impl<L: Lookup> Reader<'_, L> {
    /// Adds the rules at `pointer`. `outer`: what a request has to be for any of them, one of these. Rules that answer by themselves
    /// (redirects, direct responses) are passed over.
    fn rules(&self, vs: &Object, pointer: &str, outer: &[Vec<Test>], depth: u8, route: &mut Route) {
        for rule in vs.array_at(pointer) {
            let own = self.conditions(vs, rule);
            let both = outer.iter().flat_map(|outer| {
                own.iter().map(|own| {
                    let mut tests = outer.clone();
                    tests.extend(own.iter().cloned());
                    tests
                })
            });
            let conditions: Vec<Vec<Test>> = both.collect();
            // Istio follows one delegation.
            if let Some(to) = rule.get("delegate").filter(|_| depth == 0) {
                let namespace = to["namespace"].as_str().unwrap_or(vs.namespace());
                let delegate = self.all.iter().find(|vs| {
                    vs.name() == to["name"]
                        && vs.namespace() == namespace
                        && vs.array_at("/spec/hosts").is_empty()
                });
                if let Some(delegate) = delegate {
                    self.rules(delegate, pointer, &conditions, depth + 1, route);
                }
            } else if !rule.array_at("/route").is_empty() {
                let at = route.rules.len();
                route.rules.push(self.rule(vs, rule));
                let matches = conditions.into_iter();
                route
                    .matches
                    .extend(matches.map(|tests| Match { tests, rule: at }));
            }
        }
    }

    /// What a request has to be for a rule: all tests of one of these.
    fn conditions(&self, vs: &Value, rule: &Value) -> Vec<Vec<Test>> {
        let conditions = rule.array_at("/match");
        if conditions.is_empty() {
            return vec![Vec::new()];
        }
        conditions.iter().map(|c| self.tests(vs, c)).collect()
    }

    fn tests(&self, vs: &Value, condition: &Value) -> Vec<Test> {
        let any_case = condition["ignoreUriCase"] == json!(true);
        let mut tests = Vec::new();
        for (key, value) in condition.as_object().into_iter().flatten() {
            let of_each = |test: fn(String, Pattern) -> Test| {
                let entries = value.as_object().into_iter().flatten();
                entries.map(move |(name, value)| test(name.to_ascii_lowercase(), pattern(value)))
            };
            let is = |holds: bool| (!holds).then_some(Test::Never);
            match key.as_str() {
                "uri" if any_case => tests.push(Test::Path(pattern(value).in_any_case())),
                "uri" => tests.push(Test::Path(pattern(value))),
                "method" => tests.push(Test::Method(pattern(value))),
                "headers" => tests.extend(of_each(Test::Header)),
                "withoutHeaders" => tests.extend(of_each(Test::WithoutHeader)),
                "queryParams" => {
                    let entries = value.as_object().into_iter().flatten();
                    tests.extend(entries.map(|(n, v)| Test::Query(n.clone(), pattern(v))));
                }
                "authority" => tests.extend(is(pattern(value).takes(&self.origin.authority))),
                "scheme" => tests.extend(is(pattern(value).takes("http"))),
                "port" => tests.extend(is(self.origin.port.is_none_or(|p| value == &json!(p)))),
                "sourceLabels" => tests.extend(is(self.has_labels(value))),
                "sourceNamespace" => tests.extend(is(self.is_inside() && value == CLIENTS)),
                "gateways" => {
                    let named = gateways(
                        &json!({"metadata": vs["metadata"], "gateways": value}),
                        "/gateways",
                    );
                    tests.extend(is(named.contains(&self.origin.gateway)));
                }
                // `name`, `statPrefix` and what is about TLS say nothing of plain requests.
                _ => {}
            }
        }
        tests
    }

    fn is_inside(&self) -> bool {
        self.origin.gateway == MESH
    }

    /// Labels are those of pods: a request from outside has none.
    fn has_labels(&self, wanted: &Value) -> bool {
        let mut wanted = wanted.as_object().into_iter().flatten();
        let labels = &self.origin.source.labels;
        wanted.all(|(key, value)| {
            self.is_inside() && labels.get(key).map(String::as_str) == value.as_str()
        })
    }

    fn rule(&self, vs: &Value, rule: &Value) -> Rule {
        let routes = rule.array_at("/route");
        let alone = routes.len() == 1;
        let backends = routes.iter().map(|route| {
            let weight = route["weight"].as_i64().unwrap_or(0).max(0);
            let mut cookies = cookies(rule);
            cookies.extend(self::cookies(route));
            Backend {
                destination: self.destination(vs.namespace(), &route["destination"]),
                weight: if alone { 1 } else { weight },
                cookies: cookies.into(),
            }
        });
        let percent = [
            &rule["mirrorPercentage"]["value"],
            &rule["mirrorPercent"],
            &rule["mirror_percent"],
        ]
        .into_iter()
        .find_map(Value::as_f64);
        let single = rule.get("mirror").map(|to| (to, percent));
        let several = rule.array_at("/mirrors").iter().map(|mirror| {
            let percent = mirror["percentage"]["value"].as_f64();
            (&mirror["destination"], percent)
        });
        let mirrors = single
            .into_iter()
            .chain(several)
            .map(|(to, percent)| Mirror {
                destination: self.destination(vs.namespace(), to),
                of: None,
                millionths: millionths(percent.unwrap_or(100.0)),
            });
        Rule::new(backends.collect(), mirrors.collect())
    }

    fn destination(&self, home: &str, destination: &Value) -> Arc<Destination> {
        let host = destination["host"].as_str().unwrap_or_default();
        let (service, namespace) = resolve(host, home);
        let mut whole = Destination::whole(namespace, service);
        let Some(subset) = destination["subset"].as_str().filter(|s| !s.is_empty()) else {
            return Arc::new(whole);
        };
        let rules = self.objects.destination_rules(home);
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
        Arc::new(whole)
    }
}

/// Namespace of the pods that send requests.
const CLIENTS: &str = "ai-clients";

/// The `Set-Cookie` headers that a rule or a destination puts on answers.
fn cookies(at: &Value) -> Vec<String> {
    let of = |how: &str| {
        let headers = at["headers"]["response"][how].as_object();
        let mut cookies = headers
            .into_iter()
            .flatten()
            .filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
        cookies
            .next()
            .and_then(|(_, value)| value.as_str())
            .map(str::to_owned)
    };
    [of("set"), of("add")].into_iter().flatten().collect()
}

/// Istio's `StringMatch`; without any of its fields it is enough that there is a value.
fn pattern(condition: &Value) -> Pattern {
    let text = |key: &str| condition[key].as_str();
    if let Some(exact) = text("exact") {
        Pattern::Exact(exact.to_owned())
    } else if let Some(prefix) = text("prefix") {
        Pattern::Prefix(prefix.to_owned())
    } else if let Some(regex) = text("regex") {
        Pattern::regex(regex)
    } else {
        Pattern::Any
    }
}
