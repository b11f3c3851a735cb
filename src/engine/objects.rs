//! Which objects belong to a Canary, and how a set of them is put together, from caches or by reading.

use futures::future::join_all;

use super::Settings;
use crate::{
    api::{
        names,
        objects::{
            CANARY, CONTROLLER_REVISION, CUSTOM_RESOURCE_DEFINITION, DEPLOYMENT, DESTINATION_RULE,
            GatewayApi, HTTP_ROUTE, Kind, METRIC_TEMPLATE, Object, ObjectExt, Objects, POD,
            REPLICA_SET, Ref, SCALED_OBJECT, SERVICE, VIRTUAL_SERVICE,
        },
        status,
    },
    cluster::{Cluster, Error},
    decide::{facts::Moment, state::Stage},
};

/// The label that the Deployment controller puts on a `ReplicaSet`'s pods.
pub(super) const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// The names that a Canary's spec implies.
pub(super) struct Refs {
    target: Ref,
    primary: Ref,
    apex: Ref,
    primary_service: Ref,
    canary_service: Ref,
    virtual_service: Option<Ref>,
    primary_rule: Option<Ref>,
    canary_rule: Option<Ref>,
    http_route: Option<Ref>,
    scaler: Option<Ref>,
    primary_scaler: Option<Ref>,
    templates: Vec<Ref>,
}

impl Refs {
    /// Reads only names; whether the spec is good is for the parser to say.
    pub(super) fn of(canary: &serde_json::Value) -> Self {
        let namespace = canary.namespace();
        let of = |kind: Kind, name: String| Ref {
            kind,
            namespace: namespace.to_owned(),
            name,
        };
        let target = canary.str_at("/spec/targetRef/name").unwrap_or_default();
        let service = canary.str_at("/spec/service/name").unwrap_or(target);
        let virtual_service = canary
            .str_at("/spec/service/virtualService/name")
            .unwrap_or(service);
        let routes = Routes::of(canary);
        let istio = |kind: Kind, name: String| routes.istio.then(|| of(kind, name));
        let scaler = canary.str_at("/spec/autoscalerRef/name");
        let templates = canary
            .array_at("/spec/analysis/metrics")
            .iter()
            .filter_map(|metric| {
                Some(Ref {
                    kind: METRIC_TEMPLATE,
                    namespace: metric
                        .str_at("/templateRef/namespace")
                        .unwrap_or(namespace)
                        .to_owned(),
                    name: metric.str_at("/templateRef/name")?.to_owned(),
                })
            });
        Self {
            target: of(DEPLOYMENT, target.to_owned()),
            primary: of(DEPLOYMENT, format!("{target}-primary")),
            apex: of(SERVICE, service.to_owned()),
            primary_service: of(SERVICE, format!("{service}-primary")),
            canary_service: of(SERVICE, format!("{service}-canary")),
            virtual_service: istio(VIRTUAL_SERVICE, virtual_service.to_owned()),
            primary_rule: istio(DESTINATION_RULE, format!("{service}-primary")),
            canary_rule: istio(DESTINATION_RULE, format!("{service}-canary")),
            http_route: routes.gateway.then(|| of(HTTP_ROUTE, service.to_owned())),
            scaler: scaler.map(|s| of(SCALED_OBJECT, s.to_owned())),
            primary_scaler: scaler.map(|s| of(SCALED_OBJECT, format!("{s}-primary"))),
            templates: templates.collect(),
        }
    }

    /// The set of objects, each looked up by its name.
    pub(super) fn gather(
        &self,
        cluster: &str,
        canary: Object,
        find: impl Fn(&Ref) -> Option<Object>,
    ) -> Objects {
        let templates = self
            .templates
            .iter()
            .filter_map(|r| Some(((r.namespace.clone(), r.name.clone()), find(r)?)))
            .collect();
        Objects {
            cluster: cluster.to_owned(),
            canary,
            target: find(&self.target),
            primary: find(&self.primary),
            apex: find(&self.apex),
            primary_service: find(&self.primary_service),
            canary_service: find(&self.canary_service),
            virtual_service: self.virtual_service.as_ref().and_then(&find),
            primary_rule: self.primary_rule.as_ref().and_then(&find),
            canary_rule: self.canary_rule.as_ref().and_then(&find),
            http_route: self.http_route.as_ref().and_then(&find),
            scaler: self.scaler.as_ref().and_then(&find),
            primary_scaler: self.primary_scaler.as_ref().and_then(&find),
            templates,
            ..Objects::default()
        }
    }

