//! A genuine Kubernetes control plane: etcd, kube-apiserver and kube-controller-manager, without nodes. Pods stay Pending unless a test plays
//! the kubelet.

mod features;
mod namespace;
mod origin;
mod processes;
mod tests;
mod undo;

use std::{
    path::Path,
    process::Command,
    sync::{Arc, OnceLock},
};

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, Client, api::PostParams, config::AuthInfo};
use serde_json::Value;

pub(crate) use features::Feature;
pub(crate) use namespace::Namespace;

use origin::{Origin, Programs};
use processes::{Access, Running};

use crate::tools;

/// The oldest Kubernetes that rollouts are supported on; older ones serve the protocol suite only.
const OLDEST_SUPPORTED: (u32, u32) = (1, 23);

/// One API server with its controllers, with the rights of cluster-admin.
pub(crate) struct ControlPlane {
    access: Access,
    controllers: bool,
    /// Debian's old one, because the newest could not be built.
    fallback: bool,
    /// A cluster of others, in which everything that we make is undone.
    borrowed: bool,
    custom_resources: tokio::sync::OnceCell<()>,
    running: Running,
}

impl ControlPlane {
    /// The one of this test process, started on first use. `None`: none is installed, which has been said.
    pub(crate) async fn shared() -> Option<Arc<Self>> {
        static SHARED: OnceLock<Result<Arc<ControlPlane>, String>> = OnceLock::new();
        let origin = Origin::found()?;
        let start = move || SHARED.get_or_init(|| Self::start(&origin)).clone();
        let started = tokio::task::spawn_blocking(start).await.unwrap();
        Some(started.unwrap_or_else(|why| panic!("{why}")))
    }

    /// One for a single test, that changes what belongs to the whole cluster; never a cluster of others. It ends when it is dropped.
    pub(crate) async fn own() -> Option<Arc<Self>> {
        let origin = Origin::Programs(Programs::found()?);
        let started = tokio::task::spawn_blocking(move || Self::start(&origin)).await;
        Some(started.unwrap().unwrap_or_else(|why| panic!("{why}")))
    }

    /// Starts it on a runtime of its own, because the tests' runtimes come and go, and some have a clock that stands still.
    fn start(origin: &Origin) -> Result<Arc<Self>, String> {
        let start = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|e| format!("cannot start the control plane: {e}"))?;
            runtime.block_on(Running::start(origin))
        };
        let started = std::thread::scope(|scope| scope.spawn(start).join());
        let (running, access) = started.map_err(|_| "starting the control plane panicked")??;
        let (controllers, fallback) = match origin {
            Origin::Cluster => (true, false),
            Origin::Programs(p) => (p.has_controllers(), p.fallback.is_some()),
        };
        Ok(Arc::new(Self {
            access,
            controllers,
            fallback,
            borrowed: matches!(origin, Origin::Cluster),
            custom_resources: tokio::sync::OnceCell::new(),
            running,
        }))
    }

    /// A new client; one belongs to the runtime that it was made in.
    pub(crate) fn client(&self) -> Client {
        Client::try_from(self.access.config.clone()).unwrap()
    }

    /// A client that shows each answer as it came, also those for which the usual one asks again (429, 503, 504).
    pub(crate) fn plain_client(&self) -> Client {
        let mut config = self.access.config.clone();
        config.default_retry = false;
        Client::try_from(config).unwrap()
    }

    /// A client that has nothing but the token of this service account, which has just been asked for.
    pub(crate) async fn client_as(&self, namespace: &str, account: &str) -> Client {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let hour = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: Some(3600),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let options = PostParams::default();
        let asked = accounts.create_token_request(account, &options, &hour);
        let token = asked.await.unwrap().status.unwrap().token;
        let mut config = self.access.config.clone();
        config.auth_info = AuthInfo {
            token: Some(token.into()),
            ..AuthInfo::default()
        };
        Client::try_from(config).unwrap()
    }

    /// For kubectl and other programs.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.access.kubeconfig
    }

    /// kubectl, with this cluster as its own.
    pub(crate) fn kubectl(&self) -> Command {
        let mut kubectl = Command::new(origin::kubectl());
        kubectl.arg("--kubeconfig").arg(self.kubeconfig());
        kubectl
    }

    /// Major and minor.
    pub(crate) fn version(&self) -> (u32, u32) {
        self.access.version
    }

    /// Whether rollouts are supported on it. If not it serves the protocol suite only, and that is said.
    pub(crate) fn supported(&self) -> bool {
        self.lacks(Feature::Rollouts).is_none()
    }

    /// Why a test that needs this feature must be skipped here. That it is skipped has then been said.
    pub(crate) fn lacks(&self, feature: Feature) -> Option<&'static str> {
        let (major, minor) = self.access.version;
        let lack = features::lack(self.access.version, self.controllers, feature)?;
        eprintln!("skipped on Kubernetes {major}.{minor}: {lack}");
        assert!(
            self.fallback || !tools::in_ci(),
            "with CI=true nothing is skipped but on Debian's control plane: {lack}"
        );
        Some(lack)
    }

    /// A new namespace, whose name begins so.
    pub(crate) async fn namespace(self: &Arc<Self>, prefix: &str) -> Namespace {
        Namespace::create(Arc::clone(self), prefix).await
    }

    /// Installs our custom resources and those of the mesh and the scaler, and waits until they are served. Once for a control plane.
    pub(crate) async fn install_crds(&self) {
        let install = || async { self.install(&definitions()).await };
        self.custom_resources.get_or_init(install).await;
    }

    /// Installs custom resource definitions, and waits until they are served.
    pub(crate) async fn install(&self, definitions: &[Value]) {
        for definition in definitions {
            namespace::install(self, definition).await;
        }
        let client = self.client();
        for definition in definitions {
            namespace::established(&client, definition).await;
        }
    }

    /// In a cluster of others: what kubectl does at the end of this process.
    pub(crate) fn undo(&self, arguments: &[&str]) {
        if !self.borrowed {
            return;
        }
        let kubectl = origin::kubectl();
        let mut words = vec![kubectl.to_str().unwrap(), "--kubeconfig"];
        words.push(self.access.kubeconfig.to_str().unwrap());
        words.extend(arguments);
        words.push("--ignore-not-found");
        self.running.undo.with(&words).unwrap();
    }
}

/// Our own custom resource definitions, and the embedded fleet's structural ones.
fn definitions() -> Vec<Value> {
    let mut definitions = canary_mcp::api::crd::crds();
    for text in [
        include_str!("../../src/cluster/embedded/crds/istio.yaml"),
        include_str!("../../src/cluster/embedded/crds/keda.yaml"),
    ] {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
        definitions.extend(documents);
    }
    definitions
}
