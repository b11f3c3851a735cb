//! Kubernetes' own schemas, as the package kubernetes-validate carries them.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::label;
use crate::tools;

/// Judges the objects that are Kubernetes' own; those of others are judged by a control plane that has their definitions.
pub(crate) fn judge(version: &str, objects: &[Value]) {
    let Some(tool) = tools::need("kubernetes-validate") else {
        return;
    };
    let lines: Vec<String> = objects
        .iter()
        .filter(|object| is_kubernetes_own(object))
        .map(Value::to_string)
        .collect();
    assert!(!lines.is_empty(), "there is no object of Kubernetes");
    let mut judge = Command::new(tool.join("validate"))
        .arg(version)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = judge.stdin.take().unwrap();
    stdin.write_all(lines.join("\n").as_bytes()).unwrap();
    drop(stdin);
    let ran = judge.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}");
}

/// The groups that no custom resource definition makes.
fn is_kubernetes_own(object: &Value) -> bool {
    let version = object["apiVersion"].as_str().unwrap();
    match version.split_once('/') {
        None => true,
        Some((group, _)) if !group.contains('.') => true,
        Some((group, _)) => match group {
            "networking.k8s.io" | "rbac.authorization.k8s.io" | "apiextensions.k8s.io" => true,
            "keda.sh" | "monitoring.coreos.com" | "gateway.networking.k8s.io" | "flagger.app" => {
                false
            }
            _ => panic!("who makes the schema of {version}, {}?", label(object)),
        },
    }
}
