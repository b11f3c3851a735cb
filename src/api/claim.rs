//! [`Claim`]: the objects of its namespace that a Canary says are its own, so that no two Canaries work on one.

use serde_json::Value;

use super::objects::ObjectExt;

/// What a Canary makes of the name of its target, with what it is to it.
const TARGET: [(&str, &str); 2] = [("", "the target"), ("-primary", "the primary")];
/// The same of its Service.
const SERVICE: [(&str, &str); 3] = [
    ("", "the apex"),
    ("-primary", "the Service of the primary"),
    ("-canary", "the Service of the canary"),
];
/// The same of its autoscaler.
const SCALER: [(&str, &str); 2] = [
    ("", "the autoscaler"),
    ("-primary", "the primary's autoscaler"),
];

/// Names that a Canary's spec gives, and what tells whose right is older. It is read from the raw spec, since one that cannot be carried
/// out claims its objects all the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Name of the Canary.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// `metadata.creationTimestamp`, as the API server writes it: it sorts by time.
    pub created: String,
    /// Kind and name of `spec.targetRef`.
    target: (String, String),
    /// `spec.service.name`, else the target's name.
    service: String,
    /// Kind and name of `spec.autoscalerRef`.
    scaler: Option<(String, String)>,
    /// Services of the namespace that its mesh route is for beside its own apex.
    hosts: Vec<String>,
}

/// One object that two Canaries claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// The field of the first Canary that names it.
    pub path: &'static str,
    /// The object: `Deployment mcp-server`.
    pub object: String,
    /// What it is to the first Canary: `the target`.
    pub ours: &'static str,
    /// What it is to the other one.
    pub theirs: &'static str,
}

impl Claim {
    /// What this Canary claims.
    #[must_use]
    pub fn of(canary: &Value) -> Self {
        let text = |at: &str| canary.str_at(at).unwrap_or_default().to_owned();
        let target = (
            canary
                .str_at("/spec/targetRef/kind")
                .unwrap_or("Deployment")
                .to_owned(),
            text("/spec/targetRef/name"),
        );
        let service = canary
            .str_at("/spec/service/name")
            .filter(|name| !name.is_empty())
            .unwrap_or(&target.1)
            .to_owned();
        let scaler = canary.str_at("/spec/autoscalerRef/name").map(|name| {
            let kind = text("/spec/autoscalerRef/kind");
            (kind, name.to_owned())
        });
        Self {
            name: canary.name().to_owned(),
            uid: canary.uid().to_owned(),
            created: text("/metadata/creationTimestamp"),
            hosts: mesh_hosts(canary, &service),
            target,
            service,
            scaler,
        }
    }

    /// Both are of the same object of the namespace in which both Canaries are; the first one that is found. A Canary does not clash with
    /// itself.
    #[must_use]
    pub fn clash(&self, other: &Self) -> Option<Clash> {
        if self.name == other.name {
            return None;
        }
        let (target, theirs) = (&self.target, &other.target);
        let scalers = self.scaler.as_ref().zip(other.scaler.as_ref());
        None.or_else(|| {
            let name = (target.1.as_str(), theirs.1.as_str());
            (target.0 == theirs.0)
                .then(|| common("spec.targetRef.name", &target.0, name, &TARGET))?
        })
        .or_else(|| {
            let name = (self.service.as_str(), other.service.as_str());
            common("spec.service.name", "Service", name, &SERVICE)
        })
        .or_else(|| {
            let (ours, theirs) = scalers.filter(|(ours, theirs)| ours.0 == theirs.0)?;
            let name = (ours.1.as_str(), theirs.1.as_str());
            common("spec.autoscalerRef.name", &ours.0, name, &SCALER)
        })
        .or_else(|| self.clash_of_hosts(other))
    }

    /// Of two mesh routes for one Service Istio takes only one.
    fn clash_of_hosts(&self, other: &Self) -> Option<Clash> {
        const ROUTED: &str = "a host of the route";
        let both = |name: &str, ours, theirs| Clash {
            path: "spec.service.hosts",
            object: format!("Service {name}"),
            ours,
            theirs,
        };
        let routed = self.hosts.iter().find(|host| **host == other.service);
        let routed = routed.map(|host| both(host, ROUTED, SERVICE[0].1));
        let own = || other.hosts.iter().find(|host| **host == self.service);
        let own = || own().map(|host| both(host, SERVICE[0].1, ROUTED));
        let shared = || self.hosts.iter().find(|host| other.hosts.contains(host));
        routed
            .or_else(own)
            .or_else(|| shared().map(|host| both(host, ROUTED, ROUTED)))
    }
}

