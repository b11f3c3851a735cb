//! Credentials that end and are fetched again: those of a credential plugin (`exec`), and Amazon's.
//!
//! kube's own client would run a plugin for as long as it likes, on a thread that nobody gets back, and tell its environment and its output
//! in an error. So it is run from here: killed when it takes too long, renewed ahead of time by a task of its own while the token at hand is
//! still used, and what it says is told without the credentials that the cluster's entry has.

use std::{
    fmt,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderValue, Request, header::AUTHORIZATION};
use jiff::{SignedDuration, Timestamp};
use kube::{
    config::{AuthInfo, ExecConfig, ExecInteractiveMode, Kubeconfig},
    runtime::watcher::DefaultBackoff,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::{BoxError, filter::Predicate};

use super::aws::AwsAuth;
use crate::api::objects::ObjectExt;

/// A plugin may take this long, in real time.
const PLUGIN_WITHIN: Duration = Duration::from_secs(20);
/// A token is renewed this long before it ends.
const AHEAD: SignedDuration = SignedDuration::from_secs(120);
/// Renewed not more often than this, and so often when it does not say when it ends.
const AT_LEAST: Duration = Duration::from_secs(20);
const UNTOLD: Duration = Duration::from_secs(600);
/// What is told of a plugin's last words.
const MOST_TOLD: usize = 300;
/// What is shorter than this is no secret, and hiding it would only garble the text.
const LEAST_HIDDEN: usize = 4;

/// Where tokens come from.
pub(super) enum Credential {
    Plugin(Box<ExecConfig>),
    Aws(AwsAuth),
}

/// One answer of a plugin.
enum Given {
    Token(HeaderValue, Option<Timestamp>),
    Certificate {
        certificate: String,
        key: String,
        ends: Option<Timestamp>,
    },
}

/// Tokens for the requests of one client, or the end of the certificate that stands in their place. The task that renews them ends with the
/// last clone.
#[derive(Clone)]
pub(super) struct Tokens {
    state: Option<watch::Receiver<State>>,
    certificate_ends: Option<Timestamp>,
}

/// The token at hand, and why there is no newer one.
#[derive(Clone)]
struct State {
    token: HeaderValue,
    ends: Option<Timestamp>,
    failed: Option<Arc<str>>,
}

/// The values of an entry that no text may carry.
#[derive(Clone, Default)]
pub(super) struct Secrets(Arc<[String]>);

// === impl Credential ===

impl Credential {
    /// The plugin of a kubeconfig's user.
    pub(super) fn plugin(exec: ExecConfig) -> Result<Self, String> {
        if matches!(exec.interactive_mode, Some(ExecInteractiveMode::Always)) {
            return Err(
                "its credential plugin wants a terminal (interactiveMode: Always), and there is none here; use one that does not"
                    .to_owned(),
            );
        }
        Ok(Self::Plugin(Box::new(exec)))
    }

    async fn fetch(&self, secrets: &Secrets) -> Result<Given, String> {
        match self {
            Self::Plugin(exec) => run(exec, secrets).await,
            Self::Aws(aws) => {
                let (token, ends) = aws.token().await?;
                Ok(Given::Token(bearer(&token)?, Some(ends)))
            }
        }
    }
}

// === impl Tokens ===

impl Tokens {
    /// Fetches the first credential. A certificate is put into `auth`.
    pub(super) async fn begin(
        source: Credential,
        secrets: Secrets,
        auth: &mut AuthInfo,
    ) -> Result<Option<Self>, String> {
        match source.fetch(&secrets).await? {
            Given::Certificate {
                certificate,
                key,
                ends,
            } => {
                auth.client_certificate_data = Some(BASE64_STANDARD.encode(certificate));
                auth.client_key_data = Some(BASE64_STANDARD.encode(key).into());
                Ok(Some(Self {
                    state: None,
                    certificate_ends: ends,
                }))
            }
            Given::Token(token, ends) => {
                let (sender, state) = watch::channel(State {
                    token,
                    ends,
                    failed: None,
                });
                tokio::spawn(renew(source, secrets, sender));
                Ok(Some(Self {
                    state: Some(state),
                    certificate_ends: None,
                }))
            }
        }
    }

    /// The requests get a token.
    pub(super) fn are_tokens(&self) -> bool {
        self.state.is_some()
    }

    /// When the certificate ends.
    pub(super) fn certificate_ends(&self) -> Option<Timestamp> {
        self.certificate_ends
    }
}

/// Renews the token ahead of its end until no client has a use for it.
async fn renew(source: Credential, secrets: Secrets, sender: watch::Sender<State>) {
    let mut waits = DefaultBackoff::default();
    loop {
        let (ends, failed) = {
            let state = sender.borrow();
            (state.ends, state.failed.is_some())
        };
        let wait = if failed {
            waits.next().unwrap_or(AT_LEAST)
        } else {
            waits = DefaultBackoff::default();
            ends.map_or(UNTOLD, due)
        };
        tokio::select! {
            () = sender.closed() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let outcome = match source.fetch(&secrets).await {
            Ok(Given::Token(token, ends)) => Ok((token, ends)),
            Ok(Given::Certificate { .. }) => {
                Err("its credential plugin gave a token before and now a certificate".to_owned())
            }
            Err(why) => Err(why),
        };
        sender.send_modify(|state| match outcome {
            Ok((token, ends)) => {
                *state = State {
                    token,
                    ends,
                    failed: None,
                }
            }
            Err(why) => state.failed = Some(why.into()),
        });
    }
}

fn due(ends: Timestamp) -> Duration {
    let left = ends.duration_since(Timestamp::now()) - AHEAD;
    Duration::try_from(left).unwrap_or_default().max(AT_LEAST)
}

impl<B> Predicate<Request<B>> for Tokens {
    type Request = Request<B>;

    fn check(&mut self, mut request: Request<B>) -> Result<Request<B>, BoxError> {
        if let Some(state) = &self.state {
            let state = state.borrow();
            let over = state.ends.is_some_and(|ends| ends <= Timestamp::now());
            if let Some(why) = state.failed.as_ref().filter(|_| over) {
                return Err(why.to_string().into());
            }
            let headers = request.headers_mut();
            headers.insert(AUTHORIZATION, state.token.clone());
        }
        Ok(request)
    }
}

// === the plugin ===

/// Runs a plugin as client-go does: <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins>.
async fn run(exec: &ExecConfig, secrets: &Secrets) -> Result<Given, String> {
    let name = exec
        .command
        .as_deref()
        .ok_or("its credential plugin has no command")?;
    let mut command = tokio::process::Command::new(name);
    command
        .args(exec.args.iter().flatten())
        .env("KUBERNETES_EXEC_INFO", asked(exec)?.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    for pair in exec.env.iter().flatten() {
        if let (Some(name), Some(value)) = (pair.get("name"), pair.get("value")) {
            command.env(name, value);
        }
    }
    let output = match tokio::time::timeout(PLUGIN_WITHIN, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(not_started(name, exec, &error)),
        Err(_) => {
            return Err(format!(
                "its credential plugin {name} gave no answer within {PLUGIN_WITHIN:?}"
            ));
        }
    };
    if !output.status.success() {
        return Err(failed(name, output.status, &output.stderr, secrets));
    }
    // Never a word of the answer itself, which is the credential.
    given(&output.stdout)
        .ok_or_else(|| format!("its credential plugin {name} gave no ExecCredential with a token or a certificate in its status"))
}

/// What a plugin is told of its task.
fn asked(exec: &ExecConfig) -> Result<Value, String> {
    let mut spec = json!({"interactive": false});
    if exec.provide_cluster_info {
        let cluster = exec.cluster.as_ref();
        spec["cluster"] = serde_json::to_value(cluster).map_err(|error| {
            format!("its credential plugin cannot be told of the cluster: {error}")
        })?;
    }
    let version = exec.api_version.as_deref();
    Ok(json!({
        "apiVersion": version.unwrap_or("client.authentication.k8s.io/v1"),
        "kind": "ExecCredential",
        "spec": spec,
    }))
}

fn not_started(name: &str, exec: &ExecConfig, error: &std::io::Error) -> String {
    let hint = match exec.install_hint.as_deref().map(str::trim) {
        Some(hint) if !hint.is_empty() => hint.to_owned(),
        Some(_) | None if name == "argocd-k8s-auth" => {
            "it comes with Argo CD's image: copy it into ours, or give the Secret a bearerToken, a client certificate or, for EKS, an awsAuthConfig"
                .to_owned()
        }
        Some(_) | None => "install it on the PATH of this process".to_owned(),
    };
    format!("its credential plugin {name} cannot be started ({error}): {hint}")
}

/// The last line of what it said, which is where a reason stands.
fn failed(name: &str, status: ExitStatus, stderr: &[u8], secrets: &Secrets) -> String {
    let said = String::from_utf8_lossy(stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    let last: String = last
        .map(|line| secrets.hide(line.trim()))
        .unwrap_or_default()
        .chars()
        .take(MOST_TOLD)
        .collect();
    if last.is_empty() {
        format!("its credential plugin {name} failed ({status})")
    } else {
        format!("its credential plugin {name} failed ({status}): {last}")
    }
}

fn given(output: &[u8]) -> Option<Given> {
    // Some plugins write YAML, which client-go takes too.
    let answer: Value = serde_saphyr::from_slice(output).ok()?;
    let text = |pointer: &str| answer.str_at(pointer).filter(|text| !text.is_empty());
    let ends = text("/status/expirationTimestamp").map(str::parse::<Timestamp>);
    let ends = ends.transpose().ok()?;
    if let (Some(certificate), Some(key)) = (
        text("/status/clientCertificateData"),
        text("/status/clientKeyData"),
    ) {
        return Some(Given::Certificate {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            ends,
        });
    }
    let token = bearer(text("/status/token")?).ok()?;
    Some(Given::Token(token, ends))
}

fn bearer(token: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "its token has characters that no header takes".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

// === impl Secrets ===

impl Secrets {
    /// Whatever is, or may be, a credential in this kubeconfig: also the arguments and the environment of its plugins, and what its proxy's
    /// address says before the host.
    pub(super) fn of(kubeconfig: &Kubeconfig) -> Self {
        let mut found = Vec::new();
        for named in &kubeconfig.auth_infos {
            let Ok(auth) = serde_json::to_value(&named.auth_info) else {
                continue;
            };
            for key in ["password", "token", "client-key-data"] {
                found.extend(auth[key].as_str().map(str::to_owned));
            }
            for pair in auth.array_at("/exec/env") {
                found.extend(pair.str_at("/value").map(str::to_owned));
            }
            for argument in auth.array_at("/exec/args") {
                found.extend(argument.as_str().map(secret_of));
            }
            let provider = auth.pointer("/auth-provider/config");
            let provider = provider.and_then(Value::as_object).into_iter().flatten();
            found.extend(provider.filter_map(|(_, value)| value.as_str().map(str::to_owned)));
        }
        for named in &kubeconfig.clusters {
            let proxy = named.cluster.as_ref();
            let proxy = proxy.and_then(|cluster| cluster.proxy_url.as_deref());
            let user = proxy.and_then(|proxy| proxy.split_once("://")?.1.rsplit_once('@'));
            if let Some((user, _)) = user {
                found.push(user.to_owned());
                found.extend(
                    user.split_once(':')
                        .map(|(_, password)| password.to_owned()),
                );
            }
        }
        found.retain(|text| text.len() >= LEAST_HIDDEN);
        // The longest first: a part of one that is hidden already hides nothing more.
        found.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Self(found.into())
    }

    /// The text without them.
    pub(super) fn hide(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.0.iter() {
            text = text.replace(secret.as_str(), "***");
        }
        text
    }
}

/// The value of `--flag=value`, else the argument.
fn secret_of(argument: &str) -> String {
    match argument.split_once('=') {
        Some((flag, value)) if flag.starts_with('-') => value.to_owned(),
        Some(_) | None => argument.to_owned(),
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}
