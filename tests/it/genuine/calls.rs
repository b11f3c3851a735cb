//! Requests to a genuine API server, as a person's tools make them.

use std::{path::Path, sync::Arc, time::Duration};

use canary_mcp::api::objects::{Kind, Object};
use futures::StreamExt;
use http::{Method, Request, Uri};
use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
    core::WatchEvent,
};
use serde_json::{Value, json};

/// As the product makes its clients: nothing is sent twice, and no proxy is taken unasked.
pub(super) async fn client(kubeconfig: &Path) -> Client {
    let file = Kubeconfig::read_from(kubeconfig).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(file, &options).await;
    let mut config = config.unwrap();
    config.default_retry = false;
    config.proxy_url = None;
    Client::try_from(config).unwrap()
}

/// A client that sees one namespace: what it asks of the whole cluster is asked of that. So each scenario has an engine of its own that
/// drives nobody else's Canary, on one control plane for all.
pub(super) fn narrowed(inner: Client, namespace: String) -> Client {
    let service = tower::service_fn(move |mut request: Request<Body>| {
        let inner = inner.clone();
        if let Some(uri) = narrow(request.uri(), &namespace) {
            *request.uri_mut() = uri;
        }
        async move { inner.send(request).await }
    });
    Client::new(service, "default")
}

/// `/api/v1/services` becomes `/api/v1/namespaces/NS/services`; what has no namespace stays.
fn narrow(uri: &Uri, namespace: &str) -> Option<Uri> {
    let segments: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    let (base, resource) = match segments.as_slice() {
        ["api", version, resource] => (format!("/api/{version}"), resource),
        ["apis", group, version, resource] => (format!("/apis/{group}/{version}"), resource),
        _ => return None,
    };
    let has_no_namespace = matches!(
        *resource,
        "namespaces" | "nodes" | "customresourcedefinitions"
    );
    // What a process may do, and who it is.
    if has_no_namespace || (resource.starts_with("selfsubject") && resource.ends_with("reviews")) {
        return None;
    }
    let query = uri.query().map_or_else(String::new, |q| format!("?{q}"));
    format!("{base}/namespaces/{namespace}/{resource}{query}")
        .parse()
        .ok()
}

/// Path of an object, or of all of a kind in a namespace.
pub(super) fn path(kind: &Kind, namespace: &str, name: &str) -> String {
    let api = if kind.group.is_empty() { "api" } else { "apis" };
    let (version, plural) = (kind.api_version(), kind.plural);
    let path = format!("/{api}/{version}/namespaces/{namespace}/{plural}/{name}");
    path.trim_end_matches('/').to_owned()
}

/// One request; the code of what is refused.
pub(super) async fn call(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, u16> {
    let patches = method == Method::PATCH;
    let content = if patches {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let body = body.map_or_else(Vec::new, |body| serde_json::to_vec(body).unwrap());
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content)
        .body(body);
    match client.request(request.unwrap()).await {
        Ok(answer) => Ok(answer),
        Err(kube::Error::Api(status)) => {
            if !matches!(status.code, 404 | 409) {
                eprintln!("{path}: {status}");
            }
            Err(status.code)
        }
        Err(error) => panic!("{path}: {error}"),
    }
}

pub(super) async fn get(
    client: &Client,
    kind: &Kind,
    namespace: &str,
    name: &str,
) -> Option<Object> {
    match call(client, Method::GET, &path(kind, namespace, name), None).await {
        Ok(object) => Some(Arc::new(object)),
        Err(404) => None,
        Err(code) => panic!("{} {name}: {code}", kind.kind),
    }
}

pub(super) async fn post(client: &Client, kind: &Kind, namespace: &str, object: &Value) {
    let mut object = object.clone();
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.into();
    object["metadata"]["namespace"] = namespace.into();
    let path = format!("{}?fieldManager=kubectl-create", path(kind, namespace, ""));
    call(client, Method::POST, &path, Some(&object))
        .await
        .unwrap();
}

/// Writes a part of an object's status, unless the object is gone.
pub(super) async fn merge_status(
    client: &Client,
    kind: &Kind,
    namespace: &str,
    name: &str,
    status: &Value,
) {
    let path = path(kind, namespace, name);
    let path = format!("{path}/status?fieldManager=kubelet");
    let part = json!({"status": status});
    match call(client, Method::PATCH, &path, Some(&part)).await {
        Ok(_) | Err(404) => {}
        Err(code) => panic!("{} {name}: {code}", kind.kind),
    }
}

/// Tells every state of every object of a kind, in their order, for ever.
pub(super) async fn follow(
    client: Client,
    kind: Kind,
    namespace: String,
    selector: String,
    mut tell: impl FnMut(Object),
) {
    let path = path(&kind, &namespace, "");
    loop {
        let listed = call(&client, Method::GET, &format!("{path}?{selector}"), None).await;
        let mut listed = match listed {
            Ok(listed) => listed,
            // The definition has just been installed.
            Err(429) => {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
            // The namespace is on its way out.
            Err(_) => return,
        };
        let from = listed["metadata"]["resourceVersion"].take();
        let items = listed["items"].as_array().cloned().unwrap_or_default();
        items.into_iter().map(Object::new).for_each(&mut tell);
        let uri = format!(
            "{path}?watch=true&resourceVersion={}{selector}",
            from.as_str().unwrap()
        );
        let request = Request::get(uri).body(Vec::new()).unwrap();
        let Ok(events) = client.request_events::<Value>(request).await else {
            return;
        };
        let mut events = std::pin::pin!(events);
        while let Some(Ok(event)) = events.next().await {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    tell(Object::new(object));
                }
                WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(_) => break,
            }
        }
    }
}
