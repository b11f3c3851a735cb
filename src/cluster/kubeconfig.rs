//! Clusters from kubeconfig files and from the service account: clients that neither retry nor take a proxy unasked.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, NamedExtension},
};
use serde_json::Value;
use wildmatch::WildMatch;

use super::{
    Cluster, ClusterSpec, Overrides,
    clock::Clock,
    error::{self, Cause},
    registry::{Entry, IN_CLUSTER},
    wire::{self, Call},
};
use crate::{api::objects::ObjectExt, decide::facts::Moment};

/// Kubeconfig extension on an embedded cluster, written by `canary-mcp cluster`.
pub const EMBEDDED_EXTENSION: &str = "canary-mcp.dev/embedded";
/// Kubeconfig extension with a cluster's labels, an object of strings.
pub const LABELS_EXTENSION: &str = "canary-mcp.dev/labels";
/// Connecting to an API server may take this long, in real time.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A credential plugin may take this long, in real time.
const CLIENT_WITHIN: Duration = Duration::from_secs(20);
/// Reading an embedded cluster's clock may take this long, in real time.
const CLOCK_WITHIN: Duration = Duration::from_secs(3);

/// A context as the kubeconfig has it.
pub(super) struct Context {
    name: String,
    file: Arc<Kubeconfig>,
    labels: BTreeMap<String, String>,
    embedded: bool,
    proxied: bool,
}

/// The contexts of a kubeconfig file.
pub(super) fn contexts(path: &Path) -> Result<Vec<Context>, String> {
    let file = Kubeconfig::read_from(path).map_err(|error| {
        format!(
            "cannot read kubeconfig {}: {}",
            path.display(),
            error::report(&error)
        )
    })?;
    let file = Arc::new(file);
    let contexts = file.contexts.iter().map(|named| {
        let cluster_name = named.context.as_ref().map(|context| &context.cluster);
        let cluster = file
            .clusters
            .iter()
            .find(|cluster| Some(&cluster.name) == cluster_name)
            .and_then(|named| named.cluster.as_ref());
        let extensions = cluster.and_then(|cluster| cluster.extensions.as_deref());
        let embedded = extension(extensions, EMBEDDED_EXTENSION);
        let own_labels = extension(extensions, LABELS_EXTENSION);
        let labels = own_labels.or_else(|| embedded.and_then(|embedded| embedded.get("labels")));
        Context {
            name: named.name.clone(),
            file: Arc::clone(&file),
            labels: labels.map(strings).unwrap_or_default(),
            embedded: embedded.is_some(),
            proxied: cluster.is_some_and(|cluster| cluster.proxy_url.is_some()),
        }
    });
    Ok(contexts.collect())
}

fn extension<'a>(extensions: Option<&'a [NamedExtension]>, name: &str) -> Option<&'a Value> {
    extensions?
        .iter()
        .find(|extension| extension.name == name)
        .map(|extension| &extension.extension)
}

