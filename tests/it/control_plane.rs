//! A genuine Kubernetes control plane: etcd, kube-apiserver and kube-controller-manager, without nodes. Pods stay Pending unless a test plays
//! the kubelet.

mod features;
mod namespace;
mod processes;
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use kube::{Client, Config};
use serde_json::Value;

pub(crate) use features::Feature;
pub(crate) use namespace::Namespace;

use processes::{Programs, Running};

/// The oldest Kubernetes that rollouts are supported on; older ones serve the protocol suite only.
const OLDEST_SUPPORTED: (u32, u32) = (1, 23);

/// One API server with its controllers, with the rights of cluster-admin.
pub(crate) struct ControlPlane {
    config: Config,
    kubeconfig: PathBuf,
    version: (u32, u32),
    custom_resources: tokio::sync::OnceCell<()>,
    _running: Running,
}

impl ControlPlane {
    /// The one of this test process, started on first use. `None`: none is installed, which has been said.
    pub(crate) async fn shared() -> Option<Arc<Self>> {
        static SHARED: OnceLock<Result<Arc<ControlPlane>, String>> = OnceLock::new();
        let programs = Programs::found()?;
        let start = move || SHARED.get_or_init(|| Self::start(&programs)).clone();
        let started = tokio::task::spawn_blocking(start).await.unwrap();
        Some(started.unwrap_or_else(|why| panic!("{why}")))
    }

    /// One for a single test, that changes what belongs to the whole cluster. It ends when it is dropped.
    pub(crate) async fn own() -> Option<Arc<Self>> {
        let programs = Programs::found()?;
        let started = tokio::task::spawn_blocking(move || Self::start(&programs)).await;
        Some(started.unwrap().unwrap_or_else(|why| panic!("{why}")))
    }

    /// Starts it on a runtime of its own, because the tests' runtimes come and go, and some have a clock that stands still.
    fn start(programs: &Programs) -> Result<Arc<Self>, String> {
        let start = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|e| format!("cannot start the control plane: {e}"))?;
            let (running, config, kubeconfig, version) =
                runtime.block_on(Running::start(programs))?;
            Ok(Arc::new(Self {
                config,
                kubeconfig,
                version,
                custom_resources: tokio::sync::OnceCell::new(),
                _running: running,
            }))
        };
        let started = std::thread::scope(|scope| scope.spawn(start).join());
        started.map_err(|_| "starting the control plane panicked".to_owned())?
    }

    /// A new client; one belongs to the runtime that it was made in.
    pub(crate) fn client(&self) -> Client {
        Client::try_from(self.config.clone()).unwrap()
    }

    /// For kubectl and other programs.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Major and minor.
    pub(crate) fn version(&self) -> (u32, u32) {
        self.version
    }

    /// Whether rollouts are supported on it. If not it serves the protocol suite only, and that is said.
    pub(crate) fn supported(&self) -> bool {
        self.lacks(Feature::Rollouts).is_none()
    }

    /// Why a test that needs this feature must be skipped here. That it is skipped has then been said.
    pub(crate) fn lacks(&self, feature: Feature) -> Option<&'static str> {
        let lack = features::lack(self.version, feature)?;
        let (major, minor) = self.version;
        eprintln!("skipped on Kubernetes {major}.{minor}: {lack}");
        Some(lack)
    }

    /// A new namespace, whose name begins so.
    pub(crate) async fn namespace(&self, prefix: &str) -> Namespace {
        Namespace::create(&self.config, prefix).await
    }

    /// Installs our custom resources and those of the mesh and the scaler, and waits until they are served. Once for a control plane.
    pub(crate) async fn install_crds(&self) {
        let install = || async {
            let client = self.client();
            for definition in definitions() {
                namespace::install(&client, &definition).await;
            }
            for definition in definitions() {
                namespace::established(&client, &definition).await;
            }
        };
        self.custom_resources.get_or_init(install).await;
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
