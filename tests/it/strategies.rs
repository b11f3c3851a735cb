//! Whole rollouts of every strategy: on the embedded cluster with users who are counted, and those of [`on_both`] on a genuine control plane
//! too, where nobody asks for anything.

use canary_mcp::{
    api::objects::{ObjectExt, VIRTUAL_SERVICE},
    cluster::embedded::traffic::{Mix, Users},
    decide::{facts::Verb, state::Phase},
    engine::control::Outcome,
};
use serde_json::{Value, json};

use crate::{
    genuine::on_both,
    support::{Rig, World, sequence},
};

on_both!(
    blue_green_switches_all_users_at_once,
    a_b_testing_moves_no_weight,
    copies_come_before_the_first_user,
    the_last_weight_is_held,
    each_gate_is_opened_by_a_person,
);

const PRIMARY: &str = "mcp-server-primary";
const CANARY: &str = "mcp-server";

/// The analysis of the Canary becomes this one, with a minute's interval. Without metrics every analysis passes.
fn analyse(rig: &Rig<impl World>, fields: &Value, metrics: &Value) {
    rig.edit_spec(|spec| {
        let mut analysis = fields.clone();
        analysis["interval"] = json!("1m");
        analysis["threshold"] = json!(2);
        analysis["metrics"] = metrics.clone();
        spec["analysis"] = analysis;
    });
}

fn success() -> Value {
    json!([{"name": "request-success-rate", "interval": "1m", "thresholdRange": {"min": 99}}])
}

/// The users whom examples of A/B tests name.
fn insiders() -> Value {
    json!([
        {"headers": {"x-canary": {"exact": "insider"}}},
        {"headers": {"cookie": {"regex": "^(.*?;)?(canary=always)(;.*)?$"}}},
    ])
}

fn http(rig: &Rig<impl World>) -> Vec<Value> {
    let route = rig.object(&VIRTUAL_SERVICE, "mcp-server").unwrap();
    route.array_at("/spec/http").to_vec()
}

fn at_iteration(n: i64) -> impl Fn(&Value) -> bool {
    move |c| c.int_at("/status/iterations") == Some(n)
}

