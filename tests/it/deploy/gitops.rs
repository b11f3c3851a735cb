//! What Argo CD, Flux, KEDA and the Prometheus operator are given: accepted by their own definitions on a genuine API server, and rendering what
//! we mean.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use canary_mcp::api::parse::{self, Settings};
use kube::{
    Api, Client,
    api::{ApiResource, GroupVersionKind, PostParams},
    discovery,
};
use serde_json::{Value, json};

use super::{
    label,
    mcp_server_chart::{ROLLED_OUT, render},
    objects, path,
};
use crate::{
    control_plane::{ControlPlane, Feature},
    tools,
};

fn read(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    objects(&text)
}

/// Every YAML file of a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{}", folder.display());
    found
}

fn read_all(folder: &str) -> Vec<Value> {
    let files = files(&path(folder));
    files.iter().flat_map(|file| read(file)).collect()
}

/// The definitions of others, and ours.
fn definitions(tool: &Path) -> Vec<Value> {
    let folders = ["argo-cd", "flux", "keda", "prometheus-operator"];
    let theirs = folders
        .iter()
        .flat_map(|folder| files(&tool.join(folder)))
        .flat_map(|file| read(&file));
    theirs.chain(canary_mcp::api::crd::crds()).collect()
}

/// `kubectl kustomize`.
fn built(cluster: &ControlPlane, folder: &Path) -> Vec<Value> {
    let ran = cluster
        .kubectl()
        .arg("kustomize")
        .arg(folder)
        .output()
        .unwrap();
    let why = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{why}");
    objects(&String::from_utf8(ran.stdout).unwrap())
}

/// Creates an object as it is written: a field that its definition does not know is a failure, not a warning.
async fn create(client: &Client, object: &Value) -> Result<(), String> {
    let (group, version) = match object["apiVersion"].as_str().unwrap().split_once('/') {
        Some((group, version)) => (group, version),
        None => ("", object["apiVersion"].as_str().unwrap()),
    };
    let kind = GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap());
    let (resource, capabilities) = discovery::pinned_kind(client, &kind)
        .await
        .map_err(|e| format!("{}: {e}", label(object)))?;
    let namespace = object["metadata"]["namespace"].as_str();
    let path = url(&resource, namespace);
    let namespaced = matches!(capabilities.scope, discovery::Scope::Namespaced);
    assert_eq!(namespaced, namespace.is_some(), "{}", label(object));
    let request = http::Request::post(format!("{path}?fieldValidation=Strict"))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(object).unwrap())
        .unwrap();
    let made: kube::Result<Value> = client.request(request).await;
    made.map(drop)
        .map_err(|e| format!("{}: {e}", label(object)))
}

fn url(resource: &ApiResource, namespace: Option<&str>) -> String {
    let api = if resource.group.is_empty() {
        "api"
    } else {
        "apis"
    };
    let scope = namespace.map_or(String::new(), |ns| format!("namespaces/{ns}/"));
    format!("/{api}/{}/{scope}{}", resource.api_version, resource.plural)
}

/// A namespace in which no pod may have more than the restricted standard allows, unless a manifest brings it.
async fn namespaces(client: &Client) {
    let all: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    for name in ["argocd", "flux-system", "mcp-chart"] {
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let namespace = json!({"metadata": {"name": name, "labels": labels}});
        let namespace = serde_json::from_value(namespace).unwrap();
        all.create(&PostParams::default(), &namespace)
            .await
            .unwrap();
    }
}

async fn cluster() -> Option<(Arc<ControlPlane>, Client)> {
    let definitions = definitions(&tools::need("crds")?);
    // The definitions of others would be in the way of the tests that bring their own.
    let cluster = ControlPlane::own().await?;
    if cluster.lacks(Feature::Rollouts).is_some() {
        return None;
    }
    cluster.install(&definitions).await;
    let client = cluster.client();
    namespaces(&client).await;
    Some((cluster, client))
}

