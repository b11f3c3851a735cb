//! Whole fleets under tokio's paused clock.

use std::collections::BTreeSet;

use super::*;
use crate::{
    api::objects::{EVENT, Object, POD, REPLICA_SET, VIRTUAL_SERVICE},
    cluster::embedded::controllers::{ENDPOINTS, HPA, pods::is_ready},
};

pub(in crate::cluster::embedded) const EPOCH: Moment = Moment(1_795_219_200_000);
pub(in crate::cluster::embedded) const NS: &str = "ai-platform";

/// One cluster with the manifests and, if asked for, traffic.
pub(in crate::cluster::embedded) fn one(per_second: u32) -> (Fleet, Store) {
    at_speed(1.0, per_second)
}

/// The same with this mesh.
pub(in crate::cluster::embedded) fn one_of(mesh: Mesh, per_second: u32) -> (Fleet, Store) {
    with(1.0, per_second, mesh)
}

fn at_speed(speed: f64, per_second: u32) -> (Fleet, Store) {
    with(speed, per_second, Mesh::Istio)
}

fn with(speed: f64, per_second: u32, mesh: Mesh) -> (Fleet, Store) {
    let mut options = FleetOptions::new(EPOCH, speed, Vec::new());
    options.mesh = mesh;
    options.clusters.truncate(1);
    options.traffic[0].per_second = per_second;
    let fleet = Fleet::start(options).unwrap();
    let store = fleet.members()[0].server.store().clone();
    (fleet, store)
}

pub(in crate::cluster::embedded) async fn seconds(store: &Store, n: i64) {
    store.clock().sleep(n * 1_000).await;
}

fn deployment(store: &Store) -> Object {
    store.get(&DEPLOYMENT, NS, "mcp-server").unwrap()
}

