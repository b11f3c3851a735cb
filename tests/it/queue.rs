//! Runs of one cluster beyond `--max-concurrent` wait for their turn, visibly, whoever leads.

use std::cell::RefCell;

use canary_mcp::{
    api::objects::{CANARY, DEPLOYMENT, ObjectExt},
    engine::{
        Limits,
        control::{Key, Outcome, Wish},
    },
};
use serde_json::{Value, json};

use crate::support::{Process, Rig, World, image};

const APPS: [&str; 4] = ["a", "b", "c", "d"];

/// A cluster with four more apps, whose runs take a minute or so and ask for no metrics.
fn four_apps() -> Rig {
    let rig = Rig::without_engine(true);
    for name in APPS {
        let labels = json!({"app": name});
        let container = json!({"name": "app", "image": image("1.0.0"), "ports": [{"name": "http", "containerPort": 8080}]});
        rig.create(
            &DEPLOYMENT,
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": name, "namespace": rig.namespace(), "labels": labels},
                "spec": {
                    "replicas": 1,
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
                }
            }),
        );
        rig.create(
            &CANARY,
            json!({
                "apiVersion": "flagger.app/v1beta1", "kind": "Canary",
                "metadata": {"name": name, "namespace": rig.namespace()},
                "spec": {
                    "provider": "istio",
                    "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                    "service": {"port": 8080, "targetPort": "http"},
                    "analysis": {"interval": "10s", "threshold": 3, "maxWeight": 50, "stepWeight": 25}
                }
            }),
        );
    }
    rig
}

fn led(rig: &Rig, identity: &str, limits: Limits) -> Process {
    rig.process_with(identity, |settings| settings.limits = limits)
}

fn text(rig: &Rig, name: &str, at: &str) -> String {
    let canary = rig.object(&CANARY, name).unwrap();
    canary.str_at(at).unwrap_or_default().to_owned()
}

fn phase(rig: &Rig, name: &str) -> String {
    text(rig, name, "/status/phase")
}

/// Those whose canary may be scaled up, or is.
fn under_way(rig: &Rig) -> Vec<&'static str> {
    let mut all = APPS.to_vec();
    all.retain(|name| {
        let stage = text(rig, name, "/status/run/stage");
        !matches!(stage.as_str(), "" | "bootstrap" | "idle" | "waiting")
    });
    all
}

fn queue(rig: &Rig, name: &str) -> Value {
    let canary = rig.object(&CANARY, name).unwrap();
    canary["status"]["run"]["waiting"]["queue"].clone()
}

async fn initialized(rig: &Rig) {
    rig.until_stored("every app is initialized", |rig| {
        APPS.iter().all(|name| phase(rig, name) == "Initialized")
    })
    .await;
}

/// A new image for each, two seconds apart.
async fn roll_out(rig: &Rig, apps: &[&str]) {
    for name in apps {
        rig.edit(&DEPLOYMENT, name, |d| {
            d["spec"]["template"]["spec"]["containers"][0]["image"] = image("1.1.0").into();
        });
        rig.pass(2).await;
    }
}

/// Until all have succeeded; in which order they got under way, never more than `most` at once.
async fn all_succeed(rig: &Rig, most: usize) -> Vec<&'static str> {
    let begun = RefCell::new(Vec::new());
    rig.until_stored("all have succeeded", |rig| {
        let now = under_way(rig);
        assert!(now.len() <= most, "{now:?}");
        let mut begun = begun.borrow_mut();
        for name in now {
            if !begun.contains(&name) {
                begun.push(name);
            }
        }
        APPS.iter().all(|name| phase(rig, name) == "Succeeded")
    })
    .await;
    begun.into_inner()
}

fn key(rig: &Rig, name: &str) -> Key {
    Key {
        name: name.to_owned(),
        ..rig.rollout()
    }
}

#[tokio::test(start_paused = true)]
async fn runs_beyond_the_limit_wait_for_their_turn_also_when_another_leads() {
    let rig = four_apps();
    let two = Limits::of(2, 0);
    let first = led(&rig, "first", two);
    initialized(&rig).await;
    roll_out(&rig, &APPS).await;
    rig.until_stored("both places in the queue are told", |rig| {
        queue(rig, "c") == json!({"place": 1, "running": 2, "limit": "2 in the cluster"})
            && queue(rig, "d") == json!({"place": 2, "running": 2, "limit": "2 in the cluster"})
    })
    .await;
    assert_eq!(under_way(&rig), ["a", "b"]);
    assert_eq!(phase(&rig, "d"), "Waiting");
    assert_eq!((rig.replicas_of("c"), rig.replicas_of("d")), (0, 0));
    let view = rig.control.view(&key(&rig, "d")).await.unwrap();
    let waiting = view.waiting_for.clone().unwrap();
    assert_eq!(
        waiting.what,
        "other runs to end: 2 go on of at most 2 in the cluster, place 2 in the queue"
    );

    // Whoever takes over finds the places that were recorded.
    first.kill();
    let _second = led(&rig, "second", two);
    assert_eq!(all_succeed(&rig, 2).await, ["a", "b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn a_lower_limit_ends_nothing_that_goes_on() {
    let rig = four_apps();
    let first = led(&rig, "first", Limits::of(0, 3));
    initialized(&rig).await;
    roll_out(&rig, &["a", "b", "c"]).await;
    rig.until_stored("three are under way", |rig| {
        under_way(rig) == ["a", "b", "c"]
    })
    .await;
    first.kill();
    let _second = led(&rig, "second", Limits::of(0, 1));
    roll_out(&rig, &["d"]).await;
    rig.until_stored("the fourth waits", |rig| {
        queue(rig, "d") == json!({"place": 1, "running": 3, "limit": "1 in the namespace"})
    })
    .await;
    assert_eq!(under_way(&rig), ["a", "b", "c"]);
    assert_eq!(all_succeed(&rig, 3).await, ["a", "b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_rolled_back_or_suspended_in_the_queue_holds_up_nobody() {
    let rig = four_apps();
    let _first = led(&rig, "first", Limits::of(1, 0));
    initialized(&rig).await;
    roll_out(&rig, &APPS).await;
    rig.until_stored("the last one is told its place", |rig| {
        queue(rig, "d")["place"] == 3
    })
    .await;
    let wish = Wish {
        key: key(&rig, "b"),
        verb: canary_mcp::decide::facts::Verb::Rollback,
        skip: false,
        to: None,
        reason: None,
        by: None,
        patience: std::time::Duration::from_secs(30),
    };
    let acted = rig.control.wish(&wish).await.unwrap();
    assert_eq!(acted.outcome, Outcome::Applied, "{}", acted.reason);
    rig.edit(&CANARY, "c", |canary| {
        canary["spec"]["suspend"] = true.into();
    });
    rig.until_stored("the last one is next and succeeds", |rig| {
        assert!(under_way(rig).len() <= 1, "{:?}", under_way(rig));
        phase(rig, "d") == "Succeeded"
    })
    .await;
    assert_eq!(phase(&rig, "b"), "Failed");
    assert_eq!(rig.replicas_of("b"), 0);
    assert_eq!(phase(&rig, "c"), "Waiting");
    rig.edit(&CANARY, "c", |canary| {
        canary["spec"]["suspend"] = false.into();
    });
    rig.until_stored("who is no longer suspended goes on", |rig| {
        phase(rig, "c") == "Succeeded"
    })
    .await;
}
