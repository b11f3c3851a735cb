//! The rules and the dashboard: right for the values of the metrics, and about metrics that there are.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    process::Command,
    time::Duration,
};

use promql_parser::{
    parser::{self, Expr},
    util::{ExprVisitor, walk_expr},
};
use serde_json::{Value, json};

use super::path;
use crate::{
    http::fixture::Era,
    processes::{
        child::{PATIENCE, Serve},
        kubernetes::Kubectl,
    },
    prometheus::real::Prometheus,
    tools,
};

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

/// The metrics that a query names.
#[derive(Default)]
struct Named(BTreeSet<String>);

impl ExprVisitor for Named {
    type Error = std::convert::Infallible;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
        let selector = match expr {
            Expr::VectorSelector(selector) => selector,
            Expr::MatrixSelector(matrix) => &matrix.vs,
            _ => return Ok(true),
        };
        self.0.insert(selector.name.clone().unwrap());
        Ok(true)
    }
}

fn named(expressions: impl Iterator<Item = String>) -> BTreeSet<String> {
    let mut named = Named::default();
    for expression in expressions {
        let parsed = parser::parse(&expression).unwrap();
        walk_expr(&mut named, &parsed).unwrap();
    }
    named.0
}

async fn call(serve: &Serve, tool: &str, arguments: Value) -> bool {
    let params = json!({"name": tool, "arguments": arguments});
    let result = serve.mcp.result(Era::Modern, "tools/call", params).await;
    result["isError"] != true
}

/// One rollout that succeeds and one that fails, scraped by a real Prometheus.
async fn scraped() -> Option<(Serve, Prometheus)> {
    let mut serve = Serve::start(&["--embedded", "--embedded-speed", "60"]).await;
    let host = serve.mcp.origin.strip_prefix("http://").unwrap();
    let prometheus = Prometheus::scraping(host, "/metrics").await?;
    let kubectl = Kubectl::new(&serve.kubeconfig().await, "prod-kr").await;
    let mut canary = kubectl.watch_canary().await;
    canary.until_phase("Initialized").await;
    kubectl.set_image("registry.example/mcp-server:1.1.0").await;
    canary.until_phase("Progressing").await;
    assert!(call(&serve, "list_clusters", json!({})).await);
    assert!(!call(&serve, "get_status", json!({"cluster": "nowhere"})).await);
    canary.until_phase("Succeeded").await;
    kubectl
        .set_image("registry.example/mcp-server:1.2.0-errors")
        .await;
    canary.until_phase("Failed").await;
    Some((serve, prometheus))
}

async fn asked(prometheus: &Prometheus, path: &str, parameters: &[(&str, &str)]) -> Value {
    let (status, body) = prometheus.get(path, parameters).await;
    let text = String::from_utf8(body).unwrap();
    assert_eq!(status, 200, "{parameters:?}: {text}");
    serde_json::from_str::<Value>(&text).unwrap()["data"].take()
}

/// What the rules and the dashboard ask for is there once there was a rollout, and every panel shows something.
#[tokio::test]
async fn a_rollout_fills_the_dashboard() {
    let Some((_serve, prometheus)) = scraped().await else {
        return;
    };
    let panels = panels();
    let rules = rules();
    let expressions = rules.iter().map(|r| r["expr"].as_str().unwrap().to_owned());
    let shown = panels.iter().flat_map(|(_, all)| all.clone());
    let mut wanted = named(expressions.chain(shown));
    for record in names(&rules, "record") {
        assert!(wanted.remove(record), "nobody asks for the record {record}");
    }
    let last = RefCell::new(Vec::new());
    let filled = async {
        loop {
            let found = asked(&prometheus, "/api/v1/label/__name__/values", &[]).await;
            let found: BTreeSet<String> = serde_json::from_value(found).unwrap();
            let mut missing: Vec<String> = wanted.difference(&found).cloned().collect();
            for (title, expressions) in &panels {
                for expression in expressions {
                    if !shows(&prometheus, expression).await {
                        missing.push(format!("{title}: {expression}"));
                    }
                }
            }
            if missing.is_empty() {
                return;
            }
            last.replace(missing);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let within = tokio::time::timeout(PATIENCE, filled).await;
    assert!(within.is_ok(), "not there: {:#?}", last.take());
}

/// A query has had a value within the last minutes.
async fn shows(prometheus: &Prometheus, query: &str) -> bool {
    let now = asked(prometheus, "/api/v1/query", &[("query", "time()")]).await;
    let end = now["result"][1].as_str().unwrap().parse::<f64>().unwrap();
    let start = (end - 300.0).to_string();
    let parameters = [
        ("query", query),
        ("start", start.as_str()),
        ("end", &end.to_string()),
        ("step", "1"),
    ];
    let data = asked(prometheus, "/api/v1/query_range", &parameters).await;
    !data["result"].as_array().unwrap().is_empty()
}
