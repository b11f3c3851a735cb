//! Applies and updates in turn, with literal owners.

use serde_json::json;

use super::*;
use crate::cluster::embedded::fields::managers::{entries, parse};

/// The object and its entries as (manager, operation, fields), after each write.
struct World {
    object: Value,
    managers: Vec<Manager>,
}

impl World {
    fn new() -> Self {
        Self {
            object: json!({}),
            managers: Vec::new(),
        }
    }

    fn author<'a>(manager: &'a str, shape: &'a Shape, ignored: &'a FieldSet) -> Author<'a> {
        Author {
            manager,
            api_version: "v1",
            subresource: None,
            time: "2026-11-21T00:00:00Z",
            shape,
            typed: true,
            ignored,
        }
    }

    fn apply(&mut self, manager: &str, spec: &Value, force: bool) -> Result<(), Status> {
        let (shape, ignored) = (Shape::of_kind("", "v1", "Service"), FieldSet::default());
        let author = Self::author(manager, &shape, &ignored);
        let config =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": spec});
        let before = self.managers.clone();
        (self.object, self.managers) = apply(before, &self.object, &config, &author, force)?;
        self.object["metadata"]["uid"] = json!("u");
        Ok(())
    }

    fn update(&mut self, manager: &str, spec: &Value) {
        let (shape, ignored) = (Shape::of_kind("", "v1", "Service"), FieldSet::default());
        let author = Self::author(manager, &shape, &ignored);
        let mut new = self.object.clone();
        new["spec"] = spec.clone();
        let before = std::mem::take(&mut self.managers);
        self.managers = after_update(before, &self.object, &new, &author);
        self.object = new;
        self.object["metadata"]["uid"] = json!("u");
    }

    #[track_caller]
    fn is(&self, spec: &Value, owners: &[(&str, &str, Value)]) {
        assert_eq!(self.object["spec"], *spec);
        let found: Vec<_> = entries(&self.managers)
            .into_iter()
            .map(|e| {
                (
                    e["manager"].clone(),
                    e["operation"].clone(),
                    e["fieldsV1"]["f:spec"].clone(),
                )
            })
            .collect();
        let expected: Vec<_> = owners
            .iter()
            .map(|(manager, operation, fields)| (json!(manager), json!(operation), fields.clone()))
            .collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn what_was_applied_and_is_no_longer_goes_unless_another_owns_it() {
    let mut world = World::new();
    world
        .apply("one", &json!({"type": "ClusterIP", "sessionAffinity": "None", "ports": [{"port": 80, "name": "a"}]}), false)
        .unwrap();
    world
        .apply("two", &json!({"type": "ClusterIP"}), false)
        .unwrap();
    world
        .apply("one", &json!({"sessionAffinity": "None"}), false)
        .unwrap();
    world.is(
        &json!({"type": "ClusterIP", "sessionAffinity": "None"}),
        // Who never changed a value has no time, and comes first.
        &[
            ("two", "Apply", json!({"f:type": {}})),
            ("one", "Apply", json!({"f:sessionAffinity": {}})),
        ],
    );
}

#[test]
fn items_that_others_filled_lose_only_what_was_applied() {
    let mut world = World::new();
    world
        .apply(
            "one",
            &json!({"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}),
            false,
        )
        .unwrap();
    world
        .apply(
            "two",
            &json!({"ports": [{"port": 80, "targetPort": 8080}]}),
            false,
        )
        .unwrap();
    world
        .apply("one", &json!({"type": "ClusterIP"}), false)
        .unwrap();
    world.is(
        &json!({"ports": [{"port": 80, "targetPort": 8080}], "type": "ClusterIP"}),
        &[
            ("one", "Apply", json!({"f:type": {}})),
            (
                "two",
                "Apply",
                json!({"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:targetPort": {}}}}),
            ),
        ],
    );
}

#[test]
fn another_value_is_a_conflict_until_it_is_forced() {
    let mut world = World::new();
    world
        .apply(
            "one",
            &json!({"type": "ClusterIP", "selector": {"a": "b"}}),
            false,
        )
        .unwrap();
    let two = json!({"type": "NodePort", "selector": {"a": "c"}});
    let status = world.apply("two", &two, false).unwrap_err();
    assert_eq!(
        status.body(),
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Conflict", "code": 409,
            "message": "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.selector\n- .spec.type",
            "details": {"causes": [
                {"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".spec.selector"},
                {"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".spec.type"}]}})
    );
    world.apply("two", &two, true).unwrap();
    world.is(
        &two,
        &[("two", "Apply", json!({"f:type": {}, "f:selector": {}}))],
    );
}

#[test]
fn updates_take_fields_over_and_conflict() {
    let mut world = World::new();
    world
        .apply(
            "one",
            &json!({"type": "ClusterIP", "selector": {"a": "b"}}),
            false,
        )
        .unwrap();
    world.update("hand", &json!({"type": "NodePort", "selector": {"a": "b"}}));
    world.is(
        &json!({"type": "NodePort", "selector": {"a": "b"}}),
        &[
            ("one", "Apply", json!({"f:selector": {}})),
            ("hand", "Update", json!({"f:type": {}})),
        ],
    );
    let status = world
        .apply("one", &json!({"type": "ClusterIP"}), false)
        .unwrap_err();
    assert_eq!(
        status.message,
        "Apply failed with 1 conflict: conflict with \"hand\" using v1: .spec.type"
    );
    // What is removed has no owner, and what changes nothing has none either.
    world.update("hand", &json!({"selector": {"a": "b"}}));
    world.update("other", &json!({"selector": {"a": "b"}}));
    world.is(
        &json!({"selector": {"a": "b"}}),
        &[("one", "Apply", json!({"f:selector": {}}))],
    );
}

#[test]
fn the_server_owns_its_metadata() {
    let (shape, ignored) = (
        Shape::of_kind("", "v1", "Service"),
        FieldSet::of(&["status"]),
    );
    let author = World::author("one", &shape, &ignored);
    let object = json!({"apiVersion": "v1", "kind": "Service", "status": {"loadBalancer": {}}, "metadata": {
        "name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 1, "creationTimestamp": "2026-11-21T00:00:00Z",
        "labels": {"a": "b"}, "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "o", "uid": "x"}]}});
    let managers = after_update(Vec::new(), &json!({}), &object, &author);
    assert_eq!(
        entries(&managers)[0]["fieldsV1"],
        json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}, "f:ownerReferences": {".": {}, "k:{\"uid\":\"x\"}": {}}}})
    );
}

#[test]
fn what_was_there_before_the_first_apply_has_an_owner() {
    let mut world = World::new();
    world.object = json!({"metadata": {"uid": "u"}, "spec": {"type": "ClusterIP"}});
    // Entries that were reset come back with the first apply, not with an update.
    world.update("hand", &json!({"type": "NodePort"}));
    assert_eq!(world.managers, []);
    world
        .apply("one", &json!({"sessionAffinity": "None"}), false)
        .unwrap();
    world.is(
        &json!({"type": "NodePort", "sessionAffinity": "None"}),
        &[
            ("one", "Apply", json!({"f:sessionAffinity": {}})),
            ("before-first-apply", "Update", json!({"f:type": {}})),
        ],
    );
}

#[test]
fn kubectl_takes_over_what_it_applied_from_the_client() {
    let last = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"type":"ClusterIP"}}"#;
    let mut world = World::new();
    world.object = json!({"metadata": {"uid": "u", "annotations": {LAST_APPLIED: last}}, "spec": {"type": "ClusterIP", "sessionAffinity": "None"}});
    world.managers = parse(&[
        json!({"manager": "kubectl-client-side-apply", "operation": "Update", "apiVersion": "v1",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:type": {}, "f:sessionAffinity": {}}}}),
    ])
    .unwrap();
    let wanted = json!({"type": "NodePort"});
    assert_eq!(world.apply("other", &wanted, false).unwrap_err().code, 409);
    let more = json!({"type": "NodePort", "sessionAffinity": "ClientIP"});
    let status = world.apply("kubectl", &more, false).unwrap_err();
    assert_eq!(
        status.message,
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using v1: .spec.sessionAffinity"
    );
    world.apply("kubectl", &wanted, false).unwrap();
    world.is(
        &json!({"type": "NodePort", "sessionAffinity": "None"}),
        &[
            ("kubectl", "Apply", json!({"f:type": {}})),
            (
                "kubectl-client-side-apply",
                "Update",
                json!({"f:sessionAffinity": {}}),
            ),
        ],
    );
    assert_eq!(
        world.object["metadata"]["annotations"][LAST_APPLIED],
        "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"a\"},\"spec\":{\"type\":\"NodePort\"}}\n"
    );
}
