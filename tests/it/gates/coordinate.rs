//! Rollouts of two clusters, one after the other, with the hooks of the guide as they are written there.

use std::time::Duration;

use canary_mcp::{
    api::{
        crd,
        objects::{CANARY, DEPLOYMENT, ObjectExt},
    },
    cluster::{
        Registry,
        embedded::fleet::{Fleet, FleetOptions},
        registry::Entry,
    },
    decide::state::Phase,
    engine::{
        Engine, Settings,
        control::{Control, Key, Start},
    },
    outbound::http::{self as outbound, Transport},
    telemetry::Metrics,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Product;
use crate::support::{EPOCH, NAME, image, spec};

const FIRST: &str = "primary-cluster";
const SECOND: &str = "secondary-cluster";

/// Two clusters of the guide's names, each with its Canary `mcp-server`, led by one engine.
struct Two {
    fleet: Fleet,
    control: Control,
    _engine: Engine,
}

impl Two {
    async fn initialized() -> Self {
        let mut options = FleetOptions::new(EPOCH, 1.0, crd::crds());
        options.clusters.truncate(2);
        FIRST.clone_into(&mut options.clusters[0].0);
        SECOND.clone_into(&mut options.clusters[1].0);
        let fleet = Fleet::start(options).unwrap();
        let entries = fleet.members().iter().map(|m| Entry::of(spec(m, true)));
        let registry = Registry::of(entries.collect());
        let direct = Transport::Direct(outbound::client(false).unwrap());
        let control = Control::new(registry.clone(), Settings::default(), direct.clone());
        let metrics = Metrics::new("test", "istio");
        let engine = Engine::start(&registry, Settings::default(), metrics, direct);
        let two = Self {
            fleet,
            control,
            _engine: engine,
        };
        for cluster in [FIRST, SECOND] {
            two.until(cluster, Phase::Initialized).await;
        }
        two
    }

    async fn until(&self, cluster: &str, phase: Phase) {
        let mut follow = self.control.follow(&key(cluster)).await.unwrap();
        while follow.next().await.unwrap().phase != phase {}
    }

    async fn start(&self, cluster: &str, tag: &str) {
        let start = Start {
            key: key(cluster),
            image: Some(image(tag)),
            container: None,
            retry: false,
            expect_revision: None,
            by: None,
        };
        self.control.start(&start).await.unwrap();
    }

    fn canary(&self, cluster: &str) -> Value {
        let store = self.fleet.member(cluster).unwrap().server.store();
        store
            .get(&CANARY, "ai-platform", NAME)
            .unwrap()
            .as_ref()
            .clone()
    }

    fn target(&self, cluster: &str) -> String {
        let store = self.fleet.member(cluster).unwrap().server.store();
        let target = store.get(&DEPLOYMENT, "ai-platform", NAME).unwrap();
        target
            .str_at("/spec/template/spec/containers/0/image")
            .unwrap()
            .to_owned()
    }
}

fn key(cluster: &str) -> Key {
    Key {
        cluster: cluster.to_owned(),
        namespace: "ai-platform".to_owned(),
        name: NAME.to_owned(),
    }
}

/// What Flagger sends for the guide's two hooks.
fn payload(phase: &str, metadata: &Value) -> Value {
    json!({"name": NAME, "namespace": "ai-platform", "phase": phase, "checksum": "1", "metadata": metadata})
}

#[tokio::test(start_paused = true)]
async fn a_promotion_starts_the_next_cluster_with_its_image_and_nothing_else_does() {
    let two = Two::initialized().await;
    let product = Product::new(&two.control);
    let metadata = json!({"cluster": SECOND, "action": "start-canary"});
    two.start(FIRST, "1.2.0-errors").await;
    two.until(FIRST, Phase::Failed).await;
    assert_eq!(
        product
            .post("/trigger-deployment", &payload("Failed", &metadata))
            .await,
        (
            202,
            "nothing is started: ai-platform/mcp-server is \"Failed\", not Succeeded\n".to_owned()
        )
    );
    assert_eq!(two.target(SECOND), image("1.0.0"));

    two.start(FIRST, "1.1.0").await;
    two.until(FIRST, Phase::Succeeded).await;
    for (metadata, status, text) in [
        (
            json!({"cluster": "third-cluster", "action": "start-canary"}),
            404,
            "cluster: ",
        ),
        (
            json!({"cluster": SECOND, "action": "delete"}),
            400,
            "metadata.action: \"delete\" is not known here; start-canary is",
        ),
        (json!({}), 400, "metadata: has to name a cluster"),
        (
            json!({"cluster": SECOND, "action": "start-canary", "canary": "other"}),
            404,
            "name: cluster secondary-cluster has neither a Canary nor a Deployment ai-platform/other",
        ),
    ] {
        let (code, said) = product
            .post("/trigger-deployment", &payload("Succeeded", &metadata))
            .await;
        assert_eq!(code, status, "{said}");
        assert!(said.starts_with(text), "{said}");
    }
    assert_eq!(two.target(SECOND), image("1.0.0"));
    assert_eq!(
        product
            .post("/trigger-deployment", &payload("Succeeded", &metadata))
            .await,
        (
            202,
            "the image is set and the engine has taken the revision up\n".to_owned()
        )
    );
    // The hook is called at least once, perhaps twice.
    let (code, said) = product
        .post("/trigger-deployment", &payload("Succeeded", &metadata))
        .await;
    assert_eq!(code, 202, "{said}");
    two.until(SECOND, Phase::Succeeded).await;
    assert_eq!(two.target(SECOND), image("1.1.0"));
    assert_eq!(two.canary(SECOND)["status"]["run"]["n"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_hook_is_held_until_the_other_cluster_is_promoted() {
    let two = Two::initialized().await;
    let product = Product::new(&two.control);
    let guide = json!({"primary-cluster": FIRST, "canary": NAME});
    let ask = async |path: &str, metadata: &Value| {
        let from = Instant::now();
        let answer = product.post(path, &payload("Progressing", metadata)).await;
        (answer, from.elapsed())
    };
    let (answer, took) = ask("/check-primary-status", &guide).await;
    assert_eq!(
        answer,
        (
            403,
            "primary-cluster ai-platform/mcp-server is Initialized\n".to_owned()
        )
    );
    assert!(
        took >= Duration::from_secs(25) && took < Duration::from_secs(26),
        "{took:?}"
    );
    let (answer, took) = ask("/check-primary-status?wait=0", &guide).await;
    assert_eq!((answer.0, took.as_secs()), (403, 0));

    two.start(FIRST, "1.1.0").await;
    let (answer, took) = ask("/check-primary-status?wait=3600", &guide).await;
    assert_eq!(answer, (200, "Approved".to_owned()));
    assert!(took > Duration::from_secs(60), "{took:?}");
    let newer = json!({"cluster": FIRST, "canary": NAME, "image": image("1.3.0")});
    let (answer, _) = ask("/check-status?wait=5", &newer).await;
    assert_eq!(
        answer,
        (
            403,
            "primary-cluster ai-platform/mcp-server is Succeeded with registry.example/mcp-server:1.1.0, not with registry.example/mcp-server:1.3.0\n".to_owned()
        )
    );

    two.start(FIRST, "1.2.0-errors").await;
    let (answer, took) = ask("/check-status?wait=3600", &guide).await;
    assert_eq!(
        answer,
        (
            403,
            "primary-cluster ai-platform/mcp-server has failed: failed checks threshold reached 3\n".to_owned()
        )
    );
    assert!(took < Duration::from_secs(3600));
    let (answer, _) = ask("/check-status", &json!({"canary": NAME})).await;
    assert_eq!(
        answer,
        (
            400,
            "metadata: has to name a cluster (or primary-cluster) and a canary\n".to_owned()
        )
    );
}