async fn blue_green_switches_all_users_at_once<W: World>(rig: Rig<W>) {
    analyse(&rig, &json!({"iterations": 3, "hold": 1}), &json!([]));
    let rig = rig.initialize().await;
    rig.start("1.1.0").await;
    let (seen, _) = rig.until_phase_with_shares(Phase::Succeeded).await;
    assert_eq!(
        seen,
        sequence(&[
            ("Progressing", 0),
            ("Progressing", 100),
            ("Promoting", 100),
            ("Finalising", 0),
            ("Succeeded", 0),
        ])
    );
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

async fn a_b_testing_moves_no_weight<W: World>(rig: Rig<W>) {
    analyse(
        &rig,
        &json!({"iterations": 2, "match": insiders()}),
        &json!([]),
    );
    let rig = rig.initialize().await;
    rig.start("1.1.0").await;
    rig.until(at_iteration(1)).await;
    let rules = http(&rig);
    assert_eq!(rules.len(), 2, "{rules:#?}");
    assert_eq!(rules[0]["match"], insiders());
    assert_eq!(weights(&rules[0]), (0, 100), "{rules:#?}");
    assert_eq!(weights(&rules[1]), (100, 0), "{rules:#?}");
    let (seen, _) = rig.until_phase_with_shares(Phase::Succeeded).await;
    assert_eq!(
        seen,
        sequence(&[
            ("Progressing", 0),
            ("Promoting", 0),
            ("Finalising", 0),
            ("Succeeded", 0),
        ])
    );
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

/// Weights of primary and canary in a rule.
fn weights(rule: &Value) -> (i64, i64) {
    let of = |host: &str| {
        let routes = rule.array_at("/route").iter();
        let mut to = routes.filter(|r| r.str_at("/destination/host") == Some(host));
        to.next().map_or(0, |r| r.int_at("/weight").unwrap_or(100))
    };
    (of("mcp-server-primary"), of("mcp-server-canary"))
}

async fn copies_come_before_the_first_user<W: World>(rig: Rig<W>) {
    let mirror = json!({"mirror": true, "mirrorWeight": 50, "mirrorStepWeight": 50, "stepWeight": 50, "maxWeight": 50});
    analyse(&rig, &mirror, &json!([]));
    let rig = rig.initialize().await;
    rig.start("1.1.0").await;
    for (stage, share) in [("first", 50), ("second", 100)] {
        rig.until(|c| c.int_at("/status/run/mirror") == Some(share))
            .await;
        let rules = http(&rig);
        assert_eq!(rules[0]["mirror"]["host"], "mcp-server-canary", "{stage}");
        // Istio, as Flagger writes it: without a percentage every request is copied.
        let copied = rules[0].pointer("/mirrorPercentage/value");
        let written = (share < 100).then(|| json!(share));
        assert_eq!(
            copied.and_then(Value::as_f64),
            written.as_ref().and_then(Value::as_f64)
        );
        assert_eq!(weights(&rules[0]), (100, 0), "{stage}");
    }
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(50))
        .await;
    let rules = http(&rig);
    assert!(rules[0]["mirror"].is_null(), "{rules:#?}");
    assert_eq!(weights(&rules[0]), (50, 50));
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

/// Climb, then hold until the analyses are done, and the old version stays warm for one more: a rollback then is one route write.
async fn the_last_weight_is_held<W: World>(rig: Rig<W>) {
    analyse(
        &rig,
        &json!({"stepWeight": 50, "maxWeight": 50, "iterations": 3, "hold": 1}),
        &json!([]),
    );
    let rig = rig.initialize().await;
    let from = rig.now();
    rig.start("1.1.0").await;
    rig.until(|c| c.int_at("/status/run/iteration") == Some(4))
        .await;
    let minutes = rig.now().since(from) / 60_000;
    assert!((3..=4).contains(&minutes), "{minutes}");
    assert!(rig.image_of(PRIMARY).ends_with(":1.0.0"));
    let acted = rig.wish(Verb::Rollback, false).await;
    assert_eq!(acted.outcome, Outcome::Applied, "{}", acted.reason);
    rig.until_phase(Phase::Failed).await;
    rig.assert_ended(Phase::Failed, "1.0.0").await;
}

async fn each_gate_is_opened_by_a_person<W: World>(rig: Rig<W>) {
    analyse(&rig, &json!({"stepWeights": [20, 60]}), &json!([]));
    rig.annotate(
        &canary_mcp::api::objects::CANARY,
        "mcp-server",
        "canary-mcp.dev/gate",
        "rollout, traffic, promotion",
    );
    let rig = rig.initialize().await;
    rig.start("1.1.0").await;
    for (gate, phase, weight) in [
        ("rollout", "Waiting", 0),
        ("traffic", "Progressing", 0),
        ("traffic", "Progressing", 20),
        ("promotion", "WaitingPromotion", 60),
    ] {
        rig.until(|c| c.str_at("/status/run/waiting/what") == Some(gate))
            .await;
        let canary = rig.canary();
        assert_eq!(canary.str_at("/status/phase"), Some(phase), "{gate}");
        assert_eq!(
            canary.int_at("/status/canaryWeight"),
            Some(weight),
            "{gate}"
        );
        let view = rig.view().await;
        let waiting = view.waiting_for.unwrap();
        assert_eq!(waiting.what, format!("a person to open the {gate} gate"));
        assert_eq!(
            waiting.how.as_deref(),
            Some("call promote to go on, or rollback")
        );
        assert!(waiting.since.is_some());
        let acted = rig.wish(Verb::Promote, false).await;
        assert_eq!(acted.outcome, Outcome::Applied, "{gate}: {}", acted.reason);
    }
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

/// A cluster whose requests come from these users.
async fn with_users(mix: Mix, fields: Value, metrics: Value) -> Rig {
    let rig = Rig::with_fleet(|options| options.traffic[0].mix = mix);
    analyse(&rig, &fields, &metrics);
    rig.initialize().await
}

#[tokio::test(start_paused = true)]
async fn only_the_users_of_the_match_meet_the_canary() {
    for (tag, end) in [("1.1.0", Phase::Succeeded), ("1.1.0-errors", Phase::Failed)] {
        let fields = json!({"iterations": 4, "match": insiders()});
        let rig = with_users(Mix::default(), fields, success()).await;
        rig.start(tag).await;
        rig.until(at_iteration(1)).await;
        // The mesh takes up the route within 3 s.
        rig.pass(4).await;
        let before = rig.counts();
        rig.pass(50).await;
        let seen = rig.counts().since(&before);
        for class in ["insider", "always"] {
            assert!(seen.class_share(class, CANARY) > 99.9, "{class}: {seen:?}");
        }
        for class in ["plain", "cookieless", "beta"] {
            assert!(seen.class_share(class, PRIMARY) > 99.9, "{class}: {seen:?}");
        }
        rig.until_phase(end).await;
        rig.pass(10).await;
        let before = rig.counts();
        rig.pass(30).await;
        let after = rig.counts().since(&before);
        assert!(after.share(PRIMARY) > 99.9, "{after:?}");
        assert_eq!(rig.counts().no_endpoint_503 + rig.counts().no_route_404, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn copies_find_a_bad_version_and_no_user_does() {
    let fields = json!({"iterations": 5, "mirror": true});
    let rig = with_users(Mix::default(), fields, success()).await;
    let before = rig.counts();
    rig.start("1.2.0-errors").await;
    rig.until_phase(Phase::Failed).await;
    let seen = rig.counts().since(&before);
    assert!(
        seen.mirrored.get(CANARY).copied().unwrap_or(0) > 1_000,
        "{seen:?}"
    );
    assert_eq!(
        (seen.application_500, seen.no_endpoint_503),
        (0, 0),
        "{seen:?}"
    );
    assert!(seen.share(PRIMARY) > 99.9, "{seen:?}");
    rig.assert_ended(Phase::Failed, "1.0.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_good_version_on_copies_is_switched_to_and_promoted() {
    let fields = json!({"iterations": 3, "mirror": true});
    let rig = with_users(Mix::default(), fields, success()).await;
    let before = rig.counts();
    rig.start("1.1.0").await;
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(100))
        .await;
    rig.pass(4).await;
    let switched = rig.counts();
    rig.pass(40).await;
    assert!(rig.counts().since(&switched).share(CANARY) > 99.9);
    rig.until_phase(Phase::Succeeded).await;
    let seen = rig.counts().since(&before);
    assert_eq!(
        (seen.application_500, seen.no_endpoint_503),
        (0, 0),
        "{seen:?}"
    );
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

/// Whoever has met the canary stays with it for the length of the run, and goes back with everybody else at its end.
#[tokio::test(start_paused = true)]
async fn users_stay_on_the_version_that_they_were_given() {
    let people = Mix(vec![Users::new("people", 1).people(50)]);
    let fields = json!({"stepWeights": [10, 30], "sessionAffinity": {"cookieName": "version", "maxAge": 3600}});
    let rig = with_users(people, fields, success()).await;
    rig.start("1.1.0").await;
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(30))
        .await;
    rig.pass(4).await;
    let before = rig.counts();
    rig.pass(50).await;
    let during = rig.counts().since(&before);
    // Some come over for the first time; nobody goes to and fro.
    assert!(during.switches.values().all(|n| *n <= 1), "{during:?}");
    let cookie = rig
        .canary()
        .str_at("/status/sessionAffinityCookie")
        .map(str::to_owned);
    assert!(
        cookie.as_ref().is_some_and(|c| c.starts_with("version=")),
        "{cookie:?}"
    );
    rig.until_phase(Phase::Succeeded).await;
    rig.pass(10).await;
    let canary = rig.canary();
    assert_eq!(canary.str_at("/status/sessionAffinityCookie"), None);
    assert_eq!(
        canary.str_at("/status/previousSessionAffinityCookie"),
        cookie.as_deref()
    );
    let before = rig.counts();
    rig.pass(30).await;
    let after = rig.counts().since(&before);
    assert!(after.share(PRIMARY) > 99.9, "{after:?}");
    assert_eq!(rig.counts().no_endpoint_503, 0);
}

/// The route is changed by hand in mid-run: it is put back, and who did it is said.
#[tokio::test(start_paused = true)]
async fn a_route_changed_by_hand_is_put_back_and_told() {
    let fields = json!({"iterations": 4, "match": insiders()});
    let rig = with_users(Mix::default(), fields, success()).await;
    rig.start("1.1.0").await;
    rig.until(at_iteration(2)).await;
    let ours = http(&rig);
    rig.edit(&VIRTUAL_SERVICE, "mcp-server", |route| {
        route["spec"]["http"][1]["route"] =
            json!([{"destination": {"host": "mcp-server-canary"}, "weight": 100}]);
    });
    rig.until_stored("our route", |r| http(r) == ours).await;
    let told = "The route of mcp-server.ai-platform was changed by kubectl-edit and is put back";
    rig.until_stored("the event", |r| r.warnings(told) == 1)
        .await;
    rig.until_phase(Phase::Succeeded).await;
}
