//! Questions answered: the checks of one analysis, all at once, each by its provider.

use futures::future::{BoxFuture, FutureExt, join_all};

use super::{
    Settings,
    ctx::Ctx,
    hooks,
    objects::POD_TEMPLATE_HASH,
    reach::{self, Namer},
};
use crate::{
    api::{
        metric_template::MetricTemplate,
        objects::{Object, ObjectExt, Objects, Ref, SECRET},
        parse::Refusal,
    },
    build::apart,
    cluster::Cluster,
    decide::{
        facts::{Analysis, HookAnswer, HookCall, Question, Reading, Sample},
        plan::{self, Check, Plan},
        share,
        state::State,
    },
    outbound::{
        address::{self, Route},
        http::{self as http_client, Transport},
        metrics::{
            builtin,
            prometheus::{self, Auth},
        },
        template::{self, Values},
    },
};

/// What a question was answered with.
pub(super) enum Answer {
    /// Every check of the plan.
    Analysis(Analysis),
    /// One webhook.
    Hook(HookCall, HookAnswer),
}

/// Answers one question of the machine. Dropping it ends what was asked.
pub(super) fn answer<'a>(
    ctx: &'a Ctx,
    question: Question,
    (plan, state, objects): (&'a Plan, &'a State, &'a Objects),
) -> BoxFuture<'a, Answer> {
    match question {
        Question::Analysis => analysis(ctx, plan, state, objects)
            .map(Answer::Analysis)
            .boxed(),
        Question::Hook(call) => async move {
            let answer = hooks::answer(ctx, (plan, state, objects), &call).await;
            Answer::Hook(call, answer)
        }
        .boxed(),
    }
}

/// Evaluates every check of the plan, and the canary's share of the requests.
fn analysis<'a>(
    ctx: &'a Ctx,
    plan: &'a Plan,
    state: &'a State,
    objects: &'a Objects,
) -> BoxFuture<'a, Analysis> {
    let asker = Asker {
        settings: &ctx.shared.settings,
        direct: &ctx.shared.direct,
        cluster: ctx.cluster(),
        plan,
        state,
        objects,
        of: Whose::Canary,
    };
    async move {
        let samples = join_all(plan.checks.iter().map(|check| asker.sample(check).boxed()));
        // In a dry run the weight is written nowhere, so that no share can agree with it.
        let told = ctx.shared.settings.dry_run.is_none() && share::told(plan, state);
        let share = async { if told { asker.share().await } else { None } };
        let (samples, share) = futures::join!(samples, share);
        let before = share::before(&state.evidence);
        let parts = share.filter(|s| share::suspicious(state.weight(), before, *s));
        let requests = match parts {
            Some(_) => asker.requests().await,
            None => None,
        };
        let cause = match requests {
            Some(_) => {
                let (services, routes) = ctx.around().await;
                apart::causes(plan, objects, &services, &routes).join("; ")
            }
            None => String::new(),
        };
        Analysis {
            at: ctx.cluster().clock().now(),
            samples,
            share,
            requests,
            cause,
        }
    }
    .boxed()
}

/// What an analysis would find on the live version, and the queries that it would send.
pub(super) struct Live {
    /// Every check asked of the primary: each query is rendered for it.
    pub(super) analysis: Analysis,
    /// Name and query of each check that can be rendered for the canary.
    pub(super) queries: Vec<(String, String)>,
}

/// Asks every check of the live version.
pub(super) async fn live(
    settings: &Settings,
    direct: &Transport,
    cluster: &Cluster,
    (plan, state, objects): (&Plan, &State, &Objects),
) -> Live {
    let asker = |of| Asker {
        settings,
        direct,
        cluster,
        plan,
        state,
        objects,
        of,
    };
    let (canary, primary) = (asker(Whose::Canary), asker(Whose::Primary));
    let rendered = |check: &Check| {
        let (query, _) = canary.question(check).ok()?;
        let query = template::render_query(&query, &canary.values_of(check)).ok()?;
        Some((check.name.clone(), query))
    };
    let queries = plan.checks.iter().filter_map(rendered).collect();
    let samples = join_all(plan.checks.iter().map(|c| primary.sample(c).boxed())).await;
    Live {
        analysis: Analysis {
            at: cluster.clock().now(),
            samples,
            share: None,
            requests: None,
            cause: String::new(),
        },
        queries,
    }
}

/// Whether the installation's Prometheus answers from here, else why not.
pub(super) async fn online(
    cluster: &Cluster,
    settings: &Settings,
    direct: &Transport,
) -> Result<(), String> {
    let address = settings.metrics_server.as_str();
    let route = reach::route(settings, address, Namer::Flag)
        .map_err(|why| format!("address {address} {why}"))?;
    let way = reach::way(cluster, direct, &route, prometheus::WITHIN);
    let request = prometheus::request(&way.url, prometheus::ONLINE, &[], &Auth::None)?;
    match prometheus::ask(&way.transport, request).await {
        Reading::Value(_) => Ok(()),
        Reading::NoData => Err(format!("{address} answers without a value")),
        Reading::Error(error) => Err(error),
    }
}

