//! The engine's rights in the namespaces of a Canary, found before a run: what is missing is told, and no run begins.
//!
//! A namespace is asked about once in a term, and again before a run when that is a while ago. An idle Canary costs nothing more.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::future::join_all;
use tokio::{sync::Mutex, time::Instant};

use super::{Settings, ask, hooks, rollout::Rollout};
use crate::{
    api::{
        objects::Objects,
        rights::{self, Place, Right, When},
    },
    build,
    cluster::{Cluster, Error, ErrorKind, access::Rules},
    decide::{
        self, Step,
        facts::Answers,
        plan::{Plan, Router},
        state::{Stage, State},
    },
    outbound::address::Route,
};

/// How old an answer may be by which a run begins.
const RECENT: Duration = Duration::from_secs(60);
/// How often what is missing is asked for again.
const AGAIN: Duration = Duration::from_secs(30);
/// Reviews of single rights at a time.
const AT_ONCE: usize = 8;

/// Rights by the namespace in which they are needed.
pub(super) type Needed = BTreeMap<String, BTreeSet<Right>>;

/// How new an answer has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// Of this term.
    Any,
    /// Of the last minute: a run is about to begin.
    Recent,
}

/// What is known of our rights in one cluster.
#[derive(Debug, Default)]
pub(super) struct Known {
    namespaces: Mutex<BTreeMap<String, Answer>>,
}

/// What was found about one namespace.
#[derive(Debug)]
struct Answer {
    /// The term in which it was asked.
    epoch: String,
    at: Instant,
    /// `None`: not even that may be asked.
    rules: Option<Rules>,
    /// Rights that the rules do not grant, and whether something else does.
    single: BTreeMap<Right, bool>,
}

/// All that this Canary needs of the table.
pub(super) fn needed(
    plan: &Plan,
    objects: &Objects,
    settings: &Settings,
    cluster: &Cluster,
) -> Needed {
    let sources = ask::sources(plan, objects, settings);
    let through = || -> BTreeSet<String> {
        // Credentials do not go that way.
        let reached = sources.iter().filter(|s| !s.secret);
        let inside = cluster.inside();
        reached
            .filter_map(|source| match &source.route {
                Some(Route::Service { namespace, .. }) if !inside => Some(namespace.clone()),
                Some(Route::Service { .. } | Route::Direct(_)) | None => None,
            })
            .collect()
    };
    let of = |wanted: &dyn Fn(&ask::Source) -> bool| -> BTreeSet<String> {
        let wanted = sources.iter().filter(|s| wanted(s));
        wanted.map(|s| s.namespace.clone()).collect()
    };
    let own = || BTreeSet::from([plan.namespace.clone()]);
    let called = hooks::proxied(plan, settings, cluster);
    let called = |verb: &str| -> BTreeSet<String> {
        let of = called.iter().filter(|(of, _)| *of == verb);
        of.map(|(_, namespace)| namespace.clone()).collect()
    };
    let secrets = || {
        let mut of = of(&|source| source.secret);
        of.extend(hooks::reads_secrets(plan).then(|| plan.namespace.clone()));
        of
    };
    let mut needed = Needed::new();
    let rules = rights::engine();
    for (rule, right) in rights::each(&rules) {
        // The Lease is held and the definition was read, or nobody would be here.
        let namespaces = match (rule.place, rule.when) {
            (Place::Leases | Place::Cluster, _) | (_, When::Welcome) => continue,
            (_, When::Always) => own(),
            (_, When::Istio) if plan.router == Router::Istio => own(),
            (_, When::Gateway) if plan.router == Router::GatewayApi => own(),
            (_, When::Istio | When::Gateway) => continue,
            (_, When::Scaler) => plan.scaler.iter().flat_map(|_| own()).collect(),
            (_, When::Template) => of(&|source| source.template),
            (_, When::Secret) => secrets(),
            (_, When::Proxy) => through(),
            (_, When::Hook) => called(right.verb),
        };
        for namespace in namespaces {
            needed.entry(namespace).or_default().insert(right);
        }
    }
    needed
}

