//! What is watched where, and whom a change wakes.

use std::collections::BTreeMap;

use canary_mcp::{
    api::objects::{
        CANARY, CUSTOM_RESOURCE_DEFINITION, DEPLOYMENT, ObjectExt, SCALED_OBJECT, SERVICE,
    },
    decide::state::Phase,
};
use serde_json::{Value, json};

use super::requests::{Counts, Listened};
use crate::support::{NAME, Rig, image};

const NAMESPACE: &str = "ai-platform";

/// `METHOD path`; a watch is a `WATCH`, and one of metadata alone is told.
fn in_full(request: &http::Request<kube::client::Body>) -> String {
    let uri = request.uri();
    let watches = uri.query().is_some_and(|q| q.contains("watch=true"));
    let accept = request.headers().get("accept");
    let metadata =
        accept.is_some_and(|a| a.to_str().unwrap().contains("as=PartialObjectMetadata;"));
    let method = match (watches, metadata) {
        (true, true) => "WATCH METADATA",
        (true, false) => "WATCH",
        (false, _) => request.method().as_str(),
    };
    format!("{method} {}", uri.path())
}

fn requests(counts: &Counts) -> Vec<&str> {
    counts.keys().map(String::as_str).collect()
}

/// What there is to hear of a cluster without a Canary.
const EMPTY: [&str; 3] = [
    "PUT /apis/coordination.k8s.io/v1/namespaces/canary-mcp-system/leases/canary-mcp",
    "WATCH /apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "WATCH /apis/flagger.app/v1beta1/canaries",
];

#[tokio::test(start_paused = true)]
async fn only_the_metadata_of_what_canaries_name_is_watched_and_only_where_they_name_it() {
    let heard = Listened::on(Rig::without_engine(true), in_full);
    let store = heard.rig.member().server.store();
    let elsewhere = json!({
        "metadata": {"name": "other", "namespace": "default"},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "other"}},
    });
    store.create(&SERVICE, elsewhere, "kubectl").unwrap();
    heard.rig.until_phase(Phase::Initialized).await;
    heard.rig.pass(120).await;
    let mut expected = vec![
        "WATCH METADATA /api/v1/namespaces/ai-platform/services",
        "WATCH METADATA /apis/apps/v1/namespaces/ai-platform/controllerrevisions",
        "WATCH METADATA /apis/apps/v1/namespaces/ai-platform/deployments",
        // The Canary's check names a template there.
        "WATCH METADATA /apis/flagger.app/v1beta1/namespaces/flagger-system/metrictemplates",
        "WATCH METADATA /apis/keda.sh/v1alpha1/namespaces/ai-platform/scaledobjects",
        "WATCH METADATA /apis/networking.istio.io/v1beta1/namespaces/ai-platform/destinationrules",
        "WATCH METADATA /apis/networking.istio.io/v1beta1/namespaces/ai-platform/virtualservices",
    ];
    expected.extend(EMPTY);
    expected.sort_unstable();
    assert_eq!(requests(&heard.sent_in(300).await), expected);
}

#[tokio::test(start_paused = true)]
async fn the_watches_of_a_namespace_end_with_its_last_canary_and_begin_with_the_next() {
    let heard = Listened::on(Rig::without_engine(true), in_full);
    let rig = &heard.rig;
    rig.until_phase(Phase::Initialized).await;
    rig.pass(120).await;
    let store = rig.member().server.store();
    let mut again = rig.canary().as_ref().clone();
    store.remove(&CANARY, NAMESPACE, NAME).unwrap();
    rig.pass(10).await;
    assert_eq!(requests(&heard.sent_in(300).await), EMPTY);

    again["metadata"] = json!({"name": NAME, "namespace": NAMESPACE});
    again.as_object_mut().unwrap().remove("status");
    store.create(&CANARY, again, "kubectl").unwrap();
    rig.until_phase(Phase::Initialized).await;
    rig.pass(120).await;
    let heard = heard.sent_in(300).await;
    assert_eq!(
        heard.get("WATCH METADATA /apis/apps/v1/namespaces/ai-platform/deployments"),
        Some(&1)
    );
}

/// Another app like that of the fleet, with a Canary that asks for no metric and has no autoscaler.
fn add(rig: &Rig, name: &str) {
    let store = rig.member().server.store();
    let plain = |kind, of: &str| {
        let mut object = rig.object(kind, of).unwrap().as_ref().clone();
        object["metadata"] = json!({"name": name, "namespace": NAMESPACE});
        object.as_object_mut().unwrap().remove("status");
        object
    };
    let mut deployment = plain(&DEPLOYMENT, NAME);
    let spec = &mut deployment["spec"];
    spec["replicas"] = json!(1);
    spec["selector"] = json!({"matchLabels": {"app": name}});
    spec["template"]["metadata"]["labels"] = json!({"app": name});
    store.create(&DEPLOYMENT, deployment, "kubectl").unwrap();
    let mut canary = plain(&CANARY, NAME);
    let spec = canary["spec"].as_object_mut().unwrap();
    spec.remove("autoscalerRef");
    spec["targetRef"]["name"] = json!(name);
    spec["service"] = json!({"port": 80, "targetPort": 8080});
    spec["analysis"]["metrics"] = json!([]);
    store.create(&CANARY, canary, "kubectl").unwrap();
}

