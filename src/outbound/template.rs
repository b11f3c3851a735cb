//! Templates of queries and hooks: the part of Go's text/template that Flagger's metric templates use.
//!
//! `{{ name }}`, `{{ namespace }}`, `{{ target }}`, `{{ service }}`, `{{ ingress }}`, `{{ route }}`, `{{ interval }}`,
//! `{{ variables.key }}` and `{{ index variables "key" }}` are Flagger's; `{{ canaryHash }}`, `{{ primaryHash }}`,
//! `{{ canaryWeight }}`, `{{ image }}` and `{{ version }}` are ours. `{{-` and `-}}` trim, `{{/* ... */}}` is a comment. Hooks add names of
//! their own ([`Values::further`]).

/// What a template may name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Values {
    /// Name of the Canary.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Name of the target.
    pub target: String,
    /// Name of the apex Service.
    pub service: String,
    /// Name of the Ingress, else of the target (Flagger).
    pub ingress: String,
    /// Name of the route, else of the target (Flagger).
    pub route: String,
    /// The check's interval as written.
    pub interval: String,
    /// `templateVariables` of the check.
    pub variables: Vec<(String, String)>,
    /// pod-template-hash of the canary, when its `ReplicaSet` is there.
    pub canary_hash: Option<String>,
    /// pod-template-hash of the primary, when its `ReplicaSet` is there.
    pub primary_hash: Option<String>,
    /// The canary's weight, percent.
    pub canary_weight: u8,
    /// The canary's image.
    pub image: Option<String>,
    /// The canary's version: the tag of its image.
    pub version: Option<String>,
    /// Names that only this use of a template has.
    pub further: Vec<(&'static str, String)>,
}

/// Why a template is not rendered.
enum Failure {
    /// It is none of ours: no name, no function that we know.
    Foreign(String),
    /// It names something of ours that is not known at this moment.
    NotNow(String),
}

/// Renders a template.
///
/// # Errors
/// What cannot be rendered: an unknown function (with the known ones), a missing variable, an action that is not closed.
pub fn render(template: &str, values: &Values) -> Result<String, String> {
    rendered(template, values).map_err(|failure| match failure {
        Failure::Foreign(why) | Failure::NotNow(why) => why,
    })
}

/// Renders a text that may be somebody else's template: one that is none of ours stays as it is.
///
/// # Errors
/// What it names of ours that is not known at this moment.
pub fn render_own(text: &str, values: &Values) -> Result<String, String> {
    match rendered(text, values) {
        Ok(rendered) => Ok(rendered),
        Err(Failure::Foreign(_)) => Ok(text.to_owned()),
        Err(Failure::NotNow(why)) => Err(why),
    }
}

fn rendered(template: &str, values: &Values) -> Result<String, Failure> {
    let mut not_now = None;
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    let mut trim = false;
    while let Some(open) = rest.find("{{") {
        let (text, after) = rest.split_at(open);
        let after = &after[2..];
        let (action, after, left, right) = action(after).map_err(Failure::Foreign)?;
        let text = if trim { text.trim_start() } else { text };
        out.push_str(if left { text.trim_end() } else { text });
        match evaluate(action, values) {
            Ok(value) => out.push_str(&value),
            // Whether all of it is ours is known at its end.
            Err(Failure::NotNow(why)) => not_now = not_now.or(Some(why)),
            Err(foreign @ Failure::Foreign(_)) => return Err(foreign),
        }
        trim = right;
        rest = after;
    }
    out.push_str(if trim { rest.trim_start() } else { rest });
    match not_now {
        Some(why) => Err(Failure::NotNow(why)),
        None => Ok(out),
    }
}

