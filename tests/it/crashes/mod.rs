//! Engines that die at every write, that come back too late, and API servers that fail at random: judged from what the API server was
//! told to store and from the requests of the users, not from what the engine says.

mod judge;
mod late;
mod lost;
mod points;
mod random;
mod stories;

use std::time::Duration;

use canary_mcp::{
    api::objects::{CANARY, DEPLOYMENT, Kind, ObjectExt, SCALED_OBJECT, VIRTUAL_SERVICE},
    cluster::embedded::store::{Change, ChangeKind},
};
use serde_json::{Value, json};

use crate::support::Rig;

/// Two steps of 15%, one each 30 s; the second failed check rolls back.
pub(crate) fn short(spec: &mut Value) {
    let analysis = &mut spec["analysis"];
    analysis["interval"] = "30s".into();
    analysis["threshold"] = 2.into();
    analysis["stepWeight"] = 15.into();
    for metric in analysis["metrics"].as_array_mut().unwrap() {
        metric["interval"] = "30s".into();
    }
}

/// A cluster of few requests whose Canary has two steps, and which remembers every change. Nobody drives it yet.
fn cluster() -> Rig {
    let rig = Rig::with_fleet(|options| {
        options.seed = uuid::Uuid::from_u128(1);
        options.traffic.iter_mut().for_each(|t| t.per_second = 5);
    });
    rig.member().server.store().keep_history(1 << 20);
    rig.edit_spec(short);
    rig
}

/// Takes the target's autoscaler away, before anybody leads.
fn without_autoscaler(rig: &Rig) {
    let store = rig.member().server.store();
    store
        .remove(&SCALED_OBJECT, "ai-platform", "mcp-server")
        .unwrap();
    rig.edit_spec(|s| {
        s.as_object_mut().unwrap().remove("autoscalerRef");
    });
}

/// A wish of a person, as the tools leave it.
fn wish(rig: &Rig, verb: &str, skip: bool) {
    let request = json!({"id": format!("{verb}-1"), "verb": verb, "skip": skip, "by": "test", "reason": "because"});
    ask(rig, &request);
}

/// The same with a name of its own, for stories with several.
fn wish_named(rig: &Rig, verb: &str, name: &str) {
    ask(rig, &json!({"id": name, "verb": verb, "by": "test"}));
}

/// Back to a kept revision, analysed.
fn go_back(rig: &Rig, revision: &str) {
    ask(
        rig,
        &json!({"id": "back", "verb": "rollback", "to": revision, "by": "test"}),
    );
}

fn ask(rig: &Rig, request: &Value) {
    let text = request.to_string();
    rig.annotate(&CANARY, "mcp-server", "canary-mcp.dev/request", &text);
}

/// Every change so far.
fn changes(rig: &Rig) -> Vec<Change> {
    rig.member().server.store().changes_since(0).unwrap()
}

/// The objects of `kind` named `name`, one after another.
fn versions<'a>(
    changes: &'a [Change],
    kind: &'a Kind,
    name: &'a str,
) -> impl Iterator<Item = &'a Change> {
    let of = move |c: &&Change| {
        c.resource.is(kind) && c.object.name() == name && c.kind != ChangeKind::Deleted
    };
    changes.iter().filter(of)
}

/// What the canary gets by a stored route; none in one that has no such destination.
fn canary_weight(route: &Value) -> i64 {
    let all = route.array_at("/spec/http/0/route");
    all.iter()
        .find(|r| r.str_at("/destination/host") == Some("mcp-server-canary"))
        .map_or(0, |r| r.int_at("/weight").unwrap_or(100))
}

/// The weights that were stored, without repeats.
fn weights(changes: &[Change]) -> Vec<i64> {
    let mut all: Vec<i64> = versions(changes, &VIRTUAL_SERVICE, "mcp-server")
        .map(|c| canary_weight(&c.object))
        .collect();
    all.dedup();
    all
}

/// The phases that were stored, without repeats.
fn phases(changes: &[Change]) -> Vec<String> {
    let mut all: Vec<String> = versions(changes, &CANARY, "mcp-server")
        .filter_map(|c| c.object.str_at("/status/phase").map(str::to_owned))
        .collect();
    all.dedup();
    all
}

/// The tags that a Deployment was given, without repeats.
fn tags(changes: &[Change], deployment: &str) -> Vec<String> {
    let mut all: Vec<String> = versions(changes, &DEPLOYMENT, deployment)
        .map(|c| tag(&c.object))
        .collect();
    all.dedup();
    all
}

fn tag(deployment: &Value) -> String {
    let image = deployment.str_at("/spec/template/spec/containers/0/image");
    let image = image.unwrap_or_default();
    image
        .rsplit_once(':')
        .map_or(image, |(_, tag)| tag)
        .to_owned()
}

/// Everything that a story leaves behind, as lines.
fn end(rig: &Rig) -> Vec<String> {
    let canary = rig.canary();
    let text = |at: &str| canary.str_at(at).unwrap_or("-").to_owned();
    let int = |at: &str| canary.int_at(at).unwrap_or(0);
    let short = |at: &str| text(at).chars().take(7).collect::<String>();
    let changes = changes(rig);
    let pause = rig
        .object(&SCALED_OBJECT, "mcp-server")
        .and_then(|s| {
            s.annotation("autoscaling.keda.sh/paused-replicas")
                .map(str::to_owned)
        })
        .unwrap_or_else(|| "no".to_owned());
    let promoted = rig.condition("Promoted").unwrap_or_default();
    let mut lines = vec![
        format!("weights {:?}", weights(&changes)),
        format!("phases {}", phases(&changes).join(" ")),
        format!("primary {}", tags(&changes, "mcp-server-primary").join(" ")),
        format!(
            "status {} weight {} failed {} applied {} promoted {} condition {}",
            text("/status/phase"),
            int("/status/canaryWeight"),
            int("/status/failedChecks"),
            short("/status/lastAppliedSpec"),
            short("/status/lastPromotedSpec"),
            promoted.str_at("/reason").unwrap_or("-"),
        ),
        format!(
            "run {} {} skip {} handled {}",
            int("/status/run/n"),
            text("/status/run/stage"),
            text("/status/run/skip/source"),
            text("/status/handledRequest"),
        ),
        format!(
            "replicas primary {} target {} paused {pause}",
            rig.replicas_of("mcp-server-primary"),
            rig.replicas_of("mcp-server"),
        ),
    ];
    let reason = text("/status/run/reason");
    if reason != "-" {
        lines.push(format!("reason {reason}"));
    }
    lines
}

/// At rest: two minutes pass without a write, Leases aside, and not one request has hit nothing since the cluster's first.
async fn assert_at_rest(rig: &Rig, at: &str) {
    rig.pass(60).await;
    let writes = rig.writes();
    rig.pass(60).await;
    assert_eq!(rig.writes(), writes, "writes at rest, {at}");
    let counts = rig.counts();
    assert_eq!(counts.no_endpoint_503, 0, "{at}: {counts:?}");
    assert!(counts.total > 500, "{at}: {counts:?}");
}

/// A time that no story comes near, so that one that hangs fails by name.
const LONG: Duration = Duration::from_secs(3 * 3600);
