//! The roles of the chart against the program's own table of rights, in both directions.

use std::collections::BTreeSet;

use canary_mcp::api::rights::{self, Place, Rule, When};
use serde_json::Value;

use super::{label, path, render};

/// `verb group/resource`.
type Words = BTreeSet<String>;

/// The rights of a rendered role, by its name and namespace; nobody's where there is none.
fn rendered(objects: &[Value], role: &str, namespace: Option<&str>) -> Words {
    let roles = objects.iter().filter(|object| {
        label(object) == role && object["metadata"]["namespace"].as_str() == namespace
    });
    let words = |list: &Value| -> Vec<String> { serde_json::from_value(list.clone()).unwrap() };
    let mut rights = Words::new();
    for rule in roles.flat_map(|role| role["rules"].as_array().unwrap()) {
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                for verb in words(&rule["verbs"]) {
                    rights.insert(format!("{verb} {group}/{resource}"));
                }
            }
        }
    }
    rights
}

/// The rights of a table that are for this.
fn table(rules: &[Rule], of: impl Fn(&Rule) -> bool) -> Words {
    rights::each(rules)
        .filter(|(rule, _)| of(rule))
        .map(|(_, right)| format!("{} {}/{}", right.verb, right.group, right.resource))
        .collect()
}

fn chart(values: &str) -> Option<Vec<Value>> {
    let values = path("chart/ci").join(values);
    let rendered = render(&path("chart"), &["--values", values.to_str().unwrap()])?;
    Some(rendered.unwrap())
}

/// What the whole installation needs wherever the Canaries are; credentials and Services of other clusters have values of their own.
fn everywhere(rule: &Rule) -> bool {
    matches!(rule.place, Place::Canaries | Place::Cluster) && rule.when != When::Secret
}

fn at(place: Place) -> impl Fn(&Rule) -> bool {
    move |rule| rule.place == place
}

const CLUSTER_ROLE: &str = "ClusterRole canary-mcp-system:canary-mcp";
const ENGINE_CLUSTER_ROLE: &str = "ClusterRole canary-mcp-system:canary-mcp-engine";
const HOME: Option<&str> = Some("canary-mcp-system");

/// The engine's and the front's together.
fn both() -> Vec<Rule> {
    let mut both = rights::engine();
    both.extend(rights::front());
    both
}

#[test]
fn each_role_is_the_table_of_its_process() {
    let (engine, front, read_only) = (rights::engine(), rights::front(), rights::read_only());
    for (values, role, leases, rules) in [
        ("all-in-one.yaml", CLUSTER_ROLE, "Role canary-mcp", &both()),
        ("split.yaml", CLUSTER_ROLE, "Role canary-mcp", &front),
        (
            "split.yaml",
            ENGINE_CLUSTER_ROLE,
            "Role canary-mcp-engine",
            &engine,
        ),
        (
            "read-only.yaml",
            CLUSTER_ROLE,
            "Role canary-mcp",
            &read_only,
        ),
        (
            "dry-run.yaml",
            CLUSTER_ROLE,
            "Role canary-mcp",
            &rights::observing(),
        ),
        (
            "dry-run-routes.yaml",
            CLUSTER_ROLE,
            "Role canary-mcp",
            &both(),
        ),
    ] {
        let Some(objects) = chart(values) else { return };
        let given = rendered(&objects, role, None);
        assert_eq!(given, table(rules, everywhere), "{values}: {role}");
        let given = rendered(&objects, leases, HOME);
        assert_eq!(given, table(rules, at(Place::Leases)), "{values}: {leases}");
    }
}

/// For a cluster that is led from outside: Services are asked through its API server.
#[test]
fn a_remote_cluster_gives_the_engine_its_services_too() {
    let Some(objects) = chart("rights.yaml") else {
        return;
    };
    let wanted = table(&rights::engine(), |rule| {
        everywhere(rule) || matches!(rule.when, When::Proxy | When::Hook)
    });
    assert_eq!(rendered(&objects, ENGINE_CLUSTER_ROLE, None), wanted);
    assert!(wanted.contains("get /services/proxy"));
    assert!(wanted.contains("create /services/proxy"));
}

/// With everything allowed that can be, nothing of the table is left out.
#[test]
fn all_rights_can_be_given() {
    let Some(objects) = chart("everything.yaml") else {
        return;
    };
    let role = "ClusterRole canary-mcp-system:canary-mcp-canaries";
    let engine = rendered(&objects, &format!("{role}-engine"), None);
    let all_but_leases = |rule: &Rule| rule.place != Place::Leases;
    assert_eq!(engine, table(&rights::engine(), all_but_leases));
    let front = rendered(&objects, role, None);
    assert_eq!(front, table(&rights::front(), all_but_leases));
    let argocd = "get /secrets, list /secrets, watch /secrets";
    for name in [
        "Role canary-mcp-canaries",
        "Role canary-mcp-canaries-engine",
    ] {
        let given = rendered(&objects, name, Some("argocd"));
        let given: Vec<String> = given.into_iter().collect();
        assert_eq!(given.join(", "), argocd, "{name}");
        let leases = rendered(&objects, name, Some("leases"));
        assert!(!leases.is_empty(), "{name}");
    }
}

/// In the namespaced variant the `ClusterRole` has what belongs to no namespace, and nothing else.
#[test]
fn a_namespaced_installation_sees_its_namespaces_only() {
    let Some(objects) = chart("namespaced.yaml") else {
        return;
    };
    let both = both();
    let given = rendered(&objects, CLUSTER_ROLE, None);
    assert_eq!(given, table(&both, at(Place::Cluster)));
    let role = "Role canary-mcp";
    let given = rendered(&objects, role, Some("payments"));
    let ours = |rule: &Rule| rule.place == Place::Canaries && rule.when != When::Secret;
    assert_eq!(given, table(&both, ours));
    let given = rendered(&objects, role, Some("ai-platform"));
    assert_eq!(given, table(&both, at(Place::Canaries)));
    assert!(given.contains("get /secrets"));
}

/// What the issue of least rights comes to in plain words: what the front may change, written out.
#[test]
fn the_front_may_change_two_things() {
    let Some(objects) = chart("split.yaml") else {
        return;
    };
    let reads = ["get ", "list ", "watch "];
    let changes: Vec<String> = [None, HOME]
        .into_iter()
        .flat_map(|namespace| {
            let cluster = rendered(&objects, CLUSTER_ROLE, namespace);
            let role = rendered(&objects, "Role canary-mcp", namespace);
            cluster.into_iter().chain(role)
        })
        .filter(|right| !reads.iter().any(|read| right.starts_with(read)))
        .collect();
    assert_eq!(
        changes,
        [
            "create authorization.k8s.io/selfsubjectaccessreviews",
            "create authorization.k8s.io/selfsubjectrulesreviews",
            "patch apps/deployments",
            "patch flagger.app/canaries",
        ]
    );
}

/// No rule of any variant is for everything of a kind.
#[test]
fn no_rule_has_a_star() {
    for values in super::values_of(&path("chart")) {
        let values = values.file_name().unwrap().to_str().unwrap();
        let Some(objects) = chart(values) else { return };
        let roles = objects
            .iter()
            .filter(|o| ["Role", "ClusterRole"].contains(&o["kind"].as_str().unwrap()));
        for role in roles {
            assert!(!role["rules"].to_string().contains('*'), "{values}: {role}");
        }
    }
}
