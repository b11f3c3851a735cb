//! What is served, told to clients: health, version, groups, resources, and the little of `OpenAPI` that kubectl asks for.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::{
    kinds::Served,
    route::Route,
    server::{Body, json_answer, status_answer, typed_answer},
    status::Status,
    store::Store,
};

/// The media type of aggregated discovery, exactly as clients compare it.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const TEXT: &str = "text/plain; charset=utf-8";

/// What may be done with an object.
const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// The same of a custom resource, in the order in which they are told.
const CUSTOM_VERBS: [&str; 8] = [
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "create",
    "update",
    "watch",
];

/// Answers a path that is not about objects.
pub(super) fn answer(store: &Store, route: &Route, accept: &str) -> Response<Body> {
    let catalog = store.lock().catalog.clone();
    let rows: Vec<&Served> = catalog.rows().iter().map(AsRef::as_ref).collect();
    let groups = Groups::of(&rows);
    let aggregated = accept
        .split(',')
        .any(|entry| entry.contains("as=APIGroupDiscoveryList") && entry.contains("v=v2"))
        && !accept.trim_start().starts_with("application/json,");
    match route {
        Route::Health => typed_answer(200, TEXT, Bytes::from_static(b"ok")),
        Route::Version => json_answer(200, &version()),
        Route::Core if aggregated => aggregated_answer(&groups.aggregated(str::is_empty)),
        Route::Groups if aggregated => aggregated_answer(&groups.aggregated(|g| !g.is_empty())),
        Route::Core => json_answer(
            200,
            &json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        ),
        Route::Groups => json_answer(200, &groups.list()),
        Route::Group(group) => match groups.one(group) {
            Some(group) => json_answer(200, &group),
            None => no_page(),
        },
        Route::GroupVersion(group, version) => match groups.resources(group, version) {
            Some(list) => json_answer(200, &list),
            None if groups.is_builtin(group) => status_answer(&Status::unknown_resource()),
            None => no_page(),
        },
        Route::OpenApiV2 => openapi_v2(accept),
        Route::OpenApi => json_answer(200, &groups.openapi(store)),
        Route::OpenApiOf(group, version) => match groups.version(group, version) {
            Some(rows) => json_answer(200, &openapi_of(rows)),
            None => status_answer(&Status::unknown_resource()),
        },
        Route::Resource(_) | Route::Unknown => no_page(),
    }
}

/// What a path answers that no part of the API server knows.
pub(super) fn no_page() -> Response<Body> {
    typed_answer(404, TEXT, Bytes::from_static(b"404 page not found\n"))
}

/// kubectl before 1.24 asks for this before it applies anything, and goes on without what it does not find there: it is told of no kind.
fn openapi_v2(accept: &str) -> Response<Body> {
    const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    if accept.contains(PROTOBUF) {
        // Field 1, `swagger`: "2.0".
        // Its @ has no place in the type of an answer: clients cannot read such a header.
        return typed_answer(
            200,
            "application/octet-stream",
            Bytes::from_static(b"\x0a\x032.0"),
        );
    }
    let info = json!({"title": "Kubernetes", "version": VERSION});
    json_answer(200, &json!({"swagger": "2.0", "info": info, "paths": {}}))
}

fn aggregated_answer(body: &Value) -> Response<Body> {
    let mut response = typed_answer(200, AGGREGATED, Bytes::from(body.to_string()));
    let public = http::HeaderValue::from_static("public");
    response
        .headers_mut()
        .insert(http::header::CACHE_CONTROL, public);
    response
}

/// The version whose objects we type (the feature of `k8s-openapi`).
pub(super) const VERSION: &str = "v1.33.0";

fn version() -> Value {
    json!({
        "major": "1",
        "minor": "33",
        "gitVersion": VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "2025-04-23T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": "embedded",
    })
}

/// What is served, by group and by version.
struct Groups<'a>(BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a Served>>>);

impl<'a> Groups<'a> {
    fn of(rows: &[&'a Served]) -> Self {
        let mut groups: BTreeMap<&str, BTreeMap<&str, Vec<&Served>>> = BTreeMap::new();
        for row in rows {
            groups
                .entry(&row.group)
                .or_default()
                .entry(&row.version)
                .or_default()
                .push(row);
        }
        Self(groups)
    }

    fn is_builtin(&self, group: &str) -> bool {
        let rows = self.0.get(group).into_iter().flat_map(BTreeMap::values);
        rows.flatten().any(|row| row.custom.is_none())
    }

    fn version(&self, group: &str, version: &str) -> Option<&[&'a Served]> {
        Some(self.0.get(group)?.get(version)?)
    }

    /// The versions of a group, the preferred one first: stable before beta before alpha, newer before older.
    fn versions(&self, group: &str) -> Vec<&'a str> {
        let mut versions: Vec<&str> = self
            .0
            .get(group)
            .map(|versions| versions.keys().copied().collect())
            .unwrap_or_default();
        versions.sort_by_key(|version| std::cmp::Reverse(priority(version)));
        versions
    }

