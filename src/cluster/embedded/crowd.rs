//! Who sends the next request: kinds of users that take turns, and cookies that they keep. Without any randomness: the same users send in the
//! same order each time.

use std::collections::BTreeMap;

use super::requests::{Mix, Request, Users, under};
use crate::decide::facts::Moment;

/// The users of one source, and whose turn it is.
#[derive(Debug)]
pub(super) struct Crowd {
    kinds: Vec<Kind>,
    /// The kinds that are still to come in this round, the last one first.
    turns: Turns,
}

#[derive(Debug)]
struct Kind {
    users: Users,
    people: Vec<Person>,
    turns: Turns,
}

/// Rounds of which each has everybody once, in another order: with one order for ever they would fall in step with the weights of a route.
#[derive(Debug, Default)]
struct Turns {
    left: Vec<usize>,
    rounds: u64,
}

impl Turns {
    fn next(&mut self, everybody: impl Iterator<Item = usize>) -> Option<usize> {
        if self.left.is_empty() {
            self.left.extend(everybody);
            for i in (1..self.left.len()).rev() {
                let with = mixed(self.rounds << 16 | i as u64) % (i as u64 + 1);
                self.left.swap(i, usize::try_from(with).unwrap_or(i));
            }
            self.rounds += 1;
        }
        self.left.pop()
    }
}

/// A number that looks nothing like `n` (splitmix64).
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}

/// One who keeps cookies.
#[derive(Debug, Default)]
struct Person {
    cookies: Jar,
    /// The image that answered last.
    version: Option<String>,
}

/// Names one sender of a crowd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Who {
    kind: usize,
    /// `None`: a client that keeps nothing.
    person: Option<usize>,
}

impl Crowd {
    pub(super) fn new(mix: &Mix) -> Self {
        let kinds = mix.0.iter().map(|users| Kind {
            people: (0..users.people).map(|_| Person::default()).collect(),
            users: users.clone(),
            turns: Turns::default(),
        });
        Self {
            kinds: kinds.collect(),
            turns: Turns::default(),
        }
    }

    /// Who sends the next request. In each round the kinds have their shares, and each of the people of a kind has a turn.
    pub(super) fn next(&mut self) -> Option<Who> {
        let kinds = self.kinds.iter().enumerate();
        let round = kinds.flat_map(|(i, k)| (0..k.users.share).map(move |_| i));
        let kind = self.turns.next(round)?;
        let chosen = self.kinds.get_mut(kind)?;
        let person = chosen.turns.next(0..chosen.people.len());
        Some(Who { kind, person })
    }

    /// Shows the request that `who` sends now to `look`.
    pub(super) fn request<T>(
        &self,
        who: Who,
        now: Moment,
        look: impl FnOnce(&Request<'_>) -> T,
    ) -> Option<T> {
        let kind = self.kinds.get(who.kind)?;
        let (path, query) = kind
            .users
            .path
            .split_once('?')
            .unwrap_or((&kind.users.path, ""));
        let kept = self.person(who).and_then(|p| p.cookies.header(path, now));
        let own = kind.users.headers.get("cookie");
        let cookie = match (own, kept) {
            (Some(own), Some(kept)) => Some(format!("{own}; {kept}")),
            (own, kept) => kept.or_else(|| own.cloned()),
        };
        Some(look(&Request {
            method: &kind.users.method,
            path,
            query,
            headers: &kind.users.headers,
            cookie: cookie.as_deref(),
        }))
    }

    fn person(&self, who: Who) -> Option<&Person> {
        self.kinds.get(who.kind)?.people.get(who.person?)
    }

    /// The class of a sender.
    pub(super) fn class(&self, who: Who) -> &str {
        self.kinds.get(who.kind).map_or("", |k| &k.users.class)
    }

    /// `who` keeps what an answer says to keep.
    pub(super) fn keep(&mut self, who: Who, cookies: &[String], now: Moment) {
        let person = who
            .person
            .and_then(|p| self.kinds.get_mut(who.kind)?.people.get_mut(p));
        if let Some(person) = person {
            for cookie in cookies {
                person.cookies.set(cookie, now);
            }
        }
    }

    /// Notes which version answered `who`; the user's name when it is another than the last one.
    pub(super) fn answered(&mut self, who: Who, version: &str) -> Option<String> {
        let kind = self.kinds.get_mut(who.kind)?;
        let person = kind.people.get_mut(who.person?)?;
        if person.version.as_deref() == Some(version) {
            return None;
        }
        let switched = person.version.replace(version.to_owned()).is_some();
        switched.then(|| format!("{}/{}", kind.users.class, who.person.unwrap_or_default()))
    }
}

/// The cookies that one user keeps (RFC 6265, as far as routes set them).
#[derive(Debug, Default)]
struct Jar(BTreeMap<String, Cookie>);

#[derive(Debug)]
struct Cookie {
    value: String,
    path: String,
    expires: Option<Moment>,
}

impl Jar {
    /// The `Cookie` header for a path; `None` when there is nothing to send.
    fn header(&self, path: &str, now: Moment) -> Option<String> {
        let sent: Vec<String> = self
            .0
            .iter()
            .filter(|(_, cookie)| {
                cookie.expires.is_none_or(|at| now < at) && under(path, &cookie.path)
            })
            .map(|(name, cookie)| format!("{name}={}", cookie.value))
            .collect();
        (!sent.is_empty()).then(|| sent.join("; "))
    }