/// One control plane for all of it: to start one takes longer than all the rest.
#[tokio::test]
async fn their_own_definitions_accept_every_object() {
    let Some((cluster, client)) = cluster().await else {
        return;
    };
    let mut all = read_all("argocd");
    // The overlays have the same objects, with other values; one of the two is kept.
    let [kr, jp] =
        ["prod-kr", "prod-jp"].map(|name| built(&cluster, &path("flux/clusters").join(name)));
    let labels = |all: &[Value]| all.iter().map(label).collect::<Vec<_>>();
    assert_eq!(labels(&kr), labels(&jp));
    all.extend(kr);
    all.extend(read_all("flagger-loadtester"));
    all.sort_by_key(|object| object["kind"] != "Namespace");
    for object in &all {
        create(&client, object).await.unwrap();
    }
    let monitored = [ROLLED_OUT, &["--set", "metrics.podMonitor.enabled=true"]].concat();
    let Some(server) = render("mcp-server-chart", "search", "mcp-chart", &monitored) else {
        return;
    };
    let server = server.unwrap();
    for object in &server {
        create(&client, object).await.unwrap();
    }
    // The pods are admitted too, which a Deployment does not tell.
    let template = server.iter().find(|o| o["kind"] == "Deployment").unwrap();
    let mut pod = template["spec"]["template"].clone();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = "search-1".into();
    pod["metadata"]["namespace"] = "mcp-chart".into();
    create(&client, &pod).await.unwrap();

    let observed = ["serviceMonitor", "prometheusRule", "dashboard"]
        .map(|what| format!("metrics.{what}.enabled=true"))
        .join(",");
    let ours = render("chart", "canary-mcp", "mcp-chart", &["--set", &observed]).unwrap();
    let kinds = ["ServiceMonitor", "PrometheusRule", "ConfigMap"];
    let mut seen = BTreeSet::new();
    for object in ours.unwrap() {
        if let Some(kind) = kinds.iter().find(|kind| object["kind"] == **kind) {
            create(&client, &object).await.unwrap();
            seen.insert(*kind);
        }
    }
    assert_eq!(seen, BTreeSet::from(kinds));

    // That all of this means something: what their definitions do not know is refused.
    let mut wrong = all
        .iter()
        .find(|o| o["kind"] == "ApplicationSet")
        .unwrap()
        .clone();
    wrong["metadata"]["name"] = "wrong".into();
    wrong["spec"]["strategy"]["rolingSync"] = json!({});
    let why = create(&client, &wrong).await.unwrap_err();
    assert!(
        why.contains(r#"unknown field "spec.strategy.rolingSync""#),
        "{why}"
    );
}

fn named<'a>(all: &'a [Value], kind: &str, name: &str) -> &'a Value {
    all.iter()
        .find(|o| o["kind"] == kind && o["metadata"]["name"] == name)
        .unwrap()
}

