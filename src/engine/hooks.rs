//! Webhooks of a Canary: how one of them is called, and what it takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use http::Method;
use serde_json::Value;

use super::{
    Settings, Shared,
    ask::{self, Whose},
    ctx::Ctx,
    reach::{self, Namer},
};
use crate::{
    api::{
        objects::{Object, ObjectExt, Objects, Ref, SECRET},
        parse::Refusal,
    },
    cluster::Cluster,
    decide::{
        facts::{HookAnswer, HookCall},
        plan::{Hook, HookKind, HookRequest, Plan},
        state::{Phase, State},
    },
    outbound::{
        address::Route,
        hooks::{self, Headers, Own, Patience, Payload},
        http::{self as http_client, Transport},
        template::{self, Values},
    },
};

/// How often a Lease is looked at that was not renewed in time.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What is told of a run in a payload, and what its hooks' templates may name.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) payload: Payload,
    pub(super) values: Values,
}

/// Answers [`Question::Hook`](crate::decide::facts::Question::Hook). Whoever drops the future has ended the call.
pub(super) async fn answer(
    ctx: &Ctx,
    (plan, state, objects): (&Plan, &State, &Objects),
    call: &HookCall,
) -> HookAnswer {
    let HookCall { hook, phase, key } = call;
    let Some(hook) = plan.hooks.get(*hook) else {
        return HookAnswer::Refused("it is no longer in the spec".to_owned());
    };
    // It is renewed before long, or lost, which ends this task: nobody is called for a cluster that somebody else may lead by now.
    while ctx.held().check().is_err() {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let facts = Facts::of(plan, state, objects, *phase);
    let caller = Caller {
        shared: &ctx.shared,
        cluster: ctx.cluster(),
        namespace: &plan.namespace,
    };
    let namer = Namer::Manifest(&plan.namespace);
    match caller.call(hook, namer, facts, key, |own| own).await {
        Ok(()) => HookAnswer::Ok,
        Err(why) => HookAnswer::Refused(why),
    }
}

impl Facts {
    /// As they are recorded, but for the phase.
    pub(super) fn of(plan: &Plan, state: &State, objects: &Objects, phase: Phase) -> Self {
        let run = state.run.as_ref();
        let revision = run.map(|run| run.revision.as_str());
        let revision = revision.or(state.last_applied.as_deref());
        let interval = format!("{}s", plan.interval / 1000);
        let mut values = ask::values((plan, state, objects), Whose::Canary, interval, Vec::new());
        let payload = Payload {
            name: plan.name.clone(),
            namespace: plan.namespace.clone(),
            phase: phase.name().to_owned(),
            checksum: hooks::checksum(revision.unwrap_or_default(), tracked(objects)),
            metadata: BTreeMap::new(),
            canary_weight: state.traffic.canary(),
            primary_weight: state.traffic.primary(),
            iteration: state.iteration,
            image: values.image.clone(),
            run: run.map(|run| run.id.clone()),
        };
        values.further = payload.names();
        Self { payload, values }
    }

    /// Of a Canary whose spec cannot be carried out.
    pub(super) fn unplanned(canary: &Object, state: &State) -> Self {
        let payload = Payload {
            name: canary.name().to_owned(),
            namespace: canary.namespace().to_owned(),
            phase: state.phase.name().to_owned(),
            canary_weight: state.traffic.canary(),
            primary_weight: state.traffic.primary(),
            ..Payload::default()
        };
        let values = Values {
            name: payload.name.clone(),
            namespace: payload.namespace.clone(),
            canary_weight: payload.canary_weight,
            further: payload.names(),
            ..Values::default()
        };
        Self { payload, values }
    }
}

/// `status.trackedConfigs`: what of the `ConfigMaps` and Secrets belongs to the revision.
fn tracked(objects: &Objects) -> Vec<(&str, &str)> {
    let recorded = objects.canary.pointer("/status/trackedConfigs");
    let each = recorded.and_then(|t| t.as_object()).into_iter().flatten();
    each.filter_map(|(name, sum)| Some((name.as_str(), sum.as_str()?)))
        .collect()
}

/// What a call needs beside the hook.
pub(super) struct Caller<'a> {
    pub(super) shared: &'a Shared,
    pub(super) cluster: &'a Cluster,
    /// Of the Canary: where its Secrets are.
    pub(super) namespace: &'a str,
}

