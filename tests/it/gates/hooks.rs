//! A gate that a person opens and a webhook before it: both have to say yes, the webhook first, and one that asks a gate of ours is opened by
//! `promote`.

use canary_mcp::{
    api::objects::{CANARY, ObjectExt},
    cluster::embedded::load_tester::Script,
    decide::state::Phase,
};
use serde_json::{Value, json};

use super::{Product, ended};
use crate::support::{NAME, Rig};

/// An initialized cluster with a built-in gate, and a webhook of this type at this path of the load tester.
async fn gated(gate: &str, kind: &str, path: &str) -> Rig {
    let rig = Rig::without_engine(true);
    rig.annotate(&CANARY, NAME, "canary-mcp.dev/gate", gate);
    let url = format!("http://flagger-loadtester.test{path}");
    rig.edit_spec(|spec| {
        spec["analysis"]["webhooks"] = json!([{"name": "ask", "type": kind, "url": url}]);
    });
    rig.initialize().await
}

fn says(rig: &Rig, path: &str, code: u16, body: &str) {
    rig.member()
        .load_tester()
        .script(Script::answer(path, code, body));
}

fn waits_for(what: &'static str, hook: Option<&'static str>) -> impl Fn(&Value) -> bool {
    move |canary| {
        let waiting = &canary["status"]["run"]["waiting"];
        waiting.str_at("/what") == Some(what) && waiting.str_at("/hook") == hook
    }
}

const KINDS: [(&str, &str); 3] = [
    ("rollout", "confirm-rollout"),
    ("traffic", "confirm-traffic-increase"),
    ("promotion", "confirm-promotion"),
];

#[tokio::test(start_paused = true)]
async fn a_webhook_holds_before_a_person_is_asked_and_is_told_with_what_opens_it() {
    for (gate, kind) in KINDS {
        let rig = gated(gate, kind, "/gate/check").await;
        let product = Product::new(&rig.control);
        rig.set_image("1.1.0");
        rig.until(waits_for(gate, Some("ask"))).await;
        let status = product.call("get_status", json!({})).await;
        let waiting = &status["rollout"]["waiting_for"];
        let what = format!("the webhook ask to open the {gate} gate");
        let how = "POST {\"name\":\"mcp-server\",\"namespace\":\"ai-platform\"} to http://flagger-loadtester.test/gate/open from inside the cluster; or call rollback, or promote with skip_analysis";
        assert_eq!(waiting["what"], what.as_str());
        assert_eq!(waiting["how"], how);
        assert_eq!(
            product.verb("promote", json!({})).await,
            ended(
                "refused",
                &format!("the run waits for {what}, which promote cannot do: {how}")
            )
        );
        says(&rig, "/gate/check", 200, "Approved");
        rig.until(waits_for(gate, None)).await;
        let (outcome, why) = product.verb("promote", json!({})).await;
        assert_eq!(outcome, "applied", "{kind}: {why}");
        rig.until(|c| !waits_for(gate, None)(c)).await;
        assert_eq!(
            product.verb("rollback", json!({})).await.0,
            "applied",
            "{kind}"
        );
        rig.until_phase(Phase::Failed).await;
        assert_eq!(rig.counts().no_endpoint_503, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_asks_a_gate_of_ours_is_opened_by_promote_for_what_waits() {
    const PATH: &str = "/gate/prod-kr/check";
    let payload = json!({"name": NAME, "namespace": "ai-platform"});
    for (gate, kind) in KINDS {
        let rig = gated("", kind, PATH).await;
        let product = Product::new(&rig.control);
        rig.set_image("1.1.0");
        let (code, body) = product.post(PATH, &payload).await;
        says(&rig, PATH, code, &body);
        rig.until(waits_for(gate, Some("ask"))).await;
        let status = product.call("get_status", json!({})).await;
        let how = &status["rollout"]["waiting_for"]["how"];
        assert_eq!(how, "call promote to open it, or rollback");
        assert_eq!(
            product.verb("promote", json!({})).await,
            ended(
                "applied",
                "gate opened, for what waits now and no further; the engine asks it at its next interval (webhook ask)"
            )
        );
        // The load tester stands in for the way to our server, and answers what that does.
        let (code, body) = product.post(PATH, &payload).await;
        assert_eq!((code, body.as_str()), (200, "Approved"), "{kind}");
        says(&rig, PATH, code, &body);
        rig.until(|c| !waits_for(gate, Some("ask"))(c)).await;
        // What follows waits for an approval of its own; while it is promoted nothing is asked any more.
        if gate != "promotion" {
            assert_eq!(product.post(PATH, &payload).await.0, 403, "{kind}");
        }
        rig.until_phase(Phase::Succeeded).await;
        rig.assert_ended(Phase::Succeeded, "1.1.0").await;
        assert_eq!(product.post(PATH, &payload).await.0, 403, "{kind}");
    }
}
