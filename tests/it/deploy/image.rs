//! The image: `deploy/Dockerfile` runs two scripts, and so does this, since a machine that tests need not be able to build images.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;

use super::path;
use crate::tools;

/// What the image may weigh.
const LIMIT: u64 = 25_000_000;

/// The static binary, as `deploy/binary.sh target/image` makes it; it takes minutes, so it is not made here.
fn binary() -> Option<PathBuf> {
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/image/canary-mcp");
    if at.is_file() {
        return Some(at);
    }
    let missing = "there is no static binary; run: deploy/binary.sh target/image";
    assert!(!tools::in_ci(), "{missing}");
    eprintln!("skipped: {missing}");
    None
}

/// A root file system in a folder that goes with this value.
struct Root(PathBuf);

impl Drop for Root {
    fn drop(&mut self) {
        // Left behind it is in the way of nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Root {
    fn assembled(binary: &Path, name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("canary-mcp-{name}-{}", std::process::id()));
        let ran = Command::new(path("rootfs.sh"))
            .args([binary, &root])
            .status()
            .unwrap();
        assert!(ran.success());
        Self(root)
    }

    /// As if it had been mounted by the kubelet.
    fn mount(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).unwrap();
    }
}

#[test]
fn the_image_is_one_static_binary_and_small() {
    let Some(binary) = binary() else { return };
    let root = Root::assembled(&binary, "rootfs");
    let mut found = BTreeMap::new();
    let mut weight = 0;
    let mut folders = vec![root.0.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let at = entry.unwrap().path();
            let about = at.symlink_metadata().unwrap();
            let mode = about.permissions().mode() & 0o7777;
            if about.is_dir() {
                assert_eq!(mode, 0o755, "{at:?}");
                folders.push(at);
            } else {
                weight += about.len();
                let name = at.strip_prefix(&root.0).unwrap();
                found.insert(name.to_str().unwrap().to_owned(), format!("{mode:o}"));
            }
        }
    }
    let wanted = [
        ("canary-mcp", "755"),
        ("etc/group", "644"),
        ("etc/passwd", "644"),
        ("etc/ssl/certs/ca-certificates.crt", "644"),
    ];
    let wanted = wanted.map(|(name, mode)| (name.to_owned(), mode.to_owned()));
    assert_eq!(found, BTreeMap::from(wanted));
    assert!(weight < LIMIT, "{weight} bytes are too many");
    eprintln!("the image is {weight} bytes");
    assert_eq!(interpreter(&binary), None);
}

/// The program that an ELF file asks for to be started by, which a static one does not (`PT_INTERP` of its program headers).
fn interpreter(program: &Path) -> Option<String> {
    const PT_INTERP: u64 = 3;
    let bytes = fs::read(program).unwrap();
    assert_eq!(bytes[..6], *b"\x7fELF\x02\x01", "64 bits, little-endian");
    let number = |at: usize, length: usize| {
        let mut wide = [0; 8];
        wide[..length].copy_from_slice(&bytes[at..at + length]);
        u64::from_le_bytes(wide)
    };
    let index = |at: usize, length: usize| usize::try_from(number(at, length)).unwrap();
    let (start, size, count) = (index(32, 8), index(54, 2), index(56, 2));
    let headers = (0..count).map(|n| start + n * size);
    let asking = headers.into_iter().find(|at| number(*at, 4) == PT_INTERP)?;
    let (from, length) = (index(asking + 8, 8), index(asking + 32, 8));
    Some(String::from_utf8_lossy(&bytes[from..from + length]).into_owned())
}

/// This test itself is not static, so the eye above sees.
#[test]
fn a_program_with_an_interpreter_is_recognised() {
    let this = std::env::current_exe().unwrap();
    let asks = interpreter(&this).unwrap();
    assert!(asks.starts_with("/lib"), "{asks}");
}