impl Rollout {
    /// Whether a run that would begin now has to wait for rights. What is missing is told before somebody asks for a run.
    pub(super) async fn lacks_rights(
        &mut self,
        plan: &Plan,
        state: &State,
        objects: &Objects,
    ) -> Result<bool, Error> {
        if self.dry.observes() || !matches!(state.stage, Stage::Idle | Stage::Bootstrap) {
            // What is under way goes on, as far as it is allowed; and who writes nothing needs no right to.
            self.missing_rights = None;
            return Ok(false);
        }
        let begins = self.begins(plan, state, objects);
        let age = if begins { Age::Recent } else { Age::Any };
        let cluster = self.ctx.cluster();
        let shared = &self.ctx.shared;
        let needed = needed(plan, objects, &shared.settings, cluster);
        let epoch = self.ctx.held().epoch();
        match shared.rights.missing(cluster, epoch, &needed, age).await {
            Ok(missing) => self.missing_rights = missing,
            // Traffic that has to go back to the primary does not wait for an answer.
            Err(error) if !begins => self.log(&error),
            Err(error) => return Err(error),
        }
        Ok(begins && self.missing_rights.is_some())
    }

    /// The next step makes the primary, or begins a run.
    fn begins(&self, plan: &Plan, state: &State, objects: &Objects) -> bool {
        let now = self.ctx.cluster().clock().now();
        let seen = build::seen::seen(plan, state, objects, self.times(now));
        let run = |state: &State| state.run.as_ref().map(|run| run.id.clone());
        state.stage == Stage::Bootstrap
            || match decide::step(plan, state, &seen, &Answers::default()) {
                Step::Act(act) => run(&act.next) != run(state),
                Step::Ask(_) => false,
            }
    }
}

/// Rights that are missing may have been granted after a while, and nothing in the cluster would say so.
pub(super) async fn again(missing: bool) {
    if missing {
        tokio::time::sleep(AGAIN).await;
    } else {
        std::future::pending::<()>().await;
    }
}

impl Known {
    /// What is missing, in one sentence with what to do; `None` when nothing is.
    pub(super) async fn missing(
        &self,
        cluster: &Cluster,
        epoch: &str,
        needed: &Needed,
        age: Age,
    ) -> Result<Option<String>, Error> {
        // One at a time: the Canaries of one namespace share an answer.
        let mut namespaces = self.namespaces.lock().await;
        let mut missing = Needed::new();
        for (namespace, rights) in needed {
            let good = namespaces
                .get(namespace)
                .is_some_and(|answer| answer.holds(epoch, rights, age));
            if !good {
                let answer = Answer::ask(cluster, namespace, epoch).await?;
                namespaces.insert(namespace.clone(), answer);
            }
            let Some(answer) = namespaces.get_mut(namespace) else {
                continue;
            };
            answer.complete(cluster, namespace, rights).await?;
            let lacking = answer.lacking(rights);
            if !lacking.is_empty() {
                missing.insert(namespace.clone(), lacking);
            }
        }
        if missing.is_empty() {
            return Ok(None);
        }
        let user = cluster.user().await;
        Ok(Some(sentence(cluster.name(), user.as_deref(), &missing)))
    }

    /// Something was refused that should have been allowed: nothing that was found still counts.
    pub(super) async fn forget(&self) {
        self.namespaces.lock().await.clear();
    }
}

