//! Whether a Deployment is written from git, so that a change of ours would be undone.

use crate::api::objects::ObjectExt;
use serde_json::Value;

/// Who keeps the target as git has it: an Argo CD application, a Flux Kustomization or `HelmRelease`. `None` when nobody is seen to.
#[must_use]
pub fn git_owner(target: &Value) -> Option<String> {
    argo(target).or_else(|| flux(target))
}

fn argo(target: &Value) -> Option<String> {
    // `app:group/kind:namespace/name`; Argo CD ignores one that names another object, which was copied from there.
    let own = format!("Deployment:{}/{}", target.namespace(), target.name());
    let tracked = target
        .annotation("argocd.argoproj.io/tracking-id")
        .and_then(|id| id.split_once(':'))
        .filter(|(_, object)| object.ends_with(&own))
        .map(|(app, _)| app);
    let labelled = target.label("argocd.argoproj.io/instance");
    let applied = managed_by(target, "argocd-controller").then(|| {
        target
            .label("app.kubernetes.io/instance")
            .unwrap_or("of unknown name")
    });
    let app = tracked.or(labelled).or(applied)?;
    Some(format!("Argo CD application {app}"))
}

fn flux(target: &Value) -> Option<String> {
    for (domain, kind, manager) in [
        ("kustomize", "Kustomization", "kustomize-controller"),
        ("helm", "HelmRelease", "helm-controller"),
    ] {
        let key = |name: &str| format!("{domain}.toolkit.fluxcd.io/{name}");
        if target.annotation(&key("reconcile")) == Some("disabled") {
            continue;
        }
        if let Some(name) = target.label(&key("name")) {
            let namespace = target.label(&key("namespace")).unwrap_or("flux-system");
            return Some(format!("Flux {kind} {namespace}/{name}"));
        }
        if managed_by(target, manager) {
            return Some(format!("Flux {kind} of unknown name"));
        }
    }
    None
}

fn managed_by(target: &Value, manager: &str) -> bool {
    target
        .array_at("/metadata/managedFields")
        .iter()
        .any(|entry| entry["manager"] == manager && entry.str_at("/subresource").is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_owner_in_git_is_found_by_its_marks() {
        let meta = |extra: Value| {
            let mut metadata = json!({"name": "web", "namespace": "shop"});
            for (key, value) in extra.as_object().unwrap() {
                metadata[key] = value.clone();
            }
            json!({"metadata": metadata})
        };
        for (extra, owner) in [
            (json!({}), None),
            (
                json!({"labels": {"app.kubernetes.io/instance": "web"}}),
                None,
            ),
            (
                json!({"annotations": {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/web"}}),
                Some("Argo CD application shop"),
            ),
            (
                json!({"annotations": {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/other"}}),
                None,
            ),
            (
                json!({"labels": {"app.kubernetes.io/instance": "shop"}, "managedFields": [{"manager": "argocd-controller"}]}),
                Some("Argo CD application shop"),
            ),
            (
                json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}}),
                Some("Flux Kustomization flux-system/apps"),
            ),
            (
                json!({"labels": {"helm.toolkit.fluxcd.io/name": "web", "helm.toolkit.fluxcd.io/namespace": "shop"}}),
                Some("Flux HelmRelease shop/web"),
            ),
            (
                json!({"managedFields": [{"manager": "helm-controller"}]}),
                Some("Flux HelmRelease of unknown name"),
            ),
            (
                json!({"annotations": {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}, "labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}),
                None,
            ),
        ] {
            assert_eq!(git_owner(&meta(extra.clone())).as_deref(), owner, "{extra}");
        }
    }
}
