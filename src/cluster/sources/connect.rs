//! From what a source says of a cluster to a client, again and again until there is one: a cluster whose credential plugin fails, whose
//! certificate is not there yet or which is down at the start is not lost until a restart.

use std::{sync::Arc, time::Duration};

use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
    runtime::watcher::DefaultBackoff,
};
use serde_json::Value;
use tower::filter::FilterLayer;

use super::{
    Candidate, Way,
    aws::AwsAuth,
    token::{Credential, Secrets, Tokens},
};
use crate::{
    api::objects::ObjectExt,
    cluster::{
        Clock,
        error::{self, Cause},
        wire::{self, Call},
    },
    decide::facts::Moment,
};

/// Connecting to an API server may take this long, in real time.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Making a client may take this long before it is told, in real time; it waits for the disk, and for credential helpers of old kinds.
const CLIENT_WITHIN: Duration = Duration::from_secs(20);
/// Reading an embedded cluster's clock may take this long, in real time.
const CLOCK_WITHIN: Duration = Duration::from_secs(3);
/// A client whose certificate runs out is made anew this long before, so that nothing is refused meanwhile.
const BEFORE_IT_ENDS: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);
/// And not more often than this.
const AT_LEAST: Duration = Duration::from_secs(30);

/// A way into a cluster.
#[derive(Clone)]
pub(super) struct Reached {
    pub(super) client: Client,
    pub(super) clock: Clock,
    pub(super) inside: bool,
    pub(super) embedded: bool,
}

/// What a kubeconfig, or a Secret in its place, says of how to reach a cluster.
pub(super) struct Access {
    /// A kubeconfig of one context.
    pub(super) kubeconfig: Kubeconfig,
    /// Its name.
    pub(super) context: String,
    /// The cluster is an embedded one of another process, with a clock of its own.
    pub(super) joined: bool,
    /// Tokens of Amazon's EKS go before every other credential.
    pub(super) aws: Option<AwsAuth>,
}

/// Connects, tells each outcome that is new, and tries again until it works; then again when the credential that cannot be renewed ends.
pub(super) async fn keep_connected(
    candidate: Arc<Candidate>,
    tell: impl Fn(Result<Reached, String>) + Send + Sync,
) {
    let mut waits = DefaultBackoff::default();
    let mut told: Option<String> = None;
    loop {
        match connect(&candidate.way, &mut |why| {
            if told.as_ref() != Some(&why) {
                told = Some(why.clone());
                tell(Err(why));
            }
        })
        .await
        {
            Ok(reached) => {
                let ends = *reached.client.valid_until();
                tell(Ok(reached));
                told = None;
                waits = DefaultBackoff::default();
                match ends {
                    Some(ends) => tokio::time::sleep(until(ends)).await,
                    None => return,
                }
            }
            Err(why) => {
                if told.as_ref() != Some(&why) {
                    told = Some(why.clone());
                    tell(Err(why));
                }
                // It grows to 30 s, with jitter: two hundred clusters do not call one helper in the same moment.
                tokio::time::sleep(waits.next().unwrap_or(CLIENT_WITHIN)).await;
            }
        }
    }
}

fn until(ends: jiff::Timestamp) -> Duration {
    let left = ends.duration_since(jiff::Timestamp::now()) - BEFORE_IT_ENDS;
    Duration::try_from(left).unwrap_or_default().max(AT_LEAST)
}

async fn connect(way: &Way, slow: &mut (dyn FnMut(String) + Send)) -> Result<Reached, String> {
    match way {
        Way::Made(reached) => Ok(reached.clone()),
        Way::Never(why) => Err(why.clone()),
        Way::Own => {
            let config = Config::incluster().map_err(|error| {
                format!(
                    "the service account cannot be used: {}",
                    error::report(&error)
                )
            })?;
            Ok(Reached {
                client: client(config, None, &Secrets::default(), slow).await?,
                clock: Clock::real(),
                inside: true,
                embedded: false,
            })
        }
        Way::Access(access) => access.reach(slow).await,
    }
}

