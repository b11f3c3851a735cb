//! The embedded API server through a real `kube::Client`, in process: the protocol that clients rely on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use canary_mcp::{
    api::objects::{CANARY, CONTROLLER_REVISION, DEPLOYMENT, EVENT, Kind, ObjectExt, POD, SERVICE},
    cluster::{
        clock::Clock,
        embedded::{
            server::ApiServer,
            store::{ChangeKind, Store},
        },
    },
    decide::facts::Moment,
};
use futures::{FutureExt, StreamExt, TryStreamExt};
use k8s_openapi::api::{
    apps::v1::Deployment,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Event as CoreEvent, Namespace, Pod},
    events::v1::Event,
};
use kube::{
    Api, Client, Error,
    api::{
        ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
        PropagationPolicy, WatchEvent, WatchParams,
    },
    core::{Status, response::StatusDetails},
    discovery::Discovery,
    runtime::{
        WatchStreamExt, reflector,
        watcher::{self, Event as Seen},
    },
};
use serde_json::{Value, json};

/// 2026-11-21T00:00:00Z
const EPOCH: Moment = Moment(1_795_219_200_000);
const CONFIG_MAP: Kind = Kind {
    group: "",
    version: "v1",
    kind: "ConfigMap",
    plural: "configmaps",
};
const CRD: Kind = Kind {
    group: "apiextensions.k8s.io",
    version: "v1",
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
};

fn server() -> ApiServer {
    ApiServer::new("test", Store::new(Clock::fast(EPOCH, 20.0)))
}

fn maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), "default")
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(
        json!({"metadata": {"name": name, "labels": {"value": value}}, "data": {"k": value}}),
    )
    .unwrap()
}

fn deployment(name: &str) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": "registry.example/x:1"}]}}},
    }))
    .unwrap()
}

fn dynamic(kind: &Kind, client: &Client, ns: &str) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: kind.group.to_owned(),
        version: kind.version.to_owned(),
        api_version: kind.api_version(),
        kind: kind.kind.to_owned(),
        plural: kind.plural.to_owned(),
    };
    Api::namespaced_with(client.clone(), ns, &resource)
}

fn status<T: std::fmt::Debug>(result: Result<T, Error>) -> Status {
    match result {
        Err(Error::Api(status)) => *status,
        other => panic!("an API error was expected: {other:?}"),
    }
}

/// A request as it is, for what the typed client hides.
async fn raw(
    client: &Client,
    method: &str,
    path: &str,
    media: (&str, &str),
    body: Value,
) -> (u16, Value) {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("accept", media.0)
        .header("content-type", media.1)
        .body(kube::client::Body::from(body.into_bytes()))
        .unwrap();
    let response = client.send(request).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await.unwrap();
    let value = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes).into_owned()));
    (code, value)
}

fn canary_definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "canaries.flagger.app"},
        "spec": {
            "group": "flagger.app", "scope": "Namespaced",
            "names": {"plural": "canaries", "kind": "Canary", "shortNames": ["cd"], "categories": ["all"]},
            "versions": [
                {"name": "v1beta1", "served": true, "storage": true, "subresources": {"status": {}},
                 "additionalPrinterColumns": [
                    {"name": "Status", "type": "string", "jsonPath": ".status.phase"},
                    {"name": "Weight", "type": "integer", "jsonPath": ".status.canaryWeight"}],
                 "schema": {"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {
                    "spec": {"type": "object", "required": ["targetRef"], "properties": {
                        "provider": {"type": "string", "default": "istio"},
                        "suspend": {"type": "boolean"},
                        "targetRef": {"type": "object", "required": ["name"], "properties": {
                            "name": {"type": "string"}, "kind": {"type": "string", "enum": ["Deployment", "DaemonSet"]}}}}},
                    "status": {"type": "object", "properties": {
                        "phase": {"type": "string"}, "canaryWeight": {"type": "integer"}}}}}}},
                {"name": "v1alpha3", "served": true, "storage": false, "subresources": {"status": {}},
                 "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    })
}

fn canary(name: &str) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": name},
        "spec": {"targetRef": {"name": "web", "typo": 1}},
    }))
    .unwrap()
}

// === Writes

#[tokio::test]
async fn a_stale_write_is_a_conflict_in_kubernetes_words() {
    let client = server().client();
    let api = maps(&client);
    let mut first = api
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    assert_eq!(first.metadata.generation, None);
    let mut second = first.clone();
    second.data.as_mut().unwrap().insert("k".into(), "2".into());
    api.replace("a", &PostParams::default(), &second)
        .await
        .unwrap();
    first.data.as_mut().unwrap().insert("k".into(), "3".into());
    let conflict = status(api.replace("a", &PostParams::default(), &first).await);
    assert_eq!((conflict.code, conflict.reason.as_str()), (409, "Conflict"));
    assert_eq!(
        conflict.message,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; \
         please apply your changes to the latest version and try again"
    );
    let patch = json!({"metadata": {"resourceVersion": first.metadata.resource_version}, "data": {"k": "4"}});
    let stale = status(
        api.patch("a", &PatchParams::default(), &Patch::Merge(patch))
            .await,
    );
    assert_eq!(stale.code, 409);
    let exists = status(
        api.create(&PostParams::default(), &config_map("a", "1"))
            .await,
    );
    assert_eq!(
        (exists.code, exists.reason.as_str()),
        (409, "AlreadyExists")
    );
    assert_eq!(exists.message, "configmaps \"a\" already exists");
    let missing = status(api.get("b").await);
    assert_eq!(
        (missing.code, missing.message.as_str()),
        (404, "configmaps \"b\" not found")
    );
    assert_eq!(
        missing.details.map(|d: StatusDetails| (d.name, d.kind)),
        Some(("b".to_owned(), "configmaps".to_owned()))
    );
}

