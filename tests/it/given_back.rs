//! A Canary with `revertOnDeletion` that is deleted: its target serves again, what was taken over is as it was, and no request is lost.

use canary_mcp::api::objects::{
    CANARY, DEPLOYMENT, ObjectExt, SCALED_OBJECT, SERVICE, VIRTUAL_SERVICE,
};
use serde_json::{Value, json};

use crate::support::{NAME, Rig, World};

const NAMESPACE: &str = "ai-platform";

const FINALIZER: &str = "finalizer.flagger.app";

fn reverting(spec: &mut Value) {
    spec["revertOnDeletion"] = json!(true);
}

/// An initialized cluster whose app had a Service before it had a Canary, and what `more` adds.
async fn initialized(more: impl FnOnce(&Rig)) -> Rig {
    let rig = Rig::without_engine(true);
    rig.edit_spec(reverting);
    let canary = rig.canary();
    let service = &canary["spec"]["service"];
    let apex = json!({
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {"selector": {"app": NAME}, "ports": [
            {"name": "http", "port": service["port"], "targetPort": service["targetPort"]}]},
    });
    let store = rig.member().server.store();
    if rig.object(&SERVICE, NAME).is_none() {
        store.create(&SERVICE, apex, "kubectl").unwrap();
    }
    more(&rig);
    rig.initialize().await
}

fn held(rig: &Rig) -> bool {
    rig.canary()["metadata"]["finalizers"] == json!([FINALIZER])
}

async fn deleted(rig: &Rig) {
    let store = rig.member().server.store();
    store.delete(&CANARY, NAMESPACE, NAME).unwrap();
    let gone = |rig: &Rig| rig.object(&CANARY, NAME).is_none();
    rig.until_stored("the Canary is gone", gone).await;
    let gone = |rig: &Rig| rig.object(&DEPLOYMENT, "mcp-server-primary").is_none();
    rig.until_stored("its primary is gone", gone).await;
    rig.pass(120).await;
}

/// The target serves by itself, and not one request was lost.
fn assert_given_back(rig: &Rig) {
    assert!(rig.replicas_of(NAME) > 0);
    let scaler = rig.object(&SCALED_OBJECT, NAME).unwrap();
    assert_eq!(
        scaler.annotation("autoscaling.keda.sh/paused-replicas"),
        None
    );
    let apex = rig.object(&SERVICE, NAME).unwrap();
    assert_eq!(apex["spec"]["selector"], json!({"app": NAME}));
    assert_eq!(rig.lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_canary_at_rest_gives_its_target_back() {
    let rig = initialized(|_| {}).await;
    rig.until_stored("the finalizer", held).await;
    deleted(&rig).await;
    assert_given_back(&rig);
    assert_eq!(rig.object(&VIRTUAL_SERVICE, NAME), None);
}

#[tokio::test(start_paused = true)]
async fn a_canary_in_a_run_gives_its_target_back() {
    let rig = initialized(|_| {}).await;
    rig.set_image("1.1.0");
    rig.until(|canary| canary.int_at("/status/canaryWeight") == Some(15))
        .await;
    deleted(&rig).await;
    assert_given_back(&rig);
}

#[tokio::test(start_paused = true)]
async fn a_virtual_service_of_others_is_given_back_as_it_was() {
    let theirs = json!({
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {"hosts": [NAME], "http": [
            {"name": "docs", "match": [{"uri": {"prefix": "/docs"}}], "route": [{"destination": {"host": "docs"}}]},
            {"name": "app", "timeout": "3s", "route": [{"destination": {"host": NAME}}]},
        ]},
    });
    let rig = initialized(|rig| {
        let store = rig.member().server.store();
        let created = store.create(&VIRTUAL_SERVICE, theirs.clone(), "kubectl");
        created.unwrap();
    })
    .await;
    let split = |rig: &Rig| {
        let route = rig.object(&VIRTUAL_SERVICE, NAME).unwrap();
        route.array_at("/spec/http/1/route").len() == 2
    };
    assert!(split(&rig));
    deleted(&rig).await;
    assert_given_back(&rig);
    let route = rig.object(&VIRTUAL_SERVICE, NAME).unwrap();
    assert_eq!(route["spec"], theirs["spec"]);
}

#[tokio::test(start_paused = true)]
async fn the_finalizer_follows_the_spec() {
    let rig = initialized(|_| {}).await;
    rig.until_stored("the finalizer", held).await;
    rig.edit_spec(|spec| spec["revertOnDeletion"] = json!(false));
    let free = |rig: &Rig| rig.canary().array_at("/metadata/finalizers").is_empty();
    rig.until_stored("no finalizer", free).await;
}
