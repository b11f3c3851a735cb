//! Webhooks of ours, for Canaries that Flagger or this engine drives: gates as Flagger's load tester has them, and what rollouts of several
//! clusters ask of one another.
//!
//! | path (all POST, with a webhook's payload) | answer | scope |
//! |---|---|---|
//! | `/gate/CLUSTER/approve`, `/gate/CLUSTER/halt` | 200, 403, always | read |
//! | `/gate/CLUSTER/check`, `/rollback/CLUSTER/check` | 200 `Approved` or 403 `Forbidden`; closed at first | read |
//! | `/gate/CLUSTER/open`, `/gate/CLUSTER/close`, `/rollback/CLUSTER/open`, `/rollback/CLUSTER/close` | 202 | write |
//! | `/check-status`, `/check-primary-status` | 200 when the Canary that `metadata` names is promoted; held until then | read |
//! | `/trigger-deployment` | starts the rollout that `metadata` names when the payload's phase is `Succeeded` | write |
//!
//! Flagger's webhooks carry no headers of one's own, but a URL with a user: `http://flagger:TOKEN@canary-mcp/...` is sent by Go's client as
//! `Authorization: Basic`, which is in no access log and is taken out of its error texts. So that is taken here, beside Bearer; the user's
//! name is not looked at. A URL in a Canary is read by whoever may read the Canary: give it a token that reads and nothing else. A hook that
//! goes through an API server's `services/proxy` cannot send one, since the API server keeps the header for itself: for those
//! `--gate-open-checks` leaves the paths that only say whether a gate is open to everybody.
//!
//! A token in the path or the query would be in every log on the way.

use std::time::Duration;

use axum::{
    Extension, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::auth;
use crate::{
    api::gate::{Change, Gate},
    engine::{
        control::{Acted, Control, ControlError, Key, Outcome},
        coordinate::{Standing, Trigger},
    },
    mcp::principal::{Principal, Scope},
};

/// No payload of a webhook is nearly as long.
const BODY_LIMIT: usize = 256 * 1024;
/// How long a status is waited for without `?wait=`: shorter than what proxies cut.
const WAIT: Duration = Duration::from_secs(25);
/// Longest wait that can be asked for: the guide's hook has 600 s.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// What the webhooks are served from.
#[derive(Clone)]
pub struct Gates {
    /// Reads and changes the Canaries.
    pub control: Control,
    /// The paths that only say whether a gate is open are for everybody.
    pub open_checks: bool,
}

/// What Flagger sends. Only the names are needed.
#[derive(Debug, Deserialize)]
struct Payload {
    name: String,
    namespace: String,
    #[serde(default)]
    phase: String,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
}

impl Payload {
    fn key(&self, cluster: String) -> Key {
        Key {
            cluster,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }

    /// A text of the metadata that is there.
    fn text(&self, name: &str) -> Option<&str> {
        let text = self.metadata.as_ref()?.get(name)?.as_str()?;
        Some(text).filter(|text| !text.is_empty())
    }
}

/// The routes, for who has a token of `tokens`, or for everybody where there are none.
pub(super) fn routes(gates: Gates, tokens: Option<&auth::StaticTokens>) -> Router {
    let Gates {
        control,
        open_checks,
    } = gates;
    let proved = |routes: Router<Control>, scope: Scope| {
        let tokens = tokens.cloned();
        // The last layer is the outermost.
        routes
            .layer(from_fn_with_state(scope, authorise))
            .layer(from_fn_with_state(tokens, auth::authenticate))
            .layer(from_fn(basic))
    };
    let checks = Router::new()
        .route("/gate/{cluster}/approve", post(approve))
        .route("/gate/{cluster}/halt", post(halt))
        .route("/gate/{cluster}/check", post(check_gate))
        .route("/rollback/{cluster}/check", post(check_rollback));
    let checks = if open_checks {
        checks
    } else {
        proved(checks, Scope::Read)
    };
    let status = Router::new()
        .route("/check-status", post(check_status))
        .route("/check-primary-status", post(check_status));
    let changes = Router::new()
        .route("/gate/{cluster}/open", post(open_gate))
        .route("/gate/{cluster}/close", post(close_gate))
        .route("/rollback/{cluster}/open", post(open_rollback))
        .route("/rollback/{cluster}/close", post(close_rollback))
        .route("/trigger-deployment", post(trigger));
    checks
        .merge(proved(status, Scope::Read))
        .merge(proved(changes, Scope::Write))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn(no_pages))
        .with_state(control)
}

// === layers ===

/// A page that somebody has open in a browser must not open a gate behind the back of its reader. Browsers say `Origin` with every POST,
/// and nothing else that calls here does. The Host is not judged, as it is at `/mcp`: what comes through `services/proxy` has the API
/// server's.
async fn no_pages(request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        return told(StatusCode::FORBIDDEN, "webhooks are not for web pages");
    }
    next.run(request).await
}

