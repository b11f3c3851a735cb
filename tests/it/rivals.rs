//! Two Canaries on one target: one is carried out, the other one is refused with both names.

use canary_mcp::{
    api::objects::{CANARY, EVENT, ObjectExt},
    decide::{facts::Verb, state::Phase},
    engine::control::{Key, Outcome, Start},
};
use serde_json::{Value, json};

use crate::support::{NAME, Rig, World, image};

/// The demo's Canary under another name.
fn twin(rig: &Rig, name: &str) -> Value {
    let canary = rig.canary();
    json!({
        "apiVersion": "flagger.app/v1beta1", "kind": "Canary",
        "metadata": {"name": name, "namespace": rig.namespace()},
        "spec": canary["spec"]
    })
}

fn condition(rig: &Rig, name: &str, kind: &str) -> Option<Value> {
    let canary = rig.object(&CANARY, name)?;
    let all = canary.array_at("/status/conditions");
    all.iter().find(|c| c["type"] == kind).cloned()
}

/// Warnings of this Canary that begin so.
fn warnings(rig: &Rig, name: &str, beginning: &str) -> Vec<String> {
    let events = rig.list(&EVENT);
    let of = |e: &&canary_mcp::api::objects::Object| {
        e.str_at("/regarding/name") == Some(name) && e.str_at("/type") == Some("Warning")
    };
    let notes = events.iter().filter(of).filter_map(|e| e.str_at("/note"));
    let notes = notes.filter(|note| note.starts_with(beginning));
    notes.map(str::to_owned).collect()
}

fn start_of(rig: &Rig, name: &str, tag: &str) -> Start {
    Start {
        key: Key {
            name: name.to_owned(),
            ..rig.rollout()
        },
        image: Some(image(tag)),
        container: None,
        retry: false,
        expect_revision: None,
        by: None,
    }
}

#[tokio::test(start_paused = true)]
async fn the_second_canary_of_a_target_is_refused_until_the_first_one_is_gone() {
    let rig = Rig::initialized(|_| {}).await;
    rig.pass(60).await;
    rig.member().server.faults().reset_counts();
    rig.create(&CANARY, twin(&rig, "second"));
    rig.pass(180).await;
    let refusal = "spec.targetRef.name: Deployment mcp-server is the target of Canary second and the target of Canary mcp-server, \
                   which works on it already; delete one of the two, or change spec.targetRef.name of one of them";
    let accepted = condition(&rig, "second", "Accepted").unwrap();
    assert_eq!(accepted["status"], "False");
    assert_eq!(accepted["message"], refusal);
    assert_eq!(
        warnings(&rig, "second", "Refused"),
        [format!("Refused: {refusal}")]
    );
    assert_eq!(condition(&rig, NAME, "Accepted").unwrap()["status"], "True");
    // The Canary by kubectl, its condition, and the event: nothing else is written.
    let faults = rig.member().server.faults();
    assert_eq!(rig.writes(), 2, "{:?}", faults.counts());

    let start = start_of(&rig, "second", "1.1.0");
    let refused = format!("the Canary cannot be carried out: {refusal}");
    let acted = rig.control.start(&start).await.unwrap();
    assert_eq!(
        (acted.outcome, acted.reason),
        (Outcome::Refused, refused.clone())
    );
    let planned = rig.control.preview(&start).await.unwrap();
    assert_eq!(
        (planned.acted.outcome, planned.acted.reason),
        (Outcome::Refused, refused)
    );
    assert_eq!(planned.preview, None);

    // The first one is not held up by it.
    assert_eq!(rig.start("1.1.0").await.outcome, Outcome::Applied);
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
    assert_eq!(
        rig.object(&CANARY, "second").unwrap()["status"]["run"],
        Value::Null
    );

    rig.delete(&CANARY, NAME);
    rig.until_stored("the second one is carried out", |rig| {
        let second = rig.object(&CANARY, "second").unwrap();
        second.str_at("/status/phase") == Some("Initialized")
    })
    .await;
    assert_eq!(
        condition(&rig, "second", "Accepted").unwrap()["status"],
        "True"
    );
}

#[tokio::test(start_paused = true)]
async fn an_older_canary_that_is_turned_on_a_running_one_changes_nothing_for_it() {
    let mut rig = Rig::without_engine(true);
    let mut elder = twin(&rig, "elder");
    elder["spec"]["targetRef"]["name"] = json!("something-else");
    elder["spec"]
        .as_object_mut()
        .unwrap()
        .remove("autoscalerRef");
    let younger = twin(&rig, NAME);
    rig.create(&CANARY, elder);
    rig.pass(5).await;
    rig.delete(&CANARY, NAME);
    rig.create(&CANARY, younger);
    rig.start_engine("first");
    rig.until_phase(Phase::Initialized).await;
    assert_eq!(rig.start("1.1.0").await.outcome, Outcome::Applied);
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(10))
        .await;
    rig.edit(&CANARY, "elder", |c| {
        c["spec"]["targetRef"]["name"] = json!(NAME);
    });
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
    assert_eq!(condition(&rig, NAME, "Accepted").unwrap()["status"], "True");
    let accepted = condition(&rig, "elder", "Accepted").unwrap();
    assert_eq!(
        accepted["message"],
        "spec.targetRef.name: Deployment mcp-server is the target of Canary elder and the target of Canary mcp-server, \
         which works on it already; delete one of the two, or change spec.targetRef.name of one of them"
    );
    assert_eq!(
        warnings(&rig, "elder", "Refused").len(),
        2,
        "there is no Deployment something-else, and then this"
    );
    // Turned away again it wakes, and is told what it was told before.
    rig.edit(&CANARY, "elder", |c| {
        c["spec"]["targetRef"]["name"] = json!("something-else");
    });
    rig.pass(5).await;
    let accepted = condition(&rig, "elder", "Accepted").unwrap();
    assert_eq!(
        accepted["message"],
        "spec.targetRef.name: there is no Deployment something-else in ai-platform; apply it, or name another one"
    );
    assert_eq!(
        rig.wish(Verb::Rollback, false).await.outcome,
        Outcome::Refused
    );
}
