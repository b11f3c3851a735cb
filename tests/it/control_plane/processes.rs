//! The processes of a control plane, and their end.

use std::{
    fs::{self, DirBuilder, File},
    net::TcpListener,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1 as core;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::json;

use super::{
    origin::{Origin, Programs, parse_version},
    undo::Undo,
};

/// A start takes some 10 s on an idle machine; one that takes this long will not come about.
const PATIENCE: Duration = Duration::from_secs(180);
/// Starts that are tried: a port that was free may be taken before the process gets to it.
const TRIES: u32 = 3;
const TOKEN: &str = "the-only-token-of-this-control-plane";

/// A running control plane: what has been started for it ends with this value or with this process, whichever is first.
pub(super) struct Running {
    folder: PathBuf,
    processes: Vec<(&'static str, Child)>,
    pub(super) undo: Undo,
}

/// What a client needs to know.
pub(super) struct Access {
    pub(super) config: Config,
    pub(super) kubeconfig: PathBuf,
    pub(super) version: (u32, u32),
}

impl Running {
    pub(super) async fn start(origin: &Origin) -> Result<(Self, Access), String> {
        let programs = match origin {
            Origin::Cluster => return Self::join().await,
            Origin::Programs(programs) => programs,
        };
        let version = programs.version()?;
        let mut tried = 0;
        loop {
            tried += 1;
            let mut running = Self::prepare()?;
            match running.launch(programs, version).await {
                Ok(access) => return Ok((running, access)),
                Err(why) if tried == TRIES => {
                    let logs = running.logs();
                    return Err(format!("the control plane does not start: {why}\n{logs}"));
                }
                Err(why) => eprintln!("the control plane did not start, once more: {why}"),
            }
        }
    }

    /// A cluster of others, as `KUBECONFIG` names it, on which nothing is started.
    async fn join() -> Result<(Self, Access), String> {
        let read = Kubeconfig::from_env().map_err(|e| format!("cannot read KUBECONFIG: {e}"))?;
        let file = read.ok_or("CANARY_MCP_E2E=1 needs KUBECONFIG, which names the cluster")?;
        let running = Self::prepare()?;
        // One file, whose paths are absolute, whatever KUBECONFIG was made of.
        let kubeconfig = running.folder.join("kubeconfig");
        let text = serde_json::to_string(&file).map_err(|e| format!("cannot write it: {e}"))?;
        let written = fs::write(&kubeconfig, text);
        written.map_err(|e| format!("cannot write {}: {e}", kubeconfig.display()))?;
        let config = configuration(&kubeconfig).await?;
        let asked = client(&config)?.apiserver_version().await;
        let said = asked.map_err(|e| format!("{} does not answer: {e}", config.cluster_url))?;
        let version = parse_version(&said.major, &said.minor)
            .ok_or_else(|| format!("{} says a strange version: {said:?}", config.cluster_url))?;
        eprintln!("the control plane is {}", config.cluster_url);
        let access = Access {
            config,
            kubeconfig,
            version,
        };
        Ok((running, access))
    }

    /// The folder is readable for nobody else: it will have credentials.
    fn prepare() -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("canary-mcp-control-plane-{}-{n}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let undo = DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .and_then(|()| Undo::new(&folder));
        Ok(Self {
            undo: undo.map_err(|e| format!("cannot prepare {}: {e}", folder.display()))?,
            folder,
            processes: Vec::new(),
        })
    }

    /// Starts the processes one after the other, each when what it needs is there.
    async fn launch(&mut self, programs: &Programs, version: (u32, u32)) -> Result<Access, String> {
        let limit = Instant::now() + PATIENCE;
        let (etcd, api) = (free_port()?, free_port()?);
        self.secrets()
            .map_err(|e| format!("cannot write its files: {e}"))?;
        self.spawn(programs, "etcd", &self.etcd_arguments(etcd, version))?;
        self.spawn(programs, "kube-apiserver", &self.api_arguments(etcd, api))?;
        let certificate = self.folder.join("certificates/apiserver.crt");
        // The key is written after the certificate.
        let key = certificate.with_extension("key");
        self.until(limit, "the certificate of kube-apiserver", async || {
            key.is_file()
        })
        .await?;
        let kubeconfig = self.folder.join("kubeconfig");
        let written = fs::read(&certificate).and_then(|ca| write_kubeconfig(&kubeconfig, api, &ca));
        written.map_err(|e| format!("cannot write {}: {e}", kubeconfig.display()))?;
        let config = configuration(&kubeconfig).await?;
        let client =
            Client::try_from(config.clone()).map_err(|e| format!("cannot make a client: {e}"))?;
        self.until(limit, "/readyz and the namespace default", async || {
            is_ready(&client).await
        })
        .await?;
        if programs.has_controllers() {
            let arguments = self.controller_arguments(&kubeconfig, version);
            self.spawn(programs, "kube-controller-manager", &arguments)?;
            let controllers = "the service account that kube-controller-manager makes";
            self.until(limit, controllers, async || has_account(&client).await)
                .await?;
        }
        Ok(Access {
            config,
            kubeconfig,
            version,
        })
    }

    /// The key that signs the tokens of service accounts, and the one user: cluster-admin's group.
    fn secrets(&self) -> std::io::Result<()> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(std::io::Error::other)?;
        fs::write(self.folder.join("accounts.key"), key.serialize_pem())?;
        fs::write(self.folder.join("accounts.pub"), key.public_key_pem())?;
        let users = format!("{TOKEN},admin,admin,system:masters\n");
        fs::write(self.folder.join("users.csv"), users)
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn etcd_arguments(&self, port: u16, version: (u32, u32)) -> Vec<String> {
        let url = format!("http://127.0.0.1:{port}");
        let mut arguments = vec![
            format!("--data-dir={}", self.file("etcd")),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
        ];
        // etcd has it from 3.5 on, which came with Kubernetes 1.22. What a test stores need not survive a power cut.
        if version >= (1, 22) {
            arguments.push("--unsafe-no-fsync=true".to_owned());
        }
        arguments
    }

    fn api_arguments(&self, etcd: u16, port: u16) -> Vec<String> {
        vec![
            format!("--etcd-servers=http://127.0.0.1:{etcd}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            format!("--cert-dir={}", self.file("certificates")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!(
                "--service-account-signing-key-file={}",
                self.file("accounts.key")
            ),
            format!("--service-account-key-file={}", self.file("accounts.pub")),
            format!("--token-auth-file={}", self.file("users.csv")),
            "--authorization-mode=RBAC".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            // A loopback address is none that the Service `kubernetes` may have as its endpoint.
            "--endpoint-reconciler-type=none".to_owned(),
            // Pods must not wait for the account and the token of their namespace.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
        ]
    }

    fn controller_arguments(&self, kubeconfig: &Path, version: (u32, u32)) -> Vec<String> {
        let mut arguments = vec![
            format!("--kubeconfig={}", kubeconfig.display()),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            format!(
                "--service-account-private-key-file={}",
                self.file("accounts.key")
            ),
        ];
        // Before 1.24 there was a second port, always the same one.
        if version < (1, 24) {
            arguments.push("--port=0".to_owned());
        }
        arguments
    }

    fn spawn(
        &mut self,
        programs: &Programs,
        name: &'static str,
        arguments: &[String],
    ) -> Result<(), String> {
        let mut launch = || {
            let log = File::create(self.folder.join(format!("{name}.log")))?;
            let child = Command::new(programs.path(name))
                .args(arguments)
                .current_dir(&self.folder)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()?;
            self.undo.with(&["kill", "-9", &child.id().to_string()])?;
            self.processes.push((name, child));
            Ok(())
        };
        launch().map_err(|e: std::io::Error| format!("cannot start {name}: {e}"))
    }

    /// Waits for a condition, and not any longer when a process has ended.
    async fn until(
        &mut self,
        limit: Instant,
        what: &str,
        reached: impl AsyncFn() -> bool,
    ) -> Result<(), String> {
        while !reached().await {
            for (name, child) in &mut self.processes {
                if let Ok(Some(status)) = child.try_wait() {
                    return Err(format!(
                        "{name} ended with {status} before {what} was there"
                    ));
                }
            }
            if Instant::now() > limit {
                return Err(format!(
                    "{what} is not there after {} s",
                    PATIENCE.as_secs()
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The end of each process's log.
    fn logs(&self) -> String {
        let tail = |(name, _): &(&str, Child)| {
            let log =
                fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(25)..].join("\n");
            format!("--- the last lines of {name}:\n{last}\n")
        };
        self.processes.iter().map(tail).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for (_, child) in &mut self.processes {
            // An error says that it has ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port that is free now.
fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
    listener
        .map(|address| address.port())
        .map_err(|e| format!("cannot find a free port: {e}"))
}

/// The certificate is its own authority. YAML is a superset of JSON, so kubectl reads this.
fn write_kubeconfig(path: &Path, port: u16, authority: &[u8]) -> std::io::Result<()> {
    let authority_file = path.with_file_name("authority.crt");
    fs::write(&authority_file, authority)?;
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "control-plane", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority": authority_file,
        }}],
        "users": [{"name": "admin", "user": {"token": TOKEN}}],
        "contexts": [{"name": "control-plane", "context": {"cluster": "control-plane", "user": "admin"}}],
        "current-context": "control-plane",
    });
    fs::write(path, format!("{kubeconfig:#}\n"))
}

async fn configuration(kubeconfig: &Path) -> Result<Config, String> {
    // kube and reqwest find the one provider of this process; an error says that another test has installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let shown = kubeconfig.display();
    let file =
        Kubeconfig::read_from(kubeconfig).map_err(|e| format!("cannot read {shown}: {e}"))?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(file, &options).await;
    let mut config = config.map_err(|e| format!("cannot use {shown}: {e}"))?;
    // As in production: a fenced write must not be sent again later than it was checked.
    config.default_retry = false;
    Ok(config)
}

fn client(config: &Config) -> Result<Client, String> {
    Client::try_from(config.clone()).map_err(|e| format!("cannot make a client: {e}"))
}

async fn is_ready(client: &Client) -> bool {
    let ready = http::Request::get("/readyz")
        .body(Vec::new())
        .expect("a constant request must be valid");
    client
        .request_text(ready)
        .await
        .is_ok_and(|said| said == "ok")
        && Api::<core::Namespace>::all(client.clone())
            .get("default")
            .await
            .is_ok()
}

async fn has_account(client: &Client) -> bool {
    let accounts: Api<core::ServiceAccount> = Api::namespaced(client.clone(), "default");
    accounts.get("default").await.is_ok()
}
