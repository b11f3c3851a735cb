//! The judge judged: one made-up log for each rule that it knows, which breaks that rule and no other.

use std::sync::Arc;

use canary_mcp::{
    api::{
        objects::{CANARY, DEPLOYMENT, Kind, Object, POD, SCALED_OBJECT, VIRTUAL_SERVICE},
        revision::revision,
    },
    cluster::embedded::store::{Change, ChangeKind, ResourceKey},
};
use serde_json::{Value, json};

use super::Judge;
use crate::support::EPOCH;

/// A log that is being made up. Moments are seconds of the cluster's clock.
struct Log {
    judge: Judge,
    tag: &'static str,
}

impl Log {
    fn hear(&mut self, at: i64, kind: &Kind, change: ChangeKind, manager: &str, object: Value) {
        self.judge.hear(&Change {
            revision: 0,
            kind: change,
            resource: ResourceKey {
                group: kind.group.to_owned(),
                plural: kind.plural.to_owned(),
            },
            object: Object::new(object),
            previous: None,
            manager: Arc::from(manager),
            at: EPOCH.plus(at * 1000),
        });
    }

    fn ours(&mut self, at: i64, kind: &Kind, object: Value) {
        self.hear(at, kind, ChangeKind::Modified, "canary-mcp", object);
    }

    fn pod(&mut self, at: i64, name: &str, ready: &str) {
        let status = json!({"conditions": [{"type": "Ready", "status": ready}]});
        let pod = json!({"metadata": {"name": name}, "status": status});
        self.hear(at, &POD, ChangeKind::Modified, "kubelet", pod);
    }

    fn pod_goes(&mut self, at: i64, name: &str) {
        let status = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let pod = json!({"metadata": {"name": name}, "status": status});
        self.hear(at, &POD, ChangeKind::Deleted, "", pod);
    }

    fn split(&mut self, at: i64, primary: i64, canary: i64) {
        self.ours(
            at,
            &VIRTUAL_SERVICE,
            json!({"metadata": {"name": "mcp-server"}, "spec": {"http": [{"route": [
                {"destination": {"host": "mcp-server-primary"}, "weight": primary},
                {"destination": {"host": "mcp-server-canary"}, "weight": canary},
            ]}]}}),
        );
    }

    fn route(&mut self, at: i64, canary: i64) {
        self.split(at, 100 - canary, canary);
    }

    fn deployment(&mut self, at: i64, name: &str, tag: &str, replicas: i64) {
        self.ours(
            at,
            &DEPLOYMENT,
            json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "template": template(tag)}}),
        );
    }

    fn target(&mut self, at: i64, tag: &'static str, replicas: i64) {
        self.tag = tag;
        self.deployment(at, "mcp-server", tag, replicas);
    }

    fn primary(&mut self, at: i64, tag: &str) {
        self.deployment(at, "mcp-server-primary", tag, 2);
    }

    fn pause(&mut self, at: i64) {
        let paused = json!({"autoscaling.keda.sh/paused-replicas": "0"});
        let metadata = json!({"name": "mcp-server", "annotations": paused});
        self.ours(at, &SCALED_OBJECT, json!({"metadata": metadata}));
    }

    fn unpause(&mut self, at: i64) {
        self.ours(
            at,
            &SCALED_OBJECT,
            json!({"metadata": {"name": "mcp-server"}}),
        );
    }

    /// The status of run `run-N` of the target's version.
    fn status(&mut self, at: i64, n: i64, phase: &str, weight: i64) {
        let run =
            json!({"id": format!("run-{n}"), "n": n, "revision": revision(&template(self.tag))});
        self.ours(
            at,
            &CANARY,
            json!({
                "metadata": {"name": "mcp-server"},
                "spec": {"analysis": {"stepWeight": 15, "maxWeight": 30}},
                "status": {"phase": phase, "canaryWeight": weight, "run": run},
            }),
        );
    }

    fn broken(&self) -> &[String] {
        &self.judge.broken
    }

    fn at_rest(mut self) -> Vec<String> {
        self.judge.at_rest();
        self.judge.broken
    }
}

fn template(tag: &str) -> Value {
    json!({"spec": {"containers": [{"name": "server", "image": format!("registry.example/mcp-server:{tag}")}]}})
}

