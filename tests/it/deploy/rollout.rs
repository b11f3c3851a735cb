//! Whole rollouts on a genuine control plane in which our processes have exactly the rights of the chart.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use canary_mcp::{
    api::{
        objects::{DEPLOYMENT, ObjectExt},
        rights::{self, Place, Right, When},
    },
    cluster::{Clock, Cluster, ClusterSpec, Overrides},
    decide::{facts::Verb, state::Phase},
    engine::control::Outcome,
};
use serde_json::{Value, json};

use super::{
    install::{apply, only_rights, release},
    label,
};
use crate::{
    control_plane::ControlPlane,
    genuine::{Accounts, Real, real_as},
    support::Rig,
    tools,
};

/// The accounts of a release with these values, in the test's namespace.
async fn accounts(
    control_plane: &Arc<ControlPlane>,
    namespace: &str,
    values: &str,
    [front, engine]: [&str; 2],
) -> Accounts {
    let objects = release(values, namespace, &[]).expect("helm has been found");
    apply(control_plane, &only_rights(&objects));
    Accounts {
        front: control_plane.client_as(namespace, front).await,
        engine: control_plane.client_as(namespace, engine).await,
    }
}

async fn rig(scenario: &str, values: &str, who: [&str; 2]) -> Option<Rig<Real>> {
    tools::need("helm")?;
    let as_the_chart_says = async |control_plane: &Arc<ControlPlane>, namespace: &str| {
        accounts(control_plane, namespace, values, who).await
    };
    real_as(scenario, as_the_chart_says).await
}

/// Good and bad images, all in one: the account of the one Deployment does both halves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rights_of_all_in_one_are_enough() {
    let who = ["canary-mcp"; 2];
    let Some(rig) = rig("rights-all-in-one", "all-in-one.yaml", who).await else {
        return;
    };
    let rig = rig.initialize().await;
    let begun = rig.start("1.1.0").await;
    assert_eq!(begun.outcome, Outcome::Applied, "{}", begun.reason);
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
    rig.start("1.2.0-errors").await;
    rig.until_phase(Phase::Failed).await;
    rig.assert_ended(Phase::Failed, "1.1.0").await;
}

/// The front starts, rolls back and promotes with two patches; the engine, by its own account, does the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rights_of_front_and_engine_are_enough() {
    let who = ["canary-mcp", "canary-mcp-engine"];
    let Some(rig) = rig("rights-split", "split.yaml", who).await else {
        return;
    };
    let rig = rig.initialize().await;
    let begun = rig.start("1.1.0").await;
    assert_eq!(begun.outcome, Outcome::Applied, "{}", begun.reason);
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(5))
        .await;
    let rolled_back = rig.wish(Verb::Rollback, false).await;
    assert_eq!(
        rolled_back.outcome,
        Outcome::Applied,
        "{}",
        rolled_back.reason
    );
    rig.until_phase(Phase::Failed).await;
    rig.assert_ended(Phase::Failed, "1.0.0").await;
    rig.start("1.1.1").await;
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(5))
        .await;
    let promoted = rig.wish(Verb::Promote, true).await;
    assert_eq!(promoted.outcome, Outcome::Applied, "{}", promoted.reason);
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.1").await;
    assert_eq!(rig.view().await.phase, Phase::Succeeded);
}