/// The first name that both make of theirs.
fn common(
    path: &'static str,
    kind: &str,
    (ours, theirs): (&str, &str),
    made: &[(&str, &'static str)],
) -> Option<Clash> {
    // Nearly always there is nothing in common, and this is asked of every pair of a namespace.
    if !(ours.starts_with(theirs) || theirs.starts_with(ours)) || ours.is_empty() {
        return None;
    }
    made.iter().find_map(|(suffix, to_us)| {
        let name = format!("{ours}{suffix}");
        let (_, to_them) = made
            .iter()
            .find(|(suffix, _)| name.strip_suffix(suffix) == Some(theirs))?;
        Some(Clash {
            path,
            object: format!("{kind} {name}"),
            ours: to_us,
            theirs: to_them,
        })
    })
}

/// The hosts of an Istio route inside the mesh that are Services of the Canary's namespace, its own apex aside. A host at a gateway alone
/// may be shared: Istio puts such routes together.
fn mesh_hosts(canary: &Value, service: &str) -> Vec<String> {
    let istio = matches!(canary.str_at("/spec/provider"), None | Some("" | "istio"));
    let gateways = canary.array_at("/spec/service/gateways");
    let meshed = gateways.is_empty() || gateways.iter().any(|gateway| gateway == "mesh");
    if !istio || !meshed || canary["spec"]["service"]["delegation"] == true {
        return Vec::new();
    }
    let namespace = canary.namespace();
    let hosts = canary.array_at("/spec/service/hosts").iter();
    let mut names: Vec<String> = hosts
        .filter_map(|host| in_namespace(host.as_str()?, namespace))
        .filter(|name| *name != service)
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The Service that a host name is, if it is one of this namespace.
fn in_namespace<'a>(host: &'a str, namespace: &str) -> Option<&'a str> {
    let Some((name, rest)) = host.split_once('.') else {
        return (host != "*").then_some(host);
    };
    let domain = rest.strip_prefix(namespace)?;
    matches!(domain, "" | ".svc" | ".svc.cluster.local").then_some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn canary(name: &str, spec: &Value) -> Claim {
        let metadata = json!({"name": name, "namespace": "shop", "uid": name, "creationTimestamp": "2026-11-21T00:00:00Z"});
        Claim::of(&json!({"metadata": metadata, "spec": spec}))
    }

    fn target(name: &str) -> Value {
        json!({"targetRef": {"kind": "Deployment", "name": name}})
    }

    fn with(name: &str, key: &str, value: Value) -> Value {
        let mut spec = target(name);
        spec[key] = value;
        spec
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table is as long as its rows")]
    fn no_object_belongs_to_two() {
        let scaler = |name: &str| json!({"kind": "ScaledObject", "name": name});
        let service = |name: &str| json!({"name": name});
        let hosts = |names: &[&str]| json!({"hosts": names});
        let at = |hosts: Value, more: &str, value: Value| {
            let mut service = hosts;
            service[more] = value;
            service
        };
        let rows = [
            ("nothing in common", target("web"), target("api"), None),
            (
                "names that only begin alike",
                target("web"),
                target("web-api"),
                None,
            ),
            (
                "another kind of target",
                target("web"),
                json!({"targetRef": {"kind": "DaemonSet", "name": "web"}, "service": {"name": "agent"}}),
                None,
            ),
            (
                "one target",
                target("web"),
                with("web", "service", service("other")),
                Some("spec.targetRef.name: Deployment web is the target and the target"),
            ),
            (
                "a target that another one makes",
                target("web-primary"),
                target("web"),
                Some("spec.targetRef.name: Deployment web-primary is the target and the primary"),
            ),
            (
                "the same the other way",
                target("web"),
                target("web-primary"),
                Some("spec.targetRef.name: Deployment web-primary is the primary and the target"),
            ),
            (
                "one apex by two ways",
                target("web"),
                with("api", "service", service("web")),
                Some("spec.service.name: Service web is the apex and the apex"),
            ),
            (
                "an apex that another one makes",
                with("a", "service", service("web-canary")),
                with("b", "service", service("web")),
                Some(
                    "spec.service.name: Service web-canary is the apex and the Service of the canary",
                ),
            ),
            (
                "one autoscaler",
                with("a", "autoscalerRef", scaler("s")),
                with("b", "autoscalerRef", scaler("s")),
                Some(
                    "spec.autoscalerRef.name: ScaledObject s is the autoscaler and the autoscaler",
                ),
            ),
            (
                "another kind of autoscaler",
                with("a", "autoscalerRef", scaler("s")),
                with(
                    "b",
                    "autoscalerRef",
                    json!({"kind": "HorizontalPodAutoscaler", "name": "s"}),
                ),
                None,
            ),
            (
                "a route for another one's apex",
                with(
                    "a",
                    "service",
                    hosts(&["b.shop.svc.cluster.local", "*.example.com"]),
                ),
                target("b"),
                Some("spec.service.hosts: Service b is a host of the route and the apex"),
            ),
            (
                "two routes for one more Service",
                with("a", "service", hosts(&["c"])),
                with("b", "service", hosts(&["c.shop"])),
                Some(
                    "spec.service.hosts: Service c is a host of the route and a host of the route",
                ),
            ),
            (
                "a Service of another namespace",
                with("a", "service", hosts(&["b.other.svc.cluster.local"])),
                target("b"),
                None,
            ),
            (
                "a host at a gateway, which routes may share",
                with(
                    "a",
                    "service",
                    at(hosts(&["b"]), "gateways", json!(["istio-system/public"])),
                ),
                target("b"),
                None,
            ),
            (
                "a delegate, which has no hosts",
                with("a", "service", at(hosts(&["b"]), "delegation", json!(true))),
                target("b"),
                None,
            ),
        ];
        for (what, first, second, expected) in rows {
            let (first, second) = (canary("first", &first), canary("second", &second));
            let said = first.clash(&second).map(|clash| {
                let Clash {
                    path,
                    object,
                    ours,
                    theirs,
                } = clash;
                format!("{path}: {object} is {ours} and {theirs}")
            });
            assert_eq!(said.as_deref(), expected, "{what}");
            // Both see it.
            let seen = second.clash(&first).is_some();
            assert_eq!(seen, expected.is_some(), "{what}");
        }
        let alone = canary("first", &target("web"));
        assert_eq!(alone.clash(&alone.clone()), None);
    }
}