    fn aggregated(&self, which: impl Fn(&str) -> bool) -> Value {
        let items: Vec<Value> = self
            .0
            .keys()
            .filter(|group| which(group))
            .map(|group| {
                let versions: Vec<Value> = self
                    .versions(group)
                    .into_iter()
                    .map(|version| {
                        let mut rows = self.version(group, version).unwrap_or_default().to_vec();
                        rows.sort_by_key(|row| &row.plural);
                        let resources: Vec<Value> =
                            rows.iter().map(|r| aggregated_resource(r)).collect();
                        json!({"version": version, "resources": resources, "freshness": "Current"})
                    })
                    .collect();
                let metadata = if group.is_empty() {
                    json!({})
                } else {
                    json!({"name": group})
                };
                json!({"metadata": metadata, "versions": versions})
            })
            .collect();
        json!({
            "kind": "APIGroupDiscoveryList",
            "apiVersion": "apidiscovery.k8s.io/v2",
            "metadata": {},
            "items": items,
        })
    }

    fn list(&self) -> Value {
        let groups: Vec<Value> = self
            .0
            .keys()
            .filter(|group| !group.is_empty())
            .map(|group| self.group(group))
            .collect();
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
    }

    fn one(&self, group: &str) -> Option<Value> {
        self.0.get(group)?;
        let mut one = self.group(group);
        one["kind"] = json!("APIGroup");
        one["apiVersion"] = json!("v1");
        Some(one)
    }

    fn group(&self, group: &str) -> Value {
        let versions: Vec<Value> = self
            .versions(group)
            .into_iter()
            .map(|v| json!({"groupVersion": format!("{group}/{v}"), "version": v}))
            .collect();
        json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
    }

    fn resources(&self, group: &str, version: &str) -> Option<Value> {
        let mut rows = self.version(group, version)?.to_vec();
        rows.sort_by_key(|row| &row.plural);
        let mut resources = Vec::new();
        for row in &rows {
            resources.push(resource(row));
            resources.extend(subresources(row).into_iter().map(|(name, kind)| {
                let mut sub = json!({
                    "name": format!("{}/{name}", row.plural),
                    "singularName": "",
                    "namespaced": row.namespaced,
                    "kind": row.kind,
                    "verbs": ["get", "patch", "update"],
                });
                if let Some((group, version, kind)) = kind {
                    sub["group"] = json!(group);
                    sub["version"] = json!(version);
                    sub["kind"] = json!(kind);
                }
                sub
            }));
        }
        let group_version = rows.first().map(|row| row.api_version());
        let mut list = json!({
            "kind": "APIResourceList",
            "groupVersion": group_version,
            "resources": resources,
        });
        // The core group's list is older than this field.
        if !group.is_empty() {
            list["apiVersion"] = json!("v1");
        }
        Some(list)
    }

    /// The index of the `OpenAPI` documents. The hash has to change with the content: kubectl caches by it.
    fn openapi(&self, store: &Store) -> Value {
        let revision = store.revision();
        let mut paths = serde_json::Map::new();
        for (group, versions) in &self.0 {
            for (version, rows) in versions {
                let path = if group.is_empty() {
                    format!("api/{version}")
                } else {
                    format!("apis/{group}/{version}")
                };
                let custom = rows.iter().any(|row| row.custom.is_some());
                let hash = if custom { revision } else { 0 };
                let url = format!("/openapi/v3/{path}?hash={hash}");
                paths.insert(path, json!({"serverRelativeURL": url}));
            }
        }
        json!({"paths": paths})
    }
}

/// Kubernetes' order of versions: `v2`, `v1`, `v1beta2`, `v1beta1`, `v1alpha1`, then the rest.
fn priority(version: &str) -> (u8, u32, u32) {
    let number = |text: &str| text.parse::<u32>().unwrap_or(0);
    let Some(rest) = version.strip_prefix('v') else {
        return (0, 0, 0);
    };
    if let Some((major, minor)) = rest.split_once("beta") {
        (2, number(major), number(minor))
    } else if let Some((major, minor)) = rest.split_once("alpha") {
        (1, number(major), number(minor))
    } else {
        (3, number(rest), 0)
    }
}

