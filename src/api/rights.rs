//! What we need to be allowed in a cluster: one table for the check before a run, the messages of the tools, the roles of the chart and
//! `canary-mcp rights`.

use super::objects::{
    CANARY, CONTROLLER_REVISION, CUSTOM_RESOURCE_DEFINITION, DEPLOYMENT, DESTINATION_RULE, EVENT,
    HTTP_ROUTE, Kind, LEASE, METRIC_TEMPLATE, POD, REPLICA_SET, SCALED_OBJECT, SECRET, SERVICE,
    VIRTUAL_SERVICE,
};

/// Reads of a kind that is watched.
const WATCHED: &[&str] = &["get", "list", "watch"];
/// A watched kind that others make and we change.
const CHANGED: &[&str] = &["get", "list", "watch", "patch"];
/// A watched kind that we make and change.
const KEPT: &[&str] = &["get", "list", "watch", "create", "patch"];
/// The group of the reviews by which a process finds out what it may do.
const AUTHORIZATION: &str = "authorization.k8s.io";

/// One line of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// API groups; the core group is empty.
    pub groups: Vec<&'static str>,
    /// Resources, with their subresource (`deployments/scale`).
    pub resources: Vec<&'static str>,
    /// Verbs.
    pub verbs: Vec<&'static str>,
    /// Where it is needed.
    pub place: Place,
    /// When it is needed.
    pub when: When,
    /// What for, as a clause.
    pub why: &'static str,
}

/// Where a right is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// In the namespaces of Canaries, and of the `MetricTemplates` that they name.
    Canaries,
    /// In the namespace of the Leases (`--lease-namespace`).
    Leases,
    /// In the namespace of a Service that is asked for metrics, or called as a webhook.
    Services,
    /// The resource has no namespace: it takes a `ClusterRole`, whatever the rest is bound to.
    Cluster,
}

/// When a right is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum When {
    /// For every Canary.
    Always,
    /// For one that Istio routes.
    Istio,
    /// For one that the Gateway API routes.
    Gateway,
    /// For one with `spec.autoscalerRef`.
    Scaler,
    /// For one with a `templateRef`.
    Template,
    /// For one whose metrics come from a Service of a cluster that we do not run in.
    Proxy,
    /// For one with a webhook that is a Service of a cluster that we do not run in; each verb for the method that it is called with.
    Hook,
    /// For one of which a `MetricTemplate` has a `secretRef`, or a webhook headers from a Secret.
    Secret,
    /// Never demanded: without it something is not told, or an API server does not ask for it.
    Welcome,
}

/// One verb on one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Right {
    /// The verb, as the API server has it.
    pub verb: &'static str,
    /// API group, empty for the core group.
    pub group: &'static str,
    /// The resource, with its subresource.
    pub resource: &'static str,
}

/// What an engine needs that leads a cluster.
#[must_use]
pub fn engine() -> Vec<Rule> {
    use {Place as P, When as W};
    let mut rules = vec![
        rule(
            &CANARY,
            CHANGED,
            "finds Canaries and puts the fence on them",
        ),
        sub(
            &CANARY,
            "canaries/status",
            &["update"],
            "records the rollout",
        ),
        sub(
            &CANARY,
            "canaries/finalizers",
            &["update"],
            "owns what it makes, where the API server checks owner references (OpenShift)",
        )
        .when(W::Welcome),
        rule(
            &METRIC_TEMPLATE,
            WATCHED,
            "reads the metrics that Canaries name",
        )
        .when(W::Template),
        rule(
            &CUSTOM_RESOURCE_DEFINITION,
            WATCHED,
            "sees whether the Canary's definition keeps our fields",
        )
        .at(P::Cluster),
        rule(
            &DEPLOYMENT,
            KEPT,
            "watches the target, makes and changes its primary",
        ),
        sub(
            &DEPLOYMENT,
            "deployments/scale",
            &["update"],
            "scales the canary up, and to zero",
        ),
        rule(&REPLICA_SET, WATCHED, "tells the pods of both copies apart"),
        rule(&POD, WATCHED, "sees which copy can serve"),
        rule(
            &CONTROLLER_REVISION,
            &["get", "list", "watch", "create", "delete"],
            "pins the template of a run, and drops old pins",
        ),
        rule(&SERVICE, KEPT, "makes the Services of both copies"),
        rule(&VIRTUAL_SERVICE, KEPT, "shifts the traffic").when(W::Istio),
        rule(&DESTINATION_RULE, KEPT, "names both copies in the mesh").when(W::Istio),
        rule(&HTTP_ROUTE, KEPT, "shifts the traffic of Gateways").when(W::Gateway),
        rule(
            &SCALED_OBJECT,
            KEPT,
            "pauses the target's autoscaler, and makes the primary's",
        )
        .when(W::Scaler),
        rule(
            &EVENT,
            &["list", "create", "patch"],
            "tells people what happens",
        )
        .when(W::Welcome),
        rule(
            &LEASE,
            &["get", "list", "watch", "create", "update", "delete"],
            "is the only one that writes to the cluster, and sees the other replicas",
        )
        .at(P::Leases),
    ];
    rules.extend(calls());
    rules.push(reviews());
    rules
}

