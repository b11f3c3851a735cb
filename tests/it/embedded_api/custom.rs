//! Custom resources.

use super::*;

#[tokio::test]
async fn a_definition_is_served_at_once_and_its_objects_are_pruned_defaulted_and_checked() {
    let server = server();
    let client = server.client();
    let api = dynamic(&CANARY, &client, "default");
    assert_eq!(
        status(api.create(&PostParams::default(), &canary("a")).await).code,
        404
    );
    server
        .store()
        .create(&CRD, canary_definition(), "kubectl")
        .unwrap();
    let definition = server
        .store()
        .get(&CRD, "", "canaries.flagger.app")
        .unwrap();
    let conditions: Vec<_> = definition
        .array_at("/status/conditions")
        .iter()
        .map(|c| (c["type"].as_str().unwrap(), c["status"].as_str().unwrap()))
        .collect();
    assert_eq!(
        conditions,
        [("NamesAccepted", "True"), ("Established", "True")]
    );

    let created = api
        .create(&PostParams::default(), &canary("a"))
        .await
        .unwrap();
    assert_eq!(
        created.data["spec"],
        json!({"provider": "istio", "targetRef": {"name": "web"}})
    );
    assert_eq!(created.metadata.generation, Some(1));
    let patch = Patch::Merge(
        json!({"status": {"phase": "Progressing", "canaryWeight": 5, "odd": 1}, "spec": {"suspend": true}}),
    );
    let main = api
        .patch("a", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(
        (main.data.get("status"), main.metadata.generation),
        (None, Some(2))
    );
    let sub = api
        .patch_status("a", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(
        sub.data["status"],
        json!({"phase": "Progressing", "canaryWeight": 5})
    );
    assert_eq!(sub.metadata.generation, Some(2));

    let wrong = Patch::Merge(
        json!({"spec": {"targetRef": {"name": null, "kind": "Job"}, "suspend": "yes"}}),
    );
    let invalid = status(api.patch("a", &PatchParams::default(), &wrong).await);
    let causes: Vec<_> = invalid
        .details
        .unwrap()
        .causes
        .into_iter()
        .map(|c| c.field)
        .collect();
    assert_eq!(
        causes,
        ["spec.suspend", "spec.targetRef.name", "spec.targetRef.kind"]
    );

    let alpha = Kind {
        version: "v1alpha3",
        ..CANARY
    };
    let other = dynamic(&alpha, &client, "default").get("a").await.unwrap();
    assert_eq!(other.types.unwrap().api_version, "flagger.app/v1alpha3");
    let strategic = Patch::Strategic(json!({"spec": {}}));
    assert_eq!(
        status(api.patch("a", &PatchParams::default(), &strategic).await).code,
        415
    );

    server
        .store()
        .delete(&CRD, "", "canaries.flagger.app")
        .unwrap();
    assert_eq!(status(api.get("a").await).code, 404);
    server
        .store()
        .create(&CRD, canary_definition(), "kubectl")
        .unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn a_put_of_a_custom_resource_has_to_name_the_version_it_replaces() {
    let server = server();
    server
        .store()
        .create(&CRD, canary_definition(), "kubectl")
        .unwrap();
    let api = dynamic(&CANARY, &server.client(), "default");
    let created = api
        .create(&PostParams::default(), &canary("a"))
        .await
        .unwrap();
    let mut blind = created.clone();
    blind.metadata.resource_version = None;
    let invalid = status(api.replace("a", &PostParams::default(), &blind).await);
    assert_eq!(invalid.code, 422);
    assert!(
        invalid.message.contains("metadata.resourceVersion"),
        "{}",
        invalid.message
    );
    api.replace("a", &PostParams::default(), &created)
        .await
        .unwrap();
}
