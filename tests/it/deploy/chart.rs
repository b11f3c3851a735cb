//! The chart of canary-mcp: what it renders, and what it refuses.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use canary_mcp::{cli::Cli, config::Config};
use clap::Parser as _;
use serde_json::{Value, json};

use super::{helm, label, path, render, schemas, values_of};

/// What the chart renders with a file of `ci/`, in this order.
fn with_values(file: &str) -> Option<Vec<Value>> {
    let values = path("chart/ci").join(file);
    let rendered = render(&path("chart"), &["--values", values.to_str().unwrap()])?;
    Some(rendered.unwrap_or_else(|why| panic!("{file}: {why}")))
}

/// What the chart says to these `--set` arguments, which it must refuse.
fn refusal(set: &[&str]) -> Option<String> {
    let arguments: Vec<&str> = set.iter().flat_map(|value| ["--set", value]).collect();
    match render(&path("chart"), &arguments)? {
        Ok(_) => panic!("{set:?} must be refused"),
        Err(why) => Some(why),
    }
}

fn find<'o>(objects: &'o [Value], wanted: &str) -> &'o Value {
    let found = objects.iter().find(|object| label(object) == wanted);
    found.unwrap_or_else(|| panic!("no {wanted} in {:?}", labels(objects)))
}

fn labels(objects: &[Value]) -> Vec<String> {
    objects.iter().map(label).collect()
}