/// What the engine asks and calls beside the API server itself, and with which credentials.
fn calls() -> Vec<Rule> {
    use {Place as P, When as W};
    vec![
        sub(
            &SERVICE,
            "services/proxy",
            &["get"],
            "asks the cluster's Prometheus and webhooks, when it runs elsewhere",
        )
        .at(P::Services)
        .when(W::Proxy),
        sub(
            &SERVICE,
            "services/proxy",
            &["create"],
            "calls webhooks, when it runs elsewhere",
        )
        .at(P::Services)
        .when(W::Hook),
        sub(
            &SERVICE,
            "services/proxy",
            &["get", "update", "patch", "delete"],
            "calls webhooks that have a method of their own, when it runs elsewhere",
        )
        .at(P::Services)
        .when(W::Hook),
        rule(
            &SECRET,
            &["get"],
            "reads the credentials that MetricTemplates and webhooks name",
        )
        .when(W::Secret),
    ]
}

/// What an engine needs that leads a cluster to decide and to change nothing (`--dry-run=observe`), and the tools beside it.
#[must_use]
pub fn observing() -> Vec<Rule> {
    let reads = |verb: &&str| matches!(*verb, "get" | "list" | "watch");
    let mut rules = engine();
    for rule in &mut rules {
        if rule.place != Place::Leases {
            rule.verbs.retain(reads);
        }
    }
    rules.retain(|rule| !rule.verbs.is_empty());
    rules.extend(read_only());
    rules
}

/// What a process needs that serves the tools and leads nothing.
#[must_use]
pub fn front() -> Vec<Rule> {
    let mut rules = read_only();
    rules.extend([
        rule(
            &DEPLOYMENT,
            &["patch"],
            "start_canary sets the target's image",
        ),
        rule(
            &CANARY,
            &["patch"],
            "promote and rollback leave a request on the Canary",
        ),
    ]);
    rules
}

/// What a process needs that serves the tools that change nothing.
#[must_use]
pub fn read_only() -> Vec<Rule> {
    let shown = |kind: &Kind, why| rule(kind, WATCHED, why).when(When::Welcome);
    vec![
        rule(
            &CANARY,
            WATCHED,
            "shows rollouts, and follows one for the length of a call",
        ),
        rule(&DEPLOYMENT, WATCHED, "shows both copies"),
        shown(&METRIC_TEMPLATE, "shows what a dry run would ask").when(When::Template),
        shown(
            &CUSTOM_RESOURCE_DEFINITION,
            "sees whether an engine can lead the cluster",
        )
        .at(Place::Cluster),
        shown(
            &REPLICA_SET,
            "tells the pods of both copies apart in a dry run",
        ),
        shown(&POD, "shows what a rollout waits for"),
        shown(
            &CONTROLLER_REVISION,
            "shows what can be gone back to, and sees in a dry run what is pinned",
        ),
        rule(&SERVICE, WATCHED, "checks a Canary before a run"),
        rule(&VIRTUAL_SERVICE, WATCHED, "checks a Canary before a run").when(When::Istio),
        rule(&DESTINATION_RULE, WATCHED, "checks a Canary before a run").when(When::Istio),
        rule(&HTTP_ROUTE, WATCHED, "shows whether a route is accepted").when(When::Gateway),
        rule(&SCALED_OBJECT, WATCHED, "shows the autoscalers").when(When::Scaler),
        shown(&EVENT, "shows what happened"),
        rule(&LEASE, WATCHED, "shows who leads").at(Place::Leases),
        sub(
            &SERVICE,
            "services/proxy",
            &["get"],
            "asks the cluster's Prometheus, when it runs elsewhere",
        )
        .at(Place::Services)
        .when(When::Welcome),
        reviews(),
    ]
}

/// The rules as a `ClusterRole` in YAML, each with what it is for.
#[must_use]
pub fn cluster_role(name: &str, rules: &[Rule]) -> String {
    let list = |words: &[&str]| {
        let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        quoted.join(", ")
    };
    let head = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: {name}\n  labels:\n    app.kubernetes.io/name: canary-mcp\nrules:\n"
    );
    let one = |rule: &Rule| {
        let Rule {
            groups,
            resources,
            verbs,
            why,
            place,
            when: _,
        } = rule;
        let place = match place {
            Place::Canaries | Place::Cluster => "",
            Place::Leases => " (in the namespace of the Leases)",
            Place::Services => " (in the namespace of that Service)",
        };
        format!(
            "# {why}{place}\n- apiGroups: [{}]\n  resources: [{}]\n  verbs: [{}]\n",
            list(groups),
            list(resources),
            list(verbs)
        )
    };
    head + &rules.iter().map(one).collect::<String>()
}

