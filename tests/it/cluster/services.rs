//! Events and calls to Services.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use canary_mcp::{
    api::objects::{EVENT, ObjectExt},
    cluster::{ErrorKind, ServiceCall},
};
use futures::FutureExt;
use http::{Request, Response, StatusCode};

use super::support::{deployment, world};

#[tokio::test(start_paused = true)]
async fn repeats_of_an_event_are_a_series() {
    let world = world();
    let canary = world.create(deployment()).await;
    let tell = |warning, message| world.cluster.event(&canary, warning, "Synced", message);
    tell(false, "Advance mcp-server.ai-platform canary weight 5")
        .await
        .unwrap();
    tell(true, "Halt advancement").await.unwrap();
    tell(true, "Halt advancement").await.unwrap();
    tell(true, "Halt advancement").await.unwrap();
    tell(false, "Advance mcp-server.ai-platform canary weight 5")
        .await
        .unwrap();
    let events = world
        .cluster
        .list(
            &EVENT,
            Some("ai-platform"),
            None,
            Some("regarding.name=mcp-server"),
        )
        .await
        .unwrap();
    let mut told: Vec<(&str, &str, i64)> = events
        .iter()
        .map(|event| {
            let count = event.int_at("/series/count").unwrap_or(1);
            (
                event.str_at("/type").unwrap(),
                event.str_at("/note").unwrap(),
                count,
            )
        })
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            (
                "Normal",
                "Advance mcp-server.ai-platform canary weight 5",
                1
            ),
            (
                "Normal",
                "Advance mcp-server.ai-platform canary weight 5",
                1
            ),
            ("Warning", "Halt advancement", 3),
        ]
    );
}

fn call_of(request: Request<Bytes>) -> ServiceCall {
    ServiceCall {
        namespace: "istio-system".to_owned(),
        service: "prometheus".to_owned(),
        port: "9090".to_owned(),
        request,
        within: Duration::from_secs(10),
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_is_reached_through_the_api_server() {
    let world = world();
    let call = |path: &str| {
        let request = Request::get(path).body(Bytes::new()).unwrap();
        world.cluster.service_call(call_of(request))
    };
    let none = call("/api/v1/query?query=up").await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Rejected, "{}", none.report());

    world.server.on_service_proxy(Arc::new(|call| {
        async move {
            assert_eq!(
                (
                    call.namespace.as_str(),
                    call.service.as_str(),
                    call.port.as_str()
                ),
                ("istio-system", "prometheus", "9090")
            );
            let mut answer = Response::new(Bytes::from(call.request.uri().to_string()));
            *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            answer
        }
        .boxed()
    }));
    let answer = call("/api/v1/query?query=up%7Ba%3D%22b%22%7D")
        .await
        .unwrap();
    assert_eq!(answer.status(), 500);
    assert_eq!(
        answer.body().as_ref(),
        b"/api/v1/query?query=up%7Ba%3D%22b%22%7D"
    );

    for header in ["authorization", "Impersonate-User", "Impersonate-Extra-x"] {
        let with_header = Request::get("/")
            .header(header, "x")
            .body(Bytes::new())
            .unwrap();
        let before = world.server.faults().counts();
        let call = call_of(with_header);
        let error = world.cluster.service_call(call).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rejected);
        assert_eq!(world.server.faults().counts(), before, "nothing was sent");
    }
}
