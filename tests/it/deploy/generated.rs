//! Files of `deploy/` that are made from something else. `UPDATE_DEPLOY=1 cargo test --test it deploy::generated` rewrites them.

use std::{fmt::Write as _, fs};

use canary_mcp::api::{
    crd,
    rights::{self, Place, Rule, When},
};
use serde_json::Value;

use super::{NAMESPACE, RELEASE, helm, label, path};

/// Compares a committed file with what it is made from.
fn same(file: &str, made: &str) {
    let at = path(file);
    if std::env::var_os("UPDATE_DEPLOY").is_some() {
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(&at, made).unwrap();
    }
    let committed = fs::read_to_string(&at).unwrap_or_default();
    assert!(
        committed == made,
        "deploy/{file} has drifted: UPDATE_DEPLOY=1 cargo test --test it deploy::generated rewrites it"
    );
}

/// `canary-mcp crds`, one file for each, and once more in the chart, which can read nothing outside of itself.
#[test]
fn the_custom_resource_definitions_are_those_of_the_program() {
    let text = crd::yaml();
    let parts: Vec<&str> = text.split("---\n").collect();
    let files = ["canary.yaml", "metrictemplate.yaml", "alertprovider.yaml"];
    assert_eq!(parts.len(), files.len());
    for (part, file) in parts.into_iter().zip(files) {
        let definition: Value = serde_saphyr::from_str(part).unwrap();
        let singular = definition["spec"]["names"]["singular"].as_str().unwrap();
        assert_eq!(format!("{singular}.yaml"), file, "{}", label(&definition));
        for folder in ["crds", "chart/files/crds"] {
            same(&format!("{folder}/{file}"), part);
        }
    }
}

/// The chart's roles are made of this file.
#[test]
fn the_rights_of_the_chart_are_those_of_the_program() {
    let mut text =
        "# Made from src/api/rights.rs: UPDATE_DEPLOY=1 cargo test --test it deploy::generated\n"
            .to_owned();
    let (engine, front) = (rights::engine(), rights::front());
    let both: Vec<Rule> = engine.iter().chain(&front).cloned().collect();
    for (who, rules) in [
        ("all-in-one", &both),
        ("engine", &engine),
        ("front", &front),
        ("read-only", &rights::read_only()),
        ("observing", &rights::observing()),
    ] {
        writeln!(text, "{who}:").unwrap();
        for rule in united(rules) {
            text.push_str(&line(&rule));
        }
    }
    same("chart/files/rights.yaml", &text);
}

/// One rule for each resource and condition, with all verbs.
fn united(rules: &[Rule]) -> Vec<Rule> {
    let mut united: Vec<Rule> = Vec::new();
    for rule in rules {
        let same = united.iter_mut().find(|there| {
            there.groups == rule.groups
                && there.resources == rule.resources
                && there.place == rule.place
        });
        // The engine's come first, and it demands what the tools would only like to have.
        match same {
            Some(there) => {
                let new = rule.verbs.iter().filter(|verb| !there.verbs.contains(verb));
                let new: Vec<&str> = new.copied().collect();
                there.verbs.extend(new);
            }
            None => united.push(rule.clone()),
        }
    }
    united
}

fn line(rule: &Rule) -> String {
    let Rule {
        groups,
        resources,
        verbs,
        place,
        when,
        why,
    } = rule;
    let place = match place {
        Place::Canaries => "canaries",
        Place::Leases => "leases",
        Place::Services => "services",
        Place::Cluster => "cluster",
    };
    let when = match when {
        When::Always => "always",
        When::Istio => "istio",
        When::Gateway => "gateway",
        When::Scaler => "scaler",
        When::Template => "template",
        When::Proxy => "proxy",
        When::Hook => "hook",
        When::Secret => "secret",
        When::Welcome => "welcome",
    };
    format!(
        "- apiGroups: {groups:?}\n  resources: {resources:?}\n  verbs: {verbs:?}\n  place: {place}\n  when: {when}\n  why: {why:?}\n"
    )
}

/// The plain manifests are what the chart renders, without what only helm needs.
#[test]
fn the_plain_manifests_are_what_the_chart_renders() {
    for (folder, values) in [
        ("overlays/all-in-one", "all-in-one.yaml"),
        ("overlays/split", "split.yaml"),
        ("overlays/read-only", "read-only.yaml"),
        ("overlays/namespaced", "namespaced-one.yaml"),
        ("rights", "rights.yaml"),
    ] {
        let Some(mut helm) = helm() else { return };
        helm.args(["template", RELEASE]).arg(path("chart"));
        helm.args(["--namespace", NAMESPACE, "--set", "crds.install=false"]);
        // What newer ones have beside it must not be needed: an older API server refuses it.
        helm.args(["--kube-version", "1.29.0", "--values"]);
        let ran = helm.arg(path("chart/ci").join(values)).output().unwrap();
        assert!(ran.status.success(), "{values}");
        let text = String::from_utf8(ran.stdout).unwrap();
        let only_helms = [
            "# Source: ",
            "app.kubernetes.io/managed-by: Helm",
            "helm.sh/chart: ",
        ];
        let kept = text.lines().filter(|line| {
            !line.trim().is_empty() && !only_helms.iter().any(|its| line.contains(its))
        });
        let mut plain = format!(
            "# Made from deploy/chart/ci/{values}: UPDATE_DEPLOY=1 cargo test --test it deploy::generated\n"
        );
        for line in kept {
            writeln!(plain, "{line}").unwrap();
        }
        same(&format!("kustomize/{folder}/objects.yaml"), &plain);
    }
}