#[tokio::test(start_paused = true)]
async fn of_a_hundred_canaries_a_change_wakes_the_one_that_names_what_has_changed() {
    let heard = Listened::on(Rig::without_engine(true), in_full);
    let rig = &heard.rig;
    for n in 1..100 {
        add(rig, &format!("app-{n}"));
    }
    let store = rig.member().server.store();
    let rest = || {
        let canaries = store.list(&CANARY, Some(NAMESPACE));
        let mut phases = BTreeMap::new();
        for canary in &canaries {
            let phase = canary.str_at("/status/phase").unwrap_or_default();
            *phases.entry(phase.to_owned()).or_insert(0) += 1;
        }
        phases
    };
    for _ in 0..60 {
        rig.pass(10).await;
        if rest() == BTreeMap::from([("Initialized".to_owned(), 100)]) {
            break;
        }
    }
    assert_eq!(rest(), BTreeMap::from([("Initialized".to_owned(), 100)]));
    rig.pass(120).await;

    // A status is nobody's news.
    let touch = |d: &mut Value| d["status"]["unavailableReplicas"] = json!(1);
    store
        .modify_status(&DEPLOYMENT, NAMESPACE, "app-7-primary", "test", touch)
        .unwrap();
    let mut heard_of_status = heard.sent_in(4).await;
    heard_of_status.retain(|request, _| !request.contains("/leases"));
    assert_eq!(heard_of_status, Counts::new());

    store
        .modify(&DEPLOYMENT, NAMESPACE, "app-7", "kubectl-edit", |d| {
            d["spec"]["template"]["spec"]["containers"][0]["image"] = image("1.1.0").into();
        })
        .unwrap();
    let sent = heard.sent_in(2).await;
    let read: Vec<&str> = requests(&sent)
        .into_iter()
        .filter_map(|request| request.strip_prefix("GET "))
        .filter(|path| !path.ends_with("/pods") && !path.ends_with("/replicasets"))
        .filter_map(|path| path.rsplit('/').next())
        .collect();
    assert!(read.len() >= 8, "{sent:?}");
    let ours = |name: &&str| *name == "app-7" || name.starts_with("app-7-");
    assert!(read.iter().all(ours), "{sent:?}");
    let canary = store.get(&CANARY, NAMESPACE, "app-7").unwrap();
    assert_eq!(canary.str_at("/status/phase"), Some("Progressing"));
}

const DEFINITION: &str = "canaries.flagger.app";

#[tokio::test(start_paused = true)]
async fn nothing_is_driven_while_the_definition_drops_our_fields() {
    let rig = Rig::initialized(|_| {}).await;
    rig.pass(60).await;
    let store = rig.member().server.store();
    let ours = store
        .get(&CUSTOM_RESOURCE_DEFINITION, "", DEFINITION)
        .unwrap();
    let change = |spec: Value| {
        store
            .modify(
                &CUSTOM_RESOURCE_DEFINITION,
                "",
                DEFINITION,
                "kubectl",
                |crd| {
                    crd["spec"] = spec.clone();
                },
            )
            .unwrap()
            .unwrap();
    };
    let mut flaggers = ours["spec"].clone();
    let status = "/versions/0/schema/openAPIV3Schema/properties/status/properties";
    let status = flaggers.pointer_mut(status).unwrap();
    status.as_object_mut().unwrap().remove("run").unwrap();
    change(flaggers);
    rig.pass(2).await;
    let row = rig.control.clusters(None).await.unwrap().remove(0);
    assert_eq!(
        row.reason.as_deref(),
        Some(
            "read-only: the installed Canary CRD drops our status fields; run: canary-mcp crds | kubectl apply -f -"
        )
    );
    assert_eq!(row.led_by, None, "the Lease is given back");
    let writes = rig.writes();
    rig.set_image("1.1.0");
    rig.pass(120).await;
    assert_eq!(rig.writes(), writes);
    assert_eq!(rig.canary().str_at("/status/phase"), Some("Initialized"));

    change(ours["spec"].clone());
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_installed_while_leading_is_watched_from_then_on() {
    let mut rig = Rig::without_engine(true);
    let crd = "scaledobjects.keda.sh";
    let definition = &CUSTOM_RESOURCE_DEFINITION;
    let store = rig.member().server.store().clone();
    let mut keda = store.get(definition, "", crd).unwrap().as_ref().clone();
    let mut scaler = rig.object(&SCALED_OBJECT, NAME).unwrap().as_ref().clone();
    store.remove(&SCALED_OBJECT, NAMESPACE, NAME).unwrap();
    store.remove(definition, "", crd).unwrap();
    rig.start_engine("first");
    rig.pass(60).await;
    let accepted = rig.condition("Accepted").unwrap();
    assert_eq!(accepted["status"], "False", "{accepted}");

    for object in [&mut keda, &mut scaler] {
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "labels"));
        object.as_object_mut().unwrap().remove("status");
    }
    store.create(definition, keda, "kubectl").unwrap();
    store.create(&SCALED_OBJECT, scaler, "kubectl").unwrap();
    rig.until_phase(Phase::Initialized).await;
    rig.pass(120).await;
    rig.assert_idle();
    // A change of it is noticed.
    rig.annotate(
        &SCALED_OBJECT,
        NAME,
        "autoscaling.keda.sh/paused-replicas",
        "1",
    );
    rig.pass(5).await;
    rig.assert_idle();
}