fn strings(object: &Value) -> BTreeMap<String, String> {
    object
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

impl Context {
    /// The context as a cluster, or why it cannot be used.
    pub(super) async fn entry(self, lead: &[WildMatch]) -> Entry {
        let cluster = self.cluster(lead).await;
        if let Err(reason) = &cluster {
            tracing::warn!(cluster.name = %self.name, reason, "a cluster cannot be used");
        }
        Entry {
            name: self.name,
            labels: self.labels,
            cluster,
        }
    }

    async fn cluster(&self, lead: &[WildMatch]) -> Result<Cluster, String> {
        let options = KubeConfigOptions {
            context: Some(self.name.clone()),
            ..KubeConfigOptions::default()
        };
        let mut config = Config::from_custom_kubeconfig(Kubeconfig::clone(&self.file), &options)
            .await
            .map_err(|error| {
                format!(
                    "its kubeconfig entry cannot be used: {}",
                    error::report(&error)
                )
            })?;
        if !self.proxied {
            // kube would take a proxy from the environment, for loopback too; we go by the file alone.
            config.proxy_url = None;
        }
        let client = client(config).await?;
        let clock = if self.embedded {
            joined_clock(&client).await?
        } else {
            Clock::real()
        };
        Ok(Cluster::new(ClusterSpec {
            leads: self.embedded || lead.iter().any(|glob| glob.matches(&self.name)),
            name: self.name.clone(),
            labels: self.labels.clone(),
            client,
            clock,
            inside: false,
            embedded: self.embedded,
            overrides: Overrides::default(),
        }))
    }
}

/// The cluster that this process runs inside of.
pub(super) async fn own_cluster() -> Entry {
    let config = Config::incluster().map_err(|error| {
        format!(
            "the service account cannot be used: {}",
            error::report(&error)
        )
    });
    let client = match config {
        Ok(config) => client(config).await,
        Err(reason) => Err(reason),
    };
    let cluster = client.map(|client| {
        Cluster::new(ClusterSpec {
            name: IN_CLUSTER.to_owned(),
            labels: BTreeMap::new(),
            client,
            clock: Clock::real(),
            leads: true,
            inside: true,
            embedded: false,
            overrides: Overrides::default(),
        })
    });
    Entry {
        name: IN_CLUSTER.to_owned(),
        labels: BTreeMap::new(),
        cluster,
    }
}

/// A client. The credential plugin that a kubeconfig may name is run here, so this can take long, and not on a thread of the runtime.
async fn client(mut config: Config) -> Result<Client, String> {
    config.connect_timeout = Some(CONNECT_WITHIN);
    // A write that is sent again later would not have been checked against the Lease then.
    config.default_retry = false;
    let made = tokio::task::spawn_blocking(|| Client::try_from(config));
    match tokio::time::timeout(CLIENT_WITHIN, made).await {
        Ok(Ok(Ok(client))) => Ok(client),
        Ok(Ok(Err(error))) => Err(format!(
            "no client can be made for it: {}",
            error::report(&error)
        )),
        Ok(Err(error)) => Err(format!("no client can be made for it: {error}")),
        Err(_) => Err(format!(
            "its credential plugin gave no answer within {CLIENT_WITHIN:?}"
        )),
    }
}

/// The clock of an embedded cluster that another process runs: `GET clock` beside its API, `{epoch, now, speed}`.
async fn joined_clock(client: &Client) -> Result<Clock, String> {
    let answer = wire::send(client, Call::get("/clock".to_owned(), CLOCK_WITHIN)).await;
    let answer = answer.map_err(|cause: Cause| {
        format!(
            "its clock cannot be read, start it with: canary-mcp cluster ({})",
            error::report(&cause)
        )
    })?;
    clock_of(&answer.body)
        .ok_or_else(|| format!("its clock says {}, which is not understood", answer.body))
}

fn clock_of(body: &Value) -> Option<Clock> {
    let now: jiff::Timestamp = body.str_at("/now")?.parse().ok()?;
    let speed = body["speed"].as_f64().filter(|speed| *speed > 0.0)?;
    Some(Clock::fast(Moment(now.as_millisecond()), speed))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_joined_clock_goes_on_from_what_the_cluster_said() {
        let said =
            json!({"epoch": "2026-11-21T00:00:00Z", "now": "2026-11-21T01:00:00Z", "speed": 20});
        let clock = clock_of(&said).unwrap();
        tokio::time::advance(Duration::from_secs(3)).await;
        // One hour and a minute after 2026-11-21T00:00:00Z.
        assert_eq!(clock.now(), Moment(1_795_219_200_000 + 3_660_000));
        for odd in [
            json!({}),
            json!({"now": "yesterday", "speed": 1}),
            json!({"now": "2026-11-21T00:00:00Z", "speed": 0}),
        ] {
            assert!(clock_of(&odd).is_none(), "{odd}");
        }
    }
}
