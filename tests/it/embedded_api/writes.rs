//! Writes: conflicts, generation, patches, validation, managed fields, scale.

use super::*;

#[tokio::test]
async fn a_stale_write_is_a_conflict_in_kubernetes_words() {
    let client = server().client();
    let api = maps(&client);
    let mut first = api
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    assert_eq!(first.metadata.generation, None);
    let mut second = first.clone();
    second.data.as_mut().unwrap().insert("k".into(), "2".into());
    api.replace("a", &PostParams::default(), &second)
        .await
        .unwrap();
    first.data.as_mut().unwrap().insert("k".into(), "3".into());
    let conflict = status(api.replace("a", &PostParams::default(), &first).await);
    assert_eq!((conflict.code, conflict.reason.as_str()), (409, "Conflict"));
    assert_eq!(
        conflict.message,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; \
         please apply your changes to the latest version and try again"
    );
    let patch = json!({"metadata": {"resourceVersion": first.metadata.resource_version}, "data": {"k": "4"}});
    let stale = status(
        api.patch("a", &PatchParams::default(), &Patch::Merge(patch))
            .await,
    );
    assert_eq!(stale.code, 409);
    let exists = status(
        api.create(&PostParams::default(), &config_map("a", "1"))
            .await,
    );
    assert_eq!(
        (exists.code, exists.reason.as_str()),
        (409, "AlreadyExists")
    );
    assert_eq!(exists.message, "configmaps \"a\" already exists");
    let missing = status(api.get("b").await);
    assert_eq!(
        (missing.code, missing.message.as_str()),
        (404, "configmaps \"b\" not found")
    );
    assert_eq!(
        missing.details.map(|d: StatusDetails| (d.name, d.kind)),
        Some(("b".to_owned(), "configmaps".to_owned()))
    );
}

#[tokio::test]
async fn generation_follows_the_spec_and_a_no_op_writes_nothing() {
    let server = server();
    let client = server.client();
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let created = api
        .create(&PostParams::default(), &deployment("web"))
        .await
        .unwrap();
    assert_eq!(created.metadata.generation, Some(1));
    assert_eq!(created.spec.as_ref().unwrap().replicas, Some(1));
    let write = async |patch: Value| {
        let patched = api
            .patch("web", &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
        (
            patched.metadata.generation,
            patched.metadata.resource_version,
        )
    };
    let version = created.metadata.resource_version.clone();
    assert_eq!(
        write(json!({"spec": {"replicas": 1}})).await,
        (Some(1), version)
    );
    assert_eq!(
        write(json!({"metadata": {"labels": {"a": "b"}}})).await.0,
        Some(1)
    );
    assert_eq!(write(json!({"spec": {"replicas": 2}})).await.0, Some(2));
    assert_eq!(
        write(json!({"metadata": {"annotations": {"a": "b"}}}))
            .await
            .0,
        Some(3)
    );
    assert_eq!(write(json!({"status": {"replicas": 9}})).await.0, Some(3));
    assert_eq!(api.get("web").await.unwrap().status.unwrap().replicas, None);
    let status_patch = json!({"status": {"replicas": 2}, "spec": {"replicas": 7}, "metadata": {"labels": {"x": "y"}}});
    let patched = api
        .patch_status("web", &PatchParams::default(), &Patch::Merge(status_patch))
        .await
        .unwrap();
    assert_eq!(patched.status.unwrap().replicas, Some(2));
    assert_eq!(patched.spec.unwrap().replicas, Some(2));
    assert_eq!(patched.metadata.labels.unwrap().get("x"), None);
    assert_eq!(patched.metadata.generation, Some(3));
}

#[tokio::test]
async fn patches_of_all_formats_and_their_refusals() {
    let client = server().client();
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let created = api
        .create(&PostParams::default(), &deployment("web"))
        .await
        .unwrap();
    let strategic = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "registry.example/x:2"}]}}}});
    let patched = api
        .patch(
            "web",
            &PatchParams::apply("me"),
            &Patch::Strategic(strategic),
        )
        .await
        .unwrap();
    let containers = |d: &Deployment| d.spec.clone().unwrap().template.spec.unwrap().containers;
    assert_eq!(
        containers(&patched)[0].image.as_deref(),
        Some("registry.example/x:2")
    );
    assert_eq!(
        containers(&patched)[0].image_pull_policy.as_deref(),
        Some("IfNotPresent")
    );

    let path = "/apis/apps/v1/namespaces/default/deployments/web";
    let json_patch = ("application/json", "application/json-patch+json");
    let uid = created.metadata.uid.clone();
    let good = json!([
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": "/metadata/finalizers", "value": null},
        {"op": "replace", "path": "/spec/replicas", "value": 4}]);
    let (code, body) = raw(&client, "PATCH", path, json_patch, good).await;
    assert_eq!((code, body.int_at("/spec/replicas")), (200, Some(4)));
    let stale = json!([{"op": "test", "path": "/metadata/generation", "value": 1}, {"op": "remove", "path": "/spec/replicas"}]);
    let (code, body) = raw(&client, "PATCH", path, json_patch, stale).await;
    assert_eq!((code, &body["reason"]), (422, &json!("Invalid")));
    assert_eq!(
        body["details"]["causes"][0]["message"],
        "testing value /metadata/generation failed: value did not match"
    );
    assert_eq!(
        api.get("web").await.unwrap().spec.unwrap().replicas,
        Some(4)
    );

    let protobuf = ("application/json", "application/vnd.kubernetes.protobuf");
    let collection = "/apis/apps/v1/namespaces/default/deployments";
    let (code, body) = raw(&client, "POST", collection, protobuf, json!({})).await;
    assert_eq!(code, 415);
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .contains("--dry-run=client -o yaml | kubectl apply -f -")
    );
}