/// The password of a URL's user becomes the bearer's token.
async fn basic(mut request: Request, next: Next) -> Response {
    if let Some(token) = password(request.headers())
        && let Ok(value) = HeaderValue::from_str(&format!("Bearer {token}"))
    {
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    next.run(request).await
}

fn password(headers: &HeaderMap) -> Option<String> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let value = all.next()?.to_str().ok()?;
    // Two of them mean nothing.
    if all.next().is_some() {
        return None;
    }
    let (scheme, given) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let given = STANDARD.decode(given.trim()).ok()?;
    let given = String::from_utf8(given).ok()?;
    Some(given.split_once(':')?.1.to_owned())
}

async fn authorise(State(required): State<Scope>, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Principal>();
    match caller.filter(|caller| caller.scope < required) {
        Some(caller) => told(StatusCode::FORBIDDEN, caller.lacks(required)),
        None => next.run(request).await,
    }
}

// === gates ===

async fn approve(State(control): State<Control>, Path(cluster): Path<String>) -> Response {
    if control.knows(&cluster) {
        (StatusCode::OK, "OK").into_response()
    } else {
        unknown(&cluster)
    }
}

async fn halt() -> Response {
    (StatusCode::FORBIDDEN, "Forbidden").into_response()
}

async fn check_gate(
    State(control): State<Control>,
    Path(cluster): Path<String>,
    body: Bytes,
) -> Response {
    check(&control, Gate::Advance, cluster, &body).await
}

async fn check_rollback(
    State(control): State<Control>,
    Path(cluster): Path<String>,
    body: Bytes,
) -> Response {
    check(&control, Gate::Rollback, cluster, &body).await
}

/// What cannot be known is not approved. Whoever asks need not have proved who it is, so it is told nothing that it has not said itself.
async fn check(control: &Control, gate: Gate, cluster: String, body: &[u8]) -> Response {
    let payload = match payload(body) {
        Ok(payload) => payload,
        Err(why) => return why,
    };
    if !control.knows(&cluster) {
        return unknown(&cluster);
    }
    let key = payload.key(cluster);
    let open = control.gate(&key, gate).await;
    tracing::debug!(rollout = %key, gate = gate.segment(), ?open, "a gate is asked");
    match open {
        Ok(true) => (StatusCode::OK, "Approved").into_response(),
        Ok(false) => (StatusCode::FORBIDDEN, "Forbidden").into_response(),
        Err(ControlError::NotFound(_) | ControlError::Invalid(_)) => told(
            StatusCode::NOT_FOUND,
            format!(
                "cluster {} has no Canary {}/{}",
                key.cluster, key.namespace, key.name
            ),
        ),
        Err(ControlError::Unreachable(why)) => {
            tracing::warn!(rollout = %key, "a gate cannot be read: {why}");
            let why = format!(
                "cluster {} cannot be read now, the server's log says why",
                key.cluster
            );
            told(StatusCode::SERVICE_UNAVAILABLE, why)
        }
    }
}

type Caller = Option<Extension<Principal>>;