/// The clusters generator gives a region; the rest is the chart's.
#[test]
fn an_application_of_each_region_is_rolled_out_by_the_engine() {
    let all = read_all("argocd");
    let set = named(&all, "ApplicationSet", "mcp-server");
    let helm = &set["spec"]["template"]["spec"]["source"]["helm"];
    let template = &set["spec"]["template"]["spec"];
    assert_eq!(template["source"]["path"], "deploy/mcp-server-chart");
    let regions = &set["spec"]["generators"][0]["clusters"]["selector"]["matchExpressions"][0];
    assert_eq!(regions["values"], json!(["kr", "jp"]));
    for (region, min, steps) in [
        ("kr", 3, vec![5, 10, 15, 20, 25, 30]),
        ("jp", 2, vec![10, 20, 30, 40]),
    ] {
        let given = r#"{{ index .metadata.labels "region" }}"#;
        let mut arguments = Vec::new();
        for file in helm["valueFiles"].as_array().unwrap() {
            let file = file.as_str().unwrap().replace(given, region);
            arguments.extend(["--values".to_owned(), format!("mcp-server-chart/{file}")]);
        }
        for parameter in helm["parameters"].as_array().unwrap() {
            let of = |key: &str| parameter[key].as_str().unwrap();
            let set = format!("{}={}", of("name"), of("value"));
            arguments.extend(["--set".to_owned(), set]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let release = helm["releaseName"].as_str().unwrap();
        let Some(made) = render("mcp-server-chart", release, "ai-platform", &arguments) else {
            return;
        };
        let made = made.unwrap();
        let plan = parse::plan(named(&made, "Canary", "mcp-server"), &Settings::default()).unwrap();
        assert_eq!(plan.weights(), steps);
        assert_eq!(plan.scaler.unwrap().primary_min, Some(min));
        let project = named(&all, "AppProject", "ai-platform");
        let rights = |key: &str| project["spec"][key].as_array().unwrap().clone();
        for object in &made {
            let allowed = rights("namespaceResourceWhitelist");
            let is = |right: &Value| right["kind"] == object["kind"];
            assert!(allowed.iter().any(is), "{}", label(object));
            let namespace = &object["metadata"]["namespace"];
            let goes = |to: &Value| to["namespace"] == *namespace;
            assert!(rights("destinations").iter().any(goes), "{}", label(object));
        }
        assert_eq!(made.iter().filter(|o| o["kind"] == "Deployment").count(), 1);
        let deployment = named(&made, "Deployment", "mcp-server");
        assert_eq!(deployment["spec"]["replicas"], Value::Null);
    }
}

#[test]
fn the_regions_go_one_after_the_other() {
    let all = read_all("argocd");
    let set = named(&all, "ApplicationSet", "mcp-server");
    let steps = set["spec"]["strategy"]["rollingSync"]["steps"].as_array();
    let steps: Vec<_> = steps
        .unwrap()
        .iter()
        .map(|step| {
            let by = &step["matchExpressions"][0];
            assert_eq!(by["key"], "region");
            (by["operator"].clone(), by["values"].clone())
        })
        .collect();
    // None is left out: it would never be synced.
    assert_eq!(
        steps,
        [
            (json!("In"), json!(["kr"])),
            (json!("In"), json!(["jp"])),
            (json!("NotIn"), json!(["kr", "jp"])),
        ]
    );
    let template = &set["spec"]["template"];
    // What the steps go by.
    assert_eq!(
        template["metadata"]["labels"]["region"],
        r#"{{ index .metadata.labels "region" }}"#
    );
    let policy = &template["spec"]["syncPolicy"];
    assert_eq!(policy["automated"], Value::Null);
    let options = policy["syncOptions"].as_array().unwrap();
    assert!(options.contains(&json!("RespectIgnoreDifferences=true")));
    let ignored = &template["spec"]["ignoreDifferences"];
    assert_eq!(ignored[0]["jsonPointers"], json!(["/spec/replicas"]));
}

/// Argo CD takes a wave that is no whole number for none.
#[test]
fn waves_are_whole_numbers_and_in_order() {
    let Some(made) = render("mcp-server-chart", "mcp-server", "ai-platform", ROLLED_OUT) else {
        return;
    };
    let wave = |kind: &str| {
        let object = made.as_ref().unwrap().iter().find(|o| o["kind"] == kind);
        let annotations = &object.unwrap()["metadata"]["annotations"];
        let wave = annotations["argocd.argoproj.io/sync-wave"].as_str();
        wave.map_or(0, |wave| wave.parse::<i32>().unwrap())
    };
    let kinds = ["MetricTemplate", "ScaledObject", "Deployment", "Canary"];
    assert_eq!(kinds.map(wave), [-2, -1, 0, 1]);
}

/// A Flux release renders what its overlay says, as helm-controller does: its value files, then its values.
#[test]
fn a_flux_release_is_rolled_out_by_the_engine() {
    let Some(tool) = tools::need("control-plane") else {
        return;
    };
    let kubectl = tool.join("bin/kubectl");
    if !kubectl.exists() {
        eprintln!("skipped: Debian's old control plane comes without kubectl");
        return;
    }
    for (cluster, steps) in [("prod-kr", 6), ("prod-jp", 4)] {
        let ran = Command::new(&kubectl)
            .arg("kustomize")
            .arg(path(&format!("flux/clusters/{cluster}")))
            .output()
            .unwrap();
        let all = objects(&String::from_utf8(ran.stdout).unwrap());
        let release = named(&all, "HelmRelease", "mcp-server");
        let chart = &release["spec"]["chart"]["spec"];
        assert_eq!(chart["chart"], "./deploy/mcp-server-chart");
        let dir = crate::processes::child::Dir::new();
        let values = dir.path("values.json");
        fs::write(&values, release["spec"]["values"].to_string()).unwrap();
        let mut arguments = Vec::new();
        for file in chart["valuesFiles"].as_array().unwrap() {
            let file = file.as_str().unwrap().strip_prefix("./deploy/").unwrap();
            arguments.extend(["--values", file]);
        }
        arguments.extend(["--values", values.to_str().unwrap()]);
        let Some(made) = render("mcp-server-chart", "mcp-server", "ai-platform", &arguments) else {
            return;
        };
        let canary = made.unwrap();
        let plan = parse::plan(named(&canary, "Canary", "mcp-server"), &Settings::default());
        assert_eq!(plan.unwrap().steps.len(), steps);
        let ignored = &release["spec"]["driftDetection"];
        assert_eq!(ignored["mode"], "enabled");
        assert_eq!(ignored["ignore"][0]["paths"], json!(["/spec/replicas"]));
    }
}
