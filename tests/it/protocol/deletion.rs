//! Deletion: finalizers, preconditions, owners, collections, namespaces.

use super::*;

fn with_finalizers(name: &str, finalizers: &Value) -> Value {
    json!({"metadata": {"name": name, "finalizers": finalizers}})
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let path = at(MAPS, "a");
    check(Scenario::new(
        "finalizers hold an object",
        [
            post(MAPS, &with_finalizers("a", &json!(["x.y/a", "x.y/b"]))),
            delete(&path),
            delete(&path),
            get(&path),
            patch(
                "merge",
                &path,
                &json!({"metadata": {"finalizers": ["x.y/a", "x.y/b", "x.y/c"]}}),
            )
            .apart("mistakes told twice"),
            patch(
                "merge",
                &path,
                &json!({"metadata": {"finalizers": ["x.y/b"]}}),
            ),
            patch(
                "merge",
                &path,
                &json!({"metadata": {"deletionTimestamp": null}}),
            ),
            patch("merge", &path, &json!({"data": {"k": "v"}})),
            post(MAPS, &config_map("a", &json!({}))),
            patch(
                "json",
                &path,
                &json!([{"op": "remove", "path": "/metadata/finalizers"}]),
            ),
            get(&path),
            post(
                WIDGETS,
                &json!({"apiVersion": "protocol.canary-mcp.dev/v1", "kind": "Widget",
                "metadata": {"name": "a", "finalizers": ["x.y/a"]}, "spec": {"size": 1}}),
            ),
            delete(&at(WIDGETS, "a")),
            patch(
                "merge",
                &at(WIDGETS, "a"),
                &json!({"metadata": {"finalizers": null}}),
            ),
            get(&at(WIDGETS, "a")),
        ],
    ))
    .await;
}

#[tokio::test]
async fn preconditions_of_a_deletion() {
    let path = at(MAPS, "a");
    check(Scenario::new(
        "preconditions of a deletion",
        [
            post(MAPS, &config_map("a", &json!({})))
                .save("uid", "/metadata/uid")
                .save("first", "/metadata/resourceVersion"),
            patch("merge", &path, &json!({"data": {"k": "v"}}))
                .save("second", "/metadata/resourceVersion"),
            delete(&path)
                .json(&json!({"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}})),
            delete(&path).json(&json!({"preconditions": {"resourceVersion": "{first}"}})),
            delete(&path).json(
                &json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "x"}),
            ),
            delete(&format!("{MAPS}/a?propagationPolicy=x")),
            delete(&path).json(&json!({"propagationPolicy": "Orphan", "orphanDependents": true})),
            delete(&path)
                .json(&json!({"kind": "Nonsense", "apiVersion": "v1"}))
                .apart("words of Go's decoder")
                .needs(Feature::MistakesAreBadRequests),
            delete(&path)
                .text("application/json", "{")
                .apart("words of Go's decoder")
                .needs(Feature::MistakesAreBadRequests),
            delete(&path).json(&json!({"kind": "DeleteOptions", "apiVersion": "v1",
                "preconditions": {"uid": "{uid}", "resourceVersion": "{second}"}})),
            get(&path),
            delete(&path),
        ],
    ))
    .await;
}

fn owned(name: &str, blocks: bool) -> Value {
    json!({"metadata": {"name": name, "ownerReferences": [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "{owner}", "blockOwnerDeletion": blocks}]}})
}

#[tokio::test]
async fn what_is_owned_goes_in_the_background() {
    check(Scenario::new(
        "what is owned goes in the background",
        [
            post(MAPS, &config_map("owner", &json!({}))).save("owner", "/metadata/uid"),
            post(MAPS, &owned("owned", false)),
            delete(&at(MAPS, "owner")),
            get(&at(MAPS, "owner")),
            get(&at(MAPS, "owned")).until(404),
        ],
    ))
    .await;
}

