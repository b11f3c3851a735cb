//! The command line of the binary itself: exit codes, and what the commands that end by themselves say.

use std::{collections::BTreeMap, fs, path::Path};

use canary_mcp::{
    api::objects::{CANARY, CUSTOM_RESOURCE_DEFINITION, METRIC_TEMPLATE, ObjectExt},
    cluster::embedded::fleet::{Fleet, FleetOptions},
};
use kube::api::{DynamicObject, PostParams};
use serde_json::Value;

use super::{
    child::{Dir, Serve, run},
    kubernetes::{Kubectl, raw},
};
use crate::support::EPOCH;

/// Exit code, stdout and stderr.
fn said(args: &[&str]) -> (Option<i32>, String, String) {
    let output = run(args);
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn wrong_values_are_told_at_once_and_exit_with_2() {
    let args = "serve --listen 0.0.0.0:0 --embedded --embedded-speed 601 --engine maybe --metrics-server prometheus:9090";
    let args: Vec<&str> = args.split(' ').collect();
    let told = r#"--listen: 0.0.0.0:0 is not loopback, and there is no authentication: listen on 127.0.0.1, or add --auth static-tokens (or --insecure where only trusted clients can reach it)
--embedded-speed: "601" is not a whole number from 1 to 600
--engine: "maybe" is neither on nor off
--metrics-server: "prometheus:9090" is not an http or https URL, as in http://prometheus.istio-system:9090

For the manual, try --help.
"#;
    assert_eq!(said(&args), (Some(2), String::new(), told.to_owned()));

    let told = r#"--listen: 0.0.0.0:0 is not loopback, and the embedded clusters take any request: listen on 127.0.0.1
--speed: "0" is not a whole number from 1 to 600

For the manual, try --help.
"#;
    let args = ["cluster", "--listen", "0.0.0.0:0", "--speed", "0"];
    assert_eq!(said(&args), (Some(2), String::new(), told.to_owned()));
}

#[test]
fn what_is_no_flag_exits_with_2() {
    for args in [&["serve", "--embeded"][..], &["launch"], &[]] {
        let (code, stdout, stderr) = said(args);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(stderr.contains("Usage: canary-mcp"), "{args:?}: {stderr}");
    }
}

#[test]
fn the_schemas_that_are_written_are_the_committed_ones() {
    let dir = Dir::new();
    let out = dir.path("schemas");
    let args = ["schemas", "--out", out.to_str().unwrap()];
    assert_eq!(said(&args), (Some(0), String::new(), String::new()));
    let files = |path: &Path| -> BTreeMap<String, String> {
        let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
        entries
            .map(|e| {
                let name = e.file_name().into_string().unwrap();
                (name, fs::read_to_string(e.path()).unwrap())
            })
            .collect()
    };
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tool-schemas");
    assert_eq!(files(&out), files(&committed));

    let (code, printed, _) = said(&["schemas"]);
    assert_eq!(code, Some(0));
    let printed: Value = serde_json::from_str(&printed).unwrap();
    let names: Vec<&str> = printed
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "get_status",
            "list_clusters",
            "promote",
            "rollback",
            "start_canary"
        ]
    );
}

fn object(manifest: Value) -> DynamicObject {
    serde_json::from_value(manifest).unwrap()
}

/// `canary-mcp crds | kubectl create -f -`, and then the examples.
#[tokio::test]
async fn the_printed_crds_apply_to_a_cluster_without_any() {
    let (code, printed, stderr) = said(&["crds"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let fleet = Fleet::start(FleetOptions::new(EPOCH, 1.0, Vec::new())).unwrap();
    let kubectl = Kubectl(fleet.member("prod-kr").unwrap().server.client());

    let crds: Vec<Value> = serde_saphyr::from_multiple(&printed).unwrap();
    let mut names = Vec::new();
    for crd in crds {
        let api = kubectl.everywhere(&CUSTOM_RESOURCE_DEFINITION);
        let created = api
            .create(&PostParams::default(), &object(crd))
            .await
            .unwrap();
        names.push(raw(&created).name().to_owned());
    }
    assert_eq!(
        names,
        [
            "canaries.flagger.app",
            "metrictemplates.flagger.app",
            "alertproviders.flagger.app"
        ]
    );
    for (kind, namespace, manifest) in [
        (
            METRIC_TEMPLATE,
            "flagger-system",
            include_str!("../../../examples/metric-template.yaml"),
        ),
        (
            CANARY,
            "ai-platform",
            include_str!("../../../examples/canary.yaml"),
        ),
    ] {
        let manifest = object(serde_saphyr::from_str(manifest).unwrap());
        let api = kubectl.api(&kind, namespace);
        let created = api.create(&PostParams::default(), &manifest).await.unwrap();
        assert_eq!(created.data["spec"], manifest.data["spec"]);
    }
}

#[tokio::test]
async fn port_0_is_picked_and_printed() {
    let serve = Serve::start(&["--embedded", "--embedded-speed", "1"]).await;
    let port = serve.mcp.origin.strip_prefix("http://127.0.0.1:").unwrap();
    assert_ne!(port.parse::<u16>().unwrap(), 0);
    let health = format!("{}/healthz", serve.mcp.origin);
    let answer = serve.mcp.client.get(health).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "ok\n");
}