/// The verbs of these rules one by one.
pub fn each(rules: &[Rule]) -> impl Iterator<Item = (&Rule, Right)> {
    rules.iter().flat_map(|rule| {
        let resources = rule
            .groups
            .iter()
            .flat_map(|group| rule.resources.iter().map(move |r| (*group, *r)));
        resources.flat_map(move |(group, resource)| {
            rule.verbs.iter().map(move |verb| {
                (
                    rule,
                    Right {
                        verb,
                        group,
                        resource,
                    },
                )
            })
        })
    })
}

fn rule(kind: &Kind, verbs: &[&'static str], why: &'static str) -> Rule {
    sub(kind, kind.plural, verbs, why)
}

fn sub(kind: &Kind, resource: &'static str, verbs: &[&'static str], why: &'static str) -> Rule {
    Rule {
        groups: vec![kind.group],
        resources: vec![resource],
        verbs: verbs.to_vec(),
        place: Place::Canaries,
        when: When::Always,
        why,
    }
}

/// Everybody who is known may do this, unless somebody has taken the `ClusterRole` `system:basic-user` away.
fn reviews() -> Rule {
    Rule {
        groups: vec![AUTHORIZATION],
        resources: vec!["selfsubjectrulesreviews", "selfsubjectaccessreviews"],
        verbs: vec!["create"],
        place: Place::Cluster,
        when: When::Always,
        why: "finds out what it may do, before a run",
    }
}

// === impl Rule ===

impl Rule {
    fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    fn when(self, when: When) -> Self {
        Self { when, ..self }
    }
}

// === impl Right ===

/// `patch virtualservices.networking.istio.io`, `update deployments.apps/scale`: the words that `kubectl auth can-i` takes but for the
/// subresource.
impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            verb,
            group,
            resource,
        } = self;
        let (plural, sub) = self.parts();
        write!(f, "{verb} {plural}")?;
        if !group.is_empty() {
            write!(f, ".{group}")?;
        }
        if plural.len() < resource.len() {
            write!(f, "/{sub}")?;
        }
        Ok(())
    }
}

impl Right {
    /// The resource and its subresource, which is empty for the object itself.
    #[must_use]
    pub fn parts(&self) -> (&'static str, &'static str) {
        self.resource.split_once('/').unwrap_or((self.resource, ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_only_reads_but_for_two_patches() {
        let rules = front();
        let writes: Vec<String> = each(&rules)
            .map(|(_, right)| right)
            .filter(|right| {
                !["get", "list", "watch"].contains(&right.verb) && right.group != AUTHORIZATION
            })
            .map(|right| right.to_string())
            .collect();
        assert_eq!(
            writes,
            ["patch deployments.apps", "patch canaries.flagger.app"]
        );
        let rules = read_only();
        let writes =
            each(&rules).filter(|(_, right)| !["get", "list", "watch"].contains(&right.verb));
        let writes: Vec<String> = writes.map(|(_, right)| right.to_string()).collect();
        assert_eq!(
            writes,
            [
                "create selfsubjectrulesreviews.authorization.k8s.io",
                "create selfsubjectaccessreviews.authorization.k8s.io"
            ]
        );
    }

    #[test]
    fn nothing_is_for_all_resources_or_all_verbs() {
        for rules in [engine(), front(), read_only()] {
            for (rule, right) in each(&rules) {
                let words = [right.verb, right.group, right.resource];
                assert!(words.iter().all(|word| !word.contains('*')), "{rule:?}");
                assert!(
                    right.verb != "get" || right.resource != "secrets" || rule.when == When::Secret
                );
            }
        }
    }

    #[test]
    fn a_right_is_named_as_kubectl_names_it() {
        let named = |verb, group, resource| {
            Right {
                verb,
                group,
                resource,
            }
            .to_string()
        };
        assert_eq!(named("get", "", "services/proxy"), "get services/proxy");
        assert_eq!(
            named("update", "apps", "deployments/scale"),
            "update deployments.apps/scale"
        );
        assert_eq!(
            named("patch", "keda.sh", "scaledobjects"),
            "patch scaledobjects.keda.sh"
        );
    }

    #[test]
    fn a_role_says_what_each_rule_is_for() {
        let rules = [
            rule(&SCALED_OBJECT, CHANGED, "scales"),
            rule(&LEASE, &["get"], "leads").at(Place::Leases),
        ];
        assert_eq!(
            cluster_role("x", &rules),
            r#"apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: x
  labels:
    app.kubernetes.io/name: canary-mcp
rules:
# scales
- apiGroups: ["keda.sh"]
  resources: ["scaledobjects"]
  verbs: ["get", "list", "watch", "patch"]
# leads (in the namespace of the Leases)
- apiGroups: ["coordination.k8s.io"]
  resources: ["leases"]
  verbs: ["get"]
"#
        );
    }
}
