//! What people install: the chart, the plain manifests and the image, judged by the real helm, by Kubernetes' own schemas, by a genuine
//! control plane, and by our own command line.

mod chart;
mod generated;
mod gitops;
mod image;
mod install;
mod mcp_server_chart;
#[cfg(feature = "embedded-metrics")]
mod monitoring;
mod rights;
mod rollout;
mod schemas;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use crate::tools;

/// The name and the namespace that the documentation installs it by.
pub(crate) const RELEASE: &str = "canary-mcp";
pub(crate) const NAMESPACE: &str = "canary-mcp-system";

/// A file or folder of `deploy/`.
pub(crate) fn path(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(of)
}

/// The real helm; `None` where it is not installed, which has been said. It keeps nothing: its folders are below the system's temporary one.
pub(crate) fn helm() -> Option<Command> {
    let mut helm = Command::new(tools::need("helm")?.join("bin/helm"));
    let home = std::env::temp_dir().join("canary-mcp-helm");
    for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        helm.env(folder, &home);
    }
    // A cluster of the machine's owner has nothing to do with this.
    helm.env_remove("KUBECONFIG").env_remove("HELM_NAMESPACE");
    Some(helm)
}

/// What `helm template` makes of a chart with these further arguments, as a list of objects, or what it refuses.
pub(crate) fn render(chart: &Path, arguments: &[&str]) -> Option<Result<Vec<Value>, String>> {
    let mut helm = helm()?;
    helm.args(["template", RELEASE]).arg(chart);
    helm.args(["--namespace", NAMESPACE]).args(arguments);
    let ran = helm.output().unwrap();
    Some(if ran.status.success() {
        Ok(objects(&text(&ran)))
    } else {
        Err(String::from_utf8_lossy(&ran.stderr).into_owned())
    })
}

/// The documents of a text that are objects.
pub(crate) fn objects(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    documents.into_iter().filter(Value::is_object).collect()
}

fn text(ran: &Output) -> String {
    String::from_utf8(ran.stdout.clone()).unwrap()
}

/// The values files of a chart, by name.
pub(crate) fn values_of(chart: &Path) -> Vec<PathBuf> {
    let folder = fs::read_dir(chart.join("ci")).unwrap();
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// `Kind name`.
pub(crate) fn label(object: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!(
        "{} {}",
        word(&object["kind"]),
        word(&object["metadata"]["name"])
    )
}