fn set_image(store: &Store, tag: &str) {
    let image = format!("registry.example/mcp-server:{tag}");
    let write =
        |d: &mut Value| d["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
    store
        .modify(&DEPLOYMENT, NS, "mcp-server", "kubectl-set", write)
        .unwrap();
}

fn set_replicas(store: &Store, replicas: i64) {
    let write = |d: &mut Value| d["spec"]["replicas"] = json!(replicas);
    store
        .modify(&DEPLOYMENT, NS, "mcp-server", "kubectl", write)
        .unwrap();
}

pub(in crate::cluster::embedded) fn annotate(store: &Store, key: &str, value: Option<&str>) {
    let write = |so: &mut Value| match value {
        Some(value) => so["metadata"]["annotations"][key] = json!(value),
        None => {
            so["metadata"]["annotations"]
                .as_object_mut()
                .unwrap()
                .remove(key);
        }
    };
    store
        .modify(&SCALED_OBJECT, NS, "mcp-server", "kubectl-annotate", write)
        .unwrap();
}

fn condition(object: &Value, kind: &str) -> (String, String) {
    let found = object
        .array_at("/status/conditions")
        .iter()
        .find(|c| c["type"] == json!(kind));
    let text = |field: &str| {
        found
            .map_or("", |c| c[field].as_str().unwrap_or(""))
            .to_owned()
    };
    (text("status"), text("reason"))
}

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

fn pods(store: &Store) -> Vec<Object> {
    store.list(&POD, Some(NS))
}

#[tokio::test(start_paused = true)]
async fn a_deployment_becomes_ready_and_says_so() {
    let (_fleet, store) = one(0);
    seconds(&store, 2).await;
    let starting = deployment(&store);
    assert_eq!(starting["status"]["unavailableReplicas"], json!(2));
    assert_eq!(
        condition(&starting, "Available"),
        pair("False", "MinimumReplicasUnavailable")
    );
    assert_eq!(
        condition(&starting, "Progressing"),
        pair("True", "ReplicaSetUpdated")
    );
    let creating = &pods(&store)[0];
    assert_eq!(creating["status"]["phase"], json!("Running"));
    seconds(&store, 4).await;
    let ready = deployment(&store);
    let mut status = ready["status"].clone();
    status.as_object_mut().unwrap().remove("conditions");
    assert_eq!(
        status,
        json!({"observedGeneration": ready["metadata"]["generation"], "replicas": 2,
        "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2})
    );
    assert_eq!(
        condition(&ready, "Available"),
        pair("True", "MinimumReplicasAvailable")
    );
    assert_eq!(
        condition(&ready, "Progressing"),
        pair("True", "NewReplicaSetAvailable")
    );
    assert_eq!(
        ready.annotation("deployment.kubernetes.io/revision"),
        Some("1")
    );
    let endpoints = store.get(&ENDPOINTS, NS, "mcp-server").unwrap();
    assert_eq!(endpoints.array_at("/subsets/0/addresses").len(), 2);
    assert_eq!(
        endpoints["subsets"][0]["ports"],
        json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
    );
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_never_has_fewer_ready_endpoints_than_replicas() {
    let (fleet, store) = one(20);
    seconds(&store, 10).await;
    let before = fleet.counters("prod-kr");
    set_image(&store, "1.1.0");
    let mut least = usize::MAX;
    for _ in 0..240 {
        store.clock().sleep(124).await;
        let ready = pods(&store).iter().filter(|pod| is_ready(pod)).count();
        least = least.min(ready);
    }
    assert_eq!(least, 2);
    let images: BTreeSet<String> = pods(&store)
        .iter()
        .map(|pod| pod.str_at("/spec/containers/0/image").unwrap().to_owned())
        .collect();
    assert_eq!(
        images,
        BTreeSet::from(["registry.example/mcp-server:1.1.0".to_owned()])
    );
    let during = fleet.counters("prod-kr").since(&before);
    assert!(during.total >= 590, "{during:?}");
    assert_eq!(during.no_endpoint_503, 0);
    assert_eq!(
        deployment(&store).annotation("deployment.kubernetes.io/revision"),
        Some("2")
    );
    assert_eq!(store.list(&REPLICA_SET, Some(NS)).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_crashing_version_restarts_and_backs_off() {
    let (fleet, store) = one(20);
    seconds(&store, 10).await;
    set_image(&store, "1.1.0-crash");
    seconds(&store, 30).await;
    let crashing = pods(&store);
    let crashing = crashing.iter().find(|pod| !is_ready(pod)).unwrap();
    let container = &crashing["status"]["containerStatuses"][0];
    assert_eq!(container["restartCount"], json!(3));
    assert_eq!(
        container["state"]["waiting"]["reason"],
        json!("CrashLoopBackOff")
    );
    assert_eq!(
        container["lastState"]["terminated"]["reason"],
        json!("Error")
    );
    assert_eq!(container["lastState"]["terminated"]["exitCode"], json!(1));
    let waiting = deployment(&store);
    assert_eq!(waiting["status"]["updatedReplicas"], json!(1));
    assert_eq!(waiting["status"]["availableReplicas"], json!(2));
    // progressDeadlineSeconds of the manifest is 300.
    seconds(&store, 250).await;
    assert_eq!(condition(&deployment(&store), "Progressing").0, "True");
    seconds(&store, 30).await;
    let late = deployment(&store);
    assert_eq!(
        condition(&late, "Progressing"),
        pair("False", "ProgressDeadlineExceeded")
    );
    assert_eq!(
        fleet
            .counters("prod-kr")
            .since(&Counts::default())
            .images
            .len(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_flaky_version_fails_once_two_minutes_after_it_became_ready() {
    let (fleet, store) = one(20);
    annotate(&store, "autoscaling.keda.sh/paused", Some("true"));
    seconds(&store, 10).await;
    set_image(&store, "1.1.0-flaky");
    // The first pod of the version is ready five seconds later, the last one ten.
    seconds(&store, 120).await;
    let before = fleet.counters("prod-kr");
    assert_eq!(before.application_500, 0);
    seconds(&store, 45).await;
    let flaking = fleet.counters("prod-kr").since(&before);
    // A fifth of 20 requests a second for 30 seconds.
    assert!(
        (119..=121).contains(&flaking.application_500),
        "{flaking:?}"
    );
    seconds(&store, 900).await;
    let after = fleet.counters("prod-kr").since(&before);
    assert_eq!(after.application_500, flaking.application_500);
}

#[tokio::test(start_paused = true)]
async fn what_the_controllers_do_is_told_in_events() {
    let (_fleet, store) = one(0);
    annotate(&store, "autoscaling.keda.sh/paused", Some("true"));
    seconds(&store, 10).await;
    set_image(&store, "1.1.0-crash");
    seconds(&store, 12).await;
    let told: BTreeSet<(String, String)> = store
        .list(&EVENT, Some(NS))
        .iter()
        .map(|e| (e["regarding"]["kind"].to_string(), e["reason"].to_string()))
        .collect();
    let expected = [
        ("Deployment", "ScalingReplicaSet"),
        ("Pod", "BackOff"),
        ("Pod", "Started"),
    ];
    let expected = expected.map(|(kind, reason)| (format!("{kind:?}"), format!("{reason:?}")));
    assert_eq!(told, BTreeSet::from(expected));
    // An hour later the old ones are forgotten with the next one.
    seconds(&store, 3_700).await;
    let old = store.list(&EVENT, Some(NS));
    let scaled = old
        .iter()
        .filter(|e| e["reason"] == json!("ScalingReplicaSet"));
    assert_eq!(scaled.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_missing_image_stays_pending() {
    let (_fleet, store) = one(0);
    seconds(&store, 10).await;
    set_image(&store, "9.9.9-missing");
    seconds(&store, 15).await;
    let all = pods(&store);
    let stuck = all.iter().find(|pod| !is_ready(pod)).unwrap();
    assert_eq!(stuck["status"]["phase"], json!("Pending"));
    assert_eq!(
        stuck["status"]["containerStatuses"][0]["state"]["waiting"]["reason"],
        json!("ImagePullBackOff")
    );
}

#[tokio::test(start_paused = true)]
async fn pods_leave_the_endpoints_at_once_and_the_cluster_two_seconds_later() {
    let (_fleet, store) = one(0);
    annotate(&store, "autoscaling.keda.sh/paused", Some("true"));
    seconds(&store, 10).await;
    set_replicas(&store, 1);
    store.clock().sleep(1_000).await;
    let endpoints = store.get(&ENDPOINTS, NS, "mcp-server").unwrap();
    assert_eq!(endpoints.array_at("/subsets/0/addresses").len(), 1);
    assert_eq!(pods(&store).len(), 2);
    store.clock().sleep(1_500).await;
    assert_eq!(pods(&store).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_paused_scaled_object_holds_its_target_at_zero() {
    let (fleet, store) = one(20);
    seconds(&store, 10).await;
    annotate(&store, "autoscaling.keda.sh/paused-replicas", Some("0"));
    seconds(&store, 1).await;
    assert_eq!(deployment(&store)["spec"]["replicas"], json!(0));
    let paused = store.get(&SCALED_OBJECT, NS, "mcp-server").unwrap();
    assert_eq!(condition(&paused, "Paused").0, "True");
    assert_eq!(paused["status"]["pausedReplicaCount"], json!(0));
    assert!(store.get(&HPA, NS, "keda-hpa-mcp-server").is_none());
    // Nobody else keeps a size against it.
    set_replicas(&store, 3);
    seconds(&store, 5).await;
    assert_eq!(deployment(&store)["spec"]["replicas"], json!(0));
    assert_eq!(pods(&store).len(), 0);
    let lost = fleet.counters("prod-kr");
    assert!(lost.no_endpoint_503 > 80, "{lost:?}");
    annotate(&store, "autoscaling.keda.sh/paused-replicas", None);
    seconds(&store, 1).await;
    assert_eq!(deployment(&store)["spec"]["replicas"], json!(1));
    seconds(&store, 10).await;
    assert_eq!(pods(&store).iter().filter(|pod| is_ready(pod)).count(), 1);
}

#[cfg(feature = "embedded-metrics")]
#[tokio::test(start_paused = true)]
async fn twenty_requests_a_second_want_two_pods_and_slow_ones_want_more() {
    let (_fleet, store) = one(20);
    seconds(&store, 900).await;
    assert_eq!(deployment(&store)["spec"]["replicas"], json!(2));
    let scaler = store.get(&SCALED_OBJECT, NS, "mcp-server").unwrap();
    assert_eq!(condition(&scaler, "Ready").0, "True");
    assert_eq!(condition(&scaler, "Active").0, "True");
    assert_eq!(condition(&scaler, "Paused").0, "False");
    assert_eq!(scaler["status"]["hpaName"], json!("keda-hpa-mcp-server"));
    set_image(&store, "1.1.0-slow");
    // 20 requests a second of 3 s each are 60 at a time: 30 pods at 2 each, 20 at most.
    seconds(&store, 300).await;
    assert_eq!(deployment(&store)["spec"]["replicas"], json!(20));
}

/// Deployment and Services of a primary, as an engine makes them, and the split of the traffic.
fn split(store: &Store, primary: i64, canary: i64) {
    let spec = json!({"hosts": ["mcp-server"], "http": [{"route": [
        {"destination": {"host": "mcp-server-primary"}, "weight": primary},
        {"destination": {"host": "mcp-server-canary"}, "weight": canary},
    ]}]});
    let exists = store.get(&VIRTUAL_SERVICE, NS, "mcp-server").is_some();
    if exists {
        store
            .modify(&VIRTUAL_SERVICE, NS, "mcp-server", "canary-mcp", |vs| {
                vs["spec"] = spec;
            })
            .unwrap();
    } else {
        let vs = json!({"apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService",
            "metadata": {"name": "mcp-server", "namespace": NS}, "spec": spec});
        store.create(&VIRTUAL_SERVICE, vs, "canary-mcp").unwrap();
    }
}

pub(in crate::cluster::embedded) fn primary(store: &Store) {
    let target = deployment(store);
    let mut spec = target["spec"].clone();
    spec["selector"]["matchLabels"]["app"] = json!("mcp-server-primary");
    spec["template"]["metadata"]["labels"]["app"] = json!("mcp-server-primary");
    let primary = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "mcp-server-primary", "namespace": NS}, "spec": spec});
    store.create(&DEPLOYMENT, primary, "canary-mcp").unwrap();
    for (name, app) in [
        ("mcp-server-primary", "mcp-server-primary"),
        ("mcp-server-canary", "mcp-server"),
    ] {
        let service = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": NS},
            "spec": {"selector": {"app": app}, "ports": [{"name": "http", "port": 8080, "targetPort": "http"}]}});
        store.create(&SERVICE, service, "canary-mcp").unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_split_takes_effect_one_to_three_seconds_after_its_write() {
    let (fleet, store) = one(20);
    primary(&store);
    seconds(&store, 10).await;
    split(&store, 95, 5);
    let written = fleet.counters("prod-kr");
    store.clock().sleep(999).await;
    let early = fleet.counters("prod-kr").since(&written);
    assert_eq!(early.workloads.keys().collect::<Vec<_>>(), ["mcp-server"]);
    store.clock().sleep(2_001).await;
    let from = fleet.counters("prod-kr");
    for (primary, canary) in [(95, 5), (70, 30), (50, 50), (100, 0)] {
        split(&store, primary, canary);
        seconds(&store, 3).await;
        let before = fleet.counters("prod-kr");
        seconds(&store, 60).await;
        let minute = fleet.counters("prod-kr").since(&before);
        assert_eq!(minute.total, 1_200);
        let share = minute.share("mcp-server");
        assert!(
            (share - f64::from(i32::try_from(canary).unwrap())).abs() < 0.2,
            "{canary}: {share}"
        );
    }
    assert_eq!(fleet.counters("prod-kr").since(&from).no_endpoint_503, 0);
}

#[tokio::test(start_paused = true)]
async fn requests_to_a_destination_without_endpoints_are_503s() {
    let (fleet, store) = one(20);
    primary(&store);
    seconds(&store, 10).await;
    split(&store, 50, 50);
    seconds(&store, 5).await;
    annotate(&store, "autoscaling.keda.sh/paused-replicas", Some("0"));
    seconds(&store, 1).await;
    let before = fleet.counters("prod-kr");
    seconds(&store, 60).await;
    let minute = fleet.counters("prod-kr").since(&before);
    assert_eq!((minute.total, minute.no_endpoint_503), (1_200, 600));
}

#[cfg(feature = "embedded-metrics")]
mod queries {
    use super::*;
    use crate::cluster::embedded::metrics::Answer;

    /// Flagger's `request-success-rate` and `request-duration` for Istio, and our template, rendered for the canary.
    const SUCCESS: &str = r#"sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="ai-platform",destination_workload=~"mcp-server",response_code!~"5.*"}[1m])) / sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="ai-platform",destination_workload=~"mcp-server"}[1m])) * 100"#;
    const DURATION: &str = r#"histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket{reporter="destination",destination_workload_namespace="ai-platform",destination_workload=~"mcp-server"}[1m])) by (le))"#;

    fn template() -> String {
        let manifest: Value = serde_saphyr::from_str(EXAMPLES[3].1).unwrap();
        let query = manifest["spec"]["query"].as_str().unwrap();
        query
            .replace("{{ namespace }}", NS)
            .replace("{{ target }}", "mcp-server")
            .replace("{{ interval }}", "1m")
    }

    fn value(fleet: &Fleet, query: &str) -> f64 {
        let member = &fleet.members()[0];
        match member.metrics().instant(query, member.clock.now()) {
            Ok(Answer::Vector(series)) if series.len() == 1 => series[0].1,
            other => panic!("{query}: {other:?}"),
        }
    }

    /// Three minutes of the version, after its rolling update.
    async fn of_version(tag: &str) -> [f64; 3] {
        let (fleet, store) = one(20);
        annotate(&store, "autoscaling.keda.sh/paused", Some("true"));
        primary(&store);
        seconds(&store, 10).await;
        set_image(&store, tag);
        seconds(&store, 60).await;
        split(&store, 70, 30);
        seconds(&store, 120).await;
        [SUCCESS, DURATION, &template()].map(|query| value(&fleet, query))
    }

    fn assert_close(values: [f64; 3], expected: [f64; 3]) {
        for (value, expected) in values.into_iter().zip(expected) {
            assert!(
                (value - expected).abs() < expected * 0.005,
                "{values:?}, expected {expected}"
            );
        }
    }

    // 0.99 of the way through the bucket that holds everything: 100..250 ms in both histograms.
    #[tokio::test(start_paused = true)]
    async fn a_healthy_version() {
        assert_close(of_version("1.1.0").await, [100.0, 248.5, 248.5]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fifth_fails() {
        assert_close(of_version("1.1.0-errors").await, [80.0, 248.5, 248.5]);
    }

    // 2500..5000 ms in Istio's buckets, 2500..3000 in the server's own.
    #[tokio::test(start_paused = true)]
    async fn three_seconds() {
        assert_close(of_version("1.1.0-slow").await, [100.0, 4_975.0, 2_995.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_reach_nobody_are_reported_by_the_client_side() {
        let (fleet, store) = one(20);
        seconds(&store, 10).await;
        annotate(&store, "autoscaling.keda.sh/paused-replicas", Some("0"));
        seconds(&store, 700).await;
        let lost = r#"sum(increase(istio_requests_total{reporter="source",response_code="503",response_flags="UH"}[1m]))"#;
        assert!(
            (value(&fleet, lost) - 1_200.0).abs() < 12.0,
            "{}",
            value(&fleet, lost)
        );
        let answered = r#"sum(istio_requests_total{reporter="destination"})"#;
        let member = &fleet.members()[0];
        let none = member
            .metrics()
            .instant(answered, member.clock.now())
            .unwrap();
        assert_eq!(none, Answer::Vector(Vec::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn six_hours_stay_within_two_stores_of_two_hours() {
        let (fleet, store) = at_speed(600.0, 20);
        let mut most = crate::cluster::embedded::metrics::Held::default();
        for _ in 0..36 {
            seconds(&store, 600).await;
            let held = fleet.members()[0].metrics().held();
            most.stores = most.stores.max(held.stores);
            most.series = most.series.max(held.series);
            most.samples = most.samples.max(held.samples);
            let rate = value(&fleet, "sum(rate(istio_requests_total[30m]))");
            assert!(
                (rate - 20.0).abs() < 0.1 || store.clock().now().since(EPOCH) < 1_900_000,
                "{rate}"
            );
        }
        assert_eq!(most.stores, 2);
        // 23 series of the one route, 15 of each of two pods.
        assert_eq!(most.series, 2 * (23 + 2 * 15));
        // A scrape each 15 seconds: 480 in two hours, 120 in the half hour that the next store overlaps.
        assert!(most.samples <= (480 + 120) * (23 + 2 * 15), "{most:?}");
    }
}
