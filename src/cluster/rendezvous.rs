//! Which member of a group comes first for a key: rendezvous hashing (Thaler and Ravishankar, 1996), the highest random weight.
//!
//! Whoever knows the same members comes to the same order without asking anybody, and one member that comes or goes moves only its own share.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

/// How many members come before this one for a key; `None` for who is no member.
pub(super) fn rank(members: &BTreeSet<String>, key: &str, member: &str) -> Option<u32> {
    let own = weight(members.get(member)?, key);
    let before = members.iter().filter(|other| weight(other, key) > own);
    Some(u32::try_from(before.count()).unwrap_or(u32::MAX))
}

/// The member that comes first for a key.
pub(super) fn first<'a>(members: &'a BTreeSet<String>, key: &str) -> Option<&'a str> {
    members
        .iter()
        .max_by_key(|member| weight(member, key))
        .map(String::as_str)
}

/// Different for any two members: the name decides where the hashes meet.
fn weight<'a>(member: &'a str, key: &str) -> (u64, &'a str) {
    (hash(&[member, key]), member)
}

/// A number that is spread evenly over all of `u64` and the same in every process and build, unlike the standard library's.
pub(super) fn hash(parts: &[&str]) -> u64 {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.as_bytes());
        // No byte of UTF-8: ("ab", "c") is not ("a", "bc").
        digest.update([0xff]);
    }
    let bytes = digest.finalize();
    bytes
        .iter()
        .take(8)
        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// The members by rank.
    fn order<'a>(members: &'a BTreeSet<String>, key: &str) -> Vec<&'a str> {
        let mut all: Vec<&str> = members.iter().map(String::as_str).collect();
        all.sort_by_key(|member| rank(members, key, member));
        all
    }

    /// Written down once: another order in another build would move every cluster at an upgrade.
    #[test]
    fn the_order_is_the_same_in_every_build() {
        let all = members(&["a", "b", "c"]);
        let orders: Vec<(&str, String)> = ["prod-kr", "prod-jp", "staging", ""]
            .map(|key| (key, order(&all, key).join(" ")))
            .to_vec();
        assert_eq!(
            orders,
            [
                ("prod-kr", "a c b".to_owned()),
                ("prod-jp", "c a b".to_owned()),
                ("staging", "c a b".to_owned()),
                ("", "a b c".to_owned()),
            ]
        );
        assert_eq!(rank(&all, "prod-kr", "d"), None);
        assert_eq!(first(&BTreeSet::new(), "prod-kr"), None);
    }

    #[test]
    fn two_hundred_clusters_are_shared_out_evenly() {
        let all = members(&["engine-0", "engine-1", "engine-2", "engine-3"]);
        let mut shares = [0; 4];
        for cluster in 0..200 {
            let first = first(&all, &format!("cluster-{cluster}")).unwrap();
            shares[usize::from(first.as_bytes()[7] - b'0')] += 1;
        }
        // 50 each, with a standard deviation of 6.
        assert_eq!(shares, [42, 45, 51, 62]);
    }

    proptest! {
        #[test]
        fn every_member_has_a_rank_of_its_own(names in prop::collection::btree_set("[a-z]{1,8}", 1..8), key in "[a-z-]{0,12}") {
            let mut ranks: Vec<u32> = names.iter().map(|name| rank(&names, &key, name).unwrap()).collect();
            ranks.sort_unstable();
            let expected: Vec<u32> = (0..).take(names.len()).collect();
            prop_assert_eq!(ranks, expected);
            prop_assert_eq!(first(&names, &key).and_then(|name| rank(&names, &key, name)), Some(0));
        }

        /// A member that goes leaves the order of the others as it was; one that comes takes only what it is first for.
        #[test]
        fn only_the_share_of_who_comes_or_goes_moves(names in prop::collection::btree_set("[a-z]{1,8}", 2..8), key in "[a-z-]{0,12}", index in 0usize..8) {
            let gone = names.iter().nth(index % names.len()).unwrap().clone();
            let mut left = names.clone();
            left.remove(&gone);
            let before = order(&names, &key);
            let after = order(&left, &key);
            let expected: Vec<&str> = before.into_iter().filter(|name| *name != gone).collect();
            prop_assert_eq!(after, expected);
        }
    }
}