/// Where a check's query goes, for the rights that it takes.
pub(super) struct Source {
    /// Namespace of the object that names the address.
    pub(super) namespace: String,
    /// A `MetricTemplate` names it.
    pub(super) template: bool,
    /// Credentials go with it.
    pub(super) secret: bool,
    /// The way to it; `None` where the address is refused.
    pub(super) route: Option<Route>,
}

/// Where the queries of the plan's checks go.
pub(super) fn sources(plan: &Plan, objects: &Objects, settings: &Settings) -> Vec<Source> {
    let one = |check: &Check| {
        let (provider, template) = match &check.source {
            plan::Source::Template { namespace, name } => {
                let found = objects.templates.get(&(namespace.clone(), name.clone()));
                let Some(template) = found.and_then(|t| MetricTemplate::read(t).ok()) else {
                    // Where it goes is not known, but what is read to find out.
                    return Source {
                        namespace: namespace.clone(),
                        template: true,
                        secret: false,
                        route: None,
                    };
                };
                (provider(plan, settings, &template), true)
            }
            plan::Source::SuccessRate
            | plan::Source::Duration
            | plan::Source::Named(_)
            | plan::Source::Query(_) => (installed(plan, settings), false),
        };
        let Provider {
            address,
            namespace,
            from_flag,
            secret,
            ..
        } = provider;
        let route = address::route(&address, &namespace, &settings.allow_hosts, from_flag).ok();
        Source {
            namespace,
            template,
            secret: secret.is_some(),
            route,
        }
    };
    plan.checks.iter().map(one).collect()
}

/// What cannot be asked from here. Checks: credentials for a Service of a cluster that we do not run in, since the API server would take
/// them for its own. Webhooks: a url that a manifest may not name. A run that began would roll a good version back for it.
pub(super) fn unaskable(
    plan: &Plan,
    objects: &Objects,
    settings: &Settings,
    cluster: &Cluster,
) -> Vec<Refusal> {
    let lost = |source: &Source| {
        source.secret && !cluster.inside() && matches!(source.route, Some(Route::Service { .. }))
    };
    let checks = plan.checks.iter().zip(sources(plan, objects, settings));
    let lost = checks.filter(|(_, source)| lost(source));
    let checks = lost.map(|(check, _)| {
        Refusal::new(
            format!("spec.analysis.metrics[{}].templateRef", check.name),
            format!(
                "the MetricTemplate has a secretRef and names a Service of cluster {}, in which this engine does not run: no credential can pass \
                 through its API server",
                cluster.name()
            ),
            "name an address outside of the cluster, or run an engine inside of it",
        )
    });
    checks.chain(hooks::refused(plan, settings)).collect()
}

/// Prometheus of the Canary or of the installation.
fn installed(plan: &Plan, settings: &Settings) -> Provider {
    let own = plan.metrics_server.clone();
    Provider {
        from_flag: own.is_none(),
        address: own.unwrap_or_else(|| settings.metrics_server.clone()),
        namespace: plan.namespace.clone(),
        headers: Vec::new(),
        secret: None,
        insecure: false,
    }
}

fn provider(plan: &Plan, settings: &Settings, template: &MetricTemplate) -> Provider {
    let installed = installed(plan, settings);
    let each = |(name, values): &(String, Vec<String>)| {
        values
            .iter()
            .map(|value| (name.clone(), value.clone()))
            .collect::<Vec<_>>()
    };
    Provider {
        from_flag: template.address.is_none() && installed.from_flag,
        address: template.address.clone().unwrap_or(installed.address),
        secret: template.secret.clone(),
        insecure: template.insecure,
        namespace: template.namespace.clone(),
        headers: template.headers.iter().flat_map(each).collect(),
    }
}

struct Asker<'a> {
    settings: &'a Settings,
    direct: &'a Transport,
    cluster: &'a Cluster,
    plan: &'a Plan,
    state: &'a State,
    objects: &'a Objects,
    of: Whose,
}

/// Of which copy a query asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Of the one that is analysed.
    Canary,
    /// Of the live one, as if it were the canary.
    Primary,
}

/// Where a query goes and with what.
struct Provider {
    address: String,
    /// Namespace of the object that names the address.
    namespace: String,
    from_flag: bool,
    headers: Vec<(String, String)>,
    /// A Secret of that namespace.
    secret: Option<String>,
    /// Any TLS certificate will do.
    insecure: bool,
}

