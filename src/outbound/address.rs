//! Where an address leads: to a Service inside the cluster, or out of it; and which addresses a manifest may name at all.

use reqwest::Url;
use wildmatch::WildMatch;

/// Where to send a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// A Service of the cluster whose manifest names it.
    Service {
        /// Namespace of the Service.
        namespace: String,
        /// Name of the Service.
        service: String,
        /// Its port.
        port: u16,
        /// It speaks TLS.
        https: bool,
        /// Path and query, beginning with `/`.
        path: String,
    },
    /// An address outside, as it was given.
    Direct(String),
}

impl Route {
    /// The URL for one who runs inside the cluster, or for an address outside.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::Service {
                namespace,
                service,
                port,
                https,
                path,
            } => {
                let scheme = if *https { "https" } else { "http" };
                format!("{scheme}://{service}.{namespace}.svc:{port}{path}")
            }
            Self::Direct(url) => url.clone(),
        }
    }
}

/// Where `address` leads. `name` is a Service in `own_namespace` (of the object that names the address); `name.namespace`,
/// `name.namespace.svc` and `name.namespace.svc.cluster.local` are Services too.
///
/// What a *manifest* names outside must match `allow_hosts` (globs over the host) and is never an IP address or loopback: a tenant's
/// manifest must not make this server call anywhere. Addresses from our own flags (`from_flag`) are exempt. A two-part name is taken for
/// an outside host when a glob with a dot in it matches (`example.com`).
///
/// # Errors
/// Why the address is refused, and what to write instead.
pub fn route(
    address: &str,
    own_namespace: &str,
    allow_hosts: &[String],
    from_flag: bool,
) -> Result<Route, String> {
    let url = parse(address, from_flag)?;
    // The parser has turned every spelling of an IPv4 address into four numbers.
    let Some(host) = url.domain() else {
        if from_flag {
            return Ok(Route::Direct(address.to_owned()));
        }
        return Err("names an IP address, which a manifest may not: name a Service (name.namespace), or set the address by a flag".to_owned());
    };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if host == "localhost" || host.ends_with(".localhost") {
        if from_flag {
            return Ok(Route::Direct(address.to_owned()));
        }
        return Err(
            "names this server's own host, which a manifest may not: name a Service (name.namespace)".to_owned(),
        );
    }
    let listed = |glob: &&String| WildMatch::new(&glob.to_ascii_lowercase()).matches(&host);
    let parts: Vec<&str> = host.split('.').collect();
    match parts.as_slice() {
        [service] => service_route(&url, service, own_namespace),
        [_, _]
            if allow_hosts
                .iter()
                .filter(|glob| glob.contains('.'))
                .any(|glob| listed(&glob)) =>
        {
            Ok(Route::Direct(address.to_owned()))
        }
        [service, namespace]
        | [service, namespace, "svc"]
        | [service, namespace, "svc", "cluster", "local"] => {
            service_route(&url, service, namespace)
        }
        [.., "svc"] | [.., "svc", "cluster", "local"] => Err(format!(
            "names {host}, which is no Service: write name.namespace or name.namespace.svc"
        )),
        _ if from_flag || allow_hosts.iter().any(|glob| listed(&glob)) => {
            Ok(Route::Direct(address.to_owned()))
        }
        _ => Err(format!(
            "names {host}, which is outside the cluster and not allowed: start the server with --allow-hosts {host}"
        )),
    }
}

fn parse(address: &str, from_flag: bool) -> Result<Url, String> {
    let url = Url::parse(address).map_err(|error| {
        format!("is no URL ({error}), write for example http://prometheus.istio-system:9090")
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!(
            "has the scheme {}, only http and https can be called",
            url.scheme()
        ));
    }
    if !from_flag && (!url.username().is_empty() || url.password().is_some()) {
        return Err(
            "has a user name or password in it, put them in the Secret that secretRef names"
                .to_owned(),
        );
    }
    Ok(url)
}

fn service_route(url: &Url, service: &str, namespace: &str) -> Result<Route, String> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name or password in it, which cannot pass through the API server to a Service".to_owned());
    }
    for (what, name) in [("Service", service), ("namespace", namespace)] {
        if !is_dns_label(name) {
            return Err(format!("names {name:?}, which is no name of a {what}"));
        }
    }
    let query = url.query().map(|query| format!("?{query}"));
    Ok(Route::Service {
        namespace: namespace.to_owned(),
        service: service.to_owned(),
        port: url.port_or_known_default().unwrap_or(80),
        https: url.scheme() == "https",
        path: format!("{}{}", url.path(), query.unwrap_or_default()),
    })
}

