//! What the two worlds differ in.

use canary_mcp::{
    api::objects::{Kind, Object},
    cluster::{Clock, ClusterSpec},
    decide::state::Phase,
    engine::Settings,
    outbound::http::Transport,
};
use http::Request;
use kube::Client;
use serde_json::Value;

use super::{Rig, Share};

/// A cluster with one Canary `mcp-server` in a namespace, as a person sees it who has kubectl and a clock.
pub(crate) trait World: Sized {
    /// For how long an end is looked at, seconds of the cluster's clock.
    const AFTERMATH: u64;
    /// What happens at once happens within this, milliseconds of the cluster's clock.
    const AT_ONCE: i64;
    type Watch: Watch;

    /// Where the Canary is.
    fn namespace(&self) -> &str;
    fn clock(&self) -> &Clock;
    /// A way to the API server, the one that the tools' control takes.
    fn client(&self) -> Client;
    /// The engine's, where it has an account of its own.
    fn engine_client(&self) -> Client {
        self.client()
    }
    fn spec(&self, client: Client, leads: bool) -> ClusterSpec;
    fn settings(&self) -> Settings;
    /// Calls to what is outside of the cluster.
    fn transport(&self) -> Transport;

    fn get(&self, kind: &Kind, name: &str) -> Option<Object>;
    fn list(&self, kind: &Kind) -> Vec<Object>;
    /// Creates an object in the namespace, as kubectl does.
    fn create(&self, kind: &Kind, object: Value);
    /// Changes an object as this field manager does with PUT.
    fn modify(&self, kind: &Kind, name: &str, manager: &str, change: impl Fn(&mut Value));
    /// Changes an object's status in the same way.
    fn modify_status(&self, kind: &Kind, name: &str, manager: &str, change: impl Fn(&mut Value));
    fn delete(&self, kind: &Kind, name: &str);
    /// Applies a part of an object, as `kubectl apply --server-side` does.
    async fn apply(&self, kind: &Kind, name: &str, manager: &str, part: &Value) {
        let (version, plural) = (kind.api_version(), kind.plural);
        let mut part = part.clone();
        part["apiVersion"] = version.as_str().into();
        part["kind"] = kind.kind.into();
        part["metadata"]["name"] = name.into();
        let api = if kind.group.is_empty() { "api" } else { "apis" };
        let namespace = self.namespace();
        let path = format!(
            "/{api}/{version}/namespaces/{namespace}/{plural}/{name}?fieldManager={manager}"
        );
        let request = Request::patch(path)
            .header("content-type", "application/apply-patch+yaml")
            .body(serde_json::to_vec(&part).unwrap());
        let applied: kube::Result<Value> = self.client().request(request.unwrap()).await;
        applied.unwrap();
    }
    /// From now on no new pod of the primary with this image comes up.
    fn sabotage(&self, image: &str);
    /// Ends every sabotage.
    fn repair(&self);

    fn watch(&self) -> Self::Watch;
    /// After what a person did or waited for: the next watch begins with what that led to.
    async fn acted(&self);

    /// Until `end`: each weight of the canary, and its share of the requests from the moment the route had taken effect. `None` where there
    /// is no traffic.
    async fn shares(rig: &Rig<Self>, end: Phase) -> Option<Vec<Share>>;
    /// Lets the cluster's clock go on; meanwhile all requests are served, by this workload, where there is traffic.
    async fn assert_served_by(rig: &Rig<Self>, workload: &str, seconds: u64);
    /// Requests that met no endpoint so far, where there is traffic.
    fn lost(&self) -> u64;
}

/// Follows a world.
pub(crate) trait Watch {
    /// The Canary as it is, then as it is after each change.
    async fn status(&mut self) -> Object;
    /// Waits until something may have changed.
    async fn change(&mut self);
}
