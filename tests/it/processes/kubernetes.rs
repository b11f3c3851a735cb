//! What a person does with kubectl, through the kubeconfig that a process has printed.

use std::path::Path;

use canary_mcp::{
    api::objects::{CANARY, DEPLOYMENT, Kind, ObjectExt},
    cluster::registry::install_crypto,
};
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, Patch, PatchParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use super::child::PATIENCE;

pub(crate) const NAMESPACE: &str = "ai-platform";
pub(crate) const NAME: &str = "mcp-server";

/// One context of a kubeconfig.
#[derive(Clone)]
pub(crate) struct Kubectl(pub(super) Client);

impl Kubectl {
    pub(crate) async fn new(kubeconfig: &Path, context: &str) -> Self {
        install_crypto();
        let file = Kubeconfig::read_from(kubeconfig).unwrap();
        let options = KubeConfigOptions {
            context: Some(context.to_owned()),
            ..KubeConfigOptions::default()
        };
        let mut config = Config::from_custom_kubeconfig(file, &options)
            .await
            .unwrap();
        config.proxy_url = None;
        Self(Client::try_from(config).unwrap())
    }

    pub(crate) fn api(&self, kind: &Kind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.0.clone(), namespace, &resource(kind))
    }

    /// Of a kind without namespaces, or in all of them.
    pub(crate) fn everywhere(&self, kind: &Kind) -> Api<DynamicObject> {
        Api::all_with(self.0.clone(), &resource(kind))
    }

    pub(crate) async fn get(&self, kind: &Kind, name: &str) -> Value {
        raw(&self.api(kind, NAMESPACE).get(name).await.unwrap())
    }

    pub(crate) async fn merge(&self, kind: &Kind, name: &str, patch: Value) {
        let as_person = PatchParams::apply("kubectl-patch");
        self.api(kind, NAMESPACE)
            .patch(name, &as_person, &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// `kubectl set image`.
    pub(crate) async fn set_image(&self, image: &str) {
        let as_person = PatchParams::apply("kubectl-set");
        let containers = json!([{"name": NAME, "image": image}]);
        let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
        self.api(&DEPLOYMENT, NAMESPACE)
            .patch(NAME, &as_person, &Patch::Strategic(patch))
            .await
            .unwrap();
    }

    /// `kubectl get --raw`.
    pub(crate) async fn get_raw(&self, path: &str) -> Value {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        self.0.request(request).await.unwrap()
    }

    /// `kubectl get canary mcp-server`: the cells of its row.
    pub(crate) async fn canary_row(&self) -> Vec<String> {
        let path = format!("/apis/flagger.app/v1beta1/namespaces/{NAMESPACE}/canaries/{NAME}");
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        let request = http::Request::get(path).header("accept", table);
        let request = request.body(Vec::new()).unwrap();
        let answer: Value = self.0.request(request).await.unwrap();
        assert_eq!(answer["kind"], "Table", "{answer}");
        let cells = answer["rows"][0]["cells"].as_array().unwrap();
        cells
            .iter()
            .map(|cell| cell.as_str().map_or(cell.to_string(), str::to_owned))
            .collect()
    }

    /// The value of a query to the cluster's Prometheus; 0 for an empty vector.
    pub(crate) async fn query(&self, promql: &str) -> f64 {
        let query: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("query", promql)
            .finish();
        let path = format!(
            "/api/v1/namespaces/istio-system/services/prometheus:9090/proxy/api/v1/query?{query}"
        );
        let answer = self.get_raw(&path).await;
        match answer["data"]["result"].as_array().unwrap().as_slice() {
            [] => 0.0,
            [one] => one["value"][1].as_str().unwrap().parse().unwrap(),
            more => panic!("{promql} must give one value: {more:?}"),
        }
    }

    /// Follows one object from what it is now.
    pub(crate) async fn watch(&self, kind: &Kind, name: &str) -> Watch {
        let api = self.api(kind, NAMESPACE);
        let now = api.get(name).await.unwrap();
        let mut watch = Watch {
            api,
            name: name.to_owned(),
            events: futures::stream::empty().boxed(),
            object: raw(&now),
        };
        watch.open().await;
        watch
    }

    pub(crate) async fn watch_canary(&self) -> Watch {
        self.watch(&CANARY, NAME).await
    }
}

fn resource(kind: &Kind) -> ApiResource {
    ApiResource {
        group: kind.group.to_owned(),
        version: kind.version.to_owned(),
        api_version: kind.api_version(),
        kind: kind.kind.to_owned(),
        plural: kind.plural.to_owned(),
    }
}

pub(crate) fn raw(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap()
}

/// Every change of one object, none left out.
pub(crate) struct Watch {
    api: Api<DynamicObject>,
    name: String,
    events: BoxStream<'static, kube::Result<WatchEvent<DynamicObject>>>,
    pub(crate) object: Value,
}

impl Watch {
    async fn open(&mut self) {
        let of = WatchParams::default()
            .disable_bookmarks()
            .fields(&format!("metadata.name={}", self.name));
        let from = self.object.resource_version();
        self.events = self.api.watch(&of, from).await.unwrap().boxed();
    }

    /// The next state of the object.
    pub(crate) async fn next(&mut self) -> &Value {
        loop {
            match self.events.try_next().await.unwrap() {
                Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    self.object = raw(&object);
                    return &self.object;
                }
                // The API server ends every watch after some time.
                None => self.open().await,
                Some(other) => panic!("{} must stay: {other:?}", self.name),
            }
        }
    }

    /// Waits for a state of the object; the one that is there counts.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> &Value {
        let found = async {
            while !wanted(&self.object) {
                self.next().await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        assert!(found.is_ok(), "waited in vain: {:#}", self.object);
        &self.object
    }

    pub(crate) async fn until_phase(&mut self, phase: &str) -> &Value {
        self.until(|c| c.str_at("/status/phase") == Some(phase))
            .await
    }
}
