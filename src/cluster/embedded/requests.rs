//! The requests of a cluster: how many, by whom, and on which way they come in.

use std::collections::BTreeMap;

/// Steady requests to one Service.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service; requests go to this host.
    pub service: String,
    /// Requests for each virtual second.
    pub per_second: u32,
    /// Who sends them.
    pub mix: Mix,
    /// How they come in.
    pub entry: Entry,
    /// The labels of the pods that send them, where it is pods that do.
    pub labels: BTreeMap<String, String>,
}

impl Source {
    /// So many requests a second to the Service, by [`Mix::default`], on the way that is published.
    #[must_use]
    pub fn new(namespace: &str, service: &str, per_second: u32) -> Self {
        Self {
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            per_second,
            mix: Mix::default(),
            entry: Entry::default(),
            labels: BTreeMap::from([("app".to_owned(), "mcp-clients".to_owned())]),
        }
    }
}

/// How requests come into the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Entry {
    /// As the app is published: through a gateway where the only route of the Service is bound to one, else from within the cluster.
    #[default]
    Published,
    /// From pods, by the Service's name. In a mesh the routes of the mesh apply.
    Inside,
    /// Through a gateway.
    Gateway {
        /// `NAMESPACE/NAME` of the gateway.
        name: String,
        /// The host that is asked for.
        host: String,
    },
}

/// The kinds of users of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix(pub Vec<Users>);

/// One kind of users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Users {
    /// What [`Counts`](super::traffic::Counts) call them.
    pub class: String,
    /// Their part of the source's requests, relative to the other kinds.
    pub share: u32,
    /// How many there are, who take turns and keep cookies. None: clients that keep no cookies.
    pub people: u32,
    /// HTTP method of their requests.
    pub method: String,
    /// Path, with the query if there is one.
    pub path: String,
    /// Headers, with names in lower case. `cookie` is sent together with what was kept.
    pub headers: BTreeMap<String, String>,
}

impl Users {
    /// `POST /mcp` without a header, from clients that keep no cookies.
    #[must_use]
    pub fn new(class: &str, share: u32) -> Self {
        Self {
            class: class.to_owned(),
            share,
            people: 0,
            method: "POST".to_owned(),
            path: "/mcp".to_owned(),
            headers: BTreeMap::new(),
        }
    }

    /// The same, so many, who keep cookies.
    #[must_use]
    pub fn people(mut self, people: u32) -> Self {
        self.people = people;
        self
    }

    /// The same, with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers
            .insert(name.to_ascii_lowercase(), value.to_owned());
        self
    }

    /// The same, asking for this.
    #[must_use]
    pub fn asking(mut self, method: &str, path: &str) -> Self {
        method.clone_into(&mut self.method);
        path.clone_into(&mut self.path);
        self
    }
}

/// Mostly plain requests, of which some come from clients that keep no cookies; three of twenty carry what guides and examples of A/B tests
/// name.
impl Default for Mix {
    fn default() -> Self {
        const FIREFOX: &str =
            "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0";
        const CHROME: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";
        let people = |class: &str, people, browser| {
            Users::new(class, 1)
                .people(people)
                .header("user-agent", browser)
        };
        let plain = Users {
            share: 14,
            ..people("plain", 28, FIREFOX)
        };
        Self(vec![
            plain,
            Users::new("cookieless", 3).header("user-agent", "curl/8.17.0"),
            people("insider", 2, FIREFOX)
                .header("x-canary", "insider")
                .header("x-user-type", "insider")
                .header("x-mobile-beta", "true")
                .header("x-app-version", "2.1.0"),
            people("beta", 2, CHROME)
                .header("cookie", "version=beta")
                .header("canary-user", "beta"),
            people("always", 2, FIREFOX).header("cookie", "canary=always; user=test"),
        ])
    }
}

impl Mix {
    /// Nothing but plain requests, from clients that keep no cookies.
    #[must_use]
    pub fn plain() -> Self {
        Self(vec![Users::new("plain", 1)])
    }
}

/// One request, as a router sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    /// Without the query.
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    /// Names in lower case, without `cookie`.
    pub(super) headers: &'a BTreeMap<String, String>,
    /// The `Cookie` header.
    pub(super) cookie: Option<&'a str>,
}

impl Request<'_> {
    /// A header by its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        match name {
            "cookie" => self.cookie,
            ":method" => Some(self.method),
            ":path" => Some(self.path),
            name => self.headers.get(name).map(String::as_str),
        }
    }

    /// The first value of a query parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }
}

/// Smooth weighted round robin over weights and credits: which one's turn it is. Any run of turns is split as the weights say, to within one
/// for each. Without any weight the first one's; `None` without any at all.
pub(super) fn turn<'a>(all: impl Iterator<Item = (i64, &'a mut i64)>) -> Option<usize> {
    let mut total = 0;
    let mut chosen: Option<(usize, bool, &mut i64)> = None;
    for (i, (weight, credit)) in all.enumerate() {
        total += weight;
        *credit += weight;
        let better = chosen
            .as_ref()
            .is_none_or(|(_, weighs, most)| (weight > 0, *credit) > (*weighs, **most));
        if better {
            chosen = Some((i, weight > 0, credit));
        }
    }
    let (i, _, credit) = chosen?;
    *credit -= total;
    Some(i)
}

/// Whether `path` lies under `folder`, by whole segments.
pub(super) fn under(path: &str, folder: &str) -> bool {
    let folder = folder.trim_end_matches('/');
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
