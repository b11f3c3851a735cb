//! Commands of the load tester, read: hey (github.com/rakyll/hey) and URLs.

use crate::cluster::embedded::requests::{Entry, Mix, Source, Users};

/// Requests a second of one worker of hey that is given no rate.
const UNLIMITED: f64 = 10.0;
/// Most requests a second of one command: this is one process.
const MOST: f64 = 500.0;
/// hey's own defaults: workers, and requests where no duration is given.
const WORKERS: f64 = 50.0;
const REQUESTS: f64 = 200.0;
/// What counts call the requests of load testers.
const CLASS: &str = "load";

/// Service and namespace of a URL, as a pod in namespace `home` resolves it.
pub(super) fn service_of(url: &str, home: &str) -> (String, String) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', ':', '?']).next().unwrap_or_default();
    let mut parts = host.split('.');
    let service = parts.next().unwrap_or_default().to_owned();
    let namespace = parts.next().unwrap_or(home).to_owned();
    match parts.next() {
        None | Some("svc") => (service, namespace),
        // Further labels: a host outside of the cluster.
        Some(_) => (host.to_owned(), namespace),
    }
}

/// The words of a command, with quotes taken off.
pub(super) fn words(cmd: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in cmd.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => all.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    all
}

/// A call of hey (github.com/rakyll/hey).
#[derive(Debug, PartialEq)]
pub(super) struct Hey {
    pub(super) url: String,
    seconds: Option<f64>,
    requests: f64,
    /// Of one worker.
    rate: f64,
    workers: f64,
    /// Header `X-Inject-Failure`: every request is answered so.
    pub(super) injected: Option<u16>,
    method: String,
    headers: Vec<(String, String)>,
}

impl Hey {
    pub(super) fn parse(words: &[String]) -> Option<Self> {
        let mut words = words.iter().map(String::as_str);
        if words.next() != Some("hey") {
            return None;
        }
        let mut hey = Self {
            url: String::new(),
            seconds: None,
            requests: REQUESTS,
            rate: UNLIMITED,
            workers: WORKERS,
            injected: None,
            method: "GET".to_owned(),
            headers: Vec::new(),
        };
        while let Some(word) = words.next() {
            match word {
                "-z" => {
                    let ms = crate::api::time::duration(words.next()?)?;
                    hey.seconds = Some(f64::from(u32::try_from(ms).ok()?) / 1000.0);
                }
                "-n" => hey.requests = positive(words.next()?)?,
                "-q" => hey.rate = positive(words.next()?)?,
                "-c" => hey.workers = positive(words.next()?)?,
                "-H" => {
                    let (name, value) = words.next()?.split_once(':')?;
                    if name.trim().eq_ignore_ascii_case("x-inject-failure") {
                        hey.injected = value.trim().parse().ok();
                    }
                    let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
                    hey.headers.push((name, value.to_owned()));
                }
                "-m" => words.next()?.clone_into(&mut hey.method),
                "-d" | "-T" | "-host" | "-t" | "-a" | "-A" => {
                    words.next()?;
                }
                "-h2" | "-disable-keepalive" | "-disable-compression" => {}
                url if !url.starts_with('-') => url.clone_into(&mut hey.url),
                _ => return None,
            }
        }
        (!hey.url.is_empty()).then_some(hey)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and MOST"
    )]
    fn per_second(&self) -> u32 {
        (self.rate * self.workers).clamp(1.0, MOST) as u32
    }

    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    pub(super) fn milliseconds(&self) -> i64 {
        let seconds = self
            .seconds
            .unwrap_or(self.requests / f64::from(self.per_second()));
        (seconds * 1000.0) as i64
    }

    /// The requests that it sends to a Service.
    pub(super) fn source(&self, namespace: &str, service: &str) -> Source {
        let rest = self.url.split_once("://").map_or("", |(_, rest)| rest);
        let path = rest.find('/').map_or("/", |at| &rest[at..]);
        let users = Users::new(CLASS, 1)
            .asking(&self.method, path)
            .header("user-agent", "hey/0.0.1");
        let all = self.headers.iter();
        let users = all.fold(users, |users, (name, value)| users.header(name, value));
        Source {
            mix: Mix(vec![users]),
            entry: Entry::Inside,
            labels: [("app".to_owned(), super::NAME.to_owned())].into(),
            ..Source::new(namespace, service, self.per_second())
        }
    }
}

fn positive(text: &str) -> Option<f64> {
    text.parse()
        .ok()
        .filter(|n: &f64| *n > 0.0 && n.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hey_as_guides_write_it() {
        for (cmd, url, per_second, milliseconds, injected) in [
            (
                "hey -z 1m -q 10 -c 2 http://podinfo-canary.test:9898/",
                "http://podinfo-canary.test:9898/",
                20,
                60_000,
                None,
            ),
            (
                "hey -z 2m -q 50 -c 10 -H 'Authorization: Bearer test' https://api.example.com/v1/payments",
                "https://api.example.com/v1/payments",
                500,
                120_000,
                None,
            ),
            (
                "hey -z 30s -q 5 -c 1 -H \"X-Inject-Failure: 500\" http://a/",
                "http://a/",
                5,
                30_000,
                Some(500),
            ),
            ("hey -n 100 -c 1 http://a/", "http://a/", 10, 10_000, None),
        ] {
            let hey = Hey::parse(&words(cmd)).unwrap();
            assert_eq!(
                (
                    hey.url.as_str(),
                    hey.per_second(),
                    hey.milliseconds(),
                    hey.injected
                ),
                (url, per_second, milliseconds, injected),
                "{cmd}"
            );
        }
        for cmd in [
            "",
            "ghz -z 1m http://a/",
            "hey",
            "hey -z soon http://a/",
            "hey -x http://a/",
        ] {
            assert_eq!(Hey::parse(&words(cmd)), None, "{cmd}");
        }
    }

    #[test]
    fn a_url_names_a_service() {
        for (url, service, namespace) in [
            (
                "http://podinfo-canary.test:9898/token",
                "podinfo-canary",
                "test",
            ),
            ("http://podinfo:9898/", "podinfo", "home"),
            ("http://a.b.svc.cluster.local", "a", "b"),
            ("https://api.example.com/v1", "api.example.com", "example"),
        ] {
            assert_eq!(
                service_of(url, "home"),
                (service.to_owned(), namespace.to_owned()),
                "{url}"
            );
        }
    }
}