    /// The objects by which requests are routed.
    fn routes(&self) -> impl Iterator<Item = Ref> {
        let all = [
            &self.virtual_service,
            &self.primary_rule,
            &self.canary_rule,
            &self.http_route,
        ];
        all.into_iter().flatten().cloned()
    }

    /// Both workloads.
    fn copies(&self) -> Vec<Ref> {
        vec![self.target.clone(), self.primary.clone()]
    }

    /// Every name, for reading them one by one.
    pub(super) fn all(&self) -> Vec<Ref> {
        let mut all = self.copies();
        all.extend([
            self.apex.clone(),
            self.primary_service.clone(),
            self.canary_service.clone(),
        ]);
        all.extend(self.routes());
        all.extend(self.scaler.clone());
        all.extend(self.primary_scaler.clone());
        all.extend(self.templates.iter().cloned());
        all
    }
}

/// Whose objects route a Canary's requests. The installation's provider holds where the Canary names none, and only the Gateway API wants
/// `gatewayRefs`.
struct Routes {
    istio: bool,
    gateway: bool,
}

impl Routes {
    fn of(canary: &serde_json::Value) -> Self {
        let provider = canary.str_at("/spec/provider").unwrap_or_default();
        let refs = !canary.array_at("/spec/service/gatewayRefs").is_empty();
        let gateway = provider.starts_with("gatewayapi") || (provider.is_empty() && refs);
        Self {
            istio: !gateway && provider != "kubernetes",
            gateway,
        }
    }
}

/// Which Gateway API the cluster has. `None` where it cannot be told.
pub(super) async fn gateway_api(cluster: &Cluster) -> Option<GatewayApi> {
    let of = Ref {
        kind: CUSTOM_RESOURCE_DEFINITION,
        namespace: String::new(),
        name: format!("{}.{}", HTTP_ROUTE.plural, HTTP_ROUTE.group),
    };
    let definition = cluster.get(&of).await.ok().flatten()?;
    GatewayApi::of(&definition)
}

