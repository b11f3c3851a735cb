//! [`Raw`]: an object for kube-runtime that loses nothing that anybody reads and never fails to be read.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Resource,
    core::{ApiResource, DynamicResourceScope},
};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::api::objects::ObjectExt;

/// An object exactly as it came, and just enough of it for kube-runtime. Reading it never fails, so one odd object stops no watch.
///
/// With `METADATA_ONLY` nothing but the metadata is asked for, and of that all is read but the largest part, `managedFields`.
#[derive(Debug, Clone)]
pub(super) struct Raw<const METADATA_ONLY: bool> {
    pub(super) meta: ObjectMeta,
    pub(super) value: Value,
}

impl<'de, const METADATA_ONLY: bool> Deserialize<'de> for Raw<METADATA_ONLY> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = if METADATA_ONLY {
            Partial::deserialize(deserializer)?.value()
        } else {
            Value::deserialize(deserializer)?
        };
        let text = |pointer| value.str_at(pointer).map(str::to_owned);
        let meta = ObjectMeta {
            name: text("/metadata/name"),
            namespace: text("/metadata/namespace"),
            resource_version: text("/metadata/resourceVersion"),
            ..ObjectMeta::default()
        };
        Ok(Self { meta, value })
    }
}

/// A `PartialObjectMetadata`; what is not named is skipped over, which costs a tenth of reading it.
#[derive(Deserialize)]
struct Partial {
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: Value,
    namespace: Value,
    uid: Value,
    resource_version: Value,
    generation: Value,
    deletion_timestamp: Value,
    labels: Value,
    annotations: Value,
    owner_references: Value,
}

impl Partial {
    fn value(self) -> Value {
        let Metadata {
            name,
            namespace,
            uid,
            resource_version,
            generation,
            deletion_timestamp,
            labels,
            annotations,
            owner_references,
        } = self.metadata;
        let fields = [
            ("name", name),
            ("namespace", namespace),
            ("uid", uid),
            ("resourceVersion", resource_version),
            ("generation", generation),
            ("deletionTimestamp", deletion_timestamp),
            ("labels", labels),
            ("annotations", annotations),
            ("ownerReferences", owner_references),
        ];
        let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
        let fields: Map<String, Value> = fields.map(|(k, v)| (k.to_owned(), v)).collect();
        json!({"metadata": fields})
    }
}

impl<const METADATA_ONLY: bool> Resource for Raw<METADATA_ONLY> {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }
    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }
    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }
    fn api_version(of: &ApiResource) -> Cow<'_, str> {
        of.api_version.as_str().into()
    }
    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }
    fn metadata_api() -> bool {
        METADATA_ONLY
    }
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_odd_object_is_read_as_it_is() {
        let odd = json!({"metadata": {"name": 7, "labels": [1], "creationTimestamp": "yesterday", "newField": {"a": 1.5}}, "x": null});
        let raw: Raw<false> = serde_json::from_value(odd.clone()).unwrap();
        assert_eq!(raw.value, odd);
        assert_eq!(raw.meta.name, None);
    }

    #[test]
    fn of_metadata_only_what_a_mark_is_made_of_is_read() {
        let raw: Raw<true> = serde_json::from_value(json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": {"name": "web", "labels": [1], "generation": 2, "managedFields": [{"manager": "kubectl"}], "newField": 1},
        }))
        .unwrap();
        let expected = json!({"metadata": {"name": "web", "labels": [1], "generation": 2}});
        assert_eq!(raw.value, expected);
        assert_eq!(raw.meta.name.as_deref(), Some("web"));
    }
}