/// A uid that owns nothing and has no name, no home and no place to write, a root that cannot be written, and a cluster of which the kubeconfig
/// gives a name: a static C library must find its address without the machine's own parts.
#[test]
fn the_image_starts_as_a_stranger_on_a_read_only_root() {
    let Some(binary) = binary() else { return };
    let root = Root::assembled(&binary, "stranger");
    let cluster = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = cluster.local_addr().unwrap().port();
    root.mount("etc/hosts", "127.0.0.1 localhost api.prod.example.com\n");
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "prod", "cluster": {"server": format!("http://api.prod.example.com:{port}")}}],
        "contexts": [{"name": "prod", "context": {"cluster": "prod", "user": "engine"}}],
        "users": [{"name": "engine", "user": {}}],
    });
    root.mount("kubeconfig", &kubeconfig.to_string());
    let Some(mut serving) = Serving::start(&root.0) else {
        return;
    };
    let address = serving.address();
    assert_eq!(ask(&address, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(ask(&address, "/readyz"), (200, "ok\n".to_owned()));
    // It has found its cluster by name.
    cluster.set_nonblocking(true).unwrap();
    let limit = Instant::now() + Duration::from_secs(60);
    while cluster.accept().is_err() {
        assert!(Instant::now() < limit, "nobody asks for the cluster");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The program in its root, until dropped.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        // An error says that it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Serving {
    /// `None` where no user namespace is to be had, which has been said.
    fn start(root: &Path) -> Option<Self> {
        // Root can become a stranger; anybody else is the only one whom a namespace of his knows, and can write nothing either.
        let is_root = fs::metadata("/proc/self").unwrap();
        let is_root = std::os::unix::fs::MetadataExt::uid(&is_root) == 0;
        let (namespace, stranger) = if is_root {
            (&["--mount"][..], "--userspec=4242:4242")
        } else {
            (
                &["--user", "--map-root-user", "--mount"][..],
                "--userspec=0:0",
            )
        };
        let possible = Command::new("unshare")
            .args(namespace)
            .arg("true")
            .output()
            .is_ok_and(|ran| ran.status.success());
        if !possible {
            eprintln!(
                "skipped: unshare(1) makes no mount namespace here, so no root can be made read-only"
            );
            return None;
        }
        // Every container runtime mounts /dev.
        let script = r#"mkdir -p "$1/dev" && mount --bind "$1" "$1" && mount --rbind /dev "$1/dev" && mount -o remount,bind,ro "$1" && ! touch "$1/x" 2>/dev/null && \
            exec env -i RUST_LOG=info "$(PATH=$PATH:/usr/sbin:/sbin command -v chroot)" "$2" "$1" /canary-mcp serve --listen 127.0.0.1:0 --kubeconfig /kubeconfig --lead prod"#;
        let mut serving = Command::new("unshare");
        serving.args(namespace).args(["sh", "-c", script, "sh"]);
        serving.arg(root).arg(stranger);
        serving.stdin(Stdio::null()).stdout(Stdio::piped());
        Some(Self(serving.spawn().unwrap()))
    }

    /// As the first line of its output says it.
    fn address(&mut self) -> String {
        let mut lines = BufReader::new(self.0.stdout.take().unwrap()).lines();
        let first = lines.next().expect("it must say where it serves").unwrap();
        // Whoever says more must not meet a closed pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let rest = first.split_once("http://").unwrap().1;
        rest.strip_suffix("/mcp").unwrap().to_owned()
    }
}

/// One plain request.
fn ask(address: &str, path: &str) -> (u16, String) {
    use std::io::Write as _;
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

/// What is compiled into the program is sent to the build: the ignore file lets it through.
#[test]
fn the_build_is_sent_what_it_reads() {
    let ignore = fs::read_to_string(path("Dockerfile.dockerignore")).unwrap();
    let sent: Vec<&str> = ignore
        .lines()
        .filter_map(|l| l.strip_prefix("!/"))
        .collect();
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for place in &sent {
        assert!(crate_root.join(place).exists(), "{place}");
    }
    let mut folders = vec![crate_root.join("src")];
    let mut read = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let at = entry.unwrap().path();
            if at.is_dir() {
                folders.push(at);
                continue;
            }
            let text = fs::read_to_string(&at).unwrap();
            for rest in text.split("include_str!(\"").skip(1) {
                let name = rest.split('"').next().unwrap();
                let file = at.parent().unwrap().join(name).canonicalize().unwrap();
                let name = file.strip_prefix(crate_root).unwrap().to_str().unwrap();
                let mut folders = sent.iter();
                assert!(
                    folders.any(|f| name == *f || name.starts_with(&format!("{f}/"))),
                    "{at:?} reads {name}, which the build is not sent"
                );
                read += 1;
            }
        }
    }
    assert!(read > 5);
}