impl Asker<'_> {
    async fn sample(&self, check: &Check) -> Sample {
        match self.question(check) {
            Ok((query, provider)) => self.query(&query, &self.values_of(check), &provider).await,
            Err(reason) => Sample {
                query: String::new(),
                value: Reading::Error(reason),
            },
        }
    }

    /// The query of a check as it is written, and who is asked.
    fn question(&self, check: &Check) -> Result<(String, Provider), String> {
        let query = match &check.source {
            plan::Source::SuccessRate => builtin::SUCCESS_RATE.to_owned(),
            plan::Source::Duration => builtin::DURATION.to_owned(),
            plan::Source::Named(named) => builtin::named(*named),
            plan::Source::Query(query) => query.clone(),
            plan::Source::Template { namespace, name } => {
                let key = (namespace.clone(), name.clone());
                let Some(template) = self.objects.templates.get(&key) else {
                    return Err(format!("there is no MetricTemplate {name} in {namespace}"));
                };
                let template = MetricTemplate::read(template)
                    .map_err(|reason| format!("MetricTemplate {namespace}/{name}: {reason}"))?;
                let provider = provider(self.plan, self.settings, &template);
                return Ok((template.query, provider));
            }
        };
        Ok((query, installed(self.plan, self.settings)))
    }

    fn values_of(&self, check: &Check) -> Values {
        self.values(check.interval.clone(), check.variables.clone())
    }

    fn values(&self, interval: String, variables: Vec<(String, String)>) -> Values {
        let of = (self.plan, self.state, self.objects);
        values(of, self.of, interval, variables)
    }

    async fn share(&self) -> Option<f64> {
        self.of_interval(builtin::SHARE).await
    }

    /// How many requests the share is of.
    async fn requests(&self) -> Option<f64> {
        self.of_interval(builtin::REQUESTS).await
    }

    /// A query of ours over the analysis' interval.
    async fn of_interval(&self, query: &str) -> Option<f64> {
        let interval = format!("{}s", self.plan.interval / 1000);
        let values = self.values(interval, Vec::new());
        match self
            .query(query, &values, &installed(self.plan, self.settings))
            .await
            .value
        {
            Reading::Value(value) => Some(value),
            Reading::NoData | Reading::Error(_) => None,
        }
    }

    async fn query(&self, query: &str, values: &Values, provider: &Provider) -> Sample {
        let query = match template::render_query(query, values) {
            Ok(query) => query,
            Err(error) => {
                return Sample {
                    query: query.to_owned(),
                    value: Reading::Error(error),
                };
            }
        };
        let value = self
            .read(&query, provider)
            .await
            .unwrap_or_else(Reading::Error);
        Sample { query, value }
    }

    async fn read(&self, query: &str, provider: &Provider) -> Result<Reading, String> {
        let Provider {
            address,
            namespace,
            from_flag,
            headers,
            secret,
            insecure,
        } = provider;
        let direct = if *insecure {
            Transport::Direct(http_client::client(true)?)
        } else {
            self.direct.clone()
        };
        let namer = match from_flag {
            true => Namer::Flag,
            false => Namer::Manifest(namespace),
        };
        let route = reach::route(self.settings, address, namer)
            .map_err(|why| format!("address {address} {why}"))?;
        let way = reach::way(self.cluster, &direct, &route, prometheus::WITHIN);
        let auth = match secret {
            Some(_) if matches!(way.transport, Transport::Through(_)) => {
                return Err(format!(
                    "{address} is reached through the API server, which keeps credentials for itself: give an address outside of the \
                     cluster, or run canary-mcp inside it"
                ));
            }
            Some(name) => self.credentials(namespace, name).await?,
            None => Auth::None,
        };
        let request = prometheus::request(&way.url, query, headers, &auth)?;
        Ok(prometheus::ask(&way.transport, request).await)
    }

    async fn credentials(&self, namespace: &str, name: &str) -> Result<Auth, String> {
        let of = Ref {
            kind: SECRET,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let secret = self.cluster.get(&of).await.map_err(|e| e.report())?;
        let secret = secret.ok_or_else(|| format!("there is no Secret {name} in {namespace}"))?;
        Auth::of(&secret).map_err(|why| format!("Secret {namespace}/{name} {why}"))
    }
}

/// What templates may name.
pub(super) fn values(
    (plan, state, objects): (&Plan, &State, &Objects),
    of: Whose,
    interval: String,
    variables: Vec<(String, String)>,
) -> Values {
    let (copy, target) = match of {
        Whose::Canary => (objects.target.as_ref(), plan.target.clone()),
        Whose::Primary => (objects.primary.as_ref(), plan.primary()),
    };
    let image = copy.and_then(|c| c.str_at("/spec/template/spec/containers/0/image"));
    Values {
        name: plan.name.clone(),
        namespace: plan.namespace.clone(),
        service: plan.service.name.clone(),
        ingress: target.clone(),
        route: target.clone(),
        target,
        interval,
        variables,
        canary_hash: hash(objects, copy),
        primary_hash: hash(objects, objects.primary.as_ref()),
        canary_weight: state.weight(),
        image: image.map(str::to_owned),
        version: image
            .and_then(|i| i.rsplit_once(':'))
            .map(|(_, tag)| tag.to_owned()),
        further: Vec::new(),
    }
}

/// The pod-template-hash of a copy's current `ReplicaSet`.
fn hash(objects: &Objects, copy: Option<&Object>) -> Option<String> {
    const REVISION: &str = "deployment.kubernetes.io/revision";
    let copy = copy?;
    let revision = copy.annotation(REVISION)?;
    let current = |s: &&Object| s.owned_by(copy.uid()) && s.annotation(REVISION) == Some(revision);
    let set = objects.replica_sets.iter().find(current)?;
    set.label(POD_TEMPLATE_HASH).map(str::to_owned)
}