async fn open_gate(
    State(control): State<Control>,
    Path(cluster): Path<String>,
    caller: Caller,
    body: Bytes,
) -> Response {
    set(
        &control,
        Gate::Advance,
        Change::Open,
        cluster,
        caller,
        &body,
    )
    .await
}

async fn close_gate(
    State(control): State<Control>,
    Path(cluster): Path<String>,
    caller: Caller,
    body: Bytes,
) -> Response {
    set(
        &control,
        Gate::Advance,
        Change::Close,
        cluster,
        caller,
        &body,
    )
    .await
}

async fn open_rollback(
    State(control): State<Control>,
    Path(cluster): Path<String>,
    caller: Caller,
    body: Bytes,
) -> Response {
    set(
        &control,
        Gate::Rollback,
        Change::Open,
        cluster,
        caller,
        &body,
    )
    .await
}

async fn close_rollback(
    State(control): State<Control>,
    Path(cluster): Path<String>,
    caller: Caller,
    body: Bytes,
) -> Response {
    set(
        &control,
        Gate::Rollback,
        Change::Close,
        cluster,
        caller,
        &body,
    )
    .await
}

async fn set(
    control: &Control,
    gate: Gate,
    change: Change,
    cluster: String,
    caller: Caller,
    body: &[u8],
) -> Response {
    let payload = match payload(body) {
        Ok(payload) => payload,
        Err(why) => return why,
    };
    let key = payload.key(cluster);
    let by = caller.map(|Extension(caller)| caller.name);
    let opens = change != Change::Close;
    let acted = match control.set_gate(&key, gate, change, by.as_deref()).await {
        Ok(acted) => acted,
        Err(error) => return failed(&error),
    };
    tracing::info!(
        rollout = %key,
        gate = gate.segment(),
        opens,
        by = by.as_deref().unwrap_or("unknown"),
        outcome = ?acted.outcome,
        reason = acted.reason,
        "a gate is asked to change"
    );
    match acted.outcome {
        Outcome::Applied | Outcome::Already => StatusCode::ACCEPTED.into_response(),
        Outcome::Planned | Outcome::Refused | Outcome::Unconfirmed => not_done(&acted),
    }
}

// === other clusters ===

#[derive(Debug, Deserialize)]
struct Wait {
    wait: Option<u64>,
}

/// `metadata {cluster, canary, namespace?, image?}`, or as the guide writes it, `{primary-cluster, canary}`.
async fn check_status(
    State(control): State<Control>,
    Query(Wait { wait }): Query<Wait>,
    body: Bytes,
) -> Response {
    let payload = match payload(&body) {
        Ok(payload) => payload,
        Err(why) => return why,
    };
    let cluster = payload.text("cluster").or(payload.text("primary-cluster"));
    let (Some(cluster), Some(name)) = (cluster, payload.text("canary")) else {
        let why = "metadata: has to name a cluster (or primary-cluster) and a canary";
        return told(StatusCode::BAD_REQUEST, why);
    };
    let key = Key {
        cluster: cluster.to_owned(),
        namespace: payload
            .text("namespace")
            .unwrap_or(&payload.namespace)
            .to_owned(),
        name: name.to_owned(),
    };
    let patience = wait.map_or(WAIT, Duration::from_secs).min(LONGEST_WAIT);
    match control
        .standing(&key, payload.text("image"), patience)
        .await
    {
        Ok(Standing::Promoted) => (StatusCode::OK, "Approved").into_response(),
        Ok(Standing::Failed(why) | Standing::Waits(why)) => told(StatusCode::FORBIDDEN, why),
        Err(error) => failed(&error),
    }
}

