//! The embedded API server through a real `kube::Client`, in process: the protocol that clients rely on.

mod access;
mod custom;
mod deletion;
mod store;
mod watches;
mod writes;

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
        PropagationPolicy, VersionMatch, WatchEvent, WatchParams,
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