/// 1.0.0 is promoted, its target at zero, at 30 s.
fn initialized() -> Log {
    let mut log = Log {
        judge: Judge::default(),
        tag: "",
    };
    log.target(0, "1.0.0", 2);
    log.pod(1, "mcp-server-aa", "True");
    log.status(2, 0, "Initializing", 0);
    log.primary(3, "1.0.0");
    log.pod(4, "mcp-server-primary-aa", "True");
    log.route(5, 0);
    log.pause(15);
    log.target(15, "1.0.0", 0);
    log.pod_goes(16, "mcp-server-aa");
    log.status(30, 0, "Initialized", 0);
    log
}

/// The canary of run 1 is ready with `tag` and has nothing yet, at 120 s.
fn running(tag: &'static str) -> Log {
    let mut log = initialized();
    log.target(100, tag, 2);
    log.status(101, 1, "Progressing", 0);
    log.unpause(101);
    log.pod(120, "mcp-server-bb", "True");
    log
}

/// It has had 30% at 180 s.
fn analysed(tag: &'static str) -> Log {
    let mut log = running(tag);
    log.route(130, 15);
    log.status(130, 1, "Progressing", 15);
    log.route(160, 30);
    log.status(160, 1, "Progressing", 30);
    log
}

/// And is promoted, the route settled, at 220 s.
fn promoted() -> Log {
    let mut log = analysed("2.0.0");
    log.primary(190, "2.0.0");
    log.status(195, 1, "Promoting", 30);
    log.route(210, 0);
    log.status(210, 1, "Finalising", 0);
    log
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_good_log_breaks_nothing() {
    let mut log = promoted();
    log.pause(220);
    log.target(220, "2.0.0", 0);
    log.status(220, 1, "Succeeded", 0);
    assert_eq!(log.at_rest(), NOTHING);
}

#[test]
fn rule_1_weights_sum_to_100() {
    let mut log = running("2.0.0");
    log.split(130, 90, 15);
    assert_eq!(
        log.broken(),
        [r#"1: the weights are [90, 15]: virtualservices mcp-server by "canary-mcp" at 130 s"#]
    );
}

#[test]
fn rule_1_no_step_is_left_out() {
    let mut log = running("2.0.0");
    log.route(130, 15);
    assert_eq!(log.broken(), NOTHING);
    // Nobody has recorded 15.
    log.route(160, 30);
    assert_eq!(
        log.broken(),
        [r#"1: 30 after 0 was recorded: virtualservices mcp-server by "canary-mcp" at 160 s"#]
    );
}

#[test]
fn rule_1_all_to_the_canary_only_where_the_primary_cannot_serve() {
    let mut log = analysed("2.0.0");
    log.pod(170, "mcp-server-primary-aa", "False");
    log.route(171, 100);
    assert_eq!(log.broken(), NOTHING);

    let mut log = analysed("2.0.0");
    log.pod(170, "mcp-server-primary-aa", "False");
    log.pod(171, "mcp-server-primary-aa", "True");
    log.route(173, 100);
    assert_eq!(
        log.broken(),
        [r#"1: 100 after 30 was recorded: virtualservices mcp-server by "canary-mcp" at 173 s"#]
    );
}

#[test]
fn rule_2_nothing_more_for_a_canary_without_endpoints() {
    let mut log = running("2.0.0");
    log.pod_goes(125, "mcp-server-bb");
    log.route(130, 15);
    let broken = [
        r#"2: 15 for a canary without endpoints: virtualservices mcp-server by "canary-mcp" at 130 s"#,
    ];
    assert_eq!(log.broken(), broken);

    // Where no watch gets through, nobody could know it.
    let mut log = running("2.0.0");
    log.judge.weather(true, EPOCH.plus(100_000));
    log.pod_goes(125, "mcp-server-bb");
    log.route(130, 15);
    assert_eq!(log.broken(), NOTHING);
}

#[test]
fn rule_2_nothing_more_for_a_primary_without_endpoints() {
    let mut log = analysed("2.0.0");
    log.pod(170, "mcp-server-primary-aa", "False");
    log.route(175, 0);
    assert_eq!(
        log.broken(),
        [
            r#"2: more for a primary without endpoints: virtualservices mcp-server by "canary-mcp" at 175 s"#
        ]
    );
}

#[test]
fn bad_weather_excuses_for_a_minute() {
    let after = |fine: i64, lost: i64| {
        let mut log = running("2.0.0");
        log.judge.weather(true, EPOCH.plus(100_000));
        log.judge.weather(false, EPOCH.plus(fine * 1000));
        log.pod_goes(lost, "mcp-server-bb");
        log.route(200, 15);
        log.broken().len()
    };
    assert_eq!(after(141, 141), 0);
    assert_eq!(after(141, 140), 1, "lost too long ago");
    assert_eq!(after(140, 141), 1, "fine for too long");
    assert_eq!(after(140, 200), 0, "the write was on its way");
}

#[test]
fn rule_3_the_route_settles_before_anything_shrinks() {
    let mut log = promoted();
    log.pause(219);
    assert_eq!(
        log.broken(),
        [
            r#"3: the route is Some((0, Moment(1795219410000))): scaledobjects mcp-server by "canary-mcp" at 219 s"#
        ]
    );
    let mut log = promoted();
    log.target(219, "2.0.0", 0);
    assert_eq!(
        log.broken(),
        [
            r#"3: the route is Some((0, Moment(1795219410000))): deployments mcp-server by "canary-mcp" at 219 s"#
        ]
    );
    let mut log = promoted();
    log.target(220, "2.0.0", 0);
    assert_eq!(log.broken(), NOTHING);
}

#[test]
fn rule_4_only_what_had_its_whole_analysis() {
    let mut log = running("2.0.0");
    log.route(130, 15);
    log.status(130, 1, "Progressing", 15);
    log.primary(140, "2.0.0");
    assert_eq!(
        log.broken(),
        [
            r#"4: 2.0.0 on the primary, with a share of 15 before, of the run: true: deployments mcp-server-primary by "canary-mcp" at 140 s"#
        ]
    );

    // An edit that came in the middle is not what was analysed.
    let mut log = analysed("2.0.0");
    log.primary(190, "3.0.0");
    assert_eq!(
        log.broken(),
        [
            r#"4: 3.0.0 on the primary, with a share of 30 before, of the run: false: deployments mcp-server-primary by "canary-mcp" at 190 s"#
        ]
    );

    let mut log = running("2.0.0");
    log.judge.skip_asked("run-1");
    log.primary(140, "2.0.0");
    assert_eq!(log.broken(), NOTHING, "a person has asked for it");
}

#[test]
fn rule_4_never_a_bad_version_that_nobody_asked_for() {
    for (tag, broken) in [
        (
            "2.0.0-errors",
            r#"4: 2.0.0-errors on the primary, and nobody asked for it: deployments mcp-server-primary by "canary-mcp" at 190 s"#,
        ),
        (
            "2.0.0-slow",
            r#"4: 2.0.0-slow on the primary, and nobody asked for it: deployments mcp-server-primary by "canary-mcp" at 190 s"#,
        ),
    ] {
        // Also where its canary had all the traffic that the plan has.
        let mut log = analysed(tag);
        log.primary(190, tag);
        assert_eq!(log.broken(), [broken]);

        // A skip of another run is none of this one.
        let mut log = analysed(tag);
        log.judge.skip_asked("run-0");
        log.primary(190, tag);
        assert_eq!(log.broken(), [broken]);

        let mut log = analysed(tag);
        log.judge.skip_asked("run-1");
        log.primary(190, tag);
        assert_eq!(log.broken(), NOTHING);
    }
}

#[test]
fn rule_4_what_was_promoted_may_come_back() {
    let mut log = promoted();
    log.primary(215, "1.0.0");
    assert_eq!(log.broken(), NOTHING);
}

#[test]
fn rule_5_who_has_traffic_has_replicas() {
    let mut log = analysed("2.0.0");
    // An autoscaler's doing is no excuse.
    let target = json!({"metadata": {"name": "mcp-server"}, "spec": {"replicas": 0, "template": template("2.0.0")}});
    log.hear(170, &DEPLOYMENT, ChangeKind::Modified, "keda", target);
    assert_eq!(
        log.broken(),
        [
            r#"5: the canary has traffic and no replica is wanted: deployments mcp-server by "keda" at 170 s"#
        ]
    );
}

#[test]
fn rules_5_and_6_at_rest() {
    let mut log = promoted();
    log.pause(220);
    assert_eq!(log.at_rest(), ["5: at rest, paused true, 2 replicas"]);

    let mut log = promoted();
    log.target(220, "2.0.0", 0);
    assert_eq!(log.at_rest(), ["5: at rest, paused false, 0 replicas"]);

    let mut log = initialized();
    log.pod_goes(40, "mcp-server-primary-aa");
    assert_eq!(
        log.at_rest(),
        ["6: at rest, 0% on the canary, nothing serves"]
    );
}
