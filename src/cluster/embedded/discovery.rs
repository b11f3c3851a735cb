//! What is served, told to clients: health, version, groups, resources.

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::{
    route::Route,
    server::{Body, json_answer, typed_answer},
    store::Store,
};

/// Answers a path that is not about objects.
pub(super) fn answer(store: &Store, route: &Route, accept: &str) -> Response<Body> {
    let _ = (store, accept);
    match route {
        Route::Health => typed_answer(200, "text/plain; charset=utf-8", Bytes::from_static(b"ok")),
        Route::Version => json_answer(200, &version()),
        _ => typed_answer(
            404,
            "text/plain; charset=utf-8",
            Bytes::from_static(b"404 page not found\n"),
        ),
    }
}

/// 1.33 is the version whose objects we type (the feature of `k8s-openapi`).
fn version() -> Value {
    json!({
        "major": "1",
        "minor": "33",
        "gitVersion": "v1.33.0",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "2025-04-23T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": "embedded",
    })
}