impl Caller<'_> {
    /// One call with all its attempts. `with` adds to the hook's own metadata.
    ///
    /// # Errors
    /// What the hook said, or why it was not asked. No text holds a header's value.
    pub(super) async fn call(
        &self,
        hook: &Hook,
        namer: Namer<'_>,
        facts: Facts,
        key: &str,
        with: impl FnOnce(Metadata) -> Metadata,
    ) -> Result<(), String> {
        let Facts {
            mut payload,
            mut values,
        } = facts;
        let route = reach::route(&self.shared.settings, &hook.url, namer)
            .map_err(|why| format!("its url {why}"))?;
        let timeout = u64::try_from(hook.timeout).unwrap_or_default();
        let patience = Patience {
            timeout: Duration::from_millis(timeout),
            retries: hook.retries,
        };
        let direct = if hook.disable_tls {
            Transport::Direct(http_client::client(true)?)
        } else {
            self.shared.direct.clone()
        };
        let way = reach::way(self.cluster, &direct, &route, patience.timeout);
        payload.metadata = with(hooks::metadata(&hook.metadata, &values)?);
        if hook.kind == HookKind::Event {
            values.further.extend(of_event(&payload.metadata));
        }
        let own = match &hook.request {
            Some(request) => Some(self.own(request, &values, &way.transport).await?),
            None => None,
        };
        let request = hooks::request(&way.url, key, &payload, own.as_ref())?;
        hooks::call(&way.transport, &request, patience).await
    }

    async fn own(
        &self,
        request: &HookRequest,
        values: &Values,
        transport: &Transport,
    ) -> Result<Own, String> {
        let HookRequest {
            method,
            headers_from,
            body,
        } = request;
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| format!("request.method: {method:?} is no method"))?;
        let headers = match headers_from {
            Some(name) => self.headers(name).await?,
            None => Headers::default(),
        };
        if headers.authorize() && matches!(transport, Transport::Through(_)) {
            return Err(
                "it is reached through the API server, which keeps an Authorization header for itself: give an address outside of the \
                 cluster, another header, or run canary-mcp inside it"
                    .to_owned(),
            );
        }
        let body = body.as_ref().map(|body| template::render_own(body, values));
        let body = body
            .transpose()
            .map_err(|why| format!("request.body: {why}"))?;
        Ok(Own {
            method,
            headers,
            body,
        })
    }

    async fn headers(&self, name: &str) -> Result<Headers, String> {
        let namespace = self.namespace;
        let of = Ref {
            kind: SECRET,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let secret = self.cluster.get(&of).await.map_err(|e| e.report())?;
        let secret = secret.ok_or_else(|| format!("there is no Secret {name} in {namespace}"))?;
        Headers::of(&secret).map_err(|why| format!("Secret {namespace}/{name} {why}"))
    }
}

/// What the body of an event hook may name. It is JSON most of the time, and a message has quotes in it.
fn of_event(metadata: &Metadata) -> impl Iterator<Item = (&'static str, String)> {
    hooks::EVENT_KEYS.into_iter().filter_map(|key| {
        let quoted = Value::from(metadata.get(key)?.as_str()).to_string();
        Some((key, quoted.trim_matches('"').to_owned()))
    })
}

/// `metadata` as it is sent.
pub(super) type Metadata = BTreeMap<String, String>;

/// The hooks whose url leads nowhere that a manifest may name.
pub(super) fn refused(plan: &Plan, settings: &Settings) -> Vec<Refusal> {
    let namer = Namer::Manifest(&plan.namespace);
    let refusal = |hook: &Hook| {
        let why = reach::route(settings, &hook.url, namer).err()?;
        Some(Refusal::new(
            format!("spec.analysis.webhooks[{}].url", hook.name),
            format!("the url {why}"),
            "name a Service of the cluster, or a host that the engine's --allow-hosts has; credentials belong into request.headersFrom",
        ))
    };
    plan.hooks.iter().filter_map(refusal).collect()
}

/// The verbs on `services/proxy` that the hooks take, each with the namespace of the Service.
pub(super) fn proxied(
    plan: &Plan,
    settings: &Settings,
    cluster: &Cluster,
) -> BTreeSet<(&'static str, String)> {
    let namer = Namer::Manifest(&plan.namespace);
    let one = |hook: &Hook| match reach::route(settings, &hook.url, namer).ok()? {
        Route::Service { namespace, .. } if !cluster.inside() => Some((verb(hook), namespace)),
        Route::Service { .. } | Route::Direct(_) => None,
    };
    plan.hooks.iter().filter_map(one).collect()
}

/// How the API server names the method of a request that it passes on.
fn verb(hook: &Hook) -> &'static str {
    match hook.request.as_ref().map(|request| request.method.as_str()) {
        Some("GET" | "HEAD" | "OPTIONS") => "get",
        Some("PUT") => "update",
        Some("PATCH") => "patch",
        Some("DELETE") => "delete",
        Some(_) | None => "create",
    }
}

/// A hook's headers are read from a Secret of the Canary's namespace.
pub(super) fn reads_secrets(plan: &Plan) -> bool {
    let from = |hook: &Hook| hook.request.as_ref()?.headers_from.as_ref().map(|_| ());
    plan.hooks.iter().any(|hook| from(hook).is_some())
}
