//! From a path and its query to what is asked for.

use percent_encoding::percent_decode_str;

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// `/healthz`, `/readyz`, `/livez`.
    Health,
    /// `/version`.
    Version,
    /// `/api`: the core group.
    Core,
    /// `/apis`: all other groups.
    Groups,
    /// `/apis/GROUP`.
    Group(String),
    /// `/api/v1`, `/apis/GROUP/VERSION`: its resources.
    GroupVersion(String, String),
    /// `/openapi/v2`.
    OpenApiV2,
    /// `/openapi/v3`.
    OpenApi,
    /// `/openapi/v3/api/v1`, `/openapi/v3/apis/GROUP/VERSION`.
    OpenApiOf(String, String),
    /// Objects.
    Resource(Target),
    /// Nothing that is served.
    Unknown,
}

/// The objects that a path names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Target {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    /// Empty: all namespaces, or a cluster-wide kind.
    pub(super) namespace: String,
    /// Empty: the collection.
    pub(super) name: String,
    /// Empty: the object itself.
    pub(super) subresource: String,
    /// What follows `/proxy`, still encoded, with its leading slash.
    pub(super) rest: String,
}

impl Route {
    /// Parses an absolute path.
    pub(super) fn parse(path: &str) -> Self {
        let raw: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let decoded: Vec<String> = raw
            .iter()
            .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
            .collect();
        let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
        // A trailing slash means nothing, but in a proxied path.
        let parts = match parts.as_slice() {
            [init @ .., ""] if !init.is_empty() => init,
            all => all,
        };
        match parts {
            ["healthz" | "readyz" | "livez", ..] => Self::Health,
            ["version"] => Self::Version,
            ["api"] => Self::Core,
            ["apis"] => Self::Groups,
            ["apis", group] => Self::Group((*group).to_owned()),
            ["api", version] => Self::GroupVersion(String::new(), (*version).to_owned()),
            ["apis", group, version] => {
                Self::GroupVersion((*group).to_owned(), (*version).to_owned())
            }
            ["openapi", "v2"] => Self::OpenApiV2,
            ["openapi", "v3"] => Self::OpenApi,
            ["openapi", "v3", "api", version] => {
                Self::OpenApiOf(String::new(), (*version).to_owned())
            }
            ["openapi", "v3", "apis", group, version] => {
                Self::OpenApiOf((*group).to_owned(), (*version).to_owned())
            }
            ["api", version, rest @ ..] => Self::objects("", version, rest, &raw, 2),
            ["apis", group, version, rest @ ..] => Self::objects(group, version, rest, &raw, 3),
            _ => Self::Unknown,
        }
    }

    fn objects(group: &str, version: &str, parts: &[&str], raw: &[&str], skip: usize) -> Self {
        let target = |namespace: &str, plural: &str, name: &str, sub: &str| Target {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: plural.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: sub.to_owned(),
            rest: String::new(),
        };
        let rest = |from: usize| {
            let parts = raw.get(skip + from..).unwrap_or_default();
            format!("/{}", parts.join("/"))
        };
        Self::Resource(match parts {
            ["namespaces", name, sub @ ("status" | "finalize")] => {
                target("", "namespaces", name, sub)
            }
            ["namespaces", ns, plural] => target(ns, plural, "", ""),
            ["namespaces", ns, plural, name] => target(ns, plural, name, ""),
            ["namespaces", ns, plural, name, "proxy", ..] => Target {
                rest: rest(5),
                ..target(ns, plural, name, "proxy")
            },
            ["namespaces", ns, plural, name, sub] => target(ns, plural, name, sub),
            [plural] => target("", plural, "", ""),
            [plural, name] => target("", plural, name, ""),
            [plural, name, sub] => target("", plural, name, sub),
            _ => return Self::Unknown,
        })
    }
}

/// The parameters of a query string.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        Self(
            form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// The value of `name`; empty when absent.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value.as_str())
    }

    /// `true`, `1`, or just there.
    pub(super) fn is(&self, name: &str) -> bool {
        self.0
            .iter()
            .any(|(key, value)| key == name && !matches!(value.as_str(), "false" | "0"))
    }

    /// A number; `None` when absent or not one.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.get(name).parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        let Route::Resource(target) = Route::parse(text) else {
            panic!("{text} names no objects")
        };
        target
    }

    #[test]
    fn paths_name_objects() {
        for (path, group, plural, ns, name, sub) in [
            ("/api/v1/pods", "", "pods", "", "", ""),
            ("/api/v1/namespaces", "", "namespaces", "", "", ""),
            ("/api/v1/namespaces/a", "", "namespaces", "", "a", ""),
            (
                "/api/v1/namespaces/a/status",
                "",
                "namespaces",
                "",
                "a",
                "status",
            ),
            ("/api/v1/namespaces/a/pods", "", "pods", "a", "", ""),
            (
                "/api/v1/namespaces/a/pods/b/status",
                "",
                "pods",
                "a",
                "b",
                "status",
            ),
            (
                "/apis/apps/v1/namespaces/a/deployments/b/scale",
                "apps",
                "deployments",
                "a",
                "b",
                "scale",
            ),
            ("/apis/x.io/v1/things/b", "x.io", "things", "", "b", ""),
        ] {
            let target = target(path);
            assert_eq!(
                (
                    target.group.as_str(),
                    target.plural.as_str(),
                    target.namespace.as_str(),
                    target.name.as_str(),
                    target.subresource.as_str()
                ),
                (group, plural, ns, name, sub),
                "{path}"
            );
        }
    }

    #[test]
    fn a_proxied_path_stays_as_it_was_sent() {
        let base = "/api/v1/namespaces/istio-system/services/http:prometheus:9090/proxy";
        for (path, rest) in [
            ("", "/"),
            ("/", "/"),
            ("/api/v1/query", "/api/v1/query"),
            ("/a%2Fb/c/", "/a%2Fb/c/"),
        ] {
            let target = target(&format!("{base}{path}"));
            assert_eq!(target.name, "http:prometheus:9090");
            assert_eq!(target.rest, rest, "{path}");
        }
        assert_eq!(
            target("/api/v1/namespaces/a/services/http%3Ab%3A80/proxy/x").name,
            "http:b:80"
        );
    }

    #[test]
    fn other_paths() {
        for (path, route) in [
            ("/healthz", Route::Health),
            ("/readyz", Route::Health),
            ("/version", Route::Version),
            ("/api", Route::Core),
            ("/apis/", Route::Groups),
            ("/apis/apps", Route::Group("apps".to_owned())),
            (
                "/api/v1",
                Route::GroupVersion(String::new(), "v1".to_owned()),
            ),
            ("/openapi/v2", Route::OpenApiV2),
            ("/openapi/v3", Route::OpenApi),
            ("/nonsense", Route::Unknown),
            ("/", Route::Unknown),
        ] {
            assert_eq!(Route::parse(path), route, "{path}");
        }
    }
}
