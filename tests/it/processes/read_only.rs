//! A cluster that `serve` was not told to lead is only read, whatever happens there and whatever tool is called.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use canary_mcp::{
    api::{
        crd,
        objects::{CANARY, DEPLOYMENT, ObjectExt},
    },
    cluster::{
        embedded::{
            fleet::{Fleet, FleetOptions},
            listener,
        },
        registry::{Entry, Registry},
    },
    engine::{Engine, Settings},
    outbound::http::{Transport, client},
    telemetry::Metrics,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{
    child::{Dir, Serve},
    kubernetes::{Kubectl, NAME, NAMESPACE},
};
use crate::{
    http::fixture::{Era, Server},
    support::{EPOCH, image, spec},
};

/// Written to by nobody: the fleet of this process, as two real clusters in a kubeconfig.
struct Foreign {
    fleet: Fleet,
    kubeconfig: PathBuf,
    _dir: Dir,
}

impl Foreign {
    /// `prod-kr` has an initialized Canary whose target has a new image, `prod-jp` one that was never initialized.
    async fn new() -> Self {
        let mut options = FleetOptions::new(EPOCH, 100.0, crd::crds());
        options.clusters.retain(|(name, _)| name != "staging");
        let fleet = Fleet::start(options).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let text = listener::kubeconfig(&fleet, listener.local_addr().unwrap());
        let mut config: Value = serde_saphyr::from_str(&text).unwrap();
        for cluster in config["clusters"].as_array_mut().unwrap() {
            let extensions = cluster["cluster"]
                .as_object_mut()
                .unwrap()
                .remove("extensions");
            assert!(extensions.is_some(), "it must say that it is embedded");
        }
        let dir = Dir::new();
        let kubeconfig = dir.path("kubeconfig");
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        tokio::spawn(listener::serve(listener, &fleet, std::future::pending()));
        let foreign = Self {
            fleet,
            kubeconfig,
            _dir: dir,
        };
        foreign.prepare().await;
        foreign
    }

    async fn prepare(&self) {
        // Ten seconds are the shortest interval.
        for cluster in ["prod-kr", "prod-jp"] {
            let short = json!({"spec": {"analysis": {"interval": "10s"}}});
            self.kubectl(cluster).merge(&CANARY, NAME, short).await;
        }
        let kr = self.fleet.member("prod-kr").unwrap();
        let registry = Registry::of(vec![Entry::of(spec(kr, true))]);
        let direct = Transport::Direct(client(false).unwrap());
        let metrics = Metrics::new("test", "istio");
        let engine = Engine::start(&registry, Settings::default(), metrics, direct);
        let kubectl = self.kubectl("prod-kr");
        let mut canary = kubectl.watch_canary().await;
        canary.until_phase("Initialized").await;
        engine.stop().await;
        kubectl.set_image(&image("1.1.0")).await;
    }

    fn kubectl(&self, cluster: &str) -> Kubectl {
        Kubectl(self.fleet.member(cluster).unwrap().server.client())
    }

    /// How many writes have come to each API server; the clusters' own controllers do not come that way.
    fn writes(&self) -> BTreeMap<String, u64> {
        let members = self.fleet.members().iter();
        members
            .map(|m| (m.name.clone(), m.server.faults().writes()))
            .collect()
    }
}

async fn call(server: &Server, tool: &str, arguments: Value) -> Value {
    let params = json!({"name": tool, "arguments": arguments});
    let result = server.result(Era::Modern, "tools/call", params).await;
    assert_ne!(result["isError"], true, "{tool}: {result}");
    result["structuredContent"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_where_nobody_was_told_to_lead() {
    let foreign = Arc::new(Foreign::new().await);
    for member in foreign.fleet.members() {
        member.server.faults().reset_counts();
    }
    let mut serve = Serve::joining(&foreign.kubeconfig).await;
    let read_only = serve.process.said("Read only here, ").await;
    assert_eq!(read_only, "no --lead matches: prod-jp, prod-kr");
    let mcp = &serve.mcp;

    let listed = call(mcp, "list_clusters", json!({})).await;
    let rows = listed["clusters"].as_array().unwrap();
    for (row, name, phase) in [
        (&rows[0], "prod-jp", "Initializing"),
        (&rows[1], "prod-kr", "Initialized"),
    ] {
        assert_eq!(row["name"], name);
        assert_eq!(row["reachable"], true, "{row}");
        assert_eq!(row["led_by"], Value::Null, "{row}");
        assert_eq!(row["canaries"], json!({phase: 1}), "{row}");
    }

    for (cluster, phase) in [("prod-kr", "Initialized"), ("prod-jp", "Initializing")] {
        let of = json!({"cluster": cluster, "namespace": NAMESPACE, "name": NAME});
        let seen = call(mcp, "get_status", of.clone()).await;
        assert_eq!(seen["rollout"]["phase"], phase, "{seen}");
        let mut start = of.clone();
        start["image"] = json!(image("1.2.0"));
        for (tool, arguments) in [
            ("start_canary", start),
            ("promote", of.clone()),
            ("rollback", of.clone()),
        ] {
            let answer = call(mcp, tool, arguments).await;
            assert_eq!(
                answer["outcome"], "refused",
                "{tool} on {cluster}: {answer}"
            );
        }
        let mut skip = of;
        skip["skip_analysis"] = json!(true);
        let answer = call(mcp, "promote", skip).await;
        assert_eq!(answer["outcome"], "refused", "{cluster}: {answer}");
    }

    // Three intervals of a cluster with a clock like ours.
    let wait =
        json!({"cluster": "prod-kr", "namespace": NAMESPACE, "name": NAME, "wait_seconds": 31});
    let params = json!({"name": "get_status", "arguments": wait});
    let request = mcp.post(Era::Modern, "tools/call", params);
    let answer = request
        .timeout(super::child::PATIENCE)
        .send()
        .await
        .unwrap();
    let answer = answer.text().await.unwrap();
    assert!(answer.contains("no change within 31 s"), "{answer}");

    let none = BTreeMap::from([("prod-jp".to_owned(), 0), ("prod-kr".to_owned(), 0)]);
    assert_eq!(foreign.writes(), none);
    // It did look, and the new image is still there.
    let kr = foreign.fleet.member("prod-kr").unwrap();
    assert!(kr.server.faults().reads() > 10);
    let target = foreign.kubectl("prod-kr").get(&DEPLOYMENT, NAME).await;
    let image_now = target.str_at("/spec/template/spec/containers/0/image");
    assert_eq!(image_now, Some(image("1.1.0").as_str()));
}