#[tokio::test]
async fn wrong_objects_are_refused_with_the_field() {
    let client = server().client();
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let mut wrong = deployment("web");
    wrong.spec.as_mut().unwrap().template.metadata = None;
    let invalid = status(api.create(&PostParams::default(), &wrong).await);
    assert_eq!((invalid.code, invalid.reason.as_str()), (422, "Invalid"));
    assert!(
        invalid.message.starts_with(
            "Deployment.apps \"web\" is invalid: spec.template.metadata.labels: Invalid value"
        ),
        "{}",
        invalid.message
    );
    let elsewhere: Api<Deployment> = Api::namespaced(client.clone(), "nowhere");
    let missing = status(
        elsewhere
            .create(&PostParams::default(), &deployment("web"))
            .await,
    );
    assert_eq!(
        (missing.code, missing.message.as_str()),
        (404, "namespaces \"nowhere\" not found")
    );
    let path = "/apis/apps/v1/namespaces/default/deployments?fieldValidation=Strict";
    let mut typo = serde_json::to_value(deployment("web")).unwrap();
    typo["spec"]["replica"] = json!(2);
    let (code, body) = raw(
        &client,
        "POST",
        path,
        ("application/json", "application/json"),
        typo,
    )
    .await;
    assert_eq!(
        (code, &body["message"]),
        (
            400,
            &json!(
                "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"spec.replica\""
            )
        )
    );
}

#[tokio::test]
async fn dry_runs_answer_and_keep_nothing() {
    let server = server();
    let api = maps(&server.client());
    let before = server.store().revision();
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let created = api.create(&dry, &config_map("a", "1")).await.unwrap();
    assert!(created.metadata.uid.is_some());
    assert!(api.get_opt("a").await.unwrap().is_none());
    api.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let patch = json!({"data": {"k": "2"}});
    let params = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    let patched = api.patch("a", &params, &Patch::Merge(patch)).await.unwrap();
    assert_eq!(patched.data.unwrap()["k"], "2");
    let dry = DeleteParams {
        dry_run: true,
        ..DeleteParams::default()
    };
    api.delete("a", &dry).await.unwrap();
    assert_eq!(api.get("a").await.unwrap().data.unwrap()["k"], "1");
    assert_eq!(server.store().revision(), before + 1);
}

