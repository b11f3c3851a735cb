//! Namespaces of single tests, and custom resource definitions.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1 as core;
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams},
};
use serde_json::{Value, json};

use super::ControlPlane;

/// A namespace of one test. Dropping it deletes it as well as can be; `finish` sees to it.
pub(crate) struct Namespace {
    name: String,
    /// Gone when the deletion has been asked for.
    of: Option<Arc<ControlPlane>>,
}

impl Namespace {
    pub(super) async fn create(of: Arc<ControlPlane>, prefix: &str) -> Self {
        let all: Api<core::Namespace> = Api::all(of.client());
        let wanted = json!({"metadata": {"generateName": format!("{prefix}-")}});
        let wanted = serde_json::from_value(wanted).unwrap();
        let made = all.create(&PostParams::default(), &wanted).await.unwrap();
        let name = made.metadata.name.unwrap();
        of.undo(&["delete", "namespace", &name, "--wait=false"]);
        Self { name, of: Some(of) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Deletes it with everything in it; in a cluster of others also waits until it is gone.
    pub(crate) async fn finish(mut self) {
        let Some(of) = self.of.take() else { return };
        delete(&of, &self.name).await.unwrap();
        if !of.borrowed {
            return;
        }
        let all: Api<core::Namespace> = Api::all(of.client());
        let patience = std::time::Instant::now() + Duration::from_secs(180);
        while let Some(left) = all.get_opt(&self.name).await.unwrap() {
            let late = std::time::Instant::now() > patience;
            assert!(!late, "the deleted namespace must go: {:?}", left.status);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let Some(of) = self.of.take() else { return };
        let name = self.name.clone();
        // The test's runtime may be on its way out, or its clock may stand still.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            if let Err(why) = runtime.block_on(delete(&of, &name)) {
                eprintln!("cannot delete namespace {name}: {why}");
            }
        });
    }
}

async fn delete(of: &ControlPlane, name: &str) -> kube::Result<()> {
    let all: Api<core::Namespace> = Api::all(of.client());
    all.delete(name, &DeleteParams::background())
        .await
        .map(drop)
}

fn crds(client: &Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    Api::all_with(client.clone(), &ApiResource::from_gvk(&kind))
}

/// Creates a definition unless one of its name is there, which is left as it is.
pub(super) async fn install(of: &ControlPlane, definition: &Value) {
    let object: DynamicObject = serde_json::from_value(definition.clone()).unwrap();
    let crds = crds(&of.client());
    match crds.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        created => {
            let name = created.unwrap().metadata.name.unwrap();
            of.undo(&["delete", "customresourcedefinition", &name, "--wait=false"]);
        }
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
