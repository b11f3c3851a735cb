//! Namespaces of single tests, and custom resource definitions.

use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use kube::{
    Api, Client, Config,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams},
};
use serde_json::{Value, json};

/// A namespace of one test. Dropping it deletes it as well as can be; `finish` sees to it.
pub(crate) struct Namespace {
    name: String,
    config: Option<Config>,
}

impl Namespace {
    pub(super) async fn create(config: &Config, prefix: &str) -> Self {
        let client = Client::try_from(config.clone()).unwrap();
        let all: Api<core::Namespace> = Api::all(client);
        let wanted = json!({"metadata": {"generateName": format!("{prefix}-")}});
        let wanted = serde_json::from_value(wanted).unwrap();
        let made = all.create(&PostParams::default(), &wanted).await.unwrap();
        Self {
            name: made.metadata.name.unwrap(),
            config: Some(config.clone()),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Deletes it with everything in it.
    pub(crate) async fn finish(mut self) {
        if let Some(config) = self.config.take() {
            delete(config, &self.name).await.unwrap();
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let Some(config) = self.config.take() else {
            return;
        };
        let name = self.name.clone();
        // The test's runtime may be on its way out, or its clock may stand still.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            if let Err(why) = runtime.block_on(delete(config, &name)) {
                eprintln!("cannot delete namespace {name}: {why}");
            }
        });
    }
}

async fn delete(config: Config, name: &str) -> kube::Result<()> {
    let all: Api<core::Namespace> = Api::all(Client::try_from(config)?);
    all.delete(name, &DeleteParams::background())
        .await
        .map(drop)
}

fn crds(client: &Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    Api::all_with(client.clone(), &ApiResource::from_gvk(&kind))
}

/// Creates a definition unless one of its name is there.
pub(super) async fn install(client: &Client, definition: &Value) {
    let object: DynamicObject = serde_json::from_value(definition.clone()).unwrap();
    let created = crds(client).create(&PostParams::default(), &object).await;
    match created {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        other => drop(other.unwrap()),
    }
}

/// Waits until the kind of a definition is served.
pub(super) async fn established(client: &Client, definition: &Value) {
    let name = definition["metadata"]["name"].as_str().unwrap();
    for _ in 0..600 {
        let now = crds(client).get(name).await.unwrap();
        let conditions = now.data["status"]["conditions"].as_array();
        if conditions.is_some_and(|all| all.iter().any(is_established)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the definition {name} must become Established");
}

fn is_established(condition: &Value) -> bool {
    condition["type"] == "Established" && condition["status"] == "True"
}