#[test]
fn helm_has_nothing_against_it() {
    for values in values_of(&path("chart")) {
        let Some(mut helm) = helm() else { return };
        let ran = helm
            .args(["lint", "--strict"])
            .arg(path("chart"))
            .args(["--values".as_ref(), values.as_path()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(
            ran.status.success() && !said.contains("[WARNING]"),
            "{values:?}: {said}"
        );
    }
}

/// By those of the oldest Kubernetes that the package of schemas has, of the first with a `preStop` that sleeps, and of the newest, each as the
/// chart is rendered for it.
#[test]
fn every_object_is_valid_by_kubernetes_schemas() {
    for version in ["1.25", "1.30", "1.37"] {
        let kubernetes = format!("{version}.0");
        let mut all = Vec::new();
        for values in values_of(&path("chart")) {
            let arguments = ["--kube-version", &kubernetes, "--values"];
            let mut arguments = arguments.to_vec();
            arguments.push(values.to_str().unwrap());
            let Some(rendered) = render(&path("chart"), &arguments) else {
                return;
            };
            let rendered = rendered.unwrap_or_else(|why| panic!("{values:?}: {why}"));
            let unique: BTreeSet<(String, String)> = rendered
                .iter()
                .map(|o| (label(o), o["metadata"]["namespace"].to_string()))
                .collect();
            assert_eq!(
                unique.len(),
                rendered.len(),
                "{values:?}: an object is there twice"
            );
            all.extend(rendered);
        }
        schemas::judge(version, &all);
    }
}

/// What each mode installs, but for the custom resource definitions, which are always the same.
#[test]
fn each_mode_installs_what_it_says() {
    let installed = |file: &str| {
        let rendered = with_values(file)?;
        let mut labels = labels(&rendered);
        labels.retain(|label| !label.starts_with("CustomResourceDefinition "));
        assert_eq!(labels.len() + 3, rendered.len(), "{file}");
        labels.sort();
        Some(labels)
    };
    let Some(all_in_one) = installed("all-in-one.yaml") else {
        return;
    };
    let whole = [
        "ClusterRole canary-mcp-system:canary-mcp",
        "ClusterRoleBinding canary-mcp-system:canary-mcp",
        "Deployment canary-mcp",
        "NetworkPolicy canary-mcp",
        "PodDisruptionBudget canary-mcp",
        "Role canary-mcp",
        "RoleBinding canary-mcp",
        "Service canary-mcp",
        "ServiceAccount canary-mcp",
    ];
    assert_eq!(all_in_one, whole);
    assert_eq!(installed("read-only.yaml").unwrap(), whole);
    assert_eq!(installed("dry-run.yaml").unwrap(), whole);
    let split = [
        "ClusterRole canary-mcp-system:canary-mcp",
        "ClusterRole canary-mcp-system:canary-mcp-engine",
        "ClusterRoleBinding canary-mcp-system:canary-mcp",
        "ClusterRoleBinding canary-mcp-system:canary-mcp-engine",
        "Deployment canary-mcp",
        "Deployment canary-mcp-engine",
        "NetworkPolicy canary-mcp",
        "NetworkPolicy canary-mcp-engine",
        "PodDisruptionBudget canary-mcp",
        "PodDisruptionBudget canary-mcp-engine",
        "Role canary-mcp",
        "Role canary-mcp-engine",
        "RoleBinding canary-mcp",
        "RoleBinding canary-mcp-engine",
        "Service canary-mcp",
        "Service canary-mcp-engine",
        "ServiceAccount canary-mcp",
        "ServiceAccount canary-mcp-engine",
    ];
    assert_eq!(installed("split.yaml").unwrap(), split);
    assert_eq!(
        installed("rights.yaml").unwrap(),
        [
            "ClusterRole canary-mcp-system:canary-mcp-engine",
            "ClusterRoleBinding canary-mcp-system:canary-mcp-engine",
            "Role canary-mcp-engine",
            "RoleBinding canary-mcp-engine",
            "ServiceAccount canary-mcp-engine",
        ]
    );
}

/// The command line of each container, as our own program reads it. Files that are mounted are there.
#[test]
fn the_program_takes_every_command_line() {
    let folder = std::env::temp_dir().join(format!("canary-mcp-chart-{}", std::process::id()));
    for values in values_of(&path("chart")) {
        let file = values.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(rendered) = with_values(&file) else {
            return;
        };
        let mounted = mount(&folder, &rendered);
        for deployment in rendered.iter().filter(|o| o["kind"] == "Deployment") {
            let arguments = arguments(deployment);
            let here = arguments.iter().map(|a| {
                let at = mounted.to_str().unwrap();
                a.replace("/etc/canary-mcp", at)
            });
            let cli = Cli::try_parse_from(std::iter::once("canary-mcp".to_owned()).chain(here));
            let cli = cli.unwrap_or_else(|e| panic!("{file}, {}: {e}", label(deployment)));
            let env =
                |name: &str| (name == "KUBERNETES_SERVICE_HOST").then(|| "10.96.0.1".to_owned());
            if let Err(mistakes) = Config::parse(cli, env) {
                panic!("{file}, {}: {mistakes}", label(deployment));
            }
        }
    }
    fs::remove_dir_all(folder).unwrap();
}

fn arguments(deployment: &Value) -> Vec<String> {
    let arguments = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
    serde_json::from_value(arguments.clone()).unwrap()
}

/// What is mounted at /etc/canary-mcp: the files of the rendered `ConfigMap`, and a kubeconfig and tokens such as people put into Secrets.
fn mount(folder: &Path, rendered: &[Value]) -> PathBuf {
    let write = |name: &str, text: &str| {
        let at = folder.join(name);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, text).unwrap();
    };
    let hash = "0123456789abcdef".repeat(4);
    write(
        "auth/tokens",
        &format!("alice sha256:{hash} rollouts:read\n"),
    );
    for object in rendered {
        if let Some(text) = object["stringData"]["tokens"].as_str() {
            write("auth/tokens", text);
        }
        if let Some(text) = object["data"]["clusters.yaml"].as_str() {
            write("clusters/clusters.yaml", text);
        }
    }
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "edge-1", "cluster": {"server": "https://edge-1.example.com"}}],
        "contexts": [{"name": "edge-1", "context": {"cluster": "edge-1", "user": "engine"}}],
        "users": [{"name": "engine", "user": {"token": "none"}}],
    });
    for key in ["config", "edge.yaml"] {
        write(&format!("kubeconfig/{key}"), &kubeconfig.to_string());
    }
    folder.to_owned()
}

/// A pod of ours takes nothing that the `restricted` profile does not give. Whether it is admitted is the control plane's to say.
#[test]
fn pods_can_do_little() {
    let Some(rendered) = with_values("split.yaml") else {
        return;
    };
    for name in ["Deployment canary-mcp", "Deployment canary-mcp-engine"] {
        let pod = &find(&rendered, name)["spec"]["template"]["spec"];
        assert_eq!(
            pod["securityContext"],
            json!({
                "runAsNonRoot": true,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            })
        );
        assert_eq!(
            pod["containers"][0]["securityContext"],
            json!({
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            })
        );
    }
}

