//! Whole rollouts on each router: where the requests of users go is what the stored routes say, and not one is lost.

use canary_mcp::{
    api::objects::{HTTP_ROUTE, ObjectExt, SERVICE, VIRTUAL_SERVICE},
    cluster::embedded::mesh::Mesh,
    decide::state::Phase,
};
use serde_json::{Value, json};

use crate::support::{NAME, Rig, World, image};

/// An initialized cluster of this mesh with this analysis, which asks for no metric.
async fn initialized(mesh: Mesh, analysis: Value) -> Rig {
    let rig = Rig::with_fleet(|options| options.mesh = mesh);
    rig.edit_spec(|spec| {
        let mut analysis = analysis.clone();
        analysis["interval"] = json!("1m");
        analysis["threshold"] = json!(2);
        spec["analysis"] = analysis;
    });
    rig.initialize().await
}

/// Phases and weights on the way to the end of a run of another image.
async fn run(rig: &Rig, tag: &str, end: Phase) -> Vec<(String, i64)> {
    rig.set_image(tag);
    rig.until_phase(Phase::Progressing).await;
    let seen = rig.until_phase(end).await;
    rig.pass(120).await;
    let live = if end == Phase::Succeeded {
        tag
    } else {
        "1.0.0"
    };
    assert_eq!(rig.image_of("mcp-server-primary"), image(live));
    assert_eq!(rig.replicas_of(NAME), 0);
    assert_eq!(rig.lost(), 0);
    seen
}

fn weights(seen: &[(String, i64)]) -> Vec<i64> {
    let mut all: Vec<i64> = seen.iter().map(|(_, weight)| *weight).collect();
    all.dedup();
    all
}

fn weighted() -> Value {
    json!({"stepWeight": 20, "maxWeight": 60, "metrics": []})
}

#[tokio::test(start_paused = true)]
async fn weights_go_by_an_http_route_of_a_gateway_and_of_a_service() {
    for mesh in [Mesh::GatewayApi, Mesh::Gamma] {
        let rig = initialized(mesh, weighted()).await;
        let seen = run(&rig, "1.1.0", Phase::Succeeded).await;
        assert_eq!(weights(&seen), [0, 20, 40, 60, 0]);
        let route = rig.object(&HTTP_ROUTE, NAME).unwrap();
        let backends = &route["spec"]["rules"][0]["backendRefs"];
        assert_eq!(
            (&backends[0]["weight"], &backends[1]["weight"]),
            (&json!(100), &json!(0))
        );
        assert_eq!(rig.object(&VIRTUAL_SERVICE, NAME), None);
    }
}

#[tokio::test(start_paused = true)]
async fn users_are_sent_by_a_match_on_every_router_that_knows_one() {
    let analysis = json!({"iterations": 3, "metrics": [], "match": [{"headers": {"x-user": {"exact": "beta"}}}],
                          "sessionAffinity": {"cookieName": "lane"}});
    for mesh in [Mesh::Istio, Mesh::GatewayApi, Mesh::Gamma] {
        let rig = initialized(mesh, analysis.clone()).await;
        let seen = run(&rig, "1.1.0", Phase::Succeeded).await;
        // Everybody else stays where they were.
        assert_eq!(weights(&seen), [0]);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_are_copied_before_users_are_sent() {
    let mut analysis = weighted();
    analysis["mirror"] = json!(true);
    analysis["mirrorWeight"] = json!(50);
    analysis["sessionAffinity"] = json!({"cookieName": "lane", "primaryCookieName": "home"});
    for mesh in [Mesh::Istio, Mesh::GatewayApi, Mesh::Gamma] {
        let rig = initialized(mesh, analysis.clone()).await;
        let seen = run(&rig, "1.1.0", Phase::Succeeded).await;
        assert_eq!(weights(&seen), [0, 20, 40, 60, 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_mesh_the_apex_selects_the_canary_for_as_long_as_a_hold_lasts() {
    let analysis = json!({"iterations": 2, "hold": 2, "metrics": []});
    let rig = initialized(Mesh::None, analysis).await;
    rig.set_image("1.1.0");
    let selects = |rig: &Rig, value: &str| {
        let apex = rig.object(&SERVICE, NAME).unwrap();
        apex["spec"]["selector"] == json!({"app": value})
    };
    rig.until_stored("the canary is selected", |rig| selects(rig, NAME))
        .await;
    rig.until_phase(Phase::Succeeded).await;
    rig.pass(60).await;
    assert!(selects(&rig, "mcp-server-primary"));
    assert_eq!(rig.image_of("mcp-server-primary"), image("1.1.0"));
    assert_eq!(rig.replicas_of(NAME), 0);
    assert_eq!(rig.lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_crashes_is_left_at_once_on_every_router() {
    for (mesh, analysis) in [
        (Mesh::GatewayApi, weighted()),
        (Mesh::Gamma, json!({"iterations": 3, "metrics": []})),
        (Mesh::None, json!({"iterations": 3, "metrics": []})),
    ] {
        let rig = initialized(mesh, analysis).await;
        run(&rig, "1.1.0-crash", Phase::Failed).await;
        assert_eq!(rig.canary().str_at("/status/phase"), Some("Failed"));
    }
}
