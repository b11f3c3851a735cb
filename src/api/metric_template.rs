//! `MetricTemplate`: where a check's value comes from.

use serde_json::Value;

use super::objects::ObjectExt;

/// A `MetricTemplate` whose provider is carried out: Prometheus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricTemplate {
    /// Its namespace, where its Secret and bare host names are looked up.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `provider.address`; `None` means the installation's metrics server.
    pub address: Option<String>,
    /// `provider.headers`: each name with its values.
    pub headers: Vec<(String, Vec<String>)>,
    /// `provider.secretRef.name`: a Secret of the same namespace with `token`, or `username` and `password`.
    pub secret: Option<String>,
    /// `provider.insecureSkipVerify`: any TLS certificate will do.
    pub insecure: bool,
    /// `query`, a template.
    pub query: String,
}

impl MetricTemplate {
    /// Reads a `MetricTemplate` object.
    ///
    /// # Errors
    /// What of it is not carried out or missing, in one sentence that names the object.
    pub fn read(object: &Value) -> Result<Self, String> {
        let at = format!("MetricTemplate {}/{}", object.namespace(), object.name());
        let provider = &object["spec"]["provider"];
        let kind = provider.str_at("/type").unwrap_or_default();
        if kind != "prometheus" {
            return Err(format!(
                "{at}: the provider {kind:?} is not carried out yet, only prometheus is"
            ));
        }
        let secret = provider.str_at("/secretRef/name").map(str::to_owned);
        if secret.is_none() && !provider["secretRef"].is_null() {
            return Err(format!("{at}: spec.provider.secretRef names no Secret"));
        }
        let query = object.str_at("/spec/query").unwrap_or_default();
        if query.trim().is_empty() {
            return Err(format!("{at}: spec.query is missing"));
        }
        let headers = provider["headers"].as_object();
        Ok(Self {
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
            address: provider
                .str_at("/address")
                .filter(|address| !address.is_empty())
                .map(str::to_owned),
            headers: headers
                .into_iter()
                .flatten()
                .map(|(name, values)| (name.clone(), strings(values)))
                .collect(),
            secret,
            insecure: provider["insecureSkipVerify"] == true,
            query: query.to_owned(),
        })
    }
}

fn strings(values: &Value) -> Vec<String> {
    let all = values.as_array().into_iter().flatten();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(spec: &Value) -> Result<MetricTemplate, String> {
        MetricTemplate::read(
            &json!({"metadata": {"name": "m", "namespace": "flagger-system"}, "spec": spec}),
        )
    }

    #[test]
    fn a_prometheus_template_is_read() {
        let spec = json!({"provider": {"type": "prometheus", "address": "http://prometheus.monitoring:9090",
                          "headers": {"X-Scope-OrgID": ["a"]}, "secretRef": {"name": "s"}, "insecureSkipVerify": true},
                          "query": "sum(x)"});
        assert_eq!(
            template(&spec).unwrap(),
            MetricTemplate {
                namespace: "flagger-system".into(),
                name: "m".into(),
                address: Some("http://prometheus.monitoring:9090".into()),
                headers: vec![("X-Scope-OrgID".into(), vec!["a".into()])],
                secret: Some("s".into()),
                insecure: true,
                query: "sum(x)".into(),
            }
        );
    }

    #[test]
    fn what_is_not_carried_out_is_named() {
        for (spec, reason) in [
            (
                json!({"provider": {"type": "datadog"}, "query": "x"}),
                "MetricTemplate flagger-system/m: the provider \"datadog\" is not carried out yet, only prometheus is",
            ),
            (
                json!({"provider": {"type": "prometheus", "secretRef": {}}, "query": "x"}),
                "MetricTemplate flagger-system/m: spec.provider.secretRef names no Secret",
            ),
            (
                json!({"provider": {"type": "prometheus"}}),
                "MetricTemplate flagger-system/m: spec.query is missing",
            ),
        ] {
            assert_eq!(template(&spec).unwrap_err(), reason);
        }
    }
}