/// Nobody gets in by a name that the server does not know: those of the Service, the ingress, the route, and the ones that are listed.
#[test]
fn the_server_answers_to_the_names_that_lead_to_it() {
    let Some(rendered) = with_values("everything.yaml") else {
        return;
    };
    let front = find(&rendered, "Deployment canary-mcp-canaries");
    let hosts: Vec<String> = arguments(front)
        .iter()
        .filter_map(|a| a.strip_prefix("--allowed-host=").map(str::to_owned))
        .collect();
    assert_eq!(
        hosts,
        [
            "canary-mcp-canaries",
            "canary-mcp-canaries.canary-mcp-system",
            "canary-mcp-canaries.canary-mcp-system.svc",
            "canary-mcp-canaries.canary-mcp-system.svc.cluster.local",
            "canary.example.com",
            "canary.gateway.example.com",
            "canary.internal",
        ]
    );
}

/// Only mode all-in-one lets the pods that serve the tools drive rollouts, and `readOnly` lets nobody; `dryRun` is for the engine to know, and
/// for the tools.
#[test]
fn the_engine_is_where_it_should_be() {
    let drives = |file: &str| {
        let rendered = with_values(file)?;
        let drives = |deployment: &Value| {
            let arguments = arguments(deployment);
            let engine =
                arguments[0] == "engine" || !arguments.contains(&"--engine=off".to_owned());
            (label(deployment), engine)
        };
        let deployments = rendered.iter().filter(|o| o["kind"] == "Deployment");
        Some(deployments.map(drives).collect::<BTreeMap<_, _>>())
    };
    let one = |engine| BTreeMap::from([("Deployment canary-mcp".to_owned(), engine)]);
    let Some(all_in_one) = drives("all-in-one.yaml") else {
        return;
    };
    assert_eq!(all_in_one, one(true));
    assert_eq!(drives("read-only.yaml").unwrap(), one(false));
    assert_eq!(drives("dry-run.yaml").unwrap(), one(true));
    let mut split = one(false);
    split.insert("Deployment canary-mcp-engine".to_owned(), true);
    assert_eq!(drives("split.yaml").unwrap(), split);
}

/// Where something scales the front, nothing else says how many there are.
#[test]
fn a_scaled_front_has_no_replicas() {
    for (file, scaler) in [
        ("split-hpa.yaml", "HorizontalPodAutoscaler canary-mcp"),
        ("split-keda.yaml", "ScaledObject canary-mcp"),
    ] {
        let Some(rendered) = with_values(file) else {
            return;
        };
        let replicas = |name| &find(&rendered, name)["spec"]["replicas"];
        assert_eq!(replicas("Deployment canary-mcp"), &Value::Null, "{file}");
        assert_eq!(
            replicas("Deployment canary-mcp-engine"),
            &json!(2),
            "{file}"
        );
        assert_eq!(
            find(&rendered, scaler)["spec"]["scaleTargetRef"]["name"],
            "canary-mcp"
        );
    }
}

/// What may not be meant is refused with what to do instead.
#[test]
fn what_cannot_work_is_not_rendered() {
    for (set, why) in [
        (
            &["auth.mode=none"][..],
            "auth.mode is none: whoever reaches the port can roll out. Use static-tokens, or add auth.insecure=true where only trusted clients can reach it",
        ),
        (
            &["rbac.scope=namespaced"],
            "rbac.scope is namespaced: name the namespaces of the Canaries in rbac.namespaces",
        ),
        (
            &["rbac.namespaces={a}"],
            "rbac.namespaces has no meaning with rbac.scope=cluster: set rbac.scope=namespaced",
        ),
        (
            &["serviceAccount.create=false"],
            "serviceAccount.create is off: name the account in serviceAccount.name",
        ),
        (
            &["front.autoscaling.kind=hpa"],
            "front.autoscaling is for mode=split: in all-in-one the pods run the engine, which must not come and go with the callers",
        ),
        (
            &[
                "mode=split",
                "front.autoscaling.kind=hpa",
                "front.autoscaling.minReplicas=0",
            ],
            "front.autoscaling.minReplicas: an HPA keeps at least 1; only keda scales to 0",
        ),
        (
            &[
                "mode=split",
                "front.autoscaling.kind=hpa",
                "front.autoscaling.minReplicas=9",
            ],
            "front.autoscaling: minReplicas 9 is more than maxReplicas 5",
        ),
        (
            &["mode=split", "front.autoscaling.kind=keda"],
            "front.autoscaling.kind is keda: name at least one trigger in front.autoscaling.triggers",
        ),
        (
            &[
                "mode=split",
                "front.autoscaling.kind=keda",
                "front.autoscaling.minReplicas=0",
                "front.autoscaling.triggers[0].type=prometheus",
                "front.autoscaling.triggers[0].name=calls",
                "front.autoscaling.triggers[0].metadata.query=x",
            ],
            "front.autoscaling.minReplicas is 0, and each trigger measures the pods themselves: with the last pod its measure goes, and nothing wakes the front again. Add a trigger from outside (the HTTP add-on's external-push, a queue, cron), or keep minReplicas at 1",
        ),
        (
            &["ingress.enabled=true"],
            "ingress.enabled: name the hosts in ingress.hosts; the server answers to no other Host header",
        ),
        (
            &["httpRoute.enabled=true", "httpRoute.hosts={a.example.com}"],
            "httpRoute.enabled: name httpRoute.parentRefs and httpRoute.hosts; the server answers to no other Host header",
        ),
        (
            &["readOnly=true", "clusters.lead={prod-*}"],
            "clusters.lead has no meaning with readOnly: nothing is led",
        ),
        (
            &[
                "auth.existingSecret=a",
                "auth.tokens={alice sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef}",
            ],
            "auth.existingSecret and auth.tokens: give one of them, the tokens of your own Secret or the lines of one that the chart makes",
        ),
    ] {
        let Some(said) = refusal(set) else { return };
        assert!(said.contains(why), "{set:?}: {said}");
    }
}