/// Renders a template and makes every run of whitespace one space, as Flagger does for Prometheus.
///
/// # Errors
/// As [`render`].
pub fn render_query(template: &str, values: &Values) -> Result<String, String> {
    let rendered = render(template, values)?;
    Ok(rendered.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What stands between the braces, what comes after them, and whether they trim to the left and to the right.
fn action(after: &str) -> Result<(&str, &str, bool, bool), String> {
    // A trim marker stands apart by whitespace: `{{-3}}` is a number in Go.
    let left = after.starts_with('-') && after[1..].starts_with(char::is_whitespace);
    let start = usize::from(left);
    let Some(end) = after[start..].find("}}").map(|end| start + end) else {
        let begun: String = after.chars().take(40).collect();
        return Err(format!(
            "the action that begins with {{{{{begun} has no }}}}"
        ));
    };
    let inner = &after[start..end];
    let right = inner
        .strip_suffix('-')
        .is_some_and(|inner| inner.ends_with(char::is_whitespace));
    let inner = if right {
        &inner[..inner.len() - 1]
    } else {
        inner
    };
    Ok((inner.trim(), &after[end + 2..], left, right))
}

fn evaluate(action: &str, values: &Values) -> Result<String, Failure> {
    if action.starts_with("/*") && action.ends_with("*/") {
        return Ok(String::new());
    }
    if let Some(key) = action.strip_prefix("variables.") {
        return variable(key, values);
    }
    if let Some(rest) = action.strip_prefix("index ") {
        let key = rest.trim().strip_prefix("variables").map(str::trim);
        let key = key.and_then(|key| key.strip_prefix('"')?.strip_suffix('"'));
        return key.map_or_else(
            || {
                Err(Failure::Foreign(format!(
                    "{{{{ {action} }}}} is not understood, write {{{{ index variables \"key\" }}}}"
                )))
            },
            |key| variable(key, values),
        );
    }
    let known = |value: &Option<String>| {
        value.clone().ok_or_else(|| {
            Failure::NotNow(format!("{{{{ {action} }}}} is not known at this moment"))
        })
    };
    if let Some((_, value)) = values.further.iter().find(|(name, _)| *name == action) {
        return Ok(value.clone());
    }
    match action {
        "name" => Ok(values.name.clone()),
        "namespace" => Ok(values.namespace.clone()),
        "target" => Ok(values.target.clone()),
        "service" => Ok(values.service.clone()),
        "ingress" => Ok(values.ingress.clone()),
        "route" => Ok(values.route.clone()),
        "interval" => Ok(values.interval.clone()),
        "canaryWeight" => Ok(values.canary_weight.to_string()),
        "canaryHash" => known(&values.canary_hash),
        "primaryHash" => known(&values.primary_hash),
        "image" => known(&values.image),
        "version" => known(&values.version),
        _ => Err(Failure::Foreign(format!(
            "{{{{ {action} }}}} is not known, there are: name, namespace, target, service, ingress, route, interval, variables.KEY, \
             canaryHash, primaryHash, canaryWeight, image, version"
        ))),
    }
}

fn variable(key: &str, values: &Values) -> Result<String, Failure> {
    values
        .variables
        .iter()
        .find(|(name, _)| name == key)
        .map(|(_, value)| value.clone())
        .ok_or_else(|| {
            Failure::Foreign(format!(
                "variables.{key} is not there, add it to the metric's templateVariables"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        Values {
            name: "podinfo".to_owned(),
            namespace: "test".to_owned(),
            target: "podinfo-target".to_owned(),
            service: "podinfo-svc".to_owned(),
            ingress: "podinfo-ing".to_owned(),
            route: "podinfo-route".to_owned(),
            interval: "1m".to_owned(),
            variables: vec![
                ("direction".to_owned(), "inbound".to_owned()),
                ("a-b".to_owned(), "dash".to_owned()),
            ],
            canary_hash: Some("7d9f".to_owned()),
            primary_hash: None,
            canary_weight: 15,
            image: Some("registry.example/mcp-server:1.1.0".to_owned()),
            version: Some("1.1.0".to_owned()),
            further: vec![("phase", "Progressing".to_owned())],
        }
    }

    #[test]
    fn renders_what_flagger_renders() {
        let table = [
            ("no action", "no action"),
            ("", ""),
            (
                "{{ name }} {{namespace}} {{ target}} {{service }}",
                "podinfo test podinfo-target podinfo-svc",
            ),
            (
                "{{ ingress }}/{{ route }}[{{ interval }}]",
                "podinfo-ing/podinfo-route[1m]",
            ),
            ("{{ variables.direction }}", "inbound"),
            ("{{ index variables \"a-b\" }}", "dash"),
            (
                "m{version=\"{{ canaryHash }}\"} {{ canaryWeight }} {{ image }} {{ version }}",
                "m{version=\"7d9f\"} 15 registry.example/mcp-server:1.1.0 1.1.0",
            ),
            ("a  {{- name }}  b", "apodinfo  b"),
            ("a  {{ name -}}  b", "a  podinfob"),
            ("a \n{{- name -}}\n b", "apodinfob"),
            ("a \n{{- /* comment */ -}}\n b", "ab"),
            ("{{/* c */}}x", "x"),
            ("sum by (le) ({a=\"b\"}) } {", "sum by (le) ({a=\"b\"}) } {"),
        ];
        for (template, expected) in table {
            // `{{-name` without a space is no trim marker in Go, but `a {{- name` is; both spellings of the table have the space.
            let template = template.replace("{{-name", "{{- name");
            assert_eq!(
                render(&template, &values()).as_deref(),
                Ok(expected),
                "{template}"
            );
        }
    }

    #[test]
    fn says_what_it_cannot_render() {
        let table = [
            (
                "{{ nmae }}",
                "{{ nmae }} is not known, there are: name, namespace, target, service, ingress, route, interval, variables.KEY, \
                 canaryHash, primaryHash, canaryWeight, image, version",
            ),
            (
                "{{ variables.x }}",
                "variables.x is not there, add it to the metric's templateVariables",
            ),
            (
                "{{ primaryHash }}",
                "{{ primaryHash }} is not known at this moment",
            ),
            (
                "rate(x[{{ interval",
                "the action that begins with {{ interval has no }}",
            ),
            (
                "{{ index variables x }}",
                "{{ index variables x }} is not understood, write {{ index variables \"key\" }}",
            ),
        ];
        for (template, expected) in table {
            assert_eq!(
                render(template, &values()).unwrap_err(),
                expected,
                "{template}"
            );
        }
        assert!(render("{{ name | upper }}", &values()).is_err());
        assert!(render("{{ if name }}x{{ end }}", &values()).is_err());
        assert!(render("{{ }}", &values()).is_err());
    }

    #[test]
    fn a_text_that_is_no_template_of_ours_stays_as_it_is() {
        let table = [
            ("hey -z 1m http://a/", Ok("hey -z 1m http://a/")),
            (
                "if [ \"{{ canaryWeight }}\" -eq 50 ]; then x; fi",
                Ok("if [ \"15\" -eq 50 ]; then x; fi"),
            ),
            ("{{ phase }} of {{ name }}", Ok("Progressing of podinfo")),
            (
                "docker ps --format '{{.Names}} {{ name }}'",
                Ok("docker ps --format '{{.Names}} {{ name }}'"),
            ),
            ("{{ primaryHash }} {{.X}}", Ok("{{ primaryHash }} {{.X}}")),
            ("curl -w '%{{ http'", Ok("curl -w '%{{ http'")),
            (
                "wait-for {{ primaryHash }}",
                Err("{{ primaryHash }} is not known at this moment"),
            ),
        ];
        for (text, expected) in table {
            assert_eq!(
                render_own(text, &values()).as_deref(),
                expected.map_err(str::to_owned).as_ref().map(|text| *text),
                "{text}"
            );
        }
    }

    #[test]
    fn a_query_is_one_line() {
        let template = "\n  sum(\n    rate(x{ns=\"{{ namespace }}\"}[{{ interval }}])\n  )\t/ 2\n";
        assert_eq!(
            render_query(template, &values()).as_deref(),
            Ok("sum( rate(x{ns=\"test\"}[1m]) ) / 2")
        );
    }
}