fn is_dns_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(namespace: &str, service: &str, port: u16, https: bool, path: &str) -> Route {
        Route::Service {
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            port,
            https,
            path: path.to_owned(),
        }
    }

    fn allowed() -> Vec<String> {
        ["*.datadoghq.com", "Hooks.Slack.com", "*", "example.com"]
            .map(str::to_owned)
            .to_vec()
    }

    #[test]
    fn services_by_every_name_they_have() {
        let table = [
            (
                "http://prometheus.istio-system:9090",
                service("istio-system", "prometheus", 9090, false, "/"),
            ),
            (
                "http://flagger-loadtester.test/",
                service("test", "flagger-loadtester", 80, false, "/"),
            ),
            (
                "http://prometheus:9090/prefix",
                service("own", "prometheus", 9090, false, "/prefix"),
            ),
            (
                "https://prom.monitoring.svc/x?y=1",
                service("monitoring", "prom", 443, true, "/x?y=1"),
            ),
            (
                "http://prom.monitoring.svc.cluster.local.:9090",
                service("monitoring", "prom", 9090, false, "/"),
            ),
            (
                "HTTP://Prom.Monitoring:9090",
                service("monitoring", "prom", 9090, false, "/"),
            ),
        ];
        for (address, expected) in table {
            // `*` allows outside hosts, and turns no Service into one.
            for allow in [Vec::new(), allowed()] {
                for from_flag in [true, false] {
                    assert_eq!(
                        route(address, "own", &allow, from_flag).as_ref(),
                        Ok(&expected),
                        "{address}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_a_manifest_may_not_name() {
        let table = [
            ("http://10.0.0.1:9090", "names an IP address"),
            ("http://127.0.0.1", "names an IP address"),
            ("http://0x7f.1/", "names an IP address"),
            ("http://2130706433/", "names an IP address"),
            (
                "http://169.254.169.254/latest/meta-data",
                "names an IP address",
            ),
            ("http://[::1]:9090", "names an IP address"),
            ("http://[fe80::1]/", "names an IP address"),
            ("http://localhost:9090", "names this server's own host"),
            ("http://x.localhost.", "names this server's own host"),
            (
                "http://user:hunter2@prometheus.istio-system:9090",
                "has a user name or password in it",
            ),
            ("ftp://prometheus.istio-system", "has the scheme ftp"),
            ("file:///etc/passwd", "has the scheme file"),
            (
                "prometheus.istio-system:9090",
                "has the scheme prometheus.istio-system",
            ),
            ("http://", "is no URL"),
            ("http://a.b.c.svc", "names a.b.c.svc, which is no Service"),
            (
                "http://under_score.istio-system",
                "names \"under_score\", which is no name of a Service",
            ),
        ];
        for (address, expected) in table {
            let refusal = route(address, "own", &allowed(), false).unwrap_err();
            assert!(refusal.starts_with(expected), "{address}: {refusal}");
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }

    #[test]
    fn outside_hosts_need_the_list_and_flags_do_not() {
        let only = vec![
            "*.datadoghq.com".to_owned(),
            "hooks.slack.com".to_owned(),
            "example.com".to_owned(),
        ];
        let table = [
            ("https://api.datadoghq.com/api/v1", true),
            ("https://HOOKS.slack.com/x", true),
            ("https://example.com/x", true),
            ("https://evil.example.org/", false),
            ("https://api.datadoghq.com.evil.org/", false),
            ("https://prometheus.monitoring.svc.evil.org/", false),
        ];
        for (address, allowed) in table {
            let direct = Ok(Route::Direct(address.to_owned()));
            assert_eq!(route(address, "own", &only, true), direct, "{address}");
            assert_eq!(
                route(address, "own", &only, false) == direct,
                allowed,
                "{address}"
            );
        }
        for address in [
            "http://10.0.0.1:9090",
            "http://[::1]:9090",
            "http://localhost:9090",
        ] {
            assert_eq!(
                route(address, "own", &[], true),
                Ok(Route::Direct(address.to_owned()))
            );
        }
    }

    #[test]
    fn the_url_from_inside() {
        assert_eq!(
            service("istio-system", "prometheus", 9090, false, "/p?q=1").url(),
            "http://prometheus.istio-system.svc:9090/p?q=1"
        );
        assert_eq!(
            Route::Direct("https://x.org/y".to_owned()).url(),
            "https://x.org/y"
        );
    }
}
