//! Tests of who keeps an object that two Canaries claim.

use std::sync::Arc;

use serde_json::{Value, json};

use super::fixtures::*;
use crate::{
    api::{
        claim::Claim,
        objects::{Object, Objects},
    },
    build::check::check,
};

const EARLY: &str = "2026-11-21T00:00:00Z";
const LATE: &str = "2026-11-21T00:00:01Z";

/// Another Canary of the namespace for the demo's target, made at this time.
fn other(name: &str, created: &str) -> Claim {
    let mut canary = canary();
    canary["metadata"]["name"] = json!(name);
    canary["metadata"]["uid"] = json!(name);
    canary["metadata"]["creationTimestamp"] = json!(created);
    Claim::of(&canary)
}

/// The demo, made at `EARLY`, beside this one.
fn beside(other: Claim) -> Objects {
    let mut canary = canary();
    canary["metadata"]["creationTimestamp"] = json!(EARLY);
    Objects {
        canary: Arc::new(canary),
        rivals: vec![other],
        ..demo()
    }
}

/// The demo's primary as this Canary made it.
fn primary(owner: &str) -> Object {
    let mut primary = target();
    primary["metadata"]["name"] = json!("mcp-server-primary");
    primary["spec"]["selector"]["matchLabels"]["app"] = json!("mcp-server-primary");
    primary["metadata"]["ownerReferences"] =
        json!([{"kind": "Canary", "name": owner, "uid": owner, "controller": true}]);
    Arc::new(primary)
}

fn told(objects: &Objects) -> Vec<String> {
    let refusals = check(&plan_of(objects), objects);
    refusals.iter().map(ToString::to_string).collect()
}

fn refused(other: &str, why: &str) -> Vec<String> {
    vec![format!(
        "spec.targetRef.name: Deployment mcp-server is the target of Canary mcp-server and the target of Canary {other}, {why}; \
         delete one of the two, or change spec.targetRef.name of one of them"
    )]
}

#[test]
fn of_two_that_made_nothing_yet_the_older_one_is_carried_out() {
    let early = "2026-11-20T00:00:00Z";
    for (name, created, expected) in [
        ("second", LATE, vec![]),
        ("second", early, refused("second", "which is older")),
        ("second", EARLY, vec![]),
        (
            "first",
            EARLY,
            refused(
                "first",
                "which is of the same second and comes first by name",
            ),
        ),
    ] {
        assert_eq!(
            told(&beside(other(name, created))),
            expected,
            "{name} {created}"
        );
    }
}

#[test]
fn who_made_something_keeps_it_however_old_the_other_one_is() {
    let older = "2026-11-20T00:00:00Z";
    let mut objects = beside(other("second", older));
    objects.primary = Some(primary("c-1"));
    assert_eq!(told(&objects), [""; 0]);

    // The primary is not told as one that could be deleted, too.
    let mut objects = beside(other("second", LATE));
    objects.primary = Some(primary("second"));
    assert_eq!(
        told(&objects),
        refused("second", "which works on it already")
    );

    let service = |owner: &str| -> Value {
        json!({"metadata": {"name": "mcp-server-canary",
               "ownerReferences": [{"kind": "Canary", "name": owner, "uid": owner, "controller": true}]}})
    };
    let mut objects = beside(other("second", LATE));
    objects.canary_service = Some(Arc::new(service("second")));
    assert_eq!(
        told(&objects),
        refused("second", "which works on it already")
    );

    // Somebody who claims nothing of ours is told as before.
    let mut objects = beside(other("second", LATE));
    objects.canary_service = Some(Arc::new(service("third")));
    assert_eq!(
        told(&objects),
        [
            "spec.service.name: Service mcp-server-canary belongs to the Canary third; give service.name another name, or delete that Canary"
        ]
    );
}