impl Answer {
    async fn ask(cluster: &Cluster, namespace: &str, epoch: &str) -> Result<Self, Error> {
        let rules = match cluster.rules(namespace).await {
            Ok(rules) => Some(rules),
            Err(error) if error.kind() == ErrorKind::Forbidden => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            epoch: epoch.to_owned(),
            at: Instant::now(),
            rules,
            single: BTreeMap::new(),
        })
    }

    /// Nothing has to be asked anew.
    fn holds(&self, epoch: &str, rights: &BTreeSet<Right>, age: Age) -> bool {
        let lacking = !self.lacking(rights).is_empty();
        let old = self.at.elapsed();
        self.epoch == epoch && !(lacking && old >= AGAIN) && !(age == Age::Recent && old >= RECENT)
    }

    /// Asks one by one for what the rules do not grant.
    async fn complete(
        &mut self,
        cluster: &Cluster,
        namespace: &str,
        rights: &BTreeSet<Right>,
    ) -> Result<(), Error> {
        let Some(rules) = &self.rules else {
            return Ok(());
        };
        let open = rights
            .iter()
            .filter(|right| !rules.grant(right) && !self.single.contains_key(right));
        let open: Vec<Right> = open.copied().collect();
        for some in open.chunks(AT_ONCE) {
            let answers = join_all(some.iter().map(|right| cluster.may(namespace, right))).await;
            for (right, granted) in some.iter().zip(answers) {
                let granted = match granted {
                    Ok(granted) => granted,
                    // Who may not ask is told what the rules say.
                    Err(error) if error.kind() == ErrorKind::Forbidden => false,
                    Err(error) => return Err(error),
                };
                self.single.insert(*right, granted);
            }
        }
        Ok(())
    }

    fn lacking(&self, rights: &BTreeSet<Right>) -> BTreeSet<Right> {
        let Some(rules) = &self.rules else {
            return BTreeSet::from([REVIEW]);
        };
        let granted = |right: &Right| rules.grant(right) || self.single.get(right) != Some(&false);
        rights.iter().copied().filter(|r| !granted(r)).collect()
    }
}

/// The right without which the others cannot be found out.
const REVIEW: Right = Right {
    verb: "create",
    group: "authorization.k8s.io",
    resource: "selfsubjectrulesreviews",
};

