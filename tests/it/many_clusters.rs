//! Two hundred clusters, a tenth of which hang: each is a client whose service answers after a while or never, on the paused clock.

use std::{collections::BTreeMap, time::Duration};

use canary_mcp::{
    api::view::ClusterRow,
    cluster::{Clock, ClusterSpec, Overrides, Registry, registry::Entry},
    decide::state::Phase,
    engine::{
        Settings,
        control::{Control, Filter},
    },
    outbound::http::{self as outbound, Transport},
};
use http::{Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::time::Instant;

/// How far away a cluster is.
const ROUND_TRIP: Duration = Duration::from_millis(150);

/// Which answers never come.
#[derive(Clone, Copy, PartialEq)]
enum Hangs {
    Nothing,
    Everything,
    Canaries,
    Deployments,
}

fn answers(name: &str, hangs: Hangs) -> Entry {
    let service = tower::service_fn(move |request: Request<kube::client::Body>| async move {
        let path = request.uri().path();
        let never = match hangs {
            Hangs::Nothing => false,
            Hangs::Everything => true,
            Hangs::Canaries => path.ends_with("/canaries"),
            Hangs::Deployments => path.contains("/deployments/"),
        };
        if never {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(ROUND_TRIP).await;
        let (code, body) = answer(path);
        Response::builder()
            .status(code)
            .body(Full::from(body.to_string()))
    });
    Entry::of(ClusterSpec {
        name: name.to_owned(),
        labels: labels(name),
        client: kube::Client::new(service, "default"),
        clock: Clock::real(),
        leads: false,
        inside: false,
        embedded: false,
        overrides: Overrides::default(),
    })
}

/// The first hundred are in one region, the others in another.
fn labels(name: &str) -> BTreeMap<String, String> {
    let region = if name.starts_with("cluster-0") {
        "kr"
    } else {
        "jp"
    };
    BTreeMap::from([("region".to_owned(), region.to_owned())])
}

fn answer(path: &str) -> (u16, Value) {
    let canary = |name: &str, phase: &str| {
        json!({"metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "1"},
            "spec": {"targetRef": {"name": name}}, "status": {"phase": phase, "canaryWeight": 0}})
    };
    let definition = json!({"metadata": {"name": "canaries.flagger.app"}, "spec": {"versions": [
        {"name": "v1beta1", "schema": {"openAPIV3Schema": {"properties": {"status": {"x-kubernetes-preserve-unknown-fields": true}}}}},
    ]}});
    match path {
        "/version" => (200, json!({"gitVersion": "v1.33.1"})),
        "/apis" => (
            200,
            json!({"groups": [{"name": "flagger.app", "versions": [{"version": "v1beta1"}], "preferredVersion": {"version": "v1beta1"}}]}),
        ),
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/canaries.flagger.app" => {
            (200, definition)
        }
        "/apis/flagger.app/v1beta1/canaries" => (
            200,
            json!({"metadata": {"resourceVersion": "1"}, "items": [canary("cart", "Initialized"), canary("pay", "Progressing")]}),
        ),
        path if path.contains("/services/") => (
            200,
            json!({"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, "1"]}]}}),
        ),
        path if path.contains("/deployments/") => (
            200,
            json!({"metadata": {"name": "x", "namespace": "shop", "uid": "x", "resourceVersion": "1"},
                "spec": {"template": {"spec": {"containers": [{"name": "x", "image": "registry.example/x:1"}]}}}}),
        ),
        _ => (
            404,
            json!({"kind": "Status", "apiVersion": "v1", "reason": "NotFound", "code": 404, "message": "not found"}),
        ),
    }
}

fn control(entries: Vec<Entry>) -> Control {
    let direct = Transport::Direct(outbound::client(false).unwrap());
    Control::new(Registry::of(entries), Settings::default(), direct)
}

/// `cluster-000` to `cluster-199`: each tenth one hangs.
fn two_hundred() -> Vec<Entry> {
    let hangs = |n| match n % 10 {
        7 => Hangs::Everything,
        _ => Hangs::Nothing,
    };
    (0..200)
        .map(|n| answers(&format!("cluster-{n:03}"), hangs(n)))
        .collect()
}

const HUNG: [&str; 20] = [
    "cluster-007",
    "cluster-017",
    "cluster-027",
    "cluster-037",
    "cluster-047",
    "cluster-057",
    "cluster-067",
    "cluster-077",
    "cluster-087",
    "cluster-097",
    "cluster-107",
    "cluster-117",
    "cluster-127",
    "cluster-137",
    "cluster-147",
    "cluster-157",
    "cluster-167",
    "cluster-177",
    "cluster-187",
    "cluster-197",
];

/// The row of a cluster that has answered everything.
fn whole(name: &str) -> ClusterRow {
    ClusterRow {
        name: name.to_owned(),
        labels: labels(name),
        reachable: true,
        reason: Some(format!(
            "nobody leads; there is no namespace canary-mcp-system for the Lease; make it with: kubectl --context {name} create namespace canary-mcp-system"
        )),
        led_by: None,
        version: Some("v1.33.1".to_owned()),
        installed: Some(vec!["Flagger resources (flagger.app v1beta1)".to_owned()]),
        prometheus: Some("answers".to_owned()),
        canaries: Some(BTreeMap::from([
            ("Initialized".to_owned(), 1),
            ("Progressing".to_owned(), 1),
        ])),
        not_counted: None,
    }
}

#[tokio::test(start_paused = true)]
async fn clusters_that_hang_are_named_in_time_and_cost_the_others_nothing() {
    let control = control(two_hundred());
    let began = Instant::now();
    let rows = control.clusters(None).await.unwrap();
    let took = began.elapsed();
    assert!(took <= Duration::from_secs(2), "{took:?}");

    let lost: Vec<&ClusterRow> = rows.iter().filter(|row| !row.reachable).collect();
    let names: Vec<&str> = lost.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, HUNG);
    for row in lost {
        assert_eq!(row.reason.as_deref(), Some("no answer within 1.5s"));
        assert_eq!(row.canaries, None);
    }
    let rest: Vec<&ClusterRow> = rows.iter().filter(|row| row.reachable).collect();
    assert_eq!(rest.len(), 180);
    for row in rest {
        assert_eq!(*row, whole(&row.name));
    }
}

#[tokio::test(start_paused = true)]
async fn canaries_that_cannot_be_counted_in_time_are_not_none() {
    let control = control(vec![answers("slow", Hangs::Canaries)]);
    let rows = control.clusters(None).await.unwrap();
    let expected = ClusterRow {
        canaries: None,
        not_counted: Some("no answer within 1.5s".to_owned()),
        ..whole("slow")
    };
    assert_eq!(rows, [expected]);
}

#[tokio::test(start_paused = true)]
async fn a_table_of_many_clusters_comes_in_time_and_says_what_it_lacks() {
    let control = control(two_hundred());
    let began = Instant::now();
    let table = control.table(&Filter::default()).await.unwrap();
    let took = began.elapsed();
    assert!(took <= Duration::from_secs(2), "{took:?}");

    assert_eq!((table.count, table.running), (360, 180));
    assert_eq!(table.rows.len(), 100);
    for row in &table.rows {
        assert_eq!((row.name.as_str(), row.phase), ("pay", Phase::Progressing));
        assert_eq!(
            row.image.as_deref(),
            Some("registry.example/x:1"),
            "{row:?}"
        );
    }
    let expected = HUNG.map(|name| format!("{name}: no answer within 1.2s"));
    assert_eq!(table.unreachable, expected);
}

#[tokio::test(start_paused = true)]
async fn a_table_of_the_clusters_that_a_selector_matches() {
    let control = control(two_hundred());
    let filter = Filter {
        selector: Some("region in (kr)".to_owned()),
        name: Some("cart".to_owned()),
        ..Filter::default()
    };
    let table = control.table(&filter).await.unwrap();
    assert_eq!((table.count, table.rows.len(), table.running), (90, 90, 0));
    assert!(
        table
            .rows
            .iter()
            .all(|r| r.cluster.starts_with("cluster-0"))
    );
    assert_eq!(table.unreachable.len(), 10);

    let wrong = Filter {
        selector: Some("region in".to_owned()),
        ..Filter::default()
    };
    let refused = control.table(&wrong).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "selector: \"region in\" in \"region in\" is no label key, write for example: env=production"
    );
}

#[tokio::test(start_paused = true)]
async fn a_row_whose_images_cannot_be_read_is_still_a_row() {
    let control = control(vec![answers("slow", Hangs::Deployments)]);
    let table = control.table(&Filter::default()).await.unwrap();
    let rows: Vec<_> = table
        .rows
        .iter()
        .map(|row| (row.name.as_str(), row.phase, row.image.as_deref()))
        .collect();
    assert_eq!(
        rows,
        [
            ("cart", Phase::Initialized, None),
            ("pay", Phase::Progressing, None)
        ]
    );
    assert_eq!(
        table.unreachable,
        ["slow: the images that run there could not be read: no answer within 600ms"]
    );
}