impl Access {
    async fn reach(&self, slow: &mut (dyn FnMut(String) + Send)) -> Result<Reached, String> {
        let secrets = Secrets::of(&self.kubeconfig);
        let options = KubeConfigOptions {
            context: Some(self.context.clone()),
            ..KubeConfigOptions::default()
        };
        let config = Config::from_custom_kubeconfig(self.kubeconfig.clone(), &options).await;
        let mut config = config.map_err(|error| {
            let told = secrets.hide(&error::report(&error));
            format!("its kubeconfig entry cannot be used: {told}")
        })?;
        // kube would take a proxy from the environment, for loopback too; we go by the file alone.
        config.proxy_url = self.proxy(&secrets)?;
        let tokens = self.tokens(&mut config, &secrets).await?;
        let client = client(config, tokens, &secrets, slow).await?;
        let clock = if self.joined {
            joined_clock(&client).await?
        } else {
            Clock::real()
        };
        Ok(Reached {
            client,
            clock,
            inside: false,
            embedded: self.joined,
        })
    }

    /// The proxy of the file, if it is one that can be used.
    fn proxy(&self, secrets: &Secrets) -> Result<Option<http::Uri>, String> {
        let clusters = self.kubeconfig.clusters.iter();
        let mut clusters = clusters.filter_map(|named| named.cluster.as_ref());
        let Some(given) = clusters.find_map(|cluster| cluster.proxy_url.as_deref()) else {
            return Ok(None);
        };
        if given.is_empty() {
            return Ok(None);
        }
        let known = |uri: &http::Uri| matches!(uri.scheme_str(), Some("http" | "https" | "socks5"));
        match given.parse::<http::Uri>() {
            Ok(uri) if known(&uri) => Ok(Some(uri)),
            Ok(_) | Err(_) => Err(format!(
                "its proxy-url {:?} cannot be used; give one of http://, https:// or socks5://",
                secrets.hide(given)
            )),
        }
    }

    /// Tokens that a plugin or Amazon gives, the first of them being there; or the certificate of a plugin, put into `config`.
    async fn tokens(
        &self,
        config: &mut Config,
        secrets: &Secrets,
    ) -> Result<Option<Tokens>, String> {
        let auth = &mut config.auth_info;
        let exec = auth.exec.take();
        let source = if let Some(aws) = &self.aws {
            Credential::Aws(aws.clone())
        } else {
            // As kube and client-go: what the entry itself carries goes first.
            let own = auth.token.is_some()
                || auth.token_file.is_some()
                || auth.auth_provider.is_some()
                || (auth.username.is_some() && auth.password.is_some());
            match exec {
                Some(exec) if !own => Credential::plugin(exec)?,
                Some(_) | None => return Ok(None),
            }
        };
        Tokens::begin(source, secrets.clone(), auth).await
    }
}

/// A client that neither retries nor takes a proxy unasked. It is not made on a thread of the runtime, since old kinds of helpers are run
/// there; one that hangs is told, and waited for: to begin another beside it would use up the threads.
async fn client(
    mut config: Config,
    tokens: Option<Tokens>,
    secrets: &Secrets,
    slow: &mut (dyn FnMut(String) + Send),
) -> Result<Client, String> {
    config.connect_timeout = Some(CONNECT_WITHIN);
    // A write that is sent again later would not have been checked against the Lease then.
    config.default_retry = false;
    let ends = tokens.as_ref().and_then(Tokens::certificate_ends);
    let mut made = tokio::task::spawn_blocking(move || {
        let builder = ClientBuilder::try_from(config)?;
        Ok(match tokens {
            Some(tokens) if tokens.are_tokens() => {
                builder.with_layer(&FilterLayer::new(tokens)).build()
            }
            Some(_) | None => builder.build(),
        })
    });
    let outcome = if let Ok(outcome) = tokio::time::timeout(CLIENT_WITHIN, &mut made).await {
        outcome
    } else {
        slow(format!(
            "no client could be made for it within {CLIENT_WITHIN:?}: does its credential helper wait for something? Still waiting"
        ));
        made.await
    };
    match outcome {
        Ok(Ok(client)) => Ok(match ends {
            Some(ends) => client.with_valid_until(Some(ends)),
            None => client,
        }),
        Ok(Err(error)) => Err(format!(
            "no client can be made for it: {}",
            secrets.hide(&error::report(&error as &kube::Error))
        )),
        Err(error) => Err(format!("no client can be made for it: {error}")),
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
