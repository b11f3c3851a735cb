//! Reads.

use canary_mcp::{
    api::objects::{CONTROLLER_REVISION, DEPLOYMENT, ObjectExt, VIRTUAL_SERVICE},
    cluster::ErrorKind,
};
use serde_json::json;

use super::support::{deployment, of, world};

#[tokio::test(start_paused = true)]
async fn reads_one_object_and_says_when_there_is_none() {
    let world = world();
    world.create(deployment()).await;
    let found = world
        .cluster
        .get(&of(DEPLOYMENT, "mcp-server"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.name(), found["kind"].as_str()),
        ("mcp-server", Some("Deployment"))
    );
    assert_eq!(
        world.cluster.get(&of(DEPLOYMENT, "nobody")).await.unwrap(),
        None
    );
    // A kind that is not served is no object either.
    assert_eq!(
        world.cluster.get(&of(VIRTUAL_SERVICE, "x")).await.unwrap(),
        None
    );
    world.line.cut();
    let error = world
        .cluster
        .get(&of(DEPLOYMENT, "mcp-server"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert_eq!(
        error.to_string(),
        "cannot get Deployment ai-platform/mcp-server in cluster prod-kr: the API server does not answer; check with: kubectl \
         --context prod-kr get --raw /readyz"
    );
}

#[tokio::test(start_paused = true)]
async fn a_list_has_every_page_and_every_kind() {
    let world = world();
    for n in 0..501 {
        let revision = json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision",
            "metadata": {"name": format!("r{n:03}"), "namespace": "ai-platform", "labels": {"half": (n % 2).to_string()}},
            "revision": n, "data": {},
        });
        world
            .server
            .store()
            .create(&CONTROLLER_REVISION, revision, "test")
            .unwrap();
    }
    let all = world
        .cluster
        .list(&CONTROLLER_REVISION, None, None, None)
        .await
        .unwrap();
    assert_eq!(all.len(), 501);
    assert!(
        all.iter()
            .all(|one| one["kind"] == "ControllerRevision" && one["apiVersion"] == "apps/v1")
    );
    let list = |namespace, labels, fields| {
        world
            .cluster
            .list(&CONTROLLER_REVISION, namespace, labels, fields)
    };
    assert_eq!(
        list(Some("ai-platform"), Some("half=1"), None)
            .await
            .unwrap()
            .len(),
        250
    );
    assert_eq!(list(Some("default"), None, None).await.unwrap().len(), 0);
    assert_eq!(
        list(None, None, Some("metadata.name=r007"))
            .await
            .unwrap()
            .len(),
        1
    );
    let error = world
        .cluster
        .list(&VIRTUAL_SERVICE, None, None, None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn what_the_cluster_is() {
    let world = world();
    let version = world.cluster.version().await.unwrap();
    assert!(version.starts_with("v1.33."), "{version}");
    let installed = world.cluster.installed().await.unwrap();
    let apps = installed.iter().find(|(group, _)| group == "apps");
    assert_eq!(apps, Some(&("apps".to_owned(), vec!["v1".to_owned()])));
}