#[tokio::test]
async fn generation_follows_the_spec_and_a_no_op_writes_nothing() {
    let server = server();
    let client = server.client();
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let created = api
        .create(&PostParams::default(), &deployment("web"))
        .await
        .unwrap();
    assert_eq!(created.metadata.generation, Some(1));
    assert_eq!(created.spec.as_ref().unwrap().replicas, Some(1));
    let write = async |patch: Value| {
        let patched = api
            .patch("web", &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
        (
            patched.metadata.generation,
            patched.metadata.resource_version,
        )
    };
    let version = created.metadata.resource_version.clone();
    assert_eq!(
        write(json!({"spec": {"replicas": 1}})).await,
        (Some(1), version)
    );
    assert_eq!(
        write(json!({"metadata": {"labels": {"a": "b"}}})).await.0,
        Some(1)
    );
    assert_eq!(write(json!({"spec": {"replicas": 2}})).await.0, Some(2));
    assert_eq!(
        write(json!({"metadata": {"annotations": {"a": "b"}}}))
            .await
            .0,
        Some(3)
    );
    assert_eq!(write(json!({"status": {"replicas": 9}})).await.0, Some(3));
    assert_eq!(api.get("web").await.unwrap().status.unwrap().replicas, None);
    let status_patch = json!({"status": {"replicas": 2}, "spec": {"replicas": 7}, "metadata": {"labels": {"x": "y"}}});
    let patched = api
        .patch_status("web", &PatchParams::default(), &Patch::Merge(status_patch))
        .await
        .unwrap();
    assert_eq!(patched.status.unwrap().replicas, Some(2));
    assert_eq!(patched.spec.unwrap().replicas, Some(2));
    assert_eq!(patched.metadata.labels.unwrap().get("x"), None);
    assert_eq!(patched.metadata.generation, Some(3));
}

#[tokio::test]
async fn patches_of_all_formats_and_their_refusals() {
    let client = server().client();
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let created = api
        .create(&PostParams::default(), &deployment("web"))
        .await
        .unwrap();
    let strategic = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "registry.example/x:2"}]}}}});
    let patched = api
        .patch(
            "web",
            &PatchParams::apply("me"),
            &Patch::Strategic(strategic),
        )
        .await
        .unwrap();
    let containers = |d: &Deployment| d.spec.clone().unwrap().template.spec.unwrap().containers;
    assert_eq!(
        containers(&patched)[0].image.as_deref(),
        Some("registry.example/x:2")
    );
    assert_eq!(
        containers(&patched)[0].image_pull_policy.as_deref(),
        Some("IfNotPresent")
    );

    let path = "/apis/apps/v1/namespaces/default/deployments/web";
    let json_patch = ("application/json", "application/json-patch+json");
    let uid = created.metadata.uid.clone();
    let good = json!([
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": "/metadata/finalizers", "value": null},
        {"op": "replace", "path": "/spec/replicas", "value": 4}]);
    let (code, body) = raw(&client, "PATCH", path, json_patch, good).await;
    assert_eq!((code, body.int_at("/spec/replicas")), (200, Some(4)));
    let stale = json!([{"op": "test", "path": "/metadata/generation", "value": 1}, {"op": "remove", "path": "/spec/replicas"}]);
    let (code, body) = raw(&client, "PATCH", path, json_patch, stale).await;
    assert_eq!((code, &body["reason"]), (422, &json!("Invalid")));
    assert_eq!(
        body["details"]["causes"][0]["message"],
        "testing value /metadata/generation failed: value did not match"
    );
    assert_eq!(
        api.get("web").await.unwrap().spec.unwrap().replicas,
        Some(4)
    );

    let apply = status(
        api.patch(
            "web",
            &PatchParams::apply("me"),
            &Patch::Apply(deployment("web")),
        )
        .await,
    );
    assert_eq!(apply.code, 415);
    assert!(
        apply.message.contains("server-side apply is not offered"),
        "{}",
        apply.message
    );
    let protobuf = ("application/json", "application/vnd.kubernetes.protobuf");
    let collection = "/apis/apps/v1/namespaces/default/deployments";
    let (code, body) = raw(&client, "POST", collection, protobuf, json!({})).await;
    assert_eq!(code, 415);
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .contains("--dry-run=client -o yaml | kubectl apply -f -")
    );
}

#[tokio::test]
async fn wrong_objects_are_refused_with_the_field() {
    let client = server().client();
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let mut wrong = deployment("web");
    wrong.spec.as_mut().unwrap().template.metadata = None;
    let invalid = status(api.create(&PostParams::default(), &wrong).await);
    assert_eq!((invalid.code, invalid.reason.as_str()), (422, "Invalid"));
    assert!(
        invalid.message.starts_with(
            "Deployment.apps \"web\" is invalid: spec.template.metadata.labels: Invalid value"
        ),
        "{}",
        invalid.message
    );
    let elsewhere: Api<Deployment> = Api::namespaced(client.clone(), "nowhere");
    let missing = status(
        elsewhere
            .create(&PostParams::default(), &deployment("web"))
            .await,
    );
    assert_eq!(
        (missing.code, missing.message.as_str()),
        (404, "namespaces \"nowhere\" not found")
    );
    let path = "/apis/apps/v1/namespaces/default/deployments?fieldValidation=Strict";
    let mut typo = serde_json::to_value(deployment("web")).unwrap();
    typo["spec"]["replica"] = json!(2);
    let (code, body) = raw(
        &client,
        "POST",
        path,
        ("application/json", "application/json"),
        typo,
    )
    .await;
    assert_eq!(
        (code, &body["message"]),
        (
            400,
            &json!("strict decoding error: unknown field \"spec.replica\"")
        )
    );
}

