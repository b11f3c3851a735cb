//! [`DryRun`]: an engine that changes less than it decides, and what its numbers are of.

/// What an engine leaves out (`--dry-run`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DryRun {
    /// Everything but its Lease: it decides and logs.
    Observe,
    /// Routes and promotions: workloads, Services, autoscalers and statuses are written.
    Routes,
}

impl DryRun {
    /// Every one with its name, as the flag and the Lease have it.
    pub const ALL: [(&'static str, Self); 2] =
        [("observe", Self::Observe), ("routes", Self::Routes)];

    /// The one of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter();
        all.find(|(of, _)| *of == name).map(|(_, mode)| *mode)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Routes => "routes",
        }
    }

    /// What the engine does and what its numbers are of, as a part of a sentence.
    #[must_use]
    pub fn says(self) -> &'static str {
        match self {
            Self::Observe => {
                "the engine is in dry-run (observe): it decides and logs and writes nothing; its numbers are of the target as it stands, \
                 with the traffic that it has, not of a canary under its weight"
            }
            Self::Routes => {
                "the engine is in dry-run (routes): it writes no route and promotes nothing, so traffic stays where it is; its numbers are of \
                 a canary that gets only what is sent to its own Service, whatever weight is shown"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DryRun;

    #[test]
    fn a_name_leads_back() {
        for (name, mode) in DryRun::ALL {
            assert_eq!(mode.name(), name);
            assert_eq!(DryRun::of(name), Some(mode));
        }
        assert_eq!(DryRun::of("off"), None);
    }
}