/// With one verb less no run begins, and the Canary says which it is; when it is given, everything goes its way.
async fn without(scenario: &str, verb: &str, group: &str, resource: &str, named: &str) {
    if tools::need("helm").is_none() {
        return;
    }
    let lacking = async |control_plane: &Arc<ControlPlane>, namespace: &str| {
        let objects = release("split.yaml", namespace, &[]).expect("helm has been found");
        apply(
            control_plane,
            &less(only_rights(&objects), verb, group, resource),
        );
        Accounts {
            front: control_plane.client_as(namespace, "canary-mcp").await,
            engine: control_plane
                .client_as(namespace, "canary-mcp-engine")
                .await,
        }
    };
    let Some(mut rig) = real_as(scenario, lacking).await else {
        return;
    };
    rig.start_engine("first");
    let accepted = |canary: &Value| {
        let all = canary.array_at("/status/conditions");
        let accepted = all.iter().find(|c| c["type"] == "Accepted");
        accepted.map(|c| (c["reason"].clone(), c["message"].clone()))
    };
    rig.until(|c| accepted(c).is_some_and(|(reason, _)| reason == "MissingRights"))
        .await;
    let (_, message) = accepted(&rig.canary()).unwrap();
    let namespace = rig.rollout().namespace;
    let told = format!(
        "rights are missing in cluster prod-kr: {named} in namespace {namespace}; \
         give them to system:serviceaccount:{namespace}:canary-mcp-engine "
    );
    assert!(message.as_str().unwrap().starts_with(&told), "{message}");
    // Nothing was begun that could not have been ended.
    assert!(rig.object(&DEPLOYMENT, "mcp-server-primary").is_none());
    assert_eq!(rig.canary().int_at("/status/canaryWeight").unwrap_or(0), 0);

    let whole = release("split.yaml", &namespace, &[]).unwrap();
    apply(rig.control_plane(), &only_rights(&whole));
    rig.until_phase(Phase::Initialized).await;
    rig.start("1.1.0").await;
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

/// The engine's `ClusterRole` without this verb.
fn less(mut objects: Vec<Value>, verb: &str, group: &str, resource: &str) -> Vec<Value> {
    let mut taken = 0;
    for object in &mut objects {
        let role = object["kind"] == "ClusterRole";
        if !(role && label(object).ends_with("-engine")) {
            continue;
        }
        for rule in object["rules"].as_array_mut().unwrap() {
            if rule["apiGroups"][0] == group && rule["resources"][0] == resource {
                let verbs = rule["verbs"].as_array_mut().unwrap();
                let before = verbs.len();
                verbs.retain(|there| there != verb);
                taken += before - verbs.len();
            }
        }
    }
    assert_eq!(taken, 1, "{verb} {group}/{resource}");
    objects
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_shift_traffic_no_run_begins() {
    let named = "patch virtualservices.networking.istio.io";
    without(
        "less-patch-routes",
        "patch",
        "networking.istio.io",
        "virtualservices",
        named,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_scale_no_run_begins() {
    let named = "update deployments.apps/scale";
    without("less-scale", "update", "apps", "deployments/scale", named).await;
}

/// What the API server itself says of each account that has the chart's rights but for one: that one is missing, and no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_verb_of_the_chart_is_seen_to_be_missing() {
    if tools::need("helm").is_none() {
        return;
    }
    let Some(control_plane) = ControlPlane::shared().await else {
        return;
    };
    let namespace = control_plane.namespace("one-less").await;
    let name = namespace.name();
    let rendered = release("split.yaml", name, &[]).unwrap();
    let role = rendered
        .iter()
        .find(|o| o["kind"] == "ClusterRole" && label(o).ends_with("-engine"))
        .unwrap();
    let rules = rights::engine();
    // Everybody may ask what he may do, by a role of Kubernetes' own.
    let demanded: Vec<Right> = rights::each(&rules)
        .filter(|(rule, _)| rule.place == Place::Canaries && rule.when != When::Secret)
        .map(|(_, right)| right)
        .collect();
    let mut objects = Vec::new();
    for (n, right) in demanded.iter().enumerate() {
        let without = less(vec![role.clone()], right.verb, right.group, right.resource);
        let account = format!("account-{n}");
        let metadata = json!({"name": account, "namespace": name});
        objects.extend([
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "Role",
                "metadata": metadata,
                "rules": without[0]["rules"],
            }),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": metadata,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": name}],
            }),
        ]);
    }
    apply(&control_plane, &objects);
    for (n, lacking) in demanded.iter().enumerate() {
        let client = control_plane.client_as(name, &format!("account-{n}")).await;
        let cluster = Cluster::new(ClusterSpec {
            name: "prod-kr".to_owned(),
            labels: BTreeMap::new(),
            client,
            clock: Clock::real(),
            leads: false,
            inside: false,
            embedded: false,
            overrides: Overrides::default(),
        });
        let mut missing = demanded.clone();
        // The authoriser hears of a new binding a moment later.
        for _ in 0..200 {
            let rules = cluster.rules(name).await.unwrap();
            missing = demanded.clone();
            missing.retain(|right| !rules.grant(right));
            if missing.len() < demanded.len() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(missing, [*lacking]);
        assert!(!cluster.may(name, lacking).await.unwrap(), "{lacking}");
    }
    assert!(demanded.len() > 30, "{demanded:?}");
    namespace.finish().await;
}