#[tokio::test]
async fn dry_runs_answer_and_keep_nothing() {
    let server = server();
    let api = maps(&server.client());
    let before = server.store().revision();
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let created = api.create(&dry, &config_map("a", "1")).await.unwrap();
    assert!(created.metadata.uid.is_some());
    assert!(api.get_opt("a").await.unwrap().is_none());
    api.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let patch = json!({"data": {"k": "2"}});
    let params = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    let patched = api.patch("a", &params, &Patch::Merge(patch)).await.unwrap();
    assert_eq!(patched.data.unwrap()["k"], "2");
    let dry = DeleteParams {
        dry_run: true,
        ..DeleteParams::default()
    };
    api.delete("a", &dry).await.unwrap();
    assert_eq!(api.get("a").await.unwrap().data.unwrap()["k"], "1");
    assert_eq!(server.store().revision(), before + 1);
}

#[tokio::test]
async fn names_are_made_up_from_a_prefix() {
    let client = server().client();
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"generateName": "run-"}})).unwrap();
    let name = maps(&client)
        .create(&PostParams::default(), &map)
        .await
        .unwrap()
        .metadata
        .name
        .unwrap();
    assert_eq!((name.len(), &name[..4]), (9, "run-"));
    let nameless: ConfigMap = serde_json::from_value(json!({"metadata": {}})).unwrap();
    let invalid = status(
        maps(&client)
            .create(&PostParams::default(), &nameless)
            .await,
    );
    assert_eq!(invalid.code, 422);
}

#[tokio::test]
async fn managed_fields_tell_writers_and_subresources_apart() {
    let client = server().client();
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let by = |manager: &str| PostParams {
        field_manager: Some(manager.into()),
        ..PostParams::default()
    };
    api.create(&by("kubectl"), &deployment("web"))
        .await
        .unwrap();
    let params = PatchParams {
        field_manager: Some("canary-mcp".into()),
        ..PatchParams::default()
    };
    let image = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "registry.example/x:2"}]);
    let patch: json_patch::Patch = serde_json::from_value(image).unwrap();
    api.patch("web", &params, &Patch::<()>::Json(patch))
        .await
        .unwrap();
    api.patch_status(
        "web",
        &params,
        &Patch::Merge(json!({"status": {"replicas": 1}})),
    )
    .await
    .unwrap();
    api.patch_scale(
        "web",
        &params,
        &Patch::Merge(json!({"spec": {"replicas": 3}})),
    )
    .await
    .unwrap();
    let fields = api
        .get("web")
        .await
        .unwrap()
        .metadata
        .managed_fields
        .unwrap();
    let entries: Vec<(String, Option<String>, Value)> = fields
        .into_iter()
        .map(|f| (f.manager.unwrap(), f.subresource, f.fields_v1.unwrap().0))
        .collect();
    assert_eq!(entries.len(), 4);
    assert_eq!(
        (entries[0].0.as_str(), entries[0].1.as_deref()),
        ("kubectl", None)
    );
    assert_eq!(
        entries[1],
        (
            "canary-mcp".to_owned(),
            None,
            json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {"f:image": {}}}}}}})
        )
    );
    assert_eq!(entries[2].1.as_deref(), Some("status"));
    assert_eq!(entries[2].2, json!({"f:status": {"f:replicas": {}}}));
    assert_eq!(entries[3].1.as_deref(), Some("scale"));
    assert_eq!(entries[3].2, json!({"f:spec": {"f:replicas": {}}}));
}

#[tokio::test]
async fn scale_reads_and_writes_replicas() {
    let client = server().client();
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    api.create(&PostParams::default(), &deployment("web"))
        .await
        .unwrap();
    let mut scale = api.get_scale("web").await.unwrap();
    assert_eq!(scale.spec.as_ref().unwrap().replicas, Some(1));
    assert_eq!(
        scale.status.as_ref().unwrap().selector.as_deref(),
        Some("app=web")
    );
    scale.spec.as_mut().unwrap().replicas = Some(5);
    api.replace_scale("web", &PostParams::default(), &scale)
        .await
        .unwrap();
    let scaled = api.get("web").await.unwrap();
    assert_eq!(
        (scaled.spec.unwrap().replicas, scaled.metadata.generation),
        (Some(5), Some(2))
    );
    scale.spec.as_mut().unwrap().replicas = Some(6);
    let stale = status(
        api.replace_scale("web", &PostParams::default(), &scale)
            .await,
    );
    assert_eq!(stale.code, 409);
}

