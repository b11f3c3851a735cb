//! The rules and the dashboard: right for the values of the metrics, and about metrics that there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use promql_parser::parser;
use serde_json::Value;

use super::path;
use crate::tools;

const RULES: &str = include_str!("../../../deploy/chart/files/rules.yaml");
const DASHBOARD: &str = include_str!("../../../deploy/chart/files/dashboard.json");
const STORIES: &str = include_str!("rules.test.yaml");

/// What Grafana puts in.
const VARIABLES: [(&str, &str); 4] = [
    ("$__rate_interval", "5s"),
    ("$__range", "5m"),
    ("$cluster", ".*"),
    ("$namespace", ".*"),
];

fn promtool(arguments: &[&str]) {
    let Some(prometheus) = tools::need("prometheus") else {
        return;
    };
    let ran = Command::new(prometheus.join("usr/bin/promtool"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let why = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}{why}");
}

#[test]
fn promtool_reads_the_rules() {
    let file = path("chart/files/rules.yaml");
    promtool(&["check", "rules", file.to_str().unwrap()]);
}

#[test]
fn the_alerts_fire_and_are_silent_as_the_stories_say() {
    promtool(&["test", "rules", "tests/it/deploy/rules.test.yaml"]);
}

fn rules() -> Vec<Value> {
    let file: Value = serde_saphyr::from_str(RULES).unwrap();
    let groups = file["groups"].as_array().unwrap().iter();
    groups
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

fn names<'a>(rules: &'a [Value], kind: &str) -> BTreeSet<&'a str> {
    rules.iter().filter_map(|r| r[kind].as_str()).collect()
}

/// The stories are about every alert: in one it fires, in another it does not.
#[test]
fn every_alert_has_both_stories() {
    let stories: Value = serde_saphyr::from_str(STORIES).unwrap();
    let mut told: BTreeMap<&str, (bool, BTreeSet<&str>)> = BTreeMap::new();
    for story in stories["tests"].as_array().unwrap() {
        let name = story["name"].as_str().unwrap();
        for test in story["alert_rule_test"].as_array().unwrap() {
            let of = told.entry(test["alertname"].as_str().unwrap()).or_default();
            if test["exp_alerts"].as_array().unwrap().is_empty() {
                of.1.insert(name);
            } else {
                of.0 = true;
            }
        }
    }
    let rules = rules();
    let alerts = names(&rules, "alert");
    assert_eq!(told.keys().copied().collect::<BTreeSet<_>>(), alerts);
    for (alert, (fires, silent)) in &told {
        assert!(*fires, "{alert} fires in no story");
        let healthy = "a healthy rollout, and an engine that leads";
        assert!(
            silent.contains(healthy),
            "{alert} is not silent when all is well"
        );
    }
    for rule in rules.iter().filter(|rule| rule["alert"].is_string()) {
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity));
        assert!(rule["annotations"]["summary"].is_string(), "{rule}");
        assert!(rule["annotations"]["description"].is_string(), "{rule}");
    }
}

/// The panels that ask something: title, and expressions with Grafana's variables put in.
fn panels() -> Vec<(String, Vec<String>)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let all = dashboard["panels"].as_array().unwrap().iter();
    let asking = all.filter(|panel| panel["type"] != "row");
    let expression = |target: &Value| {
        let text = target["expr"].as_str().unwrap().to_owned();
        VARIABLES
            .iter()
            .fold(text, |text, (name, value)| text.replace(name, value))
    };
    asking
        .map(|panel| {
            let targets = panel["targets"].as_array().unwrap();
            let title = panel["title"].as_str().unwrap().to_owned();
            (title, targets.iter().map(expression).collect())
        })
        .collect()
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let all = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<i64> = all.iter().map(|p| p["id"].as_i64().unwrap()).collect();
    assert_eq!(ids.len(), all.len(), "each panel has an id of its own");
    let mut taken = BTreeSet::new();
    for panel in all {
        let grid = |name: &str| panel["gridPos"][name].as_i64().unwrap();
        assert!(grid("x") + grid("w") <= 24, "{}", panel["title"]);
        for x in grid("x")..grid("x") + grid("w") {
            for y in grid("y")..grid("y") + grid("h") {
                assert!(taken.insert((x, y)), "{} covers another", panel["title"]);
            }
        }
        let described = panel["description"].is_string() || panel["type"] == "row";
        assert!(described, "{}", panel["title"]);
    }
    for (title, expressions) in panels() {
        assert!(!expressions.is_empty(), "{title}");
        for expression in expressions {
            assert!(!expression.contains('$'), "{title}: {expression}");
            parser::parse(&expression).unwrap_or_else(|e| panic!("{title}: {e}"));
        }
    }
}