/// What is missing, whom to give it to, and how to see that it is there.
fn sentence(cluster: &str, user: Option<&str>, missing: &Needed) -> String {
    let said: Vec<String> = missing
        .iter()
        .map(|(namespace, rights)| {
            let rights: Vec<String> = rights.iter().map(ToString::to_string).collect();
            format!("{} in namespace {namespace}", rights.join(", "))
        })
        .collect();
    let first = missing.iter().find_map(|(namespace, rights)| {
        let right = rights.first()?;
        let (plural, sub) = right.parts();
        let of = |separator: &str, text: &str| match text {
            "" => String::new(),
            text => format!("{separator}{text}"),
        };
        let as_user = user.map(|user| format!(" --as {user}")).unwrap_or_default();
        Some(format!(
            "kubectl auth can-i {} {plural}{}{} -n {namespace}{as_user}",
            right.verb,
            of(".", right.group),
            of(" --subresource=", sub)
        ))
    });
    format!(
        "rights are missing in cluster {cluster}: {}; give them to {} (`canary-mcp rights` prints the role), then check with: {}",
        said.join("; "),
        user.unwrap_or("our service account"),
        first.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{
        ClusterSpec,
        clock::Clock,
        embedded::{server::ApiServer, store::Store},
    };

    fn right(verb: &'static str, group: &'static str, resource: &'static str) -> Right {
        Right {
            verb,
            group,
            resource,
        }
    }

    /// A cluster without anything in it, whose API server can take rights away.
    fn cluster() -> (ApiServer, Cluster) {
        let server = ApiServer::new("prod-kr", Store::new(Clock::real()));
        let spec = ClusterSpec {
            name: "prod-kr".to_owned(),
            labels: BTreeMap::new(),
            client: server.client(),
            clock: Clock::real(),
            leads: true,
            inside: false,
            embedded: true,
            overrides: crate::cluster::Overrides::default(),
        };
        (server, Cluster::new(spec))
    }

    #[tokio::test(start_paused = true)]
    async fn each_right_that_is_missing_is_told_and_no_other() {
        let (server, cluster) = cluster();
        // Custom resources are not installed here: what is built in stands for them, and single reviews for the rest.
        let rules = rights::engine();
        let all: BTreeSet<Right> = rights::each(&rules).map(|(_, right)| right).collect();
        let needed = Needed::from([("a".to_owned(), all.clone())]);
        let known = Known::default();
        let ask = || known.missing(&cluster, "1", &needed, Age::Recent);
        assert_eq!(ask().await.unwrap(), None);
        for right in all {
            if right.group == REVIEW.group {
                continue;
            }
            server.faults().deny(&[right]);
            // What was found holds for a minute.
            assert_eq!(ask().await.unwrap(), None, "{right}");
            known.forget().await;
            let expected =
                format!("rights are missing in cluster prod-kr: {right} in namespace a; give");
            let told = ask().await.unwrap().unwrap();
            assert!(told.starts_with(&expected), "{told}");
            server.faults().deny(&[]);
            assert_eq!(ask().await.unwrap().as_ref(), Some(&told));
            tokio::time::sleep(AGAIN).await;
            assert_eq!(ask().await.unwrap(), None, "{right}");
        }
        server.faults().deny(&[REVIEW]);
        known.forget().await;
        let told = ask().await.unwrap().unwrap();
        assert!(
            told.starts_with(
                "rights are missing in cluster prod-kr: create selfsubjectrulesreviews.authorization.k8s.io in namespace a; "
            ),
            "{told}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_is_asked_about_once_a_term_and_a_minute() {
        let (server, cluster) = cluster();
        let patch = right("patch", "apps", "deployments");
        let needed = Needed::from([("a".to_owned(), BTreeSet::from([patch]))]);
        let known = Known::default();
        let asked = || server.faults().count("create", "selfsubjectrulesreviews");
        for (epoch, age, seconds, expected) in [
            ("1", Age::Any, 0, 1),
            ("1", Age::Any, 3_600, 1),
            ("1", Age::Recent, 0, 2),
            ("1", Age::Recent, 59, 2),
            ("1", Age::Recent, 1, 3),
            ("2", Age::Any, 0, 4),
        ] {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            known.missing(&cluster, epoch, &needed, age).await.unwrap();
            assert_eq!(asked(), expected, "{epoch} {age:?} {seconds}");
        }
    }

    #[test]
    fn the_sentence_says_what_where_and_how() {
        let missing = Needed::from([
            (
                "ai-platform".to_owned(),
                BTreeSet::from([
                    right("update", "apps", "deployments/scale"),
                    right("patch", "networking.istio.io", "virtualservices"),
                ]),
            ),
            (
                "istio-system".to_owned(),
                BTreeSet::from([right("get", "", "services/proxy")]),
            ),
        ]);
        assert_eq!(
            sentence(
                "prod-kr",
                Some("system:serviceaccount:canary-mcp-system:engine"),
                &missing
            ),
            "rights are missing in cluster prod-kr: patch virtualservices.networking.istio.io, update deployments.apps/scale in namespace \
             ai-platform; get services/proxy in namespace istio-system; give them to system:serviceaccount:canary-mcp-system:engine \
             (`canary-mcp rights` prints the role), then check with: kubectl auth can-i patch virtualservices.networking.istio.io \
             -n ai-platform --as system:serviceaccount:canary-mcp-system:engine"
        );
        let missing = Needed::from([(
            "a".to_owned(),
            BTreeSet::from([right("update", "apps", "deployments/scale")]),
        )]);
        assert!(
            sentence("x", None, &missing).ends_with(
                "give them to our service account (`canary-mcp rights` prints the role), then check with: \
                 kubectl auth can-i update deployments.apps --subresource=scale -n a"
            )
        );
    }
}
