//! The genuine API server.

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// A client of it; none where there is none to be had.
pub(crate) async fn client() -> Option<Client> {
    let path = std::env::var("KUBECONFIG").ok()?;
    let kubeconfig = Kubeconfig::read_from(path).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .unwrap();
    Some(Client::try_from(config).unwrap())
}