#[tokio::test]
async fn names_are_made_up_from_a_prefix() {
    let client = server().client();
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"generateName": "run-"}})).unwrap();
    let name = maps(&client)
        .create(&PostParams::default(), &map)
        .await
        .unwrap()
        .metadata
        .name
        .unwrap();
    assert_eq!((name.len(), &name[..4]), (9, "run-"));
    let nameless: ConfigMap = serde_json::from_value(json!({"metadata": {}})).unwrap();
    let invalid = status(
        maps(&client)
            .create(&PostParams::default(), &nameless)
            .await,
    );
    assert_eq!(invalid.code, 422);
}

#[tokio::test]
async fn managed_fields_tell_writers_and_subresources_apart() {
    let client = server().client();
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let by = |manager: &str| PostParams {
        field_manager: Some(manager.into()),
        ..PostParams::default()
    };
    api.create(&by("kubectl"), &deployment("web"))
        .await
        .unwrap();
    let params = PatchParams {
        field_manager: Some("canary-mcp".into()),
        ..PatchParams::default()
    };
    let image = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "registry.example/x:2"}]);
    let patch: json_patch::Patch = serde_json::from_value(image).unwrap();
    api.patch("web", &params, &Patch::<()>::Json(patch))
        .await
        .unwrap();
    api.patch_status(
        "web",
        &params,
        &Patch::Merge(json!({"status": {"replicas": 1}})),
    )
    .await
    .unwrap();
    api.patch_scale(
        "web",
        &params,
        &Patch::Merge(json!({"spec": {"replicas": 3}})),
    )
    .await
    .unwrap();
    let fields = api
        .get("web")
        .await
        .unwrap()
        .metadata
        .managed_fields
        .unwrap();
    let entries: Vec<(String, Option<String>, Value)> = fields
        .into_iter()
        .map(|f| (f.manager.unwrap(), f.subresource, f.fields_v1.unwrap().0))
        .collect();
    assert_eq!(entries.len(), 4);
    // That of a scale has no time, so it comes first: so it is in Kubernetes.
    assert_eq!(entries[0].1.as_deref(), Some("scale"));
    assert_eq!(entries[0].2, json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(
        (entries[3].0.as_str(), entries[3].1.as_deref()),
        ("kubectl", None)
    );
    assert_eq!(
        entries[1],
        (
            "canary-mcp".to_owned(),
            None,
            json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {"f:image": {}}}}}}})
        )
    );
    assert_eq!(entries[2].1.as_deref(), Some("status"));
    assert_eq!(entries[2].2, json!({"f:status": {"f:replicas": {}}}));
}

#[tokio::test]
async fn scale_reads_and_writes_replicas() {
    let client = server().client();
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    api.create(&PostParams::default(), &deployment("web"))
        .await
        .unwrap();
    let mut scale = api.get_scale("web").await.unwrap();
    assert_eq!(scale.spec.as_ref().unwrap().replicas, Some(1));
    assert_eq!(
        scale.status.as_ref().unwrap().selector.as_deref(),
        Some("app=web")
    );
    scale.spec.as_mut().unwrap().replicas = Some(5);
    api.replace_scale("web", &PostParams::default(), &scale)
        .await
        .unwrap();
    let after = api.get("web").await.unwrap();
    assert_eq!(
        (after.spec.unwrap().replicas, after.metadata.generation),
        (Some(5), Some(2))
    );
    scale.spec.as_mut().unwrap().replicas = Some(6);
    let conflict = status(
        api.replace_scale("web", &PostParams::default(), &scale)
            .await,
    );
    assert_eq!(conflict.code, 409);
}

#[tokio::test]
async fn what_is_empty_or_null_is_not_kept() {
    let client = server().client();
    let path = "/api/v1/namespaces/default/configmaps";
    let media = ("application/json", "application/json");
    let body = json!({"metadata": {"name": "a", "labels": {}, "finalizers": [], "annotations": null},
        "data": {"k": "1"}, "binaryData": null});
    let (code, created) = raw(&client, "POST", path, media, body).await;
    assert_eq!(code, 201);
    for key in ["labels", "finalizers", "annotations"] {
        assert_eq!(created["metadata"].get(key), None, "{key}");
    }
    assert_eq!(created.get("binaryData"), None);
}
