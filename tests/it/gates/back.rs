//! After a promotion, back to an earlier revision that is kept.

use canary_mcp::{
    api::objects::{DEPLOYMENT, ObjectExt},
    decide::state::Phase,
};
use serde_json::{Value, json};

use super::{Product, ended};
use crate::support::{NAME, Rig, image, sequence};

const STEPS: [(&str, i64); 10] = [
    ("Progressing", 0),
    ("Progressing", 5),
    ("Progressing", 10),
    ("Progressing", 15),
    ("Progressing", 20),
    ("Progressing", 25),
    ("Progressing", 30),
    ("Promoting", 30),
    ("Finalising", 0),
    ("Succeeded", 0),
];

/// A cluster on which 1.1.0 and then 1.3.0 were promoted.
async fn twice_promoted() -> Rig {
    let rig = Rig::initialized(|_| {}).await;
    for tag in ["1.1.0", "1.3.0"] {
        rig.set_image(tag);
        rig.until_phase(Phase::Progressing).await;
        rig.until_phase(Phase::Succeeded).await;
    }
    rig
}

/// What `get_status` lists: images and revisions.
async fn kept(product: &Product) -> Vec<(String, String)> {
    let status = product.call("get_status", json!({})).await;
    let text = |kept: &Value, at: &str| kept[at].as_str().unwrap().to_owned();
    let kept = status["rollout"]["kept"].as_array().unwrap();
    kept.iter()
        .map(|kept| (text(kept, "image"), text(kept, "revision")))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn an_earlier_version_is_gone_back_to_with_an_analysis_as_any_other() {
    let rig = twice_promoted().await;
    let product = Product::new(&rig.control);
    let all = kept(&product).await;
    let images: Vec<&str> = all.iter().map(|(image, _)| image.as_str()).collect();
    assert_eq!(images, [image("1.1.0"), image("1.0.0")]);
    let to = &all[1].1;
    assert_eq!(
        product
            .verb("rollback", json!({"to_revision": &to[..11]}))
            .await,
        ended(
            "applied",
            &format!("revision {to} is rolled out again, and is analysed as any other")
        )
    );
    assert_eq!(rig.until_phase(Phase::Succeeded).await, sequence(&STEPS));
    rig.assert_ended(Phase::Succeeded, "1.0.0").await;
    let images: Vec<String> = kept(&product).await.into_iter().map(|(i, _)| i).collect();
    assert_eq!(images, [image("1.3.0"), image("1.1.0")]);
}

#[tokio::test(start_paused = true)]
async fn who_may_skip_the_analysis_goes_back_at_once() {
    let rig = twice_promoted().await;
    let product = Product::new(&rig.control);
    let to = kept(&product).await[0].1.clone();
    assert_eq!(
        product
            .verb(
                "rollback",
                json!({"to_revision": to, "skip_analysis": true})
            )
            .await,
        ended(
            "applied",
            &format!("revision {to} is rolled out again, without an analysis")
        )
    );
    let seen = rig.until_phase(Phase::Succeeded).await;
    assert!(seen.iter().all(|(_, weight)| *weight == 0), "{seen:?}");
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
    let skip = rig.canary()["status"]["run"]["skip"].clone();
    assert_eq!(skip, json!({"source": "person", "by": "test/1"}));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_gone_back_to_is_refused_with_what_can_be() {
    let rig = twice_promoted().await;
    let product = Product::new(&rig.control);
    let all = kept(&product).await;
    let listed = format!("{} ({}), {} ({})", all[0].1, all[0].0, all[1].1, all[1].0);
    let back = async |to: &str| product.verb("rollback", json!({"to_revision": to})).await;
    assert_eq!(
        back("v1-00000000").await,
        ended(
            "refused",
            &format!(
                "no revision v1-00000000 is kept that could be gone back to; kept are: {listed}"
            )
        )
    );
    let live = rig.canary();
    let live = live.str_at("/status/lastPromotedSpec").unwrap();
    assert_eq!(
        back(live).await,
        ended("already", &format!("revision {live} is what is live"))
    );
    assert_eq!(
        product.verb("rollback", json!({})).await,
        ended(
            "refused",
            "there is nothing to roll back: no run is going on (phase Succeeded); to_revision goes back to a version before, get_status lists those under kept"
        )
    );
    let before = rig.object(&DEPLOYMENT, NAME).unwrap();
    rig.edit(&DEPLOYMENT, NAME, |d| {
        d["metadata"]["labels"]["argocd.argoproj.io/instance"] = "shop".into();
    });
    let (outcome, why) = back(&all[1].1).await;
    assert_eq!(outcome, "refused");
    let expected = format!(
        "Deployment ai-platform/mcp-server is owned by Argo CD application shop; put the template of revision {} back in git (images: mcp-server {}; all of it: kubectl -n ai-platform get controllerrevision ",
        all[1].1, all[1].0
    );
    assert!(why.starts_with(&expected), "{why}");
    assert_eq!(
        rig.object(&DEPLOYMENT, NAME).unwrap()["spec"],
        before["spec"]
    );
    rig.edit(&DEPLOYMENT, NAME, |d| {
        let labels = d["metadata"]["labels"].as_object_mut().unwrap();
        labels.remove("argocd.argoproj.io/instance");
    });

    rig.set_image("1.4.0");
    rig.until_phase(Phase::Progressing).await;
    assert_eq!(
        back(&all[1].1).await,
        ended(
            "refused",
            "a run is going on (phase Progressing): call rollback without to_revision to end it, and again with it when its phase is Failed"
        )
    );
}