#[tokio::test]
async fn what_is_owned_goes_first() {
    check(Scenario::new(
        "what is owned goes first",
        [
            post(MAPS, &config_map("owner", &json!({}))).save("owner", "/metadata/uid"),
            post(MAPS, &json!({"metadata": {"name": "held", "finalizers": ["x.y/z"], "ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "{owner}", "blockOwnerDeletion": true}]}})),
            delete(&at(MAPS, "owner")).json(&json!({"propagationPolicy": "Foreground"})),
            get(&at(MAPS, "owner")),
            get(&at(MAPS, "held")).until_there("/metadata/deletionTimestamp"),
            patch("merge", &at(MAPS, "held"), &json!({"metadata": {"finalizers": null}})),
            get(&at(MAPS, "held")).until(404),
            get(&at(MAPS, "owner")).until(404),
        ],
    ))
    .await;
}

#[tokio::test]
async fn what_is_owned_stays() {
    check(Scenario::new(
        "what is owned stays",
        [
            post(MAPS, &config_map("owner", &json!({}))).save("owner", "/metadata/uid"),
            post(MAPS, &owned("owned", false)),
            delete(&at(MAPS, "owner")).json(&json!({"propagationPolicy": "Orphan"})),
            get(&at(MAPS, "owner")).until(404),
            get(&at(MAPS, "owned")).apart("owners of some fields"),
        ],
    ))
    .await;
}

#[tokio::test]
async fn an_owner_that_never_was() {
    check(Scenario::new(
        "an owner that never was",
        [
            post(MAPS, &json!({"metadata": {"name": "owned", "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap",
                "name": "none", "uid": "00000000-0000-0000-0000-000000000000"}]}})),
            get(&at(MAPS, "owned")).until(404),
        ],
    ))
    .await;
}

#[tokio::test]
async fn collections() {
    check(Scenario::new(
        "a collection is deleted",
        [
            post(LEASES, &lease("a", &json!({"app": "x"}))),
            post(LEASES, &lease("b", &json!({"app": "x"}))),
            post(LEASES, &lease("c", &json!({}))),
            post(LEASES, &json!({"metadata": {"name": "d", "finalizers": ["x.y/z"], "labels": {"app": "x"}}, "spec": {"holderIdentity": "h"}})),
            delete(&format!("{LEASES}?labelSelector=app=x&dryRun=All")),
            delete(&format!("{LEASES}?labelSelector=app=x")),
            get(LEASES),
            delete(&format!("{LEASES}?labelSelector=a+in+x")).apart("words of the selector's parser"),
            patch("merge", &at(LEASES, "d"), &json!({"metadata": {"finalizers": null}})),
            post(WIDGETS, &widget("a", &json!({"size": 1}))),
            delete(WIDGETS),
            get(WIDGETS),
            delete("/apis/coordination.k8s.io/v1/leases"),
        ],
    ))
    .await;
}

#[tokio::test]
async fn a_namespace_goes_with_its_content() {
    let own = "/api/v1/namespaces/{ns}-b";
    check(Scenario::new(
        "a namespace goes with its content",
        [
            post(
                "/api/v1/namespaces",
                &json!({"metadata": {"name": "{ns}-b"}}),
            )
            .apart("owners of some fields")
            .needs(Feature::NamespaceLabel),
            post(
                "/api/v1/namespaces",
                &json!({"metadata": {"name": "{ns}-b"}}),
            ),
            post(
                &format!("{own}/configmaps"),
                &with_finalizers("a", &json!(["x.y/z"])),
            ),
            delete(own)
                .apart("owners of some fields")
                .needs(Feature::NamespaceLabel),
            post(&format!("{own}/configmaps"), &config_map("b", &json!({}))),
            post(
                &format!("{own}/configmaps"),
                &json!({"metadata": {"generateName": "b-"}}),
            ),
            get(&format!("{own}/configmaps/a")).until_there("/metadata/deletionTimestamp"),
            patch(
                "merge",
                &format!("{own}/configmaps/a"),
                &json!({"data": {"k": "v"}}),
            ),
            patch(
                "merge",
                &format!("{own}/configmaps/a"),
                &json!({"metadata": {"finalizers": null}}),
            ),
            get(&format!("{own}/configmaps/a")).until(404),
            get(own).until(404),
        ],
    ))
    .await;
}

#[tokio::test]
async fn a_definition_goes_with_its_objects() {
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.{ns}.example"},
        "spec": {"group": "{ns}.example", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let things = "/apis/{ns}.example/v1/namespaces/{ns}/things";
    check(Scenario::new(
        "a definition goes with its objects",
        [
            post(definitions, &definition).apart("definitions go at once"),
            get(things).until(200),
            post(things, &json!({"apiVersion": "{ns}.example/v1", "kind": "Thing", "metadata": {"name": "a"}, "any": 1})).until(201),
            get(&format!("{definitions}/things.{{ns}}.example")).apart("definitions go at once"),
            delete(&format!("{definitions}/things.{{ns}}.example")).apart("definitions go at once"),
            get(&format!("{definitions}/things.{{ns}}.example")).until(404),
            get(things).until(404),
        ],
    ))
    .await;
}
