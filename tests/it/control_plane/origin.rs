//! Which control plane the tests run on, by the environment.

use std::{env, path::PathBuf, process::Command};

use crate::tools;

/// In the order in which they are looked for.
pub(super) enum Origin {
    /// `KUBECONFIG`'s current context, with `CANARY_MCP_E2E=1`: a cluster of others.
    Cluster,
    /// A control plane that is started from programs.
    Programs(Programs),
}

impl Origin {
    /// `None`: there is none, which has been said.
    pub(super) fn found() -> Option<Self> {
        if set("CANARY_MCP_E2E").is_some_and(|on| on == "1") {
            return Some(Self::Cluster);
        }
        Programs::found().map(Self::Programs)
    }
}

/// The folder of a control plane's programs, with the names that envtest gives them.
pub(super) struct Programs {
    folder: PathBuf,
    /// Debian's, because the newest could not be built: why.
    pub(super) fallback: Option<String>,
}

impl Programs {
    /// `KUBEBUILDER_ASSETS` (envtest's convention), else what `tests/tools/install` has made. `None`: neither, which has been said.
    pub(super) fn found() -> Option<Self> {
        if let Some(folder) = set("KUBEBUILDER_ASSETS") {
            return Some(Self {
                folder: folder.into(),
                fallback: None,
            });
        }
        let tool = tools::need("control-plane")?;
        let fallback = std::fs::read_to_string(tool.join("fallback")).ok();
        if let Some(why) = &fallback {
            let why = why.trim();
            eprintln!("the control plane is Debian's: {why}");
            assert!(
                !tools::in_ci() || why.starts_with("unreachable:"),
                "with CI=true the control plane is the one of Kubernetes' Go modules wherever they can be reached"
            );
        }
        Some(Self {
            folder: tool.join("bin"),
            fallback,
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Without it nothing makes pods, and nothing collects garbage: envtest's own archives have none.
    pub(super) fn has_controllers(&self) -> bool {
        self.path("kube-controller-manager").exists()
    }

    /// Of `kube-apiserver --version`: "Kubernetes v1.36.3".
    pub(super) fn version(&self) -> Result<(u32, u32), String> {
        let program = self.path("kube-apiserver");
        let ran = Command::new(&program).arg("--version").output();
        let ran = ran.map_err(|e| format!("cannot run {}: {e}", program.display()))?;
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        let version = said.trim().strip_prefix("Kubernetes v");
        let parts = version.and_then(|v| v.split_once('.'));
        parts
            .and_then(|(major, rest)| parse_version(major, rest))
            .ok_or_else(|| format!("{} --version said {said:?}", program.display()))
    }
}

/// Major and minor as they are told: the minor may go on with a patch level or a plus sign ("36.3", "29+").
pub(super) fn parse_version(major: &str, minor: &str) -> Option<(u32, u32)> {
    let end = minor.find(|c: char| !c.is_ascii_digit());
    let minor = &minor[..end.unwrap_or(minor.len())];
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// A kubectl: the one that was built, Debian's old one, or the machine's.
pub(super) fn kubectl() -> PathBuf {
    let built = tools::folder("control-plane").join("bin/kubectl");
    let old = tools::folder("kubectl-1.20").join("usr/bin/kubectl");
    let machine = "kubectl".into();
    [built, old]
        .into_iter()
        .find(|k| k.exists())
        .unwrap_or(machine)
}

fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|v| !v.is_empty())
}

#[test]
fn versions_are_told_in_several_ways() {
    assert_eq!(parse_version("1", "36.3"), Some((1, 36)));
    assert_eq!(parse_version("1", "29+"), Some((1, 29)));
    assert_eq!(parse_version("1", ""), None);
}