    /// Follows one `Set-Cookie`. A maximum age of zero or less deletes.
    fn set(&mut self, cookie: &str, now: Moment) {
        let mut parts = cookie.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
            return;
        };
        let mut kept = Cookie {
            value: value.to_owned(),
            path: "/".to_owned(),
            expires: None,
        };
        for part in parts {
            let (attribute, value) = part.split_once('=').unwrap_or((part, ""));
            match attribute.to_ascii_lowercase().as_str() {
                "max-age" => {
                    if let Ok(seconds) = value.parse::<i64>() {
                        kept.expires = Some(now.plus(seconds.saturating_mul(1_000)));
                    }
                }
                "path" if value.starts_with('/') => value.clone_into(&mut kept.path),
                _ => {}
            }
        }
        if kept.expires.is_some_and(|at| at <= now) {
            self.0.remove(name);
        } else {
            self.0.insert(name.to_owned(), kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(1_000_000);

    #[test]
    fn each_round_has_the_shares_and_everybody_in_changing_order() {
        let mut crowd = Crowd::new(&Mix(vec![
            Users::new("many", 3).people(3),
            Users::new("few", 1),
        ]));
        let mut round = || -> Vec<String> {
            let turns = (0..4).map(|_| {
                let who = crowd.next().unwrap();
                let person = who.person.map_or(String::new(), |p| p.to_string());
                format!("{}{person}", crowd.class(who))
            });
            turns.collect()
        };
        let rounds: Vec<Vec<String>> = (0..50).map(|_| round()).collect();
        for round in &rounds {
            let mut sorted = round.clone();
            sorted.sort();
            assert_eq!(sorted, ["few", "many0", "many1", "many2"]);
        }
        let orders: std::collections::BTreeSet<_> = rounds.iter().collect();
        assert!(orders.len() > 10, "{}", orders.len());
        let mut again = Crowd::new(&Mix(vec![
            Users::new("many", 3).people(3),
            Users::new("few", 1),
        ]));
        let class = |crowd: &mut Crowd| {
            let who = crowd.next().unwrap();
            crowd.class(who).to_owned()
        };
        let first: Vec<String> = (0..4).map(|_| class(&mut again)).collect();
        let told: Vec<&str> = rounds[0]
            .iter()
            .map(|u| u.trim_end_matches(char::is_numeric))
            .collect();
        assert_eq!(first, told);
    }

    #[test]
    fn cookies_are_kept_sent_and_given_up() {
        for (set, path, later_ms, sent) in [
            ("id=a; Max-Age=60", "/", 59_999, Some("id=a")),
            ("id=a; Max-Age=60", "/", 60_000, None),
            ("id=a", "/", i64::MAX / 2, Some("id=a")),
            (
                "id=a; HttpOnly; Secure; SameSite=Strict",
                "/x",
                0,
                Some("id=a"),
            ),
            ("id=a; Path=/mcp", "/mcp/x", 0, Some("id=a")),
            ("id=a; Path=/mcp", "/mcpx", 0, None),
            ("old=b; max-age=-1", "/", 0, None),
            ("old=c; Max-Age=0", "/", 0, None),
            ("nothing", "/", 0, Some("old=b")),
        ] {
            let mut jar = Jar::default();
            if !set.starts_with("id") {
                jar.set("old=b", NOW);
            }
            jar.set(set, NOW);
            let header = jar.header(path, NOW.plus(later_ms));
            assert_eq!(header.as_deref(), sent, "{set}");
        }
    }

    #[test]
    fn a_request_carries_own_and_kept_cookies() {
        let mut crowd = Crowd::new(&Mix(vec![
            Users::new("beta", 1)
                .people(1)
                .header("Cookie", "canary=always")
                .asking("GET", "/a?b=1&c=x%20y"),
        ]));
        let who = crowd.next().unwrap();
        crowd.keep(who, &["s=1".to_owned(), "t=2".to_owned()], NOW);
        crowd.request(who, NOW, |request| {
            assert_eq!(request.header("cookie"), Some("canary=always; s=1; t=2"));
            assert_eq!((request.method, request.path), ("GET", "/a"));
            assert_eq!(request.parameter("c").as_deref(), Some("x y"));
        });
    }

    #[test]
    fn a_switch_is_told_from_the_second_version_on() {
        let told = |people: u32| -> Vec<Option<String>> {
            let mut crowd = Crowd::new(&Mix(vec![Users::new("u", 1).people(people)]));
            let who = crowd.next().unwrap();
            ["1", "1", "2", "1"]
                .iter()
                .map(|version| crowd.answered(who, version))
                .collect()
        };
        let switch = || Some("u/0".to_owned());
        assert_eq!(told(1), [None, None, switch(), switch()]);
        assert_eq!(told(0), [None, None, None, None]);
    }
}
