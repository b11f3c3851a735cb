//! How we write: what a copy must not lose, add or reset, and whose writes fail.

use std::sync::atomic::{AtomicUsize, Ordering};

use canary_mcp::{
    api::{
        names::EPOCH,
        objects::{DEPLOYMENT, Object, ObjectExt, SCALED_OBJECT, VIRTUAL_SERVICE},
    },
    decide::state::Phase,
};
use http::Method;
use k8s_openapi::api::core::v1::Container;
use serde_json::{Value, json};

use crate::{
    genuine::on_both,
    support::{Rig, World, image, sequence},
};

on_both!(
    duplicate_names_of_env_and_ports_are_copied,
    replicas_of_the_primary_are_not_reset,
    the_pause_annotation_goes,
    a_replay_never_saves_our_own_route_as_the_original,
    a_late_write_fails_where_the_new_holder_had_nothing_to_change;
    // The embedded server is of an older Kubernetes, which drops a newer one's fields as a real one does, and has no server-side apply.
    real only:
    a_field_newer_than_our_types_survives,
    a_field_that_another_manager_owns_too_goes_with_the_template,
);

fn container(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]["containers"][0]
}

fn primary<W: World>(rig: &Rig<W>) -> Object {
    rig.object(&DEPLOYMENT, "mcp-server-primary").unwrap()
}

/// Gives the target a new image and this change, and lets the run go to its end.
async fn promoted<W: World>(rig: &Rig<W>, tag: &str, change: impl Fn(&mut Value)) {
    rig.edit(&DEPLOYMENT, "mcp-server", |target| {
        let template = &mut target["spec"]["template"];
        change(template);
        template["spec"]["containers"][0]["image"] = image(tag).into();
    });
    rig.until_phase(Phase::Progressing).await;
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, tag).await;
}

/// Lists that a merge would key by name hold their entries twice; a copy by merge would lose one of each.
async fn duplicate_names_of_env_and_ports_are_copied<W: World>(rig: Rig<W>) {
    let rig = rig.initialize().await;
    let env = json!([{"name": "MODE", "value": "a"}, {"name": "MODE", "value": "b"}]);
    let ports = json!([
        {"name": "http", "containerPort": 8080, "protocol": "TCP"},
        {"name": "again", "containerPort": 8080, "protocol": "TCP"},
    ]);
    promoted(&rig, "1.1.0", |template| {
        template["spec"]["containers"][0]["env"] = env.clone();
        template["spec"]["containers"][0]["ports"] = ports.clone();
    })
    .await;
    assert_eq!(container(&primary(&rig))["env"], env);
    assert_eq!(container(&primary(&rig))["ports"], ports);
}

/// No autoscaler: the number of pods is a person's, before and after a promotion.
async fn replicas_of_the_primary_are_not_reset<W: World>(rig: Rig<W>) {
    rig.delete(&SCALED_OBJECT, "mcp-server");
    rig.edit_spec(|spec| {
        spec.as_object_mut().unwrap().remove("autoscalerRef");
    });
    let rig = rig.initialize().await;
    rig.edit(&DEPLOYMENT, "mcp-server-primary", |p| {
        p["spec"]["replicas"] = 4.into();
    });
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Progressing).await;
    rig.until_phase(Phase::Succeeded).await;
    assert_eq!(rig.image_of("mcp-server-primary"), image("1.1.0"));
    assert_eq!(rig.replicas_of("mcp-server-primary"), 4);
}

/// Not emptied: KEDA takes an empty value for a pause.
async fn the_pause_annotation_goes<W: World>(rig: Rig<W>) {
    let annotations_of = |rig: &Rig<W>| -> Vec<(String, Value)> {
        let scaler = rig.object(&SCALED_OBJECT, "mcp-server").unwrap();
        let annotations = scaler["metadata"]["annotations"].as_object().cloned();
        let mut all: Vec<_> = annotations.unwrap_or_default().into_iter().collect();
        all.retain(|(key, _)| key.starts_with("autoscaling.keda.sh/paused"));
        all
    };
    let rig = rig.initialize().await;
    let paused = ("autoscaling.keda.sh/paused-replicas".to_owned(), json!("0"));
    assert_eq!(annotations_of(&rig), std::slice::from_ref(&paused));
    rig.set_image("1.1.0");
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(5))
        .await;
    assert_eq!(annotations_of(&rig), []);
    rig.until_phase(Phase::Succeeded).await;
    assert_eq!(annotations_of(&rig), [paused]);
}

fn route_patch(method: &Method, target: &str) -> bool {
    method == Method::PATCH && target.contains("/virtualservices/mcp-server?")
}