/// Misspelt names and impossible values are errors, wherever they are.
#[test]
fn values_that_there_are_not_are_refused() {
    for (set, where_and_why) in [
        ("replicas=3", "additional properties 'replicas' not allowed"),
        ("dryrun=true", "additional properties 'dryrun' not allowed"),
        (
            "front.replica=3",
            "additional properties 'replica' not allowed",
        ),
        (
            "clusters.settings.prod.metricServer=http://x",
            "additional properties 'metricServer' not allowed",
        ),
        (
            "mode=both",
            "value must be one of 'all-in-one', 'split', 'rights'",
        ),
        ("front.replicas=0", "minimum: got 0, want 1"),
        (
            "metricsServer=prometheus:9090",
            "does not match pattern '^https?://",
        ),
        // A token itself is not to be written down.
        (
            "auth.tokens={alice hunter2}",
            "does not match pattern 'sha256:",
        ),
        ("rbac.namespaces={Team A}", "does not match pattern"),
    ] {
        let Some(said) = refusal(&[set]) else { return };
        assert!(said.contains(where_and_why), "{set}: {said}");
    }
}

/// What a person reads after `helm install` names the next command.
#[test]
fn the_notes_name_the_next_command() {
    let notes = |set: &[&str]| {
        let mut helm = helm()?;
        helm.args(["install", "canary-mcp"]).arg(path("chart"));
        helm.args(["--namespace", "canary-mcp-system", "--dry-run=client"]);
        helm.args(set.iter().flat_map(|value| ["--set", value]));
        let ran = helm.output().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        Some(said.split_once("NOTES:").unwrap().1.to_owned())
    };
    let Some(said) = notes(&[]) else { return };
    for wanted in [
        "kubectl -n canary-mcp-system create secret generic canary-mcp-tokens --from-file=tokens=",
        "kubectl -n canary-mcp-system port-forward service/canary-mcp 8080:80",
        "claude mcp add --transport http canary-mcp http://localhost:8080/mcp --header \"Authorization: Bearer $TOKEN\"",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let said = notes(&["mode=rights"]).unwrap();
    let wanted = "kubectl -n canary-mcp-system create token canary-mcp-engine --duration 720h";
    assert!(said.contains(wanted), "{said}");
    let said = notes(&["clusters.lead={prod-*}", "clusters.argocd.enabled=true"]).unwrap();
    let wanted = "kubectl --context CLUSTER apply -k deploy/kustomize/rights";
    assert!(said.contains(wanted), "{said}");
}

/// The custom resource definitions outlive the release, unless that is not wished.
#[test]
fn uninstalling_keeps_the_definitions() {
    let kept = |set: &[&str]| {
        let arguments: Vec<&str> = set.iter().flat_map(|v| ["--set", v]).collect();
        let rendered = render(&path("chart"), &arguments)?.unwrap();
        let definitions = rendered
            .iter()
            .filter(|o| o["kind"] == "CustomResourceDefinition");
        let policy = |o: &Value| {
            let annotations = &o["metadata"]["annotations"];
            annotations["helm.sh/resource-policy"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        Some(definitions.map(policy).collect::<Vec<_>>())
    };
    let Some(default) = kept(&[]) else { return };
    assert_eq!(default, ["keep", "keep", "keep"]);
    assert_eq!(kept(&["crds.keep=false"]).unwrap(), ["", "", ""]);
    assert_eq!(kept(&["crds.install=false"]).unwrap(), Vec::<String>::new());
}