type OtherKind = (&'static str, &'static str, &'static str);

/// The subresources of a kind, and the kind that they have where it is another one.
fn subresources(row: &Served) -> Vec<(&'static str, Option<OtherKind>)> {
    let mut all = Vec::new();
    if row.status {
        all.push(("status", None));
    }
    if row.scale.is_some() {
        all.push(("scale", Some(("autoscaling", "v1", "Scale"))));
    }
    // Those of built-in kinds are in order.
    if row.custom.is_none() {
        all.sort_unstable();
    }
    all
}

fn verbs(row: &Served) -> Value {
    if row.create_only() {
        json!(["create"])
    } else {
        json!(if row.custom.is_some() {
            CUSTOM_VERBS
        } else {
            VERBS
        })
    }
}

fn resource(row: &Served) -> Value {
    let mut out = json!({
        "name": row.plural,
        "singularName": row.singular,
        "namespaced": row.namespaced,
        "kind": row.kind,
        "verbs": verbs(row),
    });
    if !row.short_names.is_empty() {
        out["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        out["categories"] = json!(row.categories);
    }
    out
}

fn aggregated_resource(row: &Served) -> Value {
    let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let subresources: Vec<Value> = subresources(row)
        .into_iter()
        .map(|(name, other)| {
            let kind = match other {
                Some((group, version, name)) => kind(group, version, name),
                None => kind(&row.group, &row.version, &row.kind),
            };
            json!({"subresource": name, "responseKind": kind, "verbs": ["get", "patch", "update"]})
        })
        .collect();
    let mut out = json!({
        "resource": row.plural,
        "responseKind": kind(&row.group, &row.version, &row.kind),
        "scope": if row.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": row.singular,
        "verbs": verbs(row),
    });
    for (key, list) in [
        ("shortNames", json!(row.short_names)),
        ("categories", json!(row.categories)),
        ("subresources", json!(subresources)),
    ] {
        if list.as_array().is_some_and(|l| !l.is_empty()) {
            out[key] = list;
        }
    }
    out
}

/// Enough for `kubectl apply` (a patch operation with the kind and the parameter `fieldValidation`) and for
/// `kubectl explain` of custom resources.
fn openapi_of(rows: &[&Served]) -> Value {
    let mut paths = serde_json::Map::new();
    let mut schemas = serde_json::Map::new();
    let parameters = json!([
        {"name": "dryRun", "in": "query", "schema": {"type": "string", "uniqueItems": true}},
        {"name": "fieldManager", "in": "query", "schema": {"type": "string", "uniqueItems": true}},
        {"name": "fieldValidation", "in": "query", "schema": {"type": "string", "uniqueItems": true}},
    ]);
    for row in rows {
        let kind = json!({"group": row.group, "version": row.version, "kind": row.kind});
        let base = if row.group.is_empty() {
            format!("/api/{}", row.version)
        } else {
            format!("/apis/{}/{}", row.group, row.version)
        };
        let scope = if row.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let operation = |action: &str| {
            json!({
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind": kind,
                "parameters": parameters,
                "responses": {"200": {"description": "OK"}},
            })
        };
        let collection = format!("{base}{scope}/{}", row.plural);
        if !row.create_only() {
            paths.insert(
                format!("{collection}/{{name}}"),
                json!({"get": operation("get"), "put": operation("put"), "patch": operation("patch")}),
            );
        }
        paths.insert(collection, json!({"post": operation("post")}));
        let mut schema = match &row.custom {
            Some(custom) => custom.schema.clone(),
            None => json!({"type": "object"}),
        };
        schema["x-kubernetes-group-version-kind"] = json!([kind]);
        let reversed: Vec<&str> = row.group.rsplit('.').filter(|p| !p.is_empty()).collect();
        let package = if reversed.is_empty() {
            "io.k8s.api.core".to_owned()
        } else {
            reversed.join(".")
        };
        schemas.insert(format!("{package}.{}.{}", row.version, row.kind), schema);
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.33.0"},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_kubernetes_orders_them() {
        let mut versions = ["v1alpha1", "foo", "v1beta2", "v1", "v2", "v1beta1", "v11"];
        versions.sort_by_key(|version| std::cmp::Reverse(priority(version)));
        assert_eq!(
            versions,
            ["v11", "v2", "v1", "v1beta2", "v1beta1", "v1alpha1", "foo"]
        );
    }
}