// === Deletion

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_taken_off() {
    let client = server().client();
    let api = maps(&client);
    let mut map = config_map("a", "1");
    map.metadata.finalizers = Some(vec!["x.io/a".into(), "x.io/b".into()]);
    api.create(&PostParams::default(), &map).await.unwrap();
    let marked = api
        .delete("a", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(0));
    let again = api
        .delete("a", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert_eq!(
        again.metadata.resource_version,
        marked.metadata.resource_version
    );
    let merge = |finalizers: Value| Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    let more = merge(json!(["x.io/a", "x.io/b", "x.io/c"]));
    assert_eq!(
        status(api.patch("a", &PatchParams::default(), &more).await).code,
        422
    );
    api.patch("a", &PatchParams::default(), &merge(json!(["x.io/b"])))
        .await
        .unwrap();
    assert!(api.get_opt("a").await.unwrap().is_some());
    api.patch("a", &PatchParams::default(), &merge(Value::Null))
        .await
        .unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn preconditions_guard_a_deletion() {
    let client = server().client();
    let api = maps(&client);
    let created = api
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let with_uid = |uid: &str| DeleteParams {
        preconditions: Some(kube::api::Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    assert_eq!(
        status(api.delete("a", &with_uid("another")).await).code,
        409
    );
    let gone = api
        .delete("a", &with_uid(created.metadata.uid.as_deref().unwrap()))
        .await
        .unwrap();
    assert!(gone.right().unwrap().is_success());
}

fn owned(name: &str, owners: &[&ConfigMap]) -> ConfigMap {
    let mut map = config_map(name, "1");
    let reference = |owner: &&ConfigMap| {
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "ConfigMap",
            "name": owner.metadata.name, "uid": owner.metadata.uid}))
        .unwrap()
    };
    map.metadata.owner_references = Some(owners.iter().map(reference).collect());
    map
}

#[tokio::test]
async fn owned_objects_go_when_all_owners_are_gone() {
    let client = server().client();
    let api = maps(&client);
    let post = PostParams::default();
    let a = api.create(&post, &config_map("a", "1")).await.unwrap();
    let b = api.create(&post, &config_map("b", "1")).await.unwrap();
    let child = api.create(&post, &owned("child", &[&a, &b])).await.unwrap();
    api.create(&post, &owned("grandchild", &[&child]))
        .await
        .unwrap();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    let left = api
        .get("child")
        .await
        .unwrap()
        .metadata
        .owner_references
        .unwrap();
    assert_eq!(
        left.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(),
        ["b"]
    );
    api.delete("b", &DeleteParams::default()).await.unwrap();
    let names = api.list(&ListParams::default()).await.unwrap().items.len();
    assert_eq!(names, 0);
}

#[tokio::test]
async fn orphans_stay_and_foreground_deletion_waits_for_the_owned() {
    let client = server().client();
    let api = maps(&client);
    let post = PostParams::default();
    let policy = |policy| DeleteParams {
        propagation_policy: Some(policy),
        ..DeleteParams::default()
    };
    let a = api.create(&post, &config_map("a", "1")).await.unwrap();
    api.create(&post, &owned("stays", &[&a])).await.unwrap();
    api.delete("a", &policy(PropagationPolicy::Orphan))
        .await
        .unwrap();
    assert_eq!(
        api.get("stays").await.unwrap().metadata.owner_references,
        None
    );

    let b = api.create(&post, &config_map("b", "1")).await.unwrap();
    let mut child = owned("child", &[&b]);
    child.metadata.finalizers = Some(vec!["x.io/a".into()]);
    api.create(&post, &child).await.unwrap();
    let marked = api
        .delete("b", &policy(PropagationPolicy::Foreground))
        .await
        .unwrap()
        .left()
        .unwrap();
    assert_eq!(marked.metadata.finalizers.unwrap(), ["foregroundDeletion"]);
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("child", &PatchParams::default(), &release)
        .await
        .unwrap();
    assert!(api.get_opt("child").await.unwrap().is_none());
    assert!(api.get_opt("b").await.unwrap().is_none());
}

#[tokio::test]
async fn a_namespace_takes_its_content_along() {
    let client = server().client();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace: Namespace =
        serde_json::from_value(json!({"metadata": {"name": "demo"}})).unwrap();
    let created = namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
    assert_eq!(
        created.metadata.labels.unwrap()["kubernetes.io/metadata.name"],
        "demo"
    );
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "demo");
    let mut held = config_map("held", "1");
    held.metadata.finalizers = Some(vec!["x.io/a".into()]);
    api.create(&PostParams::default(), &held).await.unwrap();
    api.create(&PostParams::default(), &config_map("free", "1"))
        .await
        .unwrap();
    namespaces
        .delete("demo", &DeleteParams::default())
        .await
        .unwrap();
    assert!(api.get_opt("free").await.unwrap().is_none());
    let waiting = namespaces.get("demo").await.unwrap();
    assert_eq!(
        waiting.status.unwrap().phase.as_deref(),
        Some("Terminating")
    );
    let refused = status(
        api.create(&PostParams::default(), &config_map("late", "1"))
            .await,
    );
    assert_eq!(refused.code, 403);
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("held", &PatchParams::default(), &release)
        .await
        .unwrap();
    assert!(namespaces.get_opt("demo").await.unwrap().is_none());
}

#[tokio::test]
async fn a_pod_on_a_node_goes_in_two_steps() {
    let server = server();
    let pods: Api<Pod> = Api::namespaced(server.client(), "default");
    let pod = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {"nodeName": "n1",
        "containers": [{"name": "c", "image": "x"}]}});
    server.store().create(&POD, pod, "kubelet").unwrap();
    let marked = pods
        .delete("p", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(30));
    assert!(
        pods.delete("p", &DeleteParams::default())
            .await
            .unwrap()
            .left()
            .is_some()
    );
    server.store().delete(&POD, "default", "p").unwrap();
    assert!(pods.get_opt("p").await.unwrap().is_none());
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let client = server().client();
    let api = maps(&client);
    for (name, value) in [("a", "1"), ("b", "2"), ("c", "1")] {
        api.create(&PostParams::default(), &config_map(name, value))
            .await
            .unwrap();
    }
    let selected = ListParams::default().labels("value in (1)");
    api.delete_collection(&DeleteParams::default(), &selected)
        .await
        .unwrap();
    let left = api.list(&ListParams::default()).await.unwrap();
    assert_eq!(left.items.len(), 1);
    assert_eq!(left.items[0].metadata.name.as_deref(), Some("b"));
}

// === Lists and watches

#[tokio::test]
async fn pages_show_one_revision_whatever_happens_between_them() {
    let server = server();
    let api = maps(&server.client());
    for name in ["a", "b", "c", "d", "e"] {
        api.create(&PostParams::default(), &config_map(name, "1"))
            .await
            .unwrap();
    }
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    let revision = first.metadata.resource_version.clone();
    assert_eq!(first.metadata.remaining_item_count, Some(3));
    api.delete("d", &DeleteParams::default()).await.unwrap();
    api.create(&PostParams::default(), &config_map("bb", "1"))
        .await
        .unwrap();
    let token = first.metadata.continue_.unwrap();
    let rest = api
        .list(&ListParams::default().limit(10).continue_token(&token))
        .await
        .unwrap();
    let names: Vec<_> = rest
        .items
        .iter()
        .map(|m| m.metadata.name.as_deref().unwrap())
        .collect();
    assert_eq!(names, ["c", "d", "e"]);
    assert_eq!(rest.metadata.resource_version, revision);
    assert_eq!(rest.metadata.continue_, None);

    server.store().keep_history(0);
    let expired = status(
        api.list(&ListParams::default().continue_token(&token))
            .await,
    );
    assert_eq!((expired.code, expired.reason.as_str()), (410, "Expired"));
    let malformed = status(
        api.list(&ListParams::default().continue_token("nonsense"))
            .await,
    );
    assert_eq!(malformed.code, 400);
}