/// The engine dies while it takes a route over: the write arrives, and nothing is recorded of it.
async fn a_replay_never_saves_our_own_route_as_the_original<W: World>(mut rig: Rig<W>) {
    let http = json!([{"name": "app", "route": [{"destination": {"host": "mcp-server"}}]}]);
    let route = json!({
        "metadata": {"name": "mcp-server", "namespace": rig.namespace()},
        "spec": {"hosts": ["mcp-server"], "http": http},
    });
    rig.create(&VIRTUAL_SERVICE, route);
    rig.start_engine("first");
    // The first write to it only sets the fence.
    let patches = AtomicUsize::new(0);
    let held = rig.line().hold_next(move |method, target| {
        route_patch(method, target) && patches.fetch_add(1, Ordering::SeqCst) == 1
    });
    rig.reached(&held).await;
    rig.crash_engine();
    let answer = held.release().await;
    assert!(answer.is_success(), "{answer}");
    let original = |rig: &Rig<W>| -> Value {
        let route = rig.object(&VIRTUAL_SERVICE, "mcp-server").unwrap();
        let saved = route.annotation("flagger.kubernetes.io/original-configuration");
        serde_json::from_str(saved.unwrap()).unwrap()
    };
    assert_eq!(original(&rig)["http"], http);
    // Under its own name it need not wait for the Lease to run out.
    rig.start_engine("first");
    rig.until_phase(Phase::Initialized).await;
    assert_eq!(original(&rig)["http"], http);
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Succeeded).await;
    assert_eq!(original(&rig)["http"], http);
    assert_eq!(rig.image_of("mcp-server-primary"), image("1.1.0"));
}

/// The new holder has only set its fence when the dead engine's write arrives. (Where it has written the object, see `takeovers`.)
async fn a_late_write_fails_where_the_new_holder_had_nothing_to_change<W: World>(rig: Rig<W>) {
    let mut rig = rig.initialize().await;
    rig.set_image("1.1.0");
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(5))
        .await;
    let late = rig.line().hold_next(route_patch);
    rig.reached(&late).await;
    let route = |rig: &Rig<W>| rig.object(&VIRTUAL_SERVICE, "mcp-server").unwrap();
    let before = route(&rig);
    rig.crash_engine();
    rig.start_engine("second");
    let patches = AtomicUsize::new(0);
    let own = rig.line().hold_next(move |method, target| {
        route_patch(method, target) && patches.fetch_add(1, Ordering::SeqCst) == 1
    });
    rig.reached(&own).await;
    let fenced = route(&rig);
    assert_ne!(fenced.annotation(EPOCH), before.annotation(EPOCH));
    assert_eq!(fenced["spec"], before["spec"]);
    let answer = late.release().await;
    assert!(answer.is_client_error(), "{answer}");
    assert_eq!(route(&rig), fenced);
    let (seen, answer) = tokio::join!(rig.until_phase(Phase::Succeeded), own.release());
    assert!(answer.is_success(), "{answer}");
    assert_eq!(
        seen,
        sequence(&[
            ("Progressing", 5),
            ("Progressing", 10),
            ("Progressing", 15),
            ("Progressing", 20),
            ("Progressing", 25),
            ("Progressing", 30),
            ("Promoting", 30),
            ("Finalising", 0),
            ("Succeeded", 0),
        ])
    );
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

/// Kubernetes 1.35 switched `restartPolicyRules` on; the types that this program is built with are of 1.33.
async fn a_field_newer_than_our_types_survives<W: World>(rig: Rig<W>) {
    let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let typed: Container =
        serde_json::from_value(json!({"name": "c", "restartPolicyRules": rules})).unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), json!({"name": "c"}));
    let rig = rig.initialize().await;
    promoted(&rig, "1.1.0", |template| {
        template["spec"]["containers"][0]["restartPolicy"] = "OnFailure".into();
        template["spec"]["containers"][0]["restartPolicyRules"] = rules.clone();
    })
    .await;
    let target = rig.object(&DEPLOYMENT, "mcp-server").unwrap();
    assert_eq!(container(&target)["restartPolicyRules"], rules);
    assert_eq!(container(&primary(&rig))["restartPolicyRules"], rules);
}

/// Under server-side apply a field goes only when its last owner drops it; a template that is replaced as a whole asks nobody.
async fn a_field_that_another_manager_owns_too_goes_with_the_template<W: World>(rig: Rig<W>) {
    let rig = rig.initialize().await;
    promoted(&rig, "1.1.0", |template| {
        template["metadata"]["annotations"]["example.com/team"] = "platform".into();
        template["spec"]["containers"][0]["env"] = json!([{"name": "MODE", "value": "a"}]);
    })
    .await;
    rig.apply(
        &DEPLOYMENT,
        "mcp-server-primary",
        "gitops",
        &json!({"spec": {"template": {
            "metadata": {"annotations": {"example.com/team": "platform"}},
            "spec": {"containers": [{"name": "mcp-server", "env": [{"name": "MODE", "value": "a"}]}]},
        }}}),
    )
    .await;
    let owners = |rig: &Rig<W>| -> Vec<String> {
        let primary = primary(rig);
        let entries = primary.array_at("/metadata/managedFields").iter();
        let annotations =
            "/fieldsV1/f:spec/f:template/f:metadata/f:annotations/f:example.com~1team";
        let mut owners: Vec<String> = entries
            .filter(|e| e.pointer(annotations).is_some())
            .map(|e| e.str_at("/manager").unwrap().to_owned())
            .collect();
        owners.sort();
        owners
    };
    assert_eq!(owners(&rig), ["canary-mcp", "gitops"]);
    promoted(&rig, "1.2.0", |template| {
        let annotations = template["metadata"]["annotations"].as_object_mut();
        annotations.unwrap().remove("example.com/team").unwrap();
        let first = template["spec"]["containers"][0].as_object_mut();
        first.unwrap().remove("env").unwrap();
    })
    .await;
    assert_eq!(owners(&rig), Vec::<String>::new());
    let primary = primary(&rig);
    assert_eq!(container(&primary)["env"], Value::Null);
    let annotations = &primary["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["example.com/team"], Value::Null);
}