/// Reads a Canary and every object that its spec names, all at once. `None` when there is no such Canary.
pub(super) async fn read(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> Result<Option<Objects>, Error> {
    let Some(canary) = canary(cluster, namespace, name).await? else {
        return Ok(None);
    };
    let all = Refs::of(&canary).all();
    let gateway = Routes::of(&canary).gateway;
    let api = async {
        if gateway {
            gateway_api(cluster).await
        } else {
            None
        }
    };
    let (objects, api) = futures::join!(read_these(cluster, canary, &all), api);
    let mut objects = objects?;
    objects.gateway_api = api;
    Ok(Some(objects))
}

/// Reads what [`read`] reads, and what a forecast needs beside it: the pinned templates, and which pods are of which template.
pub(super) async fn read_whole(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> Result<Option<Objects>, Error> {
    let Some(mut objects) = read(cluster, namespace, name).await? else {
        return Ok(None);
    };
    let (pins, sets) = futures::join!(
        pins(cluster, &objects.canary),
        cluster.list(&REPLICA_SET, Some(namespace), None, None),
    );
    objects.revisions = pins?;
    let copies = [&objects.target, &objects.primary].into_iter().flatten();
    let copies: Vec<String> = copies.map(|copy| copy.uid().to_owned()).collect();
    // They only tell the pods' hashes; without the right to list them the rest is still true.
    let mut sets = sets.unwrap_or_default();
    sets.retain(|set| copies.iter().any(|uid| set.owned_by(uid)));
    objects.replica_sets = sets;
    Ok(Some(objects))
}

/// The pinned templates of a Canary.
async fn pins(cluster: &Cluster, canary: &Object) -> Result<Vec<Object>, Error> {
    let (label, value) = names::MANAGED_BY;
    let managed = format!("{label}={value}");
    let namespace = Some(canary.namespace());
    let mut pins = cluster
        .list(&CONTROLLER_REVISION, namespace, Some(&managed), None)
        .await?;
    pins.retain(|pin| pin.owned_by(canary.uid()));
    Ok(pins)
}

/// The Canary alone.
pub(super) async fn canary(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> Result<Option<Object>, Error> {
    let of = Ref {
        kind: CANARY,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    cluster.get(&of).await
}

/// The Canaries of a cluster that are led and shown, or those of one namespace: one list, or one for each namespace that the settings name.
pub(super) async fn canaries(
    cluster: &Cluster,
    settings: &Settings,
    namespace: Option<&str>,
) -> Result<Vec<Object>, Error> {
    let lists = match namespace {
        Some(namespace) if settings.covers(namespace) => vec![Some(namespace)],
        Some(_) => Vec::new(),
        None => settings.lists(),
    };
    let lists = lists
        .into_iter()
        .map(|namespace| cluster.list(&CANARY, namespace, None, None));
    let lists = join_all(lists).await.into_iter();
    Ok(lists.collect::<Result<Vec<_>, _>>()?.concat())
}

/// Reads both workloads of a Canary: what a row of the table shows.
pub(super) async fn read_copies(cluster: &Cluster, canary: Object) -> Result<Objects, Error> {
    let copies = Refs::of(&canary).copies();
    read_these(cluster, canary, &copies).await
}

/// Reads both workloads of a Canary, their autoscalers, their pods while it waits for those, and what can be gone back to while it does
/// nothing: what a view shows.
pub(super) async fn read_shown(cluster: &Cluster, canary: Object) -> Result<Objects, Error> {
    let refs = Refs::of(&canary);
    let mut shown = refs.copies();
    shown.extend(refs.scaler.clone());
    shown.extend(refs.primary_scaler.clone());
    let waits = waits_for_pods(&canary);
    let idle = status::state(&canary, Moment(0)).stage == Stage::Idle;
    let mut objects = read_these(cluster, canary, &shown).await?;
    if idle {
        // They only add what else could be done; without the right to list them the rest is still true.
        objects.revisions = pins(cluster, &objects.canary).await.unwrap_or_default();
    }
    // It only adds whether it is accepted; without the right to read it the rest is still true.
    if let Some(of) = &refs.http_route {
        objects.http_route = cluster.get(of).await.ok().flatten();
    }
    if waits {
        let copies = [&objects.target, &objects.primary].into_iter().flatten();
        // They only add the reason; without the right to list them the rest is still true.
        let pods = join_all(copies.map(|copy| pods(cluster, copy))).await;
        objects.pods = pods.into_iter().flatten().collect();
    }
    Ok(objects)
}

/// The rollout goes on when pods have become ready.
pub(super) fn waits_for_pods(canary: &serde_json::Value) -> bool {
    let state = status::state(canary, Moment(0));
    match state.stage {
        Stage::Bootstrap | Stage::Starting | Stage::Copying | Stage::Restoring => true,
        Stage::Idle
        | Stage::Waiting
        | Stage::Analysing
        | Stage::Gated
        | Stage::Shifting
        | Stage::Settling
        | Stage::Reverting => false,
    }
}

async fn pods(cluster: &Cluster, copy: &Object) -> Vec<Object> {
    let labels = copy
        .pointer("/spec/selector/matchLabels")
        .and_then(serde_json::Value::as_object);
    let Some(labels) = labels else {
        return Vec::new();
    };
    let labels: Vec<String> = labels
        .iter()
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    let selector = labels.join(",");
    cluster
        .list(&POD, Some(copy.namespace()), Some(&selector), None)
        .await
        .unwrap_or_default()
}

async fn read_these(cluster: &Cluster, canary: Object, these: &[Ref]) -> Result<Objects, Error> {
    let found = join_all(these.iter().map(|r| cluster.get(r))).await;
    let mut known = Vec::with_capacity(these.len());
    for (of, object) in these.iter().zip(found) {
        known.push((of, object?));
    }
    let find = |of: &Ref| {
        known
            .iter()
            .find(|(r, _)| *r == of)
            .and_then(|(_, o)| o.clone())
    };
    Ok(Refs::of(&canary).gather(cluster.name(), canary, find))
}

/// What a Canary for a Deployment would find: its Service and its autoscaler, if there are some.
pub(super) async fn around_deployment(cluster: &Cluster, namespace: &str, name: &str) -> Objects {
    let of = |kind: Kind| Ref {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let (apex, scalers) = (
        of(SERVICE),
        cluster.list(&SCALED_OBJECT, Some(namespace), None, None),
    );
    let (apex, scalers) = futures::join!(cluster.get(&apex), scalers);
    let ours = |s: &Object| s.str_at("/spec/scaleTargetRef/name") == Some(name);
    Objects {
        cluster: cluster.name().to_owned(),
        apex: apex.ok().flatten(),
        scaler: scalers.unwrap_or_default().into_iter().find(ours),
        ..Objects::default()
    }
}