#[tokio::test]
async fn lists_of_built_in_kinds_do_not_repeat_the_kind() {
    let client = server().client();
    maps(&client)
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let any = ("application/json", "");
    let (_, list) = raw(&client, "GET", "/api/v1/configmaps", any, Value::Null).await;
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&json!("ConfigMapList"), &json!("v1"))
    );
    assert_eq!(list["items"][0].get("kind"), None);
    let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let (_, list) = raw(
        &client,
        "GET",
        "/api/v1/configmaps",
        (metadata, ""),
        Value::Null,
    )
    .await;
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0].get("data"), None);
    assert_eq!(list["items"][0]["metadata"]["name"], "a");
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_changes_selector_transitions_bookmarks_and_ends() {
    let server = server();
    let api = maps(&server.client());
    api.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let revision = api
        .list(&ListParams::default())
        .await
        .unwrap()
        .metadata
        .resource_version
        .unwrap();
    let params = WatchParams::default().labels("value=1").timeout(90);
    let mut watch = api.watch(&params, &revision).await.unwrap().boxed();
    let set = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"value": value}}}));
    api.patch("a", &PatchParams::default(), &set("2"))
        .await
        .unwrap();
    api.patch("a", &PatchParams::default(), &set("1"))
        .await
        .unwrap();
    api.create(&PostParams::default(), &config_map("other", "3"))
        .await
        .unwrap();
    api.patch(
        "a",
        &PatchParams::default(),
        &Patch::Merge(json!({"data": {"k": "x"}})),
    )
    .await
    .unwrap();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    let mut seen = Vec::new();
    while let Some(event) = watch.try_next().await.unwrap() {
        seen.push(match event {
            WatchEvent::Added(o) => ("added", o.metadata.resource_version.unwrap()),
            WatchEvent::Modified(o) => ("modified", o.metadata.resource_version.unwrap()),
            WatchEvent::Deleted(o) => ("deleted", o.metadata.resource_version.unwrap()),
            WatchEvent::Bookmark(b) => ("bookmark", b.metadata.resource_version),
            WatchEvent::Error(status) => panic!("{status:?}"),
        });
    }
    let own = |n: u64| (revision.parse::<u64>().unwrap() + n).to_string();
    assert_eq!(
        seen,
        [
            ("deleted", own(1)),
            ("added", own(2)),
            ("modified", own(4)),
            ("deleted", own(5)),
            ("bookmark", own(5)),
            ("bookmark", own(5)),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_expired_watch_is_an_error_event_and_the_watcher_lists_again() {
    let server = server();
    let api = maps(&server.client());
    api.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    server.store().keep_history(0);
    let mut watch = api
        .watch(&WatchParams::default(), "1")
        .await
        .unwrap()
        .boxed();
    match watch.try_next().await.unwrap() {
        Some(WatchEvent::Error(status)) => {
            assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
            assert_eq!(status.message, "too old resource version: 1 (5)");
        }
        other => panic!("{other:?}"),
    }
    assert!(watch.try_next().await.unwrap().is_none());

    let mut events = watcher::watcher(api.clone(), watcher::Config::default()).boxed();
    let mut names = Vec::new();
    while let Some(event) = events.next().await {
        match event.unwrap() {
            Seen::InitApply(map) => names.push(map.metadata.name.unwrap()),
            Seen::InitDone => break,
            Seen::Init | Seen::Apply(_) | Seen::Delete(_) => {}
        }
    }
    assert_eq!(names, ["a"]);
    // Each write is forgotten at once, so the next read of the log expires and the watcher has to list again.
    let lists = server.faults().count("list", "configmaps");
    api.create(&PostParams::default(), &config_map("b", "1"))
        .await
        .unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&"b".to_owned()) {
        match events.next().await.unwrap() {
            Ok(Seen::InitApply(map) | Seen::Apply(map)) => seen.push(map.metadata.name.unwrap()),
            Ok(Seen::Init | Seen::InitDone | Seen::Delete(_)) | Err(_) => {}
        }
    }
    assert_eq!(server.faults().count("list", "configmaps"), lists + 1);
}

#[tokio::test(start_paused = true)]
async fn a_reflector_and_a_streaming_list_keep_up() {
    let server = server();
    let api = maps(&server.client());
    api.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let config = watcher::Config::default().streaming_lists();
    let (store, writer) = reflector::store();
    let mut stream = watcher::watcher(api.clone(), config)
        .reflect(writer)
        .applied_objects()
        .boxed();
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(first.metadata.name.as_deref(), Some("a"));
    store.wait_until_ready().now_or_never();
    api.create(&PostParams::default(), &config_map("b", "1"))
        .await
        .unwrap();
    let second = stream.next().await.unwrap().unwrap();
    assert_eq!(second.metadata.name.as_deref(), Some("b"));
    store.wait_until_ready().await.unwrap();
    assert_eq!(store.len(), 2);
    assert_eq!(server.faults().count("list", "configmaps"), 0);
    assert_eq!(server.faults().count("watch", "configmaps"), 1);
}

#[tokio::test]
async fn a_version_from_the_future_is_a_timeout() {
    let client = server().client();
    let future = ("application/json", "");
    let path = "/api/v1/configmaps?resourceVersion=999999";
    let (code, body) = raw(&client, "GET", path, future, Value::Null).await;
    assert_eq!((code, &body["reason"]), (504, &json!("Timeout")));
}

// === Custom resources

#[tokio::test]
async fn a_definition_is_served_at_once_and_its_objects_are_pruned_defaulted_and_checked() {
    let server = server();
    let client = server.client();
    let api = dynamic(&CANARY, &client, "default");
    assert_eq!(
        status(api.create(&PostParams::default(), &canary("a")).await).code,
        404
    );
    server
        .store()
        .create(&CRD, canary_definition(), "kubectl")
        .unwrap();
    let definition = server
        .store()
        .get(&CRD, "", "canaries.flagger.app")
        .unwrap();
    let conditions: Vec<_> = definition
        .array_at("/status/conditions")
        .iter()
        .map(|c| (c["type"].as_str().unwrap(), c["status"].as_str().unwrap()))
        .collect();
    assert_eq!(
        conditions,
        [("NamesAccepted", "True"), ("Established", "True")]
    );

    let created = api
        .create(&PostParams::default(), &canary("a"))
        .await
        .unwrap();
    assert_eq!(
        created.data["spec"],
        json!({"provider": "istio", "targetRef": {"name": "web"}})
    );
    assert_eq!(created.metadata.generation, Some(1));
    let patch = Patch::Merge(
        json!({"status": {"phase": "Progressing", "canaryWeight": 5, "odd": 1}, "spec": {"suspend": true}}),
    );
    let main = api
        .patch("a", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(
        (main.data.get("status"), main.metadata.generation),
        (None, Some(2))
    );
    let sub = api
        .patch_status("a", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(
        sub.data["status"],
        json!({"phase": "Progressing", "canaryWeight": 5})
    );
    assert_eq!(sub.metadata.generation, Some(2));

    let wrong = Patch::Merge(
        json!({"spec": {"targetRef": {"name": null, "kind": "Job"}, "suspend": "yes"}}),
    );
    let invalid = status(api.patch("a", &PatchParams::default(), &wrong).await);
    let causes: Vec<_> = invalid
        .details
        .unwrap()
        .causes
        .into_iter()
        .map(|c| c.field)
        .collect();
    assert_eq!(
        causes,
        ["spec.suspend", "spec.targetRef.name", "spec.targetRef.kind"]
    );

    let alpha = Kind {
        version: "v1alpha3",
        ..CANARY
    };
    let other = dynamic(&alpha, &client, "default").get("a").await.unwrap();
    assert_eq!(other.types.unwrap().api_version, "flagger.app/v1alpha3");
    let strategic = Patch::Strategic(json!({"spec": {}}));
    assert_eq!(
        status(api.patch("a", &PatchParams::default(), &strategic).await).code,
        415
    );

    server
        .store()
        .delete(&CRD, "", "canaries.flagger.app")
        .unwrap();
    assert_eq!(status(api.get("a").await).code, 404);
    server
        .store()
        .create(&CRD, canary_definition(), "kubectl")
        .unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn a_put_of_a_custom_resource_has_to_name_the_version_it_replaces() {
    let server = server();
    server
        .store()
        .create(&CRD, canary_definition(), "kubectl")
        .unwrap();
    let api = dynamic(&CANARY, &server.client(), "default");
    let created = api
        .create(&PostParams::default(), &canary("a"))
        .await
        .unwrap();
    let mut blind = created.clone();
    blind.metadata.resource_version = None;
    let invalid = status(api.replace("a", &PostParams::default(), &blind).await);
    assert_eq!(invalid.code, 422);
    assert!(
        invalid.message.contains("metadata.resourceVersion"),
        "{}",
        invalid.message
    );
    api.replace("a", &PostParams::default(), &created)
        .await
        .unwrap();
}

// === Discovery, tables, events, proxy, faults

#[tokio::test]
async fn discovery_finds_built_in_and_custom_kinds_both_ways() {
    let server = server();
    server
        .store()
        .create(&CRD, canary_definition(), "kubectl")
        .unwrap();
    let client = server.client();
    let version = client.apiserver_version().await.unwrap();
    assert_eq!(
        (version.major.as_str(), version.minor.as_str()),
        ("1", "33")
    );
    let aggregated = Discovery::new(client.clone())
        .run_aggregated()
        .await
        .unwrap();
    let legacy = Discovery::new(client.clone()).run().await.unwrap();
    for discovery in [aggregated, legacy] {
        let group = discovery.get("flagger.app").unwrap();
        assert_eq!(group.preferred_version_or_latest(), "v1beta1");
        let (resource, capabilities) = group.recommended_kind("Canary").unwrap();
        assert_eq!(resource.plural, "canaries");
        assert!(capabilities.supports_operation(kube::discovery::verbs::WATCH));
        let core = discovery.get("").unwrap();
        assert!(core.recommended_kind("Pod").is_some());
        let apps = discovery
            .get("apps")
            .unwrap()
            .recommended_kind("Deployment")
            .unwrap();
        let subresources: Vec<_> = apps
            .1
            .subresources
            .iter()
            .map(|(r, _)| r.plural.as_str())
            .collect();
        assert!(
            subresources.iter().any(|s| s.ends_with("scale")),
            "{subresources:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn tables_show_printer_columns_and_virtual_ages() {
    let server = server();
    server
        .store()
        .create(&CRD, canary_definition(), "kubectl")
        .unwrap();
    let client = server.client();
    dynamic(&CANARY, &client, "default")
        .create(&PostParams::default(), &canary("a"))
        .await
        .unwrap();
    server
        .store()
        .modify_status(&CANARY, "default", "a", "canary-mcp", |canary| {
            canary["status"] = json!({"phase": "Progressing", "canaryWeight": 5});
        })
        .unwrap();
    maps(&client)
        .create(&PostParams::default(), &config_map("m", "1"))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(9)).await;
    let table = ("application/json;as=Table;v=v1;g=meta.k8s.io", "");
    let path = "/apis/flagger.app/v1beta1/namespaces/default/canaries";
    let (_, canaries) = raw(&client, "GET", path, table, Value::Null).await;
    let names: Vec<_> = canaries
        .array_at("/columnDefinitions")
        .iter()
        .map(|c| c["name"].clone())
        .collect();
    assert_eq!(names, ["Name", "Status", "Weight"]);
    assert_eq!(canaries["rows"][0]["cells"], json!(["a", "Progressing", 5]));
    assert_eq!(
        canaries["rows"][0]["object"]["kind"],
        "PartialObjectMetadata"
    );
    let (_, maps) = raw(&client, "GET", "/api/v1/configmaps", table, Value::Null).await;
    assert_eq!(maps["rows"][0]["cells"], json!(["m", 1, "3m"]));
}

#[tokio::test]
async fn events_are_one_object_in_both_groups() {
    let server = server();
    let client = server.client();
    let newer: Api<Event> = Api::namespaced(client.clone(), "default");
    let event: Event = serde_json::from_value(json!({
        "metadata": {"name": "web.1"}, "eventTime": "2026-11-21T00:00:00.000000Z",
        "reportingController": "canary-mcp", "reportingInstance": "x", "action": "Synced", "reason": "Synced",
        "type": "Normal", "note": "advance", "regarding": {"kind": "Canary", "name": "web", "namespace": "default"},
    }))
    .unwrap();
    newer.create(&PostParams::default(), &event).await.unwrap();
    let core: Api<CoreEvent> = Api::namespaced(client.clone(), "default");
    let about = ListParams::default().fields("involvedObject.kind=Canary,involvedObject.name=web");
    let seen = core.list(&about).await.unwrap();
    assert_eq!(seen.items[0].message.as_deref(), Some("advance"));
    assert_eq!(seen.items[0].involved_object.name.as_deref(), Some("web"));
    let legacy: CoreEvent = serde_json::from_value(json!({
        "metadata": {"name": "web.2"}, "reason": "Killing", "message": "bye", "type": "Warning", "count": 2,
        "source": {"component": "kubelet"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
    }))
    .unwrap();
    core.create(&PostParams::default(), &legacy).await.unwrap();
    let about = ListParams::default().fields("regarding.name=p");
    let seen = newer.list(&about).await.unwrap();
    assert_eq!(seen.items[0].note.as_deref(), Some("bye"));
    assert_eq!(seen.items[0].deprecated_count, Some(2));
    let patch = Patch::Merge(json!({"count": 3, "message": "bye bye"}));
    let patched = core
        .patch("web.2", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(
        (patched.count, patched.message.as_deref()),
        (Some(3), Some("bye bye"))
    );
    assert_eq!(server.store().list(&EVENT, Some("default")).len(), 2);
    let wrong = core.list(&ListParams::default().fields("data.k=v")).await;
    assert_eq!(status(wrong).code, 400);
}

#[tokio::test]
async fn calls_of_services_go_to_the_proxy_of_the_cluster() {
    let server = server();
    let client = server.client();
    let path = "/api/v1/namespaces/istio-system/services/http:prometheus:9090/proxy/api/v1/query?query=a%2Bb";
    let (code, body) = raw(&client, "GET", path, ("", ""), Value::Null).await;
    assert_eq!((code, &body["reason"]), (503, &json!("ServiceUnavailable")));
    server.on_service_proxy(Arc::new(|call| {
        async move {
            let answer = json!({
                "service": format!("{}/{}:{}", call.namespace, call.service, call.port),
                "uri": call.request.uri().to_string(),
                "method": call.request.method().as_str(),
            });
            let mut response = http::Response::new(Bytes::from(answer.to_string()));
            *response.status_mut() = http::StatusCode::ACCEPTED;
            response
        }
        .boxed()
    }));
    let (code, body) = raw(&client, "GET", path, ("", ""), Value::Null).await;
    assert_eq!(code, 202);
    assert_eq!(
        body,
        json!({"service": "istio-system/prometheus:9090", "uri": "/api/v1/query?query=a%2Bb", "method": "GET"})
    );
    let bare = "/api/v1/namespaces/test/services/loadtester/proxy/";
    let (_, body) = raw(&client, "POST", bare, ("", ""), json!({})).await;
    assert_eq!(
        (&body["service"], &body["uri"]),
        (&json!("test/loadtester:"), &json!("/"))
    );
}

#[tokio::test]
async fn a_dropped_answer_is_a_write_that_happened() {
    let server = server();
    let api = maps(&server.client());
    server
        .faults()
        .drop_next_answer(|request| request.verb == "create" && request.plural == "configmaps");
    let lost = api
        .create(&PostParams::default(), &config_map("a", "1"))
        .await;
    assert!(matches!(lost, Err(Error::Service(_))), "{lost:?}");
    assert!(api.get_opt("a").await.unwrap().is_some());
    api.create(&PostParams::default(), &config_map("b", "1"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_held_write_arrives_late_even_when_its_client_has_given_up() {
    let server = server();
    let client = server.client();
    let api = maps(&client);
    api.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let held = server.faults().hold_next(|request| request.verb == "patch");
    let late = tokio::spawn({
        let api = api.clone();
        async move {
            let patch = Patch::Merge(json!({"data": {"k": "late"}}));
            api.patch("a", &PatchParams::default(), &patch).await
        }
    });
    held.reached().await;
    assert_eq!(api.get("a").await.unwrap().data.unwrap()["k"], "1");
    late.abort();
    let mut revisions = server.store().subscribe();
    let before = *revisions.borrow_and_update();
    held.release();
    revisions
        .wait_for(|revision| *revision > before)
        .await
        .unwrap();
    assert_eq!(api.get("a").await.unwrap().data.unwrap()["k"], "late");
}

#[tokio::test]
async fn requests_are_counted_by_verb_and_resource() {
    let server = server();
    let api = maps(&server.client());
    api.list(&ListParams::default()).await.unwrap();
    api.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    api.get("a").await.unwrap();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    let faults = server.faults();
    assert_eq!((faults.reads(), faults.writes()), (2, 2));
    assert_eq!(faults.count("delete", "configmaps"), 1);
    faults.reset_counts();
    assert_eq!((faults.reads(), faults.writes()), (0, 0));
}

#[tokio::test]
async fn leases_are_replaced_by_version_and_answers_carry_the_wall_clock() {
    let client = server().client();
    let api: Api<Lease> = Api::namespaced(client.clone(), "kube-system");
    let lease: Lease = serde_json::from_value(json!({"metadata": {"name": "canary-mcp"},
        "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15, "leaseTransitions": 0,
            "renewTime": "2026-11-21T00:00:00.000000Z"}}))
    .unwrap();
    let created = api.create(&PostParams::default(), &lease).await.unwrap();
    let mut next = created.clone();
    next.spec.as_mut().unwrap().holder_identity = Some("b".into());
    api.replace("canary-mcp", &PostParams::default(), &next)
        .await
        .unwrap();
    assert_eq!(
        status(
            api.replace("canary-mcp", &PostParams::default(), &next)
                .await
        )
        .code,
        409
    );
    let request = http::Request::get("/version")
        .body(kube::client::Body::empty())
        .unwrap();
    let response = client.send(request).await.unwrap();
    let date = response.headers()["date"].to_str().unwrap().to_owned();
    assert!(date.ends_with(" GMT"), "{date}");
}

#[tokio::test]
async fn everything_is_allowed_and_says_so() {
    let client = server().client();
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let (code, body) = raw(&client, "POST", path, ("", "application/json"), review).await;
    assert_eq!((code, &body["status"]["allowed"]), (201, &json!(true)));
    for path in ["/healthz", "/readyz", "/livez"] {
        let (code, body) = raw(&client, "GET", path, ("", ""), Value::Null).await;
        assert_eq!((code, body), (200, json!("ok")));
    }
    let (code, body) = raw(&client, "GET", "/nonsense", ("", ""), Value::Null).await;
    assert_eq!((code, body), (404, json!("404 page not found\n")));
}

// === The store, as controllers use it

#[tokio::test]
async fn controllers_read_the_log() {
    let store = Store::new(Clock::fast(EPOCH, 20.0));
    let start = store.revision();
    let map = json!({"metadata": {"name": "a", "namespace": "default"}, "data": {"k": "1"}});
    store.create(&CONFIG_MAP, map, "me").unwrap();
    store
        .modify(&CONFIG_MAP, "default", "a", "me", |map| {
            map["data"]["k"] = json!("2")
        })
        .unwrap();
    store
        .modify(&CONFIG_MAP, "default", "a", "me", |_| {})
        .unwrap();
    assert_eq!(
        store
            .modify(&CONFIG_MAP, "default", "none", "me", |_| {})
            .unwrap(),
        None
    );
    store.delete(&CONFIG_MAP, "default", "a").unwrap();
    let changes = store.changes_since(start).unwrap();
    let kinds: Vec<_> = changes
        .iter()
        .map(|c| (c.revision - start, c.kind))
        .collect();
    assert_eq!(
        kinds,
        [
            (1, ChangeKind::Added),
            (2, ChangeKind::Modified),
            (3, ChangeKind::Deleted)
        ]
    );
    assert!(changes.iter().all(|c| c.resource.is(&CONFIG_MAP)));
    assert_eq!(changes[1].previous.as_ref().unwrap()["data"]["k"], "1");
    assert_eq!(
        changes[2].object.resource_version(),
        (start + 3).to_string()
    );
    store.keep_history(1);
    assert!(store.changes_since(start).is_none());
    assert_eq!(store.changes_since(start + 2).unwrap().len(), 1);
}

#[tokio::test]
async fn services_get_addresses_and_keep_them() {
    let store = Store::new(Clock::fast(EPOCH, 20.0));
    let service = |name: &str| json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"ports": [{"port": 80}]}});
    let first = store.create(&SERVICE, service("a"), "me").unwrap();
    let second = store.create(&SERVICE, service("b"), "me").unwrap();
    assert_eq!(first["spec"]["clusterIP"], "10.96.0.1");
    assert_eq!(second["spec"]["clusterIPs"], json!(["10.96.0.2"]));
    let replaced = store
        .modify(&SERVICE, "default", "a", "me", |s| *s = service("a"))
        .unwrap()
        .unwrap();
    assert_eq!(replaced["spec"]["clusterIP"], "10.96.0.1");
}

#[tokio::test]
async fn an_object_of_an_owner_that_is_gone_does_not_stay() {
    let store = Store::new(Clock::fast(EPOCH, 20.0));
    let revision = json!({"metadata": {"name": "r", "namespace": "default", "ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "Deployment", "name": "gone", "uid": "no-such-uid"}]},
        "data": {}, "revision": 1});
    store.create(&CONTROLLER_REVISION, revision, "me").unwrap();
    assert!(store.get(&CONTROLLER_REVISION, "default", "r").is_none());
}

#[tokio::test]
async fn writers_in_parallel_lose_no_update() {
    let server = server();
    let client = server.client();
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    api.create(&PostParams::default(), &deployment("web"))
        .await
        .unwrap();
    let retries = Arc::new(AtomicU32::new(0));
    let write = |_| {
        let (api, retries) = (api.clone(), Arc::clone(&retries));
        tokio::spawn(async move {
            loop {
                let mut current = api.get("web").await.unwrap();
                *current.spec.as_mut().unwrap().replicas.as_mut().unwrap() += 1;
                match api.replace("web", &PostParams::default(), &current).await {
                    Ok(_) => return,
                    Err(Error::Api(status)) if status.code == 409 => {
                        retries.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        })
    };
    futures::future::join_all((0..20).map(write)).await;
    let stored = server.store().get(&DEPLOYMENT, "default", "web").unwrap();
    assert_eq!(stored.int_at("/spec/replicas"), Some(21));
    assert_eq!(stored.generation(), Some(21));
    assert!(retries.load(Ordering::Relaxed) > 0);
}
