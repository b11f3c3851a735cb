//! The API server's address of a Service: `/api/v1/namespaces/NS/services/[SCHEME:]NAME[:PORT]/proxy/PATH`.

use http::Uri;

use super::wire::segment;

/// The path (with the query of `uri`) under which the API server passes a request on to a Service. Only the path, the query and an
/// `https` scheme of `uri` count. An empty `port` is the Service's only port.
#[must_use]
pub fn path(namespace: &str, service: &str, port: &str, uri: &Uri) -> String {
    let scheme = if uri.scheme_str() == Some("https") {
        "https:"
    } else {
        ""
    };
    // With a scheme the API server wants both colons: `https:NAME:`.
    let port = match (scheme, port) {
        ("", "") => String::new(),
        _ => format!(":{}", segment(port)),
    };
    let rest = uri
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str);
    format!(
        "/api/v1/namespaces/{}/services/{scheme}{}{port}/proxy{rest}",
        segment(namespace),
        segment(service)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let table = [
            (
                "9090",
                "http://prometheus.istio-system:9090/api/v1/query?query=up%7B%7D",
                "/api/v1/namespaces/istio-system/services/prometheus:9090/proxy/api/v1/query?query=up%7B%7D",
            ),
            (
                "http",
                "/",
                "/api/v1/namespaces/istio-system/services/prometheus:http/proxy/",
            ),
            (
                "",
                "/-/ready",
                "/api/v1/namespaces/istio-system/services/prometheus/proxy/-/ready",
            ),
            (
                "443",
                "https://prometheus.istio-system/x",
                "/api/v1/namespaces/istio-system/services/https:prometheus:443/proxy/x",
            ),
        ];
        for (port, uri, expected) in table {
            let uri: Uri = uri.parse().unwrap();
            assert_eq!(path("istio-system", "prometheus", port, &uri), expected);
        }
    }

    #[test]
    fn a_name_cannot_leave_its_segment() {
        let uri = Uri::from_static("/");
        assert_eq!(
            path("a", "b/../../../secrets", "80", &uri),
            "/api/v1/namespaces/a/services/b%2F..%2F..%2F..%2Fsecrets:80/proxy/"
        );
    }
}