/// `metadata {cluster, action: start-canary, canary?, namespace?, image?, container?, from?}`; the guide's has the first two.
async fn trigger(State(control): State<Control>, caller: Caller, body: Bytes) -> Response {
    let payload = match payload(&body) {
        Ok(payload) => payload,
        Err(why) => return why,
    };
    let Some(cluster) = payload.text("cluster") else {
        return told(StatusCode::BAD_REQUEST, "metadata: has to name a cluster");
    };
    let action = payload.text("action");
    if action != Some("start-canary") {
        let why = format!(
            "metadata.action: {:?} is not known here; start-canary is",
            action.unwrap_or_default()
        );
        return told(StatusCode::BAD_REQUEST, why);
    }
    let promoted = format!("{}/{}", payload.namespace, payload.name);
    if payload.phase != "Succeeded" {
        // Flagger calls its post-rollout hooks after a failed rollout too; that is no mistake of the hook's.
        let phase = payload.phase;
        return told(
            StatusCode::ACCEPTED,
            format!("nothing is started: {promoted} is {phase:?}, not Succeeded"),
        );
    }
    let own = |name| payload.text(name).map(str::to_owned);
    let by = match caller {
        Some(Extension(caller)) => format!("{} (the promotion of {promoted})", caller.name),
        None => format!("the promotion of {promoted}"),
    };
    let trigger = Trigger {
        cluster: cluster.to_owned(),
        namespace: own("namespace").unwrap_or_else(|| payload.namespace.clone()),
        canary: own("canary"),
        image: own("image"),
        container: own("container"),
        from: own("from"),
        promoted_namespace: payload.namespace.clone(),
        promoted: payload.name.clone(),
        by: Some(by),
    };
    let acted = match control.trigger(&trigger).await {
        Ok(acted) => acted,
        Err(error) => return failed(&error),
    };
    tracing::info!(
        cluster = trigger.cluster,
        promoted,
        outcome = ?acted.outcome,
        reason = acted.reason,
        "a promotion asks for a rollout"
    );
    match acted.outcome {
        Outcome::Applied | Outcome::Already => told(StatusCode::ACCEPTED, &acted.reason),
        Outcome::Planned | Outcome::Refused | Outcome::Unconfirmed => not_done(&acted),
    }
}

// === answers ===

#[expect(clippy::result_large_err, reason = "the answer itself, made once")]
fn payload(body: &[u8]) -> Result<Payload, Response> {
    serde_json::from_slice(body).map_err(|error| {
        let why = format!(
            "the body has to be a webhook's payload, {{\"name\", \"namespace\"}} at least: {error}"
        );
        told(StatusCode::BAD_REQUEST, why)
    })
}

fn unknown(cluster: &str) -> Response {
    told(
        StatusCode::NOT_FOUND,
        format!("there is no cluster {cluster:?} here"),
    )
}

fn failed(error: &ControlError) -> Response {
    let status = match error {
        ControlError::NotFound(_) => StatusCode::NOT_FOUND,
        ControlError::Invalid(_) => StatusCode::BAD_REQUEST,
        // Flagger's client tries such an answer again, where the hook has retries.
        ControlError::Unreachable(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    told(status, error)
}

fn not_done(acted: &Acted) -> Response {
    let status = match acted.outcome {
        Outcome::Unconfirmed => StatusCode::GATEWAY_TIMEOUT,
        Outcome::Applied | Outcome::Already | Outcome::Planned | Outcome::Refused => {
            StatusCode::CONFLICT
        }
    };
    told(status, &acted.reason)
}

fn told(status: StatusCode, why: impl std::fmt::Display) -> Response {
    (status, format!("{why}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_a_urls_user_is_a_token() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            password(&headers)
        };
        // RFC 7617's own example, and as Go's client sends http://flagger:cmcp_1@host/.
        assert_eq!(
            of(&["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]).as_deref(),
            Some("open sesame")
        );
        assert_eq!(
            of(&["basic ZmxhZ2dlcjpjbWNwXzE="]).as_deref(),
            Some("cmcp_1")
        );
        for wrong in [
            &[][..],
            &["Bearer cmcp_1"],
            &["Basic cmcp_1"],
            &["Basic ZmxhZ2dlcg=="],
            &["Basic ZmxhZ2dlcjpjbWNwXzE=", "Basic ZmxhZ2dlcjpjbWNwXzE="],
        ] {
            assert_eq!(of(wrong), None, "{wrong:?}");
        }
    }
}
