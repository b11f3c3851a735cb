//! Which objects belong to a Canary, and how a set of them is put together, from caches or by reading.

use futures::future::join_all;

use crate::{
    api::objects::{
        CANARY, CONTROLLER_REVISION, DEPLOYMENT, DESTINATION_RULE, Kind, METRIC_TEMPLATE, Object,
        ObjectExt, Objects, Ref, SCALED_OBJECT, SERVICE, VIRTUAL_SERVICE,
    },
    cluster::{Cluster, Error},
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
    virtual_service: Ref,
    primary_rule: Ref,
    canary_rule: Ref,
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
            virtual_service: of(VIRTUAL_SERVICE, service.to_owned()),
            primary_rule: of(DESTINATION_RULE, format!("{service}-primary")),
            canary_rule: of(DESTINATION_RULE, format!("{service}-canary")),
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
            virtual_service: find(&self.virtual_service),
            primary_rule: find(&self.primary_rule),
            canary_rule: find(&self.canary_rule),
            scaler: self.scaler.as_ref().and_then(&find),
            primary_scaler: self.primary_scaler.as_ref().and_then(&find),
            templates,
            ..Objects::default()
        }
    }

    /// Every name, for reading them one by one.
    fn all(&self) -> Vec<Ref> {
        let mut all = vec![
            self.target.clone(),
            self.primary.clone(),
            self.apex.clone(),
            self.primary_service.clone(),
            self.canary_service.clone(),
            self.virtual_service.clone(),
            self.primary_rule.clone(),
            self.canary_rule.clone(),
        ];
        all.extend(self.scaler.clone());
        all.extend(self.primary_scaler.clone());
        all.extend(self.templates.iter().cloned());
        all
    }
}

/// Reads a Canary and everything that belongs to it, all at once. `None` when there is no such Canary.
pub(super) async fn read(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> Result<Option<Objects>, Error> {
    let of = Ref {
        kind: CANARY,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let Some(canary) = cluster.get(&of).await? else {
        return Ok(None);
    };
    Box::pin(read_around(cluster, canary)).await.map(Some)
}

/// Reads everything that belongs to a Canary.
pub(super) async fn read_around(cluster: &Cluster, canary: Object) -> Result<Objects, Error> {
    let refs = Refs::of(&canary);
    let all = refs.all();
    let found = join_all(all.iter().map(|r| cluster.get(r))).await;
    let mut known = Vec::with_capacity(all.len());
    for (of, object) in all.iter().zip(found) {
        known.push((of, object?));
    }
    let namespace = canary.namespace().to_owned();
    let uid = canary.uid().to_owned();
    let find = |of: &Ref| {
        known
            .iter()
            .find(|(r, _)| *r == of)
            .and_then(|(_, o)| o.clone())
    };
    let mut objects = refs.gather(cluster.name(), canary, find);
    let pins = cluster
        .list(&CONTROLLER_REVISION, Some(&namespace), None, None)
        .await?;
    objects.revisions = pins.into_iter().filter(|r| owned(r, &uid)).collect();
    Ok(objects)
}

/// The object names `uid` among its owners.
pub(super) fn owned(object: &serde_json::Value, uid: &str) -> bool {
    object
        .array_at("/metadata/ownerReferences")
        .iter()
        .any(|o| o.str_at("/uid") == Some(uid))
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
